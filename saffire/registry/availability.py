"""
Availability: the answer of a registry about one image, and what the answer proves.

Each answer is a value of one of these types. After a *known bad* answer, a node cannot pull the image from that
registry. After an *unknown* answer, a pull may fail or work::

    Available      the registry has the image, with this digest
    NotFound       the registry has no such image                  known bad
    WrongPlatform  the image has no build for a node's platform    known bad
    Incomplete     a part that the image names is missing          known bad
    Withheld       the registry gives the image to nobody          known bad
    Denied         the registry refuses to tell Saffire            unknown: a node may have other credentials
    Throttled      the registry tells Saffire to ask later         unknown
    Unreachable    the registry gave no usable answer              unknown
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeGuard


@dataclass(frozen=True, kw_only=True, slots=True)
class Available:
    """
    The registry has the image.

    Args:
        digest: the digest of the reference: that of the index if the image has an index, else that of the manifest.
        manifests: the digests of those manifests in the index that nodes of the asked platforms would pull; empty if
            Saffire asked for no platform, or if the image has no index.
        suits: whether the image has a build for each platform that Saffire asked for. False if Saffire asked for no
            platform, or if the platforms of the image are not known.
        complete: whether Saffire checked every config and layer, and the registry has them all.
        listed: the digests of all manifests in the index; empty if Saffire did not read the index, if the image has
            none, or if the index has very many.

    """

    digest: str
    manifests: frozenset[str] = frozenset()
    suits: bool = False
    complete: bool = False
    listed: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class NotFound:
    """The registry has no such image."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The registry refuses to answer Saffire, with the credentials that Saffire has, or without any."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """
    The registry tells Saffire to ask later (429).

    `retry_after` is the number of seconds to wait; `None` if the registry names no time.
    """

    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """
    The registry gave no usable answer.

    Up to four hosts have to respond: the registry, its token endpoint, the host to which it redirects, and the storage
    of the image's parts.

    Args:
        why: the reason, in Saffire's words. It never quotes the registry.
        is_silent: whether one of the first three gave no response, or a server error (5xx).
        is_late: whether no response came within the time of the question. The registry may be down, or only slow.
        is_server_error: whether one of the four responded with a server error (5xx).
        is_tls: whether the TLS handshake with one of the four failed, or its certificate is not valid.
        is_of_part: whether the registry had answered for the image, and only its parts could not be had.

    """

    why: str
    is_silent: bool = field(default=False, compare=False)
    is_late: bool = field(default=False, compare=False)
    is_server_error: bool = field(default=False, compare=False)
    is_tls: bool = field(default=False, compare=False)
    is_of_part: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class WrongPlatform:
    """The image has no build for one of the nodes' platforms."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """The registry has the image, but a part of the image is missing or broken; `missing` names the part."""

    missing: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """
    The registry gives the image to nobody, whatever the credentials are.

    `status` is the HTTP status of the answer: 402, 410, 412 or 451.
    """

    status: int

    @property
    def why(self) -> str:
        """The meaning of the status, as a clause whose subject is the registry."""
        return WITHHELD[self.status]


WITHHELD = {
    402: "wants to be paid before it gives the image (402)",
    410: "does not have the image any more (410)",
    412: "does not give the image, by a rule of its own or because it has shut down (412)",
    451: "may not give the image, for legal reasons (451)",
}
"""By the HTTP status of an answer: why the registry withholds the image (RFC 9110; RFC 7725 for 451)."""

Unknown = Denied | Throttled | Unreachable
KnownBad = NotFound | WrongPlatform | Incomplete | Withheld
Availability = Available | KnownBad | Unknown

NOT_ASKED = Unreachable("nobody asked")
"""The answer about an image of which Saffire has not asked the registry."""


class Proof(StrEnum):
    """
    How far a registry's answer proves that a candidate is the same image as the one that the pod wants.

    `EQUAL`: the candidate has the same digest. `PRESENT`: the registry has the candidate, but the digests are not
    known to be equal. `UNVERIFIED`: the registry did not say that it has the candidate.
    """

    EQUAL = "equal digest"
    PRESENT = "present"
    UNVERIFIED = "unverified"


def is_known_bad(answer: Availability) -> bool:
    """
    Tell whether the answer means that a node cannot pull the image from that registry.

    >>> is_known_bad(NotFound()), is_known_bad(Denied())
    (True, False)
    """
    return isinstance(answer, KnownBad)


def is_unknown(answer: Availability) -> bool:
    """
    Tell whether the answer leaves open whether the registry has the image.

    >>> is_unknown(Unreachable("connection refused")), is_unknown(NotFound())
    (True, False)
    """
    return isinstance(answer, Unknown)


def is_silent(answer: Availability | None) -> TypeGuard[Unreachable]:
    """
    Tell whether the registry counts as silent by this answer: no response, or a server error (5xx), but not of a part.

    >>> is_silent(Unreachable("connection refused", is_silent=True)), is_silent(Denied())
    (True, False)
    """
    return isinstance(answer, Unreachable) and answer.is_silent


def is_late(answer: Availability) -> TypeGuard[Unreachable]:
    """
    Tell whether the registry may only be slow by this answer: it did not answer within the time of a question.

    >>> is_late(Unreachable("no answer within 1.5 s", is_silent=True, is_late=True)), is_late(Denied())
    (True, False)
    """
    return isinstance(answer, Unreachable) and answer.is_late


def is_different(answer: Availability, expected: Collection[str]) -> bool:
    """
    Tell whether the registry has the image, but with none of the digests `expected`.

    If the registry did not say that it has the image, or if `expected` is empty, return `False`. A digest counts also
    if only the image's index lists it: CRI-O reports the manifest of the node's platform, and all nodes that run the
    image may be of another platform than those that Saffire asks for.

    >>> is_different(Available(digest="sha256:1"), {"sha256:2"})
    True
    """
    if not isinstance(answer, Available) or proof_of(answer, expected) is Proof.EQUAL:
        return False
    return bool(expected) and answer.listed.isdisjoint(expected)


def proof_of(answer: Availability, expected: Collection[str]) -> Proof:
    """
    Return how far an answer proves that the registry has an image with one of the digests `expected`.

    A container runtime reports the digest of the index, or the digest of the manifest that it chose from the index. So
    either digest counts as equal. If `expected` is empty, no answer proves an equal digest.

    >>> proof_of(Available(digest="sha256:1"), {"sha256:1"}).value
    'equal digest'
    """
    if not isinstance(answer, Available):
        return Proof.UNVERIFIED
    return Proof.PRESENT if (answer.manifests | {answer.digest}).isdisjoint(expected) else Proof.EQUAL
