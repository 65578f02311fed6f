"""
Readiness: whether a failover would work, for each *pair* of an image in use and one of its equivalents.

An image in use is one that a pod names. An equivalent is the same image in another repository, by a source. The
registry's answer about the equivalent gives the state of the pair. The pair is *ready* if Saffire would move the image
to the equivalent, *refused* if the source's `verification` would refuse the equivalent, and *unknown* otherwise.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from saffire.policy.running_images import ImageUse
from saffire.policy.verification import Evidence, verify
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Throttled,
    Unreachable,
    Withheld,
    WrongPlatform,
    is_different,
)
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate, candidates
from saffire.sources.spec import Mode, Source, Verification

# For one namespace, the most images in use that get pairs, and the most pairs that all of them get. So many pairs take
# some hundredths of a second.
_IMAGES = 2000
_ALL_PAIRS = 4000
# `status.readiness` has room for so many pairs.
_PAIRS = 1000
KEY = 5
"""The length of a pair's key, in bytes."""


class ReadinessState(StrEnum):
    """
    What is known of a pair of an image in use and an equivalent; the values are texts in a source's status.

    The place of a state in this list is its code in `status.readiness.answers`. So a new state has to be added at the
    end.
    """

    READY = "ready"
    ABSENT = "not there"
    PLATFORM = "wrong platform"
    INCOMPLETE = "incomplete"
    DIFFERENT = "different digest"
    UNPROVEN = "not proven to be the same image"
    DENIED = "denied"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    UNASKED = "not asked yet"
    WITHHELD = "withheld"

    @property
    def is_unknown(self) -> bool:
        """Whether Saffire did not ask the registry, or the registry's answer does not tell whether it has the image."""
        return self in {
            ReadinessState.DENIED,
            ReadinessState.THROTTLED,
            ReadinessState.UNREACHABLE,
            ReadinessState.UNASKED,
        }


_STATES: dict[type[Availability], ReadinessState] = {
    NotFound: ReadinessState.ABSENT,
    WrongPlatform: ReadinessState.PLATFORM,
    Incomplete: ReadinessState.INCOMPLETE,
    Withheld: ReadinessState.WITHHELD,
    Denied: ReadinessState.DENIED,
    Throttled: ReadinessState.THROTTLED,
    Unreachable: ReadinessState.UNREACHABLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePair:
    """
    A pair: an image in use, and one of its equivalents.

    `use` is the image in use, and `candidate` the equivalent with its source. `key` is a hash of both images and of all
    fields of the source on which the state of the pair depends.
    """

    use: ImageUse
    candidate: Candidate
    key: bytes

    @classmethod
    def of(cls, use: ImageUse, candidate: Candidate) -> Self:
        """Return the pair with its key."""
        source = candidate.source
        of_source = source.verification, str(source.allow_different_digest), candidate.source_secret
        return cls(use=use, candidate=candidate, key=key_of(use.image, candidate.image, *of_source))

    @property
    def host(self) -> str:
        """The registry of the equivalent, as `host` or `host:port`; Saffire asks this registry."""
        return self.candidate.reference.repository.domain

    @property
    def is_strict(self) -> bool:
        """Whether the source of the equivalent has `verification: Strict`."""
        return self.candidate.source.verification is Verification.STRICT

    def state_for(self, answer: Availability) -> ReadinessState:
        """Return the state of the pair by this answer of the registry about the equivalent."""
        return self._verified_state(answer) if isinstance(answer, Available) else _STATES[type(answer)]

    def expected_digests(self) -> frozenset[str]:
        """Return the digests of the image in use, by its reference or its pods; the set is empty if none is known."""
        return Evidence(digests={self.use.image: self.use.digests}).expected_digests(self.use.image)

    def _verified_state(self, answer: Available) -> ReadinessState:
        """Return the state of the pair if the registry has the equivalent: verify it as for a failover."""
        evidence = Evidence(answers={self.candidate.image: answer}, digests={self.use.image: self.use.digests})
        failure = PullFailure(section=Section.CONTAINERS, container="", image=self.use.image, reason="")
        if verify(self.candidate, failure, evidence).proof:
            return ReadinessState.READY
        return ReadinessState.DIFFERENT if is_different(answer, self.expected_digests()) else ReadinessState.UNPROVEN


def asks_registries(source: Source) -> bool:
    """Tell whether Saffire asks registries for a source: not with `verification: Off`, and not if it is paused."""
    return source.verification is not Verification.OFF and source.mode is not Mode.PAUSED


def pairs_by_image(uses: tuple[ImageUse, ...], source: Source, *, share: int = 1) -> Iterator[tuple[ImagePair, ...]]:
    """
    Yield the pairs of each image in use: the image with each of its equivalents, by `source`.

    If the source does not list an image, yield `()` for it. If the limits are reached, stop.

    The limits of images and pairs are for a whole namespace, so they are divided by `share`, the number of the
    namespace's sources.
    """
    room = max(1, _ALL_PAIRS // share)
    for use in uses[: max(1, _IMAGES // share)]:
        pairs = _pairs(use, source)
        room -= len(pairs)
        if room < 0:
            return
        yield pairs


def pairs_to_probe(images: Iterable[tuple[ImagePair, ...]]) -> tuple[ImagePair, ...]:
    """Return the pairs about whose equivalents Saffire asks registries: the first 1000."""
    return tuple(itertools.islice(itertools.chain.from_iterable(images), _PAIRS))


def key_of(*parts: str) -> bytes:
    """Return a hash of these texts, 5 bytes long."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=KEY).digest()


def _pairs(use: ImageUse, source: Source) -> tuple[ImagePair, ...]:
    reference = Reference.parse_if_valid(use.image)
    return tuple(ImagePair.of(use, candidate) for candidate in candidates(reference, [source])) if reference else ()
