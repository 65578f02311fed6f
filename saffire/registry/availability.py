"""
Availability: the answer of a registry about one image, and what it proves.

Each answer is a value. After a *known bad* answer, a pull from there fails. After an *unknown* answer, it may work::

    Available      the image is there, with this digest
    NotFound       the registry has no such image                  known bad
    WrongPlatform  the image has no build for a node's platform    known bad
    Incomplete     a part that the image names is missing          known bad
    Denied         the registry refuses to tell Saffire            unknown: a node may have other credentials
    Throttled      the registry asks to be asked later             unknown
    Unreachable    the registry gave no usable answer              unknown
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, kw_only=True, slots=True)
class Available:
    """
    The image is there.

    Args:
        digest: the digest of the reference: of the index if the image has one, else of its manifest.
        manifests: the digests of the manifests in the index that the nodes' platforms would get.
        suits: there is a build for each of the nodes' platforms; false if none was asked for, or if this is not known.
        complete: every config and layer was checked and is there.

    """

    digest: str
    manifests: frozenset[str] = frozenset()
    suits: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class NotFound:
    """The registry has no such image."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The registry refuses an answer with the credentials that Saffire has, or without any."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """The registry asks to be asked later: after `retry_after` seconds; `None` if it names no time."""

    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """
    The registry gave no usable answer.

    Args:
        why: the reason, in Saffire's words, never in the registry's.
        is_silent: the registry itself did not answer, or answered with an error of its own (5xx).

    """

    why: str
    is_silent: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class WrongPlatform:
    """The image has no build for one of the nodes' platforms."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The registry has the image, but this part of it is missing or broken."""

    missing: str


Unknown = Denied | Throttled | Unreachable
KnownBad = NotFound | WrongPlatform | Incomplete
Availability = Available | KnownBad | Unknown


class Proof(StrEnum):
    """How far a candidate is proven to be the image of the pod: the same digest, only present, or not checked."""

    EQUAL = "equal digest"
    PRESENT = "present"
    UNVERIFIED = "unverified"


def is_known_bad(answer: Availability) -> bool:
    """
    Tell whether the answer means that a pull from there fails.

    >>> is_known_bad(NotFound()), is_known_bad(Denied())
    (True, False)
    """
    return isinstance(answer, KnownBad)


def is_unknown(answer: Availability) -> bool:
    """
    Tell whether the answer leaves open if the image is there.

    >>> is_unknown(Unreachable("connection refused")), is_unknown(NotFound())
    (True, False)
    """
    return isinstance(answer, Unknown)


def is_different(answer: Availability, expected: Collection[str]) -> bool:
    """
    Tell whether the image there has none of the digests `expected`; false if it is not known.

    >>> is_different(Available(digest="sha256:1"), {"sha256:2"})
    True
    """
    return isinstance(answer, Available) and bool(expected) and proof_of(answer, expected) is not Proof.EQUAL


def proof_of(answer: Availability, expected: Collection[str]) -> Proof:
    """
    Return what an answer proves about an image with one of the digests `expected`, which may be empty.

    A runtime reports the digest of the index, or that of the manifest that it chose from it. So either counts as equal.

    >>> proof_of(Available(digest="sha256:1"), {"sha256:1"}).value
    'equal digest'
    """
    if not isinstance(answer, Available):
        return Proof.UNVERIFIED
    return Proof.PRESENT if (answer.manifests | {answer.digest}).isdisjoint(expected) else Proof.EQUAL
