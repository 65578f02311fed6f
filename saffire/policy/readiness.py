"""
Whether a failover would work: an image in use, one of its equivalents, and what a registry's answer makes of the two.

A pair is *ready* if a failover would be made on that answer, *known bad* if `verification` would refuse the equivalent,
and *unknown* otherwise.
"""

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from saffire.policy.running_images import Use
from saffire.policy.verification import Knowledge, judge
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

# Images, and comparisons, of one look at a namespace: some hundredths of a second.
_IMAGES = 2000
_WORK = 200_000
# As many as a status has room for.
_PAIRS = 1000
KEY = 5
"""Bytes of a key."""


class State(StrEnum):
    """
    What is known of a pair; the values are part of the status.

    The order is that of the codes in `status.readiness.answers`: what is new comes last.
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
        """Whether nobody could tell, or was asked."""
        return self in {State.DENIED, State.THROTTLED, State.UNREACHABLE, State.UNASKED}


_STATES: dict[type[Availability], State] = {
    NotFound: State.ABSENT,
    WrongPlatform: State.PLATFORM,
    Incomplete: State.INCOMPLETE,
    Denied: State.DENIED,
    Throttled: State.THROTTLED,
    Unreachable: State.UNREACHABLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """
    An image in use, and one of its equivalents.

    `key` tells it from others: by the images, and by all of its source that an answer depends on.
    """

    use: Use
    candidate: Candidate
    key: bytes

    @classmethod
    def of(cls, use: Use, candidate: Candidate) -> Self:
        """Return the pair with its key."""
        source = candidate.source
        secrets = dict(source.credentials)
        secret = secrets.get(closest(secrets, candidate.reference.repository) or "", "")
        key = key_of(use.image, candidate.image, source.verification, str(source.allow_different_digest), secret)
        return cls(use=use, candidate=candidate, key=key)

    @property
    def host(self) -> str:
        """The registry of the equivalent."""
        return self.candidate.reference.repository.domain

    @property
    def is_strict(self) -> bool:
        """Whether its source wants all proof there is."""
        return self.candidate.source.verification is Verification.STRICT

    def judged(self, answer: Availability) -> State:
        """Return what an answer makes of it."""
        return self._judged_there(answer) if isinstance(answer, Available) else _STATES[type(answer)]

    def expected(self) -> frozenset[str]:
        """Return the digests that the image is known to stand for."""
        return Knowledge(digests={self.use.image: self.use.digests}).expected(self.use.image)

    def _judged_there(self, answer: Available) -> State:
        """Judge it as a failover would."""
        knowledge = Knowledge(answers={self.candidate.image: answer}, digests={self.use.image: self.use.digests})
        failure = PullFailure(section=Section.CONTAINERS, container="", image=self.use.image, reason="")
        if judge(self.candidate, failure, knowledge).proof:
            return State.READY
        return State.DIFFERENT if is_different(answer, self.expected()) else State.UNPROVEN


def listed(uses: tuple[Use, ...], source: Source, *, share: int = 1) -> tuple[tuple[Pair, ...], ...] | None:
    """
    Return the pairs of each image in use that a source lists; `None` where it asks nobody, or is paused.

    `share` is among how many sources the work is to be divided.
    """
    if source.verification is Verification.OFF or source.mode is Mode.PAUSED:
        return None
    most = max(1, min(_IMAGES, _WORK // sum(map(len, source.sets))) // share)
    return tuple(filter(None, (_pairs(use, source) for use in uses[:most])))


def askable(images: Iterable[tuple[Pair, ...]]) -> tuple[Pair, ...]:
    """Return the pairs of images that are asked about, which has an end."""
    return tuple(itertools.islice(itertools.chain.from_iterable(images), _PAIRS))


def key_of(*parts: str) -> bytes:
    """Return a short hash of what tells one thing from others."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=KEY).digest()


def _pairs(use: Use, source: Source) -> tuple[Pair, ...]:
    try:
        reference = Reference.parse(use.image)
    except InvalidReference:
        return ()
    return tuple(Pair.of(use, candidate) for candidate in candidates(reference, [source]))
