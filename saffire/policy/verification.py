"""
The choice: which candidate a failing image moves to, by what is known of each.

Each candidate is *judged*: either it has a proof, which may be that nothing is known, or there is a reason why it will
not do. What is proven to be there comes before what nobody could tell; among equals, the declared order decides.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from saffire.pulls.cause import Cause, Remedy
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
from saffire.registry.reference import InvalidReference, Reference, domain_of, same_repository
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

    `advice` is what an operator may do about that; `{}` in it stands for the registries of all that have this advice.
    `secret` is the pull secret that its proof took, if the pod lacks that.
    """

    candidate: Candidate
    proof: Proof | None = None
    why: str = ""
    advice: str = ""
    secret: str = ""


def verify(candidate: Candidate, failure: PullFailure, knowledge: Evidence) -> Verified:
    """Judge one candidate; only one of a source that wants no verification is taken on faith."""
    verification = candidate.source.verification
    if verification is Verification.OFF:
        return Verified(candidate=candidate, proof=Proof.UNVERIFIED)
    answer, expected = knowledge.answer_for(candidate), knowledge.expected_digests(failure.image)
    registry = candidate.reference.repository.domain
    refused = Verified(candidate=candidate, why=describe_answer(answer, registry), advice=_advice(answer))
    if is_known_bad(answer):
        return refused
    if is_different(answer, expected) and not candidate.source.allow_different_digest:
        why = f"{registry} has another image of that name than the one that failed"
        return replace(refused, why=why, advice="push the same image to {}, or set allowDifferentDigest: true")
    proof = proof_of(answer, expected)
    # A name that may be wrong is not repaired by another registry's name that may be wrong. And where we reach no
    # registry at all, a pull that has stalled may take its time and still work.
    wants_answer = verification is Verification.STRICT or failure.cause.remedy is Remedy.PROVEN
    if proof is Proof.UNVERIFIED and (wants_answer or failure.reason == STALLED):
        return refused
    if verification is Verification.STRICT and proof is not Proof.EQUAL:
        why = f"{registry} has it, but nothing tells that it is the same image"
        return replace(refused, why=why, advice="name the image by its digest, or set verification: BestEffort")
    if verification is Verification.STRICT and not _is_whole(answer):
        why = f"{registry} has it, but does not prove that it is whole and for the node's platform"
        return replace(refused, why=why, advice="set verification: BestEffort")
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


def why_none_will_do(judged: Iterable[Verified], failure: PullFailure) -> str:
    """Return in one line what each registry said, that of the failing image first, and what to do about it."""
    refused = tuple(judged)
    answers = (f"{candidate.candidate.image}: {candidate.why}" for candidate in refused)
    return "; ".join((f"{failure.image}: {failure.why}", *answers, ", or ".join(_advices(refused, failure))))


def _advices(refused: Iterable[Verified], failure: PullFailure) -> Iterator[str]:
    """Yield what an operator may do, each once, with the registries where it may be done."""
    registries: dict[str, dict[str, None]] = {}
    if failure.cause in _ADVICE_OF_CAUSE:
        registries[_ADVICE_OF_CAUSE[failure.cause]] = {domain_of(failure.image): None}
    for candidate in refused:
        registries.setdefault(candidate.advice, {})[candidate.candidate.reference.repository.domain] = None
    yield from (advice.replace("{}", " or ".join(names)) for advice, names in registries.items())
    if failure.cause.remedy is Remedy.PROVEN:
        yield "correct its name"


def _is_taken_first(judged: Verified) -> bool:
    """Tell whether a candidate is as good as its source wants it to be."""
    return judged.proof is not Proof.UNVERIFIED or judged.candidate.source.verification is Verification.OFF


def _is_whole(answer: Availability) -> bool:
    """Tell whether an image is proven to be there with all its parts, for the node's platform."""
    return isinstance(answer, Available) and answer.complete and answer.suits


def describe_answer(answer: Availability, registry: str) -> str:
    """
    Return an answer in words that name the registry.

    >>> describe_answer(NotFound(), "ghcr.io")
    'ghcr.io has no such image'
    """
    match answer:
        case Available():
            return f"{registry} has it"
        case NotFound():
            return f"{registry} has no such image"
        case WrongPlatform():
            return f"{registry} has no build of it for the node's platform"
        case Incomplete(missing):
            return f"{registry} lacks a part of it: {missing}"
        case Denied():
            return f"{registry} does not tell us without other credentials"
        case Throttled():
            return f"{registry} wants to be asked later"
        case Unreachable() if answer == _NOT_ASKED:
            return f"{registry} was not asked"
        case Unreachable(why):
            return f"{registry} did not tell: {why}"


_PUSH, _ADD_SECRET = "push the image to {}", "add a pull secret for {}"
# What to do at the registry that failed, where the image's name need not be wrong.
_ADVICE_OF_CAUSE = {Cause.ABSENT: _PUSH, Cause.DENIED: _ADD_SECRET}


def _advice(answer: Availability) -> str:
    """Return what an operator may do about an answer that proves nothing."""
    match answer:
        case NotFound():
            return _PUSH
        case WrongPlatform():
            return "push a build for the node's platform to {}"
        case Incomplete():
            return "push the whole image to {} again"
        case Denied():
            return _ADD_SECRET
        case Unreachable(is_silent=False) if answer != _NOT_ASKED:
            return "remove what keeps Saffire from asking {}"
        case _:
            return "wait until {} answers"
