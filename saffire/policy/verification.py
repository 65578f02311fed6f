"""
The choice: which candidate a failing image moves to, by what is known of each.

Each candidate is *judged*: either it has a proof, which may be that nothing is known, or there is a reason why it will
not do. What is proven to be there comes before what nobody could tell; among equals, the declared order decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from saffire.pulls.cause import Remedy
from saffire.pulls.failure import STALLED, PullFailure
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Proof,
    Throttled,
    Unreachable,
    WrongPlatform,
    is_different,
    is_known_bad,
    proof_of,
)
from saffire.registry.reference import InvalidReference, Reference, same_repository
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Mode, Verification

_NOT_ASKED = Unreachable("nobody asked")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """
    What was found out before deciding.

    Args:
        answers: what registries said of candidates, by image.
        digests: those that a failing image is known to stand for, by image, as running containers tell.
        secrets: the pull secret without which the pod cannot read a candidate, by image, where that is known.

    """

    answers: Mapping[str, Availability] = field(default_factory=dict)
    digests: Mapping[str, frozenset[str]] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)

    def answer_for(self, candidate: Candidate) -> Availability:
        """Return what a registry said of a candidate."""
        return self.answers.get(candidate.image, _NOT_ASKED)

    def expected_digests(self, image: str) -> frozenset[str]:
        """Return the digests that an image is known to stand for: its own, or those of containers that run it."""
        try:
            digest = Reference.parse(image).digest
        except InvalidReference:
            return frozenset()
        return frozenset({digest}) if digest else self.digests.get(image, frozenset())


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """
    A candidate with its proof, or without one and with the reason why it will not do.

    `secret` is the pull secret that its proof took, if the pod lacks that.
    """

    candidate: Candidate
    proof: Proof | None = None
    why: str = ""
    secret: str = ""


def verify(candidate: Candidate, failure: PullFailure, knowledge: Evidence) -> Verified:
    """Judge one candidate; only one of a source that wants no verification is taken on faith."""
    verification = candidate.source.verification
    if verification is Verification.OFF:
        return Verified(candidate=candidate, proof=Proof.UNVERIFIED)
    answer, expected = knowledge.answer_for(candidate), knowledge.expected_digests(failure.image)
    if is_known_bad(answer):
        return Verified(candidate=candidate, why=describe_answer(answer))
    if is_different(answer, expected) and not candidate.source.allow_different_digest:
        return Verified(candidate=candidate, why="it is another image than the one that failed")
    proof = proof_of(answer, expected)
    if verification is Verification.STRICT and (lack := _missing_proof(answer, proof)):
        return Verified(candidate=candidate, why=lack)
    # A name that may be wrong is not repaired by another registry's name that may be wrong.
    if failure.cause.remedy is Remedy.PROVEN and proof is Proof.UNVERIFIED:
        return Verified(candidate=candidate, why=f"{failure.cause.meaning}; and here, {describe_answer(answer)}")
    # Where we reach no registry at all, a pull may take its time and still work.
    if failure.reason == STALLED and proof is Proof.UNVERIFIED:
        return Verified(candidate=candidate, why=describe_answer(answer))
    return Verified(candidate=candidate, proof=proof, secret=knowledge.secrets.get(candidate.image, ""))


def pick_best(judged: Sequence[Verified], *, template_image: str = "") -> Verified | None:
    """
    Return the one to move to: of a source that acts before one that watches, then what is proven, then in order.

    `beside` is the image that the template names by now: a pod goes where its template went, if that will do.
    """
    for acts in (True, False):
        good = [one for one in judged if one.proof and (one.candidate.source.mode is Mode.ENFORCE) is acts]
        same = [one for one in good if template_image and same_repository(one.candidate.image, template_image)]
        proven = [one for one in good if _is_taken_first(one)]
        if found := next(iter((*same, *proven, *good)), None):
            return found
    return None


def reasons(judged: Iterable[Verified]) -> str:
    """Return in one line why none will do."""
    return "; ".join(f"{one.candidate.image}: {one.why}" for one in judged)


def _is_taken_first(judged: Verified) -> bool:
    """Tell whether a candidate is as good as its source wants it to be."""
    return judged.proof is not Proof.UNVERIFIED or judged.candidate.source.verification is Verification.OFF


def _missing_proof(answer: Availability, proof: Proof) -> str:
    """Return what keeps a candidate from being proven present and equal; `""` if it is."""
    if not isinstance(answer, Available):
        return describe_answer(answer)
    if proof is not Proof.EQUAL:
        return "it is there, but nothing tells that it is the same image"
    return "" if answer.complete and answer.suits else "it is there, but not proven whole, and for the node's platform"


def describe_answer(answer: Availability) -> str:
    """Return an answer in words."""
    match answer:
        case Available():
            return "it is there"
        case NotFound():
            return "the registry has no such image"
        case WrongPlatform():
            return "it has no build for the node's platform"
        case Incomplete(missing):
            return f"a part of it is missing: {missing}"
        case Denied():
            return "the registry does not tell us without other credentials"
        case Throttled():
            return "the registry wants to be asked later"
        case Unreachable(why):
            return f"the registry did not tell: {why}"
