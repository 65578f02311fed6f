"""The choice: what each answer of a registry makes of a candidate, and which of several is taken."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.verification import Evidence, pick_best, verify, why_none_will_do
from saffire.pulls.cause import Cause
from saffire.pulls.failure import STALLED, PullFailure, Section
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


ABSENT = replace(FAILURE, cause=Cause.ABSENT)
IN_QUAY = "quay.io/acme/web:1.2: quay.io has no image of that name"
REFUSED = "quay.io/acme/web:1.2: quay.io refused the connection"
IN_GHCR = "ghcr.io/acme/web:1.2: ghcr.io"
ONLY_GHCR = ["quay.io/acme/web", "ghcr.io/acme/web"]


@pytest.mark.parametrize(
    ("expected", "failure", "answer", "spec"),
    [
        pytest.param(
            f"{IN_QUAY}; {IN_GHCR} has no such image; push the image to quay.io or ghcr.io, or correct its name",
            ABSENT,
            NotFound(),
            {},
            id="nobody-has-it",
        ),
        pytest.param(
            f"{IN_QUAY}; {IN_GHCR} does not tell us without other credentials; "
            "push the image to quay.io, or add a pull secret for ghcr.io, or correct its name",
            ABSENT,
            Denied(),
            {},
            id="nobody-may-know",
        ),
        pytest.param(
            "quay.io/acme/web:1.2: quay.io denies the node the image, or has none of that name; "
            f"{IN_GHCR} does not tell us without other credentials; "
            "add a pull secret for quay.io or ghcr.io, or correct its name",
            replace(FAILURE, cause=Cause.DENIED),
            Denied(),
            {},
            id="denied-everywhere",
        ),
        pytest.param(
            f"{IN_QUAY}; {IN_GHCR} did not tell: connection refused; "
            "push the image to quay.io, or wait until ghcr.io answers, or correct its name",
            ABSENT,
            Unreachable("connection refused", is_silent=True),
            {},
            id="silent",
        ),
        pytest.param(
            f"{IN_QUAY}; {IN_GHCR} did not tell: TLS: no handshake; "
            "push the image to quay.io, or remove what keeps Saffire from asking ghcr.io, or correct its name",
            ABSENT,
            Unreachable("TLS: no handshake"),
            {},
            id="not-to-be-asked",
        ),
        pytest.param(
            f"{IN_QUAY}; {IN_GHCR} wants to be asked later; "
            "push the image to quay.io, or wait until ghcr.io answers, or correct its name",
            ABSENT,
            Throttled(7),
            {},
            id="throttled",
        ),
        pytest.param(
            f"{REFUSED}; {IN_GHCR} has no such image; push the image to ghcr.io",
            FAILURE,
            NotFound(),
            {},
            id="a-registry-that-is-down-gets-nothing-pushed",
        ),
        pytest.param(
            f"{REFUSED}; {IN_GHCR} has no build of it for the node's platform; "
            "push a build for the node's platform to ghcr.io",
            FAILURE,
            WrongPlatform(),
            {},
            id="platform",
        ),
        pytest.param(
            f"{REFUSED}; {IN_GHCR} lacks a part of it: layer; push the whole image to ghcr.io again",
            FAILURE,
            Incomplete("layer"),
            {},
            id="incomplete",
        ),
        pytest.param(
            f"{REFUSED}; {IN_GHCR} has another image of that name than the one that failed; "
            "push the same image to ghcr.io, or set allowDifferentDigest: true",
            FAILURE,
            Available(digest=OTHER, suits=True, complete=True),
            {},
            id="different",
        ),
        pytest.param(
            f"{REFUSED}; {IN_GHCR} was not asked; wait until ghcr.io answers",
            FAILURE,
            None,
            {"verification": "Strict"},
            id="not-asked",
        ),
        pytest.param(
            f"{REFUSED}; {IN_GHCR} has it, but does not prove that it is whole and for the node's platform; "
            "set verification: BestEffort",
            FAILURE,
            Available(digest=ONE),
            {"verification": "Strict"},
            id="not-whole",
        ),
        pytest.param(
            "quay.io/acme/web:1.2: quay.io does not answer in time, and the pull has stalled; "
            f"{IN_GHCR} did not tell: no connection; wait until ghcr.io answers",
            replace(FAILURE, cause=Cause.TIMEOUT, reason=STALLED),
            Unreachable("no connection", is_silent=True),
            {},
            id="stalled",
        ),
    ],
)
def test_each_registry_is_named_with_what_it_said(
    expected: str, failure: PullFailure, answer: Availability | None, spec: dict[str, str]
) -> None:
    """Nobody takes what one registry said for another's words, and the end of the line says what to do."""
    answers = {SECOND: answer} if answer else {}
    known = Evidence(answers=answers, digests={FAILING: frozenset({ONE})})
    sources = [source(ONLY_GHCR, **spec)]
    judged = [verify(candidate, failure, known) for candidate in candidates(Reference.parse(FAILING), sources)]
    assert expected == why_none_will_do(judged, failure)


def test_several_candidates_are_told_in_order() -> None:
    """Each has its own answer, and what is to be done is said once."""
    known = Evidence(answers={SECOND: NotFound(), THIRD: NotFound()})
    judged = [verify(candidate, FAILURE, known) for candidate in offered()]
    other = "registry.example:5000"
    expected = (
        f"{REFUSED}; {IN_GHCR} has no such image; {THIRD}: {other} has no such image; "
        f"push the image to ghcr.io or {other}"
    )
    assert expected == why_none_will_do(judged, FAILURE)


def test_what_the_image_is_may_be_unknown() -> None:
    """A strict source is told how it would be known, and how to do without."""
    judged = [verify(offered(verification="Strict")[0], FAILURE, Evidence(answers={SECOND: THERE}))]
    expected = (
        f"{REFUSED}; {IN_GHCR} has it, but nothing tells that it is the same image; "
        "name the image by its digest, or set verification: BestEffort"
    )
    assert expected == why_none_will_do(judged, FAILURE)


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
