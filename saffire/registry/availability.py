"""
Availability: what a registry answered about one image, and what that proves.

Each answer is a value. Three of them say that the image cannot be had there (*known bad*), three that we could not find
out (*unknown*)::

    Available      it is there, under this digest
    NotFound       the registry knows no such image              known bad
    WrongPlatform  it has nothing for the nodes                  known bad
    Incomplete     a part that the image names is missing        known bad
    Denied         it does not say so to us                      unknown: a node may have credentials that we have not
    Throttled      it wants to be asked later                    unknown
    Unreachable    it gave no answer that means anything         unknown
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, kw_only=True, slots=True)
class Available:
    """
    The image is there.

    `digest` is the one its name stands for, of an index where there is one; `manifests` are those of the images in the
    index that the platforms of the question would get. `suits` says that each of these platforms gets one; it is false
    where there was no question, or no telling. `complete` says that every config and layer was seen.
    """

    digest: str
    manifests: frozenset[str] = frozenset()
    suits: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class NotFound:
    """The registry knows no such image."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The registry tells us nothing without other credentials, or without any that we have."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The registry wants to be asked later: after so many seconds, or `None` where it does not say."""

    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """
    No answer that means anything, and why; in our words, never in the registry's.

    `is_silent` tells that the registry itself did not answer, or with nothing but an error of its own.
    """

    why: str
    is_silent: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class WrongPlatform:
    """There is no image for one of the platforms that were asked for."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The image is named there, and this part of it is missing or broken."""

    missing: str


Unknown = Denied | Throttled | Unreachable
KnownBad = NotFound | WrongPlatform | Incomplete
Availability = Available | KnownBad | Unknown


class Proof(StrEnum):
    """What is known of a candidate when it is chosen."""

    EQUAL = "equal digest"
    PRESENT = "present"
    UNVERIFIED = "unverified"


def is_known_bad(answer: Availability) -> bool:
    """
    Tell whether a pull from there is known to fail.

    >>> is_known_bad(NotFound()), is_known_bad(Denied())
    (True, False)
    """
    return isinstance(answer, KnownBad)


def is_unknown(answer: Availability) -> bool:
    """
    Tell whether we could not find out, which is not the same as being absent.

    >>> is_unknown(Unreachable("connection refused")), is_unknown(NotFound())
    (True, False)
    """
    return isinstance(answer, Unknown)


def is_different(answer: Availability, expected: Collection[str]) -> bool:
    """
    Tell whether the image there is known to be another one than that of the digests `expected`.

    >>> is_different(Available(digest="sha256:1"), {"sha256:2"})
    True
    """
    return isinstance(answer, Available) and bool(expected) and proof_of(answer, expected) is not Proof.EQUAL


def proof_of(answer: Availability, expected: Collection[str]) -> Proof:
    """
    Return what an answer proves of an image that is to have one of the digests `expected`, of which there may be none.

    A runtime tells the digest of the index, or that of the image which it took from it: either will do.

    >>> proof_of(Available(digest="sha256:1"), {"sha256:1"}).value
    'equal digest'
    """
    if not isinstance(answer, Available):
        return Proof.UNVERIFIED
    return Proof.PRESENT if (answer.manifests | {answer.digest}).isdisjoint(expected) else Proof.EQUAL
