"""
Readiness: whether a failover would work today, for every image in use that a source lists.

A *pair* is an image in use and one of its equivalents: the same image in another repository of the source's list. An
image is *ready* if one of its pairs is proven, *not ready* if `verification` refuses all of them, else *unknown*.

Saffire keeps readiness only in the status of the source. It sends few probes, so that it takes hours to probe every
pair of a large cluster, and an instance that has just started has no answers of registries. Such an instance must not
erase the answers that other instances got, nor write another view beside theirs. So the status has a state for each
pair (`answers`: a short hash of the pair and a code, since names would be long). An instance changes only the states
for which it has just got an answer. If no instance has probed a pair since, its state stays, whichever instance wrote
it. If a pair is not in use any more, its state is removed. The states have no times: if every registry gives the same
answers again, there is nothing to write.

If a registry is down, all pairs whose equivalent is there are `unreachable` at once. The status keeps that as a state
of the registry, beside the states of these pairs. Once the registry answers again, the states of the pairs count again.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from saffire.kube.manifest import InvalidManifest, Manifest, items, number, text, uid_of
from saffire.policy.readiness import (
    KEY,
    ImagePair,
    ReadinessState,
    asks_registries,
    key_of,
    pairs_by_image,
    pairs_to_probe,
)
from saffire.policy.running_images import ImageUse
from saffire.sources.spec import Mode, Source, Verification, at_once, is_cluster_wide, source_of

# Results of counting and probing

_Version = tuple[str, int]
"""The uid and the generation of a source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResults:
    """
    The images in use in a namespace where no pull fails, and the answers of registries about them.

    A pair is an image in use and one of its equivalents.

    Args:
        images: the pairs of each image in use, by the version of the source; `None` for a source without readiness.
        answers: new states of pairs, by the key of the pair.
        hosts: registries (`host` or `host:port`) that are down (`True`), or answer again (`False`).

    """

    images: Mapping[_Version, tuple[tuple[ImagePair, ...], ...] | None]
    answers: Mapping[bytes, ReadinessState] = field(default_factory=dict)
    hosts: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Iterable[Manifest], uses: tuple[ImageUse, ...] | None) -> Self:
        """
        Return the images in use, by source, and no answers; if `uses` is `None`, no source has a readiness.

        A cluster-wide source is left out: the pods of one namespace do not show which images other namespaces use.
        """
        return at_once(cls.in_steps(sources, uses))

    @classmethod
    def in_steps(cls, sources: Iterable[Manifest], uses: tuple[ImageUse, ...] | None) -> Generator[None, None, Self]:
        """Return what `of` returns, in steps: yield after each image, since a namespace may use thousands."""
        manifests = [source for source in sources if not is_cluster_wide(source)]
        images: dict[_Version, tuple[tuple[ImagePair, ...], ...] | None] = {}
        for manifest in manifests:
            source, pairs = source_of(manifest), []
            if source is None or uses is None or not asks_registries(source):
                images[_version(manifest)] = None
                continue
            for of_image in pairs_by_image(uses, source, share=len(manifests)):
                pairs.append(of_image)
                yield
            images[_version(manifest)] = tuple(filter(None, pairs))
        return cls(images=images)

    @property
    def has_news(self) -> bool:
        """
        Whether there are new answers of registries.

        The images in use alone are no news, since the next sweep counts them again.
        """
        return bool(self.answers or self.hosts)

    def is_of(self, manifest: Manifest) -> bool:
        """Tell whether the results are about this version (uid and generation) of a source."""
        return _version(manifest) in self.images

    def pairs(self, manifest: Manifest) -> tuple[ImagePair, ...]:
        """Return the pairs that Saffire may probe for a source: an image in use and an equivalent, at most 1000."""
        return pairs_to_probe(self.images.get(_version(manifest)) or ())


# `status.readiness`

_MAX_WORST = 10
_CODES = tuple(ReadinessState)


def answers_of(readiness: object) -> dict[bytes, ReadinessState]:
    """
    Return the states in `status.readiness`, by the key of the pair or registry.

    If there are none, or if another writer left a text that cannot be decoded, return `{}`.
    """
    written = readiness.get("answers") if isinstance(readiness, Mapping) else None
    try:
        packed = base64.b64decode(written, validate=True) if isinstance(written, str) else b""
    except (binascii.Error, ValueError):
        return {}
    records = (packed[start : start + KEY + 1] for start in range(0, len(packed) - KEY, KEY + 1))
    return {record[:KEY]: _CODES[record[KEY]] for record in records if record[KEY] < len(_CODES)}


def readiness_status(manifest: Manifest, probe_results: ProbeResults, before: object) -> Manifest | None:
    """
    Return the `status.readiness` of a source with new results; `None` if the source has no readiness.

    `before` is the `status.readiness` that the source had.
    """
    images = probe_results.images.get(_version(manifest))
    if images is None:
        return None
    states = answers_of(before) | dict(probe_results.answers)
    for host, is_down in probe_results.hosts.items():
        states[key_of(host)] = ReadinessState.UNREACHABLE if is_down else ReadinessState.UNASKED
    by_rank = sorted((_image_readiness(image, states) for image in images), key=lambda ranked: ranked[:2])
    counts = Counter(rank for rank, _, _ in by_rank)
    pairs = pairs_to_probe(images)
    kept = {pair.key for pair in pairs} | {key_of(pair.host) for pair in pairs}
    return {
        "images": len(images),
        "ready": counts[_READY],
        "notReady": counts[_NOT_READY],
        "unknown": counts[_UNKNOWN],
        "worst": [entry for _, _, entry in by_rank if entry][:_MAX_WORST],
        "answers": _packed({key: state for key, state in states.items() if key in kept}),
    }


_NOT_READY, _UNKNOWN, _READY = range(3)


def _version(manifest: Manifest) -> _Version:
    return uid_of(manifest), number(manifest, "metadata", "generation")


def _image_readiness(
    pairs: tuple[ImagePair, ...], states: Mapping[bytes, ReadinessState]
) -> tuple[int, str, dict[str, str]]:
    """
    Return the rank of an image (not ready, unknown or ready), its name, and its entry in `status.readiness.worst`.

    The entry names an equivalent that lacks proof, the first that Saffire has probed; `{}` if none has to be named.
    """
    all_states = [(pair, _state(pair, states)) for pair in pairs]
    rank = max(_rank(pair, state) for pair, state in all_states)
    probed = [(pair, state) for pair, state in all_states if state is not ReadinessState.UNASKED]
    lacking = [(pair, state) for pair, state in (*probed, *all_states) if rank < _READY and _rank(pair, state) == rank]
    lacking += [(pair, state) for pair, state in probed if rank == _READY and _rank(pair, state) < rank]
    image = pairs[0].use.image
    if not lacking:
        return rank, image, {}
    return rank, image, {"image": image, "equivalent": lacking[0][0].candidate.image, "why": lacking[0][1]}


def _state(pair: ImagePair, states: Mapping[bytes, ReadinessState]) -> ReadinessState:
    if states.get(key_of(pair.host)) is ReadinessState.UNREACHABLE:
        return ReadinessState.UNREACHABLE
    return states.get(pair.key, ReadinessState.UNASKED)


def _rank(pair: ImagePair, state: ReadinessState) -> int:
    """Return `_READY` if a failover would have proof now, `_NOT_READY` if Saffire would refuse it, else `_UNKNOWN`."""
    if state is ReadinessState.READY:
        return _READY
    is_unsure = state is ReadinessState.UNASKED or (state.is_unknown and not pair.is_strict)
    return _UNKNOWN if is_unsure else _NOT_READY


def _packed(states: Mapping[bytes, ReadinessState]) -> str:
    """Return the text of `status.readiness.answers`: base64 of 6 bytes for each state, 5 of the key, 1 of the code."""
    records = sorted((key, state) for key, state in states.items() if state is not ReadinessState.UNASKED)
    return base64.b64encode(b"".join(key + bytes([_CODES.index(state)]) for key, state in records)).decode()


# The condition `Ready`

_MAX_NAMED = 3


def ready_condition(source: Source, readiness: object) -> tuple[str, str, str]:
    """Return the status, reason and message of the condition `Ready`, from the `status.readiness` of a source."""
    if source.mode is Mode.PAUSED:
        return "False", "Paused", "mode: Paused stops every failover"
    if source.mode is Mode.OBSERVE:
        return "False", "Observing", "mode: Observe records and patches nothing"
    if source.verification is Verification.OFF:
        return "True", "Ready", "verification: Off asks no registry, so that nothing is proven"
    if source.selector is not None:
        return "Unknown", "Unverified", "registries are asked for the sources of namespaces only"
    try:
        counts = readiness if isinstance(readiness, Mapping) else {}
        images, ready, refused, unknown = (number(counts, name) for name in ("images", "ready", "notReady", "unknown"))
        worst = [_line(entry) for entry in items(counts, "worst")]
    except InvalidManifest:
        counts = {}
    if not counts:
        return "Unknown", "Unverified", "registries have not been asked about the images in use"
    if refused:
        words = f"{refused} of {images} images in use could not be moved today"
        return "False", "NotReady", f"{words}: {_some(worst, refused)}"
    if unknown:
        words = f"{unknown} of {images} images in use have no alternative that is proven"
        return "Unknown", "Unverified", f"{words}: {_some(worst, unknown)}"
    words = f"{ready} of {images} images in use have a proven alternative"
    return "True", "Ready", words if images else "no image in use is listed"


def _line(entry: Manifest) -> str:
    return f"{text(entry, 'image')} ({text(entry, 'equivalent')}: {text(entry, 'why')})"


def _some(worst: list[str], count: int) -> str:
    """Return the first three of the worst images in one line, and how many of all `count` images are left out."""
    named = worst[: min(count, _MAX_NAMED)]
    return "; ".join([*named, *([f"and {count - len(named)} more"] if count > len(named) else [])])
