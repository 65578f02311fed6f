"""
Whether a failover would work, for each pair of an image in use and one of its equivalents.

With the registry's answer about the equivalent, a pair is *ready* if a failover would be made, *known bad* if
`verification` would refuse the equivalent, and *unknown* otherwise.
"""

import hashlib
import itertools
from collections.abc import Iterable
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
    WrongPlatform,
    is_different,
)
from saffire.registry.credentials import closest
from saffire.registry.reference import InvalidReference, Reference
from saffire.sources.candidates import Candidate, candidates
from saffire.sources.spec import Mode, Source, Verification

# The most images, and comparisons of an image with an entry, for one namespace: some hundredths of a second.
_IMAGES = 2000
_WORK = 200_000
# As many pairs as a status has room for.
_PAIRS = 1000
KEY = 5
"""The length of a pair's key, in bytes."""


class ReadinessState(StrEnum):
    """
    What is known of a pair; the values are part of the status.

    The order gives the codes in `status.readiness.answers`, so a new state is added at the end.
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

    @property
    def is_unknown(self) -> bool:
        """Whether the registry was not asked, or its answer tells nothing of the image."""
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
    Denied: ReadinessState.DENIED,
    Throttled: ReadinessState.THROTTLED,
    Unreachable: ReadinessState.UNREACHABLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePair:
    """
    An image in use, and one of its equivalents.

    `key` is a hash of both images and of all fields of the source on which the state depends.
    """

    use: ImageUse
    candidate: Candidate
    key: bytes

    @classmethod
    def of(cls, use: ImageUse, candidate: Candidate) -> Self:
        """Return the pair with its key."""
        source = candidate.source
        secrets = dict(source.credentials)
        secret = secrets.get(closest(secrets, candidate.reference.repository) or "", "")
        key = key_of(use.image, candidate.image, source.verification, str(source.allow_different_digest), secret)
        return cls(use=use, candidate=candidate, key=key)

    @property
    def host(self) -> str:
        """The registry of the equivalent, as `host` or `host:port`."""
        return self.candidate.reference.repository.domain

    @property
    def is_strict(self) -> bool:
        """Whether its source has `verification: Strict`."""
        return self.candidate.source.verification is Verification.STRICT

    def state_for(self, answer: Availability) -> ReadinessState:
        """Return the state of the pair with this answer about the equivalent."""
        return self._verified_state(answer) if isinstance(answer, Available) else _STATES[type(answer)]

    def expected_digests(self) -> frozenset[str]:
        """Return the digests that the image in use has, by its reference or by its pods; none if they are not known."""
        return Evidence(digests={self.use.image: self.use.digests}).expected_digests(self.use.image)

    def _verified_state(self, answer: Available) -> ReadinessState:
        """Return the state if the equivalent is there: verify it as a failover would."""
        evidence = Evidence(answers={self.candidate.image: answer}, digests={self.use.image: self.use.digests})
        failure = PullFailure(section=Section.CONTAINERS, container="", image=self.use.image, reason="")
        if verify(self.candidate, failure, evidence).proof:
            return ReadinessState.READY
        return ReadinessState.DIFFERENT if is_different(answer, self.expected_digests()) else ReadinessState.UNPROVEN


def pairs_by_image(
    uses: tuple[ImageUse, ...], source: Source, *, share: int = 1
) -> tuple[tuple[ImagePair, ...], ...] | None:
    """
    Return the pairs of each image in use that a source lists; `None` if the source asks no registry, or is paused.

    The work is divided among `share` sources: with 2, half as many images are paired.
    """
    if source.verification is Verification.OFF or source.mode is Mode.PAUSED:
        return None
    limit = max(1, min(_IMAGES, _WORK // sum(map(len, source.sets))) // share)
    return tuple(filter(None, (_pairs(use, source) for use in uses[:limit])))


def pairs_to_probe(images: Iterable[tuple[ImagePair, ...]]) -> tuple[ImagePair, ...]:
    """Return the pairs that registries are asked about: the first 1000."""
    return tuple(itertools.islice(itertools.chain.from_iterable(images), _PAIRS))


def key_of(*parts: str) -> bytes:
    """Return a hash of 5 bytes of these texts."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=KEY).digest()


def _pairs(use: ImageUse, source: Source) -> tuple[ImagePair, ...]:
    try:
        reference = Reference.parse(use.image)
    except InvalidReference:
        return ()
    return tuple(ImagePair.of(use, candidate) for candidate in candidates(reference, [source]))
