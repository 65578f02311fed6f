"""
Coverage: which images in use have an equivalent that is proven, and which have none.

The words are those of `saffire.record.readiness_status`: an image is *ready* if the registry of one of its equivalents
proves it, *not ready* if all equivalents are known to be bad, else *unknown*. An image that no source lists has *no
equivalent*. Without questions to registries, the states are those that the function found on calm days, and keeps in
the status of the sources.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from saffire.kube.manifest import Manifest, mapping
from saffire.policy.readiness import ImagePair, ReadinessState, key_of
from saffire.policy.running_images import ImageUse
from saffire.record.readiness_status import answers_of
from saffire.registry.reference import domain_of
from saffire.sources.spec import record_name

NO_REFERENCE = "not a reference"
"""The registry of an image that is no reference."""


class Verdict(StrEnum):
    """What becomes of an image if its registry dies, the worst first."""

    NONE = "no equivalent"
    NOT_READY = "not ready"
    UNKNOWN = "unknown"
    READY = "ready"


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """
    An image in use in a namespace, with its verdict.

    `equivalents` has each equivalent with its state, in the order in which a failover would try them.
    """

    namespace: str
    image: str
    verdict: Verdict
    equivalents: tuple[tuple[str, ReadinessState], ...] = ()

    @property
    def registry(self) -> str:
        """The registry of the image; `NO_REFERENCE` if the image is no reference."""
        return domain_of(self.image) or NO_REFERENCE


def coverage_of(
    namespace: str, uses: Iterable[ImageUse], answered: Iterable[tuple[ImagePair, ReadinessState]]
) -> tuple[Coverage, ...]:
    """Return the coverage of the images in use in a namespace, by the states of their pairs."""
    by_image: dict[str, list[tuple[str, ReadinessState]]] = {}
    for pair, state in answered:
        by_image.setdefault(pair.use.image, []).append((pair.candidate.image, state))
    return tuple(
        Coverage(
            namespace=namespace,
            image=use.image,
            verdict=_verdict([state for _, state in by_image.get(use.image, ())]),
            equivalents=tuple(by_image.get(use.image, ())),
        )
        for use in uses
    )


def states_in_status(pairs: Iterable[ImagePair], sources: Iterable[Manifest]) -> list[tuple[ImagePair, ReadinessState]]:
    """Return the pairs with the states that the function keeps in the status of their sources."""
    answers = {record_name(source): answers_of(mapping(source, "status").get("readiness")) for source in sources}
    return [(pair, _kept_state(pair, answers.get(pair.candidate.source.name, {}))) for pair in pairs]


def by_registry(images: Iterable[Coverage]) -> dict[str, Counter[Verdict]]:
    """Return how many images have each verdict, by registry, in the order of the alphabet."""
    ordered = sorted(images, key=lambda image: image.registry)
    return {
        registry: Counter(image.verdict for image in of_registry)
        for registry, of_registry in groupby(ordered, key=lambda image: image.registry)
    }


def worst_first(images: Iterable[Coverage]) -> list[Coverage]:
    """Return the images, the worst verdict first, then by namespace and name."""
    order = list(Verdict)
    return sorted(images, key=lambda image: (order.index(image.verdict), image.namespace, image.image))


def _verdict(states: list[ReadinessState]) -> Verdict:
    if not states:
        return Verdict.NONE
    if ReadinessState.READY in states:
        return Verdict.READY
    return Verdict.UNKNOWN if any(state.is_unknown for state in states) else Verdict.NOT_READY


def _kept_state(pair: ImagePair, answers: Mapping[bytes, ReadinessState]) -> ReadinessState:
    """Return the state of a pair in the status of its source; a registry that is down has a state of its own there."""
    if answers.get(key_of(pair.host)) is ReadinessState.UNREACHABLE:
        return ReadinessState.UNREACHABLE
    return answers.get(pair.key, ReadinessState.UNASKED)
