"""The choice: what each answer of a registry makes of a candidate, and which of several is taken."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.verification import Evidence, pick_best, reasons, verify
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
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
    is_known_bad,
)
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate, candidates
from testkit.builders import FAILING, SECOND, THIRD, source

ONE, OTHER = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
FAILURE = PullFailure(
    section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull", cause=Cause.REFUSED
)
THERE = Available(digest=ONE, suits=True, complete=True)
ANSWERS: list[Availability] = [
    THERE,
    Available(digest=OTHER, suits=True, complete=True),
    Available(digest=ONE),
    NotFound(),
    WrongPlatform(),
    Incomplete("layer"),
    Denied(),
    Throttled(7),
    Unreachable("connection refused"),
]


def offered(**spec: Any) -> tuple[Candidate, ...]:
    """Return the two candidates of the failing image, by a source with these fields."""
    return candidates(Reference.parse(FAILING), [source(**spec)])


def proof(answer: Availability, *digests: str, failure: PullFailure = FAILURE, **spec: Any) -> Proof | None:
    """Return what the first candidate is worth after an answer, if the failing image is known to be one of digests."""
    known = Evidence(answers={SECOND: answer}, digests={FAILING: frozenset(digests)})
    return verify(offered(**spec)[0], failure, known).proof


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (Proof.PRESENT, THERE),
        (Proof.PRESENT, Available(digest=ONE)),
        (Proof.UNVERIFIED, Denied()),
        (Proof.UNVERIFIED, Throttled(7)),
        (Proof.UNVERIFIED, Unreachable("connection refused")),
        (None, NotFound()),
        (None, WrongPlatform()),
        (None, Incomplete("layer")),
    ],
)
def test_best_effort_takes_all_but_the_known_bad(expected: Proof | None, answer: Availability) -> None:
    """Unknown to us is not absent: nodes may have credentials that we do not have."""
    assert expected is proof(answer)


@pytest.mark.parametrize("verification", ["BestEffort", "Strict"])
def test_another_image_is_refused(verification: str) -> None:
    """Running containers tell what the failing image is, and the same tag elsewhere is another build."""
    assert proof(THERE, OTHER, verification=verification) is None
    assert Proof.EQUAL is proof(THERE, ONE, verification=verification)


def test_another_image_may_be_allowed() -> None:
    """Whoever says `allowDifferentDigest: true` knows that the builds differ; it is then present, and no more."""
    assert Proof.PRESENT is proof(THERE, OTHER, allowDifferentDigest=True)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (Proof.EQUAL, THERE),
        (None, replace(THERE, complete=False)),
        (None, replace(THERE, suits=False)),
        *((None, answer) for answer in ANSWERS if not isinstance(answer, Available)),
    ],
)
def test_strict_wants_all_proofs(expected: Proof | None, answer: Availability) -> None:
    """It is there, it is the same, it is whole, and it is for the node's platform."""
    assert expected is proof(answer, ONE, verification="Strict")


def test_strict_wants_to_know_what_the_image_was() -> None:
    """Where nothing tells what the failing image was, nothing can be equal to it."""
    assert proof(THERE, verification="Strict") is None


def test_a_digest_in_the_reference_tells_what_it_was() -> None:
    """Then no running container has to."""
    failure = replace(FAILURE, image=f"quay.io/acme/web@{ONE}")
    (candidate, *_) = candidates(Reference.parse(failure.image), [source(verification="Strict")])
    assert Proof.EQUAL is verify(candidate, failure, Evidence(answers={candidate.image: THERE})).proof


@pytest.mark.parametrize("answer", ANSWERS)
def test_without_verification_nobody_is_believed(answer: Availability) -> None:
    """The source takes its alternatives on faith, whatever a registry says."""
    assert Proof.UNVERIFIED is proof(answer, OTHER, verification="Off")


@pytest.mark.parametrize("cause", [Cause.ABSENT, Cause.DENIED])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_name_that_may_be_wrong_moves_only_to_where_it_is_proven_right(answer: Availability, cause: Cause) -> None:
    """A typo is not repaired by another registry's typo."""
    found = proof(answer, ONE, failure=replace(FAILURE, cause=cause))
    assert (found in {Proof.EQUAL, Proof.PRESENT}) is (isinstance(answer, Available) and answer.digest == ONE)


@pytest.mark.parametrize(
    ("expected", "first", "second"),
    [
        pytest.param(SECOND, THERE, THERE, id="the-declared-order"),
        pytest.param(THIRD, Unreachable("x"), THERE, id="proven-before-unknown"),
        pytest.param(THIRD, NotFound(), Denied(), id="unknown-before-absent"),
        pytest.param(SECOND, Denied(), Throttled(), id="unknown-in-order"),
        pytest.param(None, NotFound(), WrongPlatform(), id="none"),
    ],
)
def test_what_is_proven_comes_first(expected: str | None, first: Availability, second: Availability) -> None:
    """Then what nobody could tell, each in the declared order; what is known to be bad never."""
    known = Evidence(answers={SECOND: first, THIRD: second})
    chosen = pick_best([verify(candidate, FAILURE, known) for candidate in offered()])
    assert expected == (chosen.candidate.image if chosen else None)


def test_a_pod_goes_where_its_template_went() -> None:
    """Even if another alternative is proven: two repositories of one workload would help nobody."""
    known = Evidence(answers={SECOND: THERE, THIRD: Denied()})
    chosen = pick_best([verify(candidate, FAILURE, known) for candidate in offered()], template_image=THIRD)
    assert THIRD == (chosen.candidate.image if chosen else None)


def test_who_acts_comes_before_who_watches() -> None:
    """An observing source's proven alternative does not keep another source from acting."""
    watching = candidates(Reference.parse(FAILING), [source(mode="Observe", name="a")])[:1]
    acting = candidates(Reference.parse(FAILING), [source(["quay.io/acme/web", "x.example/web"], name="b")])
    known = Evidence(answers={SECOND: THERE})
    chosen = pick_best([verify(candidate, FAILURE, known) for candidate in (*watching, *acting)])
    assert "b" == (chosen.candidate.source.name if chosen else "")


def test_why_none_will_do_is_said_of_each() -> None:
    """An operator reads what to mend."""
    known = Evidence(answers={SECOND: NotFound(), THIRD: Incomplete("layer")})
    judged = [verify(candidate, FAILURE, known) for candidate in offered()]
    expected = f"{SECOND}: the registry has no such image; {THIRD}: a part of it is missing: layer"
    assert expected == reasons(judged)


@given(
    st.sampled_from(ANSWERS),
    st.sampled_from(ANSWERS),
    st.sampled_from(["Strict", "BestEffort"]),
    st.sampled_from(Cause),
    st.sampled_from([(), (ONE,), (OTHER,)]),
)
def test_a_known_bad_candidate_is_never_chosen(
    first: Availability, second: Availability, verification: str, cause: Cause, digests: tuple[str, ...]
) -> None:
    """Whatever else is known, and however urgent it is."""
    known = Evidence(answers={SECOND: first, THIRD: second}, digests={FAILING: frozenset(digests)})
    failure = replace(FAILURE, cause=cause)
    chosen = pick_best([verify(candidate, failure, known) for candidate in offered(verification=verification)])
    if chosen:
        answer = known.answer_for(chosen.candidate)
        assert not is_known_bad(answer)
        assert not isinstance(answer, Available) or not digests or answer.digest in digests
