"""
Verification: to which candidate Saffire moves a container, by the evidence about each candidate.

A candidate is the failing image in another repository. `verify` gives each candidate either a proof, or the reason why
it will not do. If its registry gave no usable answer, the proof may be `UNVERIFIED`. A candidate that is proven to be
there comes before a candidate that is unverified, and one whose registry is known to be down comes last. Among equals,
the order in the source decides.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from saffire.pulls.cause import Cause, Remedy
from saffire.pulls.failure import STALLED, PullFailure
from saffire.registry.availability import (
    NOT_ASKED,
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Proof,
    Throttled,
    Unreachable,
    Withheld,
    WrongPlatform,
    is_different,
    is_known_bad,
    proof_of,
)
from saffire.registry.reference import Reference, domain_of, same_repository
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Mode, Verification


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """
    What Saffire knows about candidates and running images when it makes a decision.

    Args:
        answers: by the candidate's image, the answer of its registry.
        digests: by image, the digests that running containers with that image report.
        secrets: by the candidate's image, the name of the pull secret that the pod lacks for it.
        on_all_nodes: by the candidate's image, the answer for the platforms of all nodes on which the workload's pods
            may run; empty if they are those of the pod's own node.
        down: the images of the candidates whose registries are known to be down (`reach.is_down`).

    """

    answers: Mapping[str, Availability] = field(default_factory=dict)
    digests: Mapping[str, frozenset[str]] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    on_all_nodes: Mapping[str, Availability] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def for_all_nodes(self, image: str) -> Self:
        """
        Return the evidence that counts for a pod template, which serves all nodes on which its pods may run.

        `image` is the failing image. A candidate counts by its answer for all these nodes. If it lacks one of their
        platforms, but has the very index of the failing image, it counts by its answer for the pod's own node: the
        failing image lacks that platform too.
        """
        others = {
            candidate: answer
            for candidate, answer in self.on_all_nodes.items()
            if not (isinstance(answer, WrongPlatform) and self._has_index_of(image, self.answers.get(candidate)))
        }
        return replace(self, answers={**self.answers, **others}) if others else self

    def _has_index_of(self, image: str, answer: Availability | None) -> bool:
        """
        Tell whether an answer has the index of an image.

        CRI-O reports the digest of a manifest, whatever index the manifest is from. So if the answer has no index, the
        image has to name the digest itself.
        """
        if not isinstance(answer, Available) or answer.digest not in self.expected_digests(image):
            return False
        return bool(answer.manifests or answer.listed) or "@" in image

    def answer_for(self, candidate: Candidate) -> Availability:
        """Return the registry's answer about a candidate; if Saffire has not asked, an `Unreachable` that says so."""
        return self.answers.get(candidate.image, NOT_ASKED)

    def expected_digests(self, image: str) -> frozenset[str]:
        """
        Return the known digests of an image; the set is empty if none is known.

        If the image's reference has a digest, it is the only one. Else they are those that running containers report.
        """
        reference = Reference.parse_if_valid(image)
        if reference is None:
            return frozenset()
        return frozenset({reference.digest}) if reference.digest else self.digests.get(image, frozenset())


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """
    A candidate with its proof, or with the reason `why` it will not do; then `proof` is `None`.

    `advice` is what an operator may do if the candidate will not do. `{}` in the text stands for the registries of all
    candidates with the same advice. `secret` is the name of the pull secret that the registry asks for and the pod
    lacks; `""` if the pod lacks none. `is_down` says that the registry is known to be down, and the proof `UNVERIFIED`.
    """

    candidate: Candidate
    proof: Proof | None = None
    why: str = ""
    advice: str = ""
    secret: str = ""
    is_down: bool = False


def verify(candidate: Candidate, failure: PullFailure, evidence: Evidence) -> Verified:
    """Verify a candidate by the evidence; if its source has `verification: Off`, accept the candidate without any."""
    verification = candidate.source.verification
    if verification is Verification.OFF:
        return Verified(candidate=candidate, proof=Proof.UNVERIFIED)
    answer, expected = evidence.answer_for(candidate), evidence.expected_digests(failure.image)
    registry = candidate.reference.repository.domain
    refused = Verified(candidate=candidate, why=describe_answer(answer, registry), advice=_advice(answer))
    if is_known_bad(answer):
        return refused
    if is_different(answer, expected) and not candidate.source.allow_different_digest:
        why = f"{registry} has another image of that name than the one that failed"
        return replace(refused, why=why, advice="push the same image to {}, or set allowDifferentDigest: true")
    proof = proof_of(answer, expected)
    if proof is Proof.UNVERIFIED and _wants_answer(candidate, failure, evidence):
        return refused
    if failure.cause is Cause.PLATFORM and not (isinstance(answer, Available) and answer.suits):
        return replace(
            refused, why=f"{registry} has it, but does not prove that it has a build for the node's platform"
        )
    if verification is Verification.STRICT and proof is not Proof.EQUAL:
        why = f"{registry} has it, but nothing tells that it is the same image"
        return replace(refused, why=why, advice="name the image by its digest, or set verification: BestEffort")
    if verification is Verification.STRICT and not _is_whole(answer):
        why = f"{registry} has it, but does not prove that it is whole and for the node's platform"
        return replace(refused, why=why, advice="set verification: BestEffort")
    is_down = proof is Proof.UNVERIFIED and candidate.image in evidence.down
    secret = evidence.secrets.get(candidate.image, "")
    return Verified(candidate=candidate, proof=proof, secret=secret, is_down=is_down)


def _wants_answer(candidate: Candidate, failure: PullFailure, evidence: Evidence) -> bool:
    """
    Tell whether Saffire needs a usable answer about a candidate.

    It needs one if the name of the failing image may be wrong, since the candidate's name may be wrong too. If a
    container of the namespace runs that very image, the name is right. Saffire needs one after a stalled pull, too: if
    Saffire reaches no registry at all, the pull may be slow and still succeed.
    """
    is_name_doubtful = failure.cause.remedy is Remedy.PROVEN and not (
        failure.cause in _OF_NAME and evidence.digests.get(failure.image)
    )
    is_strict = candidate.source.verification is Verification.STRICT
    return is_strict or is_name_doubtful or failure.reason == STALLED


def pick_best(verified: Sequence[Verified], *, template_image: str = "") -> Verified | None:
    """
    Return the candidate to which Saffire moves the container; `None` if no candidate will do.

    Candidates of sources in mode Enforce come before those of sources in mode Observe. In each of these two groups, a
    candidate in the repository of `template_image` comes first, so that the pod gets the image of its template:
    `template_image` is the image that the template names now, or `""`. Then come the candidates with all the proof that
    their sources ask for, then the other candidates, and last those whose registries are known to be down. Among
    equals, the order of `verified` decides.
    """
    for enforces in (True, False):
        accepted = [
            result for result in verified if result.proof and (result.candidate.source.mode is Mode.ENFORCE) is enforces
        ]
        in_template = [
            result for result in accepted if template_image and same_repository(result.candidate.image, template_image)
        ]
        proven = [result for result in accepted if _has_all_proof(result)]
        not_down = [result for result in accepted if not result.is_down]
        if best := next(iter((*in_template, *proven, *not_down, *accepted)), None):
            return best
    return None


# So many candidates are named in the text of an Event. An Event has room for 1024 characters, and the advice at the end
# is the part that an operator needs most.
_MAX_ANSWERS = 5


def why_none_will_do(verified: Iterable[Verified], failure: PullFailure) -> str:
    """
    Return one line: why the pull failed, why each candidate will not do, and what an operator may do.

    The line names the first 5 candidates, and counts the others. The advice is about these 5 candidates.
    """
    # An operator needs the name of a missing pull secret most.
    refused = sorted(verified, key=lambda result: not result.secret)
    answers = [f"{result.candidate.image}: {result.why}" for result in refused[:_MAX_ANSWERS]]
    if len(refused) > _MAX_ANSWERS:
        answers.append(f"{len(refused) - _MAX_ANSWERS} more will not do either")
    advices = _advices(refused[:_MAX_ANSWERS], failure)
    return "; ".join((f"{failure.image}: {failure.why}", *answers, ", or ".join(advices)))


def _advices(refused: Iterable[Verified], failure: PullFailure) -> Iterator[str]:
    """Yield what an operator may do: each advice once, with the names of all registries for which it is given."""
    registries: dict[str, dict[str, None]] = {}
    if failure.cause in _ADVICE_OF_CAUSE:
        registries[_ADVICE_OF_CAUSE[failure.cause]] = {domain_of(failure.image): None}
    for result in refused:
        registries.setdefault(result.advice, {})[result.candidate.reference.repository.domain] = None
    yield from (advice.replace("{}", " or ".join(names)) for advice, names in registries.items())
    if failure.cause.remedy is Remedy.PROVEN:
        yield "correct its name"


def _has_all_proof(verified: Verified) -> bool:
    """Tell whether a candidate is proven to be there, or its source has `verification: Off` and asks for no proof."""
    return verified.proof is not Proof.UNVERIFIED or verified.candidate.source.verification is Verification.OFF


def _is_whole(answer: Availability) -> bool:
    """Tell whether a registry's answer proves that all parts of the image are there, for the node's platform."""
    return isinstance(answer, Available) and answer.complete and answer.suits


def describe_answer(answer: Availability, registry: str) -> str:
    """
    Return a registry's answer as a clause whose subject is `registry`, the registry's domain.

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
        case Withheld():
            return f"{registry} {answer.why}"
        case Denied():
            return f"{registry} does not tell Saffire without other credentials"
        case Throttled():
            return f"{registry} wants to be asked later"
        case Unreachable() if answer == NOT_ASKED:
            return f"{registry} was not asked"
        case Unreachable(why):
            return f"{registry} did not tell: {why}"


# After these answers of a registry, the name of the image may be wrong.
_OF_NAME = frozenset({Cause.ABSENT, Cause.DENIED})
_PUSH, _ADD_SECRET = "push the image to {}", "add a pull secret for {}"
# What an operator may do at the registry from which the pull failed, for causes after which the name of the image may
# still be right.
_ADVICE_OF_CAUSE = {Cause.ABSENT: _PUSH, Cause.DENIED: _ADD_SECRET}


def _advice(answer: Availability) -> str:
    """Return what an operator may do about a registry's answer that does not prove that the image is there."""
    match answer:
        case NotFound():
            return _PUSH
        case WrongPlatform():
            return "push a build for the node's platform to {}"
        case Incomplete():
            return "push the whole image to {} again"
        case Withheld():
            return "find out why {} gives the image to nobody"
        case Denied():
            return _ADD_SECRET
        case Unreachable(is_silent=False, is_server_error=False) if answer != NOT_ASKED:
            return "remove what keeps Saffire from an answer of {}"
        case _:
            return "wait until {} answers"
