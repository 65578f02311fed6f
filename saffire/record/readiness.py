"""
Readiness: whether a failover would work today, for every image in use that a source lists.

An image is *ready* where one of its pairs is proven, *not ready* where all are stopped, and *unknown* otherwise.

The status of the source is the only store. Questions are few, so that a lap around a large cluster takes hours, and an
instance that has just started knows nothing; it must neither forget what others have found, nor write its own view
beside theirs. So the status keeps the state of each pair (`answers`: a short hash and a code, since names would be
long), and an instance writes only what it has just been answered into that. What nobody has asked since stays, whoever
found it, and what is not in use any more goes. There are no times in it: a calm cluster in which every registry says
the same again has nothing to write.

A registry that is down makes all pairs there `unreachable` at once: that is kept as a state of its own, beside those of
its pairs, which are good again when it answers.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from saffire.kube.manifest import InvalidManifest, Manifest, items, number, text, uid_of
from saffire.policy.readiness import KEY, ImagePair, ReadinessState, key_of, pairs_by_image, pairs_to_probe
from saffire.policy.running_images import ImageUse
from saffire.sources.candidates import parse_if_valid
from saffire.sources.spec import Mode, Source, Verification, is_cluster_wide

_WORST = 10
_NAMED = 3
_CODES = tuple(ReadinessState)
# A source, by its uid and generation.
_Version = tuple[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResults:
    """
    What a look at a calm namespace has found, and what registries have answered since.

    Args:
        images: the pairs of each image in use, by source as it was then; `None` for one that has no readiness.
        answers: new states of pairs, by key.
        hosts: which registries are down, and which answer again.

    """

    images: Mapping[_Version, tuple[tuple[ImagePair, ...], ...] | None]
    answers: Mapping[bytes, ReadinessState] = field(default_factory=dict)
    hosts: Mapping[str, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, sources: Iterable[Manifest], uses: tuple[ImageUse, ...] | None) -> Self:
        """
        Return what is in use, by sources; none of them has a readiness where nobody counts what is in use.

        A cluster-wide source is left out: one namespace cannot tell what is in use in all that it speaks for.
        """
        manifests = [source for source in sources if not is_cluster_wide(source)]
        images: dict[_Version, tuple[tuple[ImagePair, ...], ...] | None] = {}
        for manifest in manifests:
            source = parse_if_valid(manifest)
            found = pairs_by_image(uses, source, share=len(manifests)) if source and uses is not None else None
            images[_version(manifest)] = found
        return cls(images=images)

    @property
    def has_news(self) -> bool:
        """Whether it tells more than what is in use, which the next look tells again."""
        return bool(self.answers or self.hosts)

    def is_of(self, manifest: Manifest) -> bool:
        """Tell whether it is about a source as it is now."""
        return _version(manifest) in self.images

    def pairs(self, manifest: Manifest) -> tuple[ImagePair, ...]:
        """Return what may be asked for a source."""
        return pairs_to_probe(self.images.get(_version(manifest)) or ())


def answers_of(readiness: object) -> dict[bytes, ReadinessState]:
    """Return the states that `status.readiness` keeps, by key; none where another writer left something else."""
    written = readiness.get("answers") if isinstance(readiness, Mapping) else None
    try:
        packed = base64.b64decode(written, validate=True) if isinstance(written, str) else b""
    except (binascii.Error, ValueError):
        return {}
    records = (packed[start : start + KEY + 1] for start in range(0, len(packed) - KEY, KEY + 1))
    return {record[:KEY]: _CODES[record[KEY]] for record in records if record[KEY] < len(_CODES)}


def readiness_status(manifest: Manifest, inspection: ProbeResults, before: object) -> Manifest | None:
    """Return the `status.readiness` that a source is to have after an inspection, if any; it had `before`."""
    images = inspection.images.get(_version(manifest))
    if images is None:
        return None
    states = answers_of(before) | dict(inspection.answers)
    for host, is_down in inspection.hosts.items():
        states[key_of(host)] = ReadinessState.UNREACHABLE if is_down else ReadinessState.UNASKED
    told = sorted((_image_readiness(image, states) for image in images), key=lambda one: (one.rank, one.image))
    counts = Counter(one.rank for one in told)
    pairs = pairs_to_probe(images)
    kept = {pair.key for pair in pairs} | {key_of(pair.host) for pair in pairs}
    return {
        "images": len(images),
        "ready": counts[_READY],
        "notReady": counts[_NOT_READY],
        "unknown": counts[_UNKNOWN],
        "worst": [one.written for one in told if one.why][:_WORST],
        "answers": _packed({key: state for key, state in states.items() if key in kept}),
    }


def ready_condition(source: Source, readiness: object) -> tuple[str, str, str]:
    """Return status, reason and message of the condition `Ready`, by the `status.readiness` of a source."""
    if source.mode is Mode.PAUSED:
        return "False", "Paused", "mode: Paused stops every failover"
    if source.mode is Mode.OBSERVE:
        return "False", "Observing", "mode: Observe records and patches nothing"
    if source.verification is Verification.OFF:
        return "True", "Ready", "verification: Off asks no registry, so that nothing is proven"
    if source.selector is not None:
        return "Unknown", "Unverified", "registries are asked for the sources of namespaces only"
    try:
        found = readiness if isinstance(readiness, Mapping) else {}
        images, ready, stopped, unknown = (number(found, name) for name in ("images", "ready", "notReady", "unknown"))
        worst = [_line(entry) for entry in items(found, "worst")]
    except InvalidManifest:
        found = {}
    if not found:
        return "Unknown", "Unverified", "registries have not been asked about the images in use"
    if stopped:
        words = f"{stopped} of {images} images in use could not be moved today"
        return "False", "NotReady", f"{words}: {_some(worst, stopped)}"
    if unknown:
        words = f"{unknown} of {images} images in use have no alternative that is proven"
        return "Unknown", "Unverified", f"{words}: {_some(worst, unknown)}"
    words = f"{ready} of {images} images in use have a proven alternative"
    return "True", "Ready", words if images else "no image in use is listed"


_NOT_READY, _UNKNOWN, _READY = range(3)


@dataclass(frozen=True, kw_only=True, slots=True)
class _ImageReadiness:
    """What is told of an image: how good it is, and of one equivalent why it is no better; no `why` if all are good."""

    rank: int
    image: str
    equivalent: str
    why: str

    @property
    def written(self) -> dict[str, str]:
        """The entry of `worst`."""
        return {"image": self.image, "equivalent": self.equivalent, "why": self.why}


def _version(manifest: Manifest) -> _Version:
    return uid_of(manifest), number(manifest, "metadata", "generation")


def _image_readiness(pairs: tuple[ImagePair, ...], states: Mapping[bytes, ReadinessState]) -> _ImageReadiness:
    """Return what is told of one image; of several equivalents that lack proof, of the first that was asked."""
    known = [(pair, _state(pair, states)) for pair in pairs]
    rank = max(_rank(pair, state) for pair, state in known)
    asked = [one for one in known if one[1] is not ReadinessState.UNASKED]
    lacking = [one for one in (*asked, *known) if rank < _READY and _rank(*one) == rank]
    lacking += [one for one in asked if rank == _READY and _rank(*one) < rank]
    image = pairs[0].use.image
    if not lacking:
        return _ImageReadiness(rank=rank, image=image, equivalent="", why="")
    return _ImageReadiness(rank=rank, image=image, equivalent=lacking[0][0].candidate.image, why=lacking[0][1])


def _state(pair: ImagePair, states: Mapping[bytes, ReadinessState]) -> ReadinessState:
    if states.get(key_of(pair.host)) is ReadinessState.UNREACHABLE:
        return ReadinessState.UNREACHABLE
    return states.get(pair.key, ReadinessState.UNASKED)


def _rank(pair: ImagePair, state: ReadinessState) -> int:
    """Return whether a failover would be made on that word, or refused, or made without proof."""
    if state is ReadinessState.READY:
        return _READY
    is_unsure = state is ReadinessState.UNASKED or (state.is_unknown and not pair.is_strict)
    return _UNKNOWN if is_unsure else _NOT_READY


def _packed(states: Mapping[bytes, ReadinessState]) -> str:
    """Return states as text, without those that say nothing."""
    said = sorted((key, state) for key, state in states.items() if state is not ReadinessState.UNASKED)
    return base64.b64encode(b"".join(key + bytes([_CODES.index(state)]) for key, state in said)).decode()


def _line(entry: Manifest) -> str:
    return f"{text(entry, 'image')} ({text(entry, 'equivalent')}: {text(entry, 'why')})"


def _some(worst: list[str], of: int) -> str:
    """Return the first of the worst images in one line, of as many as there are."""
    named = worst[: min(of, _NAMED)]
    return "; ".join([*named, *([f"and {of - len(named)} more"] if of > len(named) else [])])
