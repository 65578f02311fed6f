"""Verification: the proof of a candidate after each answer of a registry, and which of several candidates is taken."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.verification import Evidence, Verified, pick_best, verify, why_none_will_do
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
    Withheld,
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


SILENT = Unreachable("no answer", is_silent=True)


def offered(**spec: Any) -> tuple[Candidate, ...]:
    """Return the two candidates of the failing image, by a source with these fields."""
    return candidates(Reference.parse(FAILING), [source(**spec)])


def proof(answer: Availability, *digests: str, failure: PullFailure = FAILURE, **spec: Any) -> Proof | None:
    """Return the proof of the first candidate after an answer, if the failing image has these digests."""
    evidence = Evidence(answers={SECOND: answer}, digests={FAILING: frozenset(digests)})
    return verify(offered(**spec)[0], failure, evidence).proof


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
    """An image that Saffire may not see may be there: nodes may have credentials that Saffire does not have."""
    assert expected is proof(answer)


@pytest.mark.parametrize("verification", ["BestEffort", "Strict"])
def test_another_image_is_refused(verification: str) -> None:
    """Running containers tell the digest of the failing image, and the candidate with its tag has another one."""
    assert proof(THERE, OTHER, verification=verification) is None
    assert Proof.EQUAL is proof(THERE, ONE, verification=verification)


def test_the_same_image_for_another_platform_is_not_another_image() -> None:
    """CRI-O reports the digest for the node's platform, and only nodes of another platform run the image."""
    answer = replace(THERE, listed=frozenset({ONE, OTHER}))
    assert Proof.PRESENT is proof(answer, OTHER)
    assert proof(answer, OTHER, verification="Strict") is None


def test_another_image_may_be_allowed() -> None:
    """With `allowDifferentDigest: true` the builds may differ; the proof is then `PRESENT`, not `EQUAL`."""
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
    """The candidate must be there, equal, whole, and for the node's platform."""
    assert expected is proof(answer, ONE, verification="Strict")


def test_strict_wants_to_know_the_digest_of_the_failing_image() -> None:
    """If that is not known, no candidate can be equal to it."""
    assert proof(THERE, verification="Strict") is None


def test_the_digest_may_be_in_the_reference() -> None:
    """Then no running container has to tell it."""
    failure = replace(FAILURE, image=f"quay.io/acme/web@{ONE}")
    (candidate, *_) = candidates(Reference.parse(failure.image), [source(verification="Strict")])
    assert Proof.EQUAL is verify(candidate, failure, Evidence(answers={candidate.image: THERE})).proof


@pytest.mark.parametrize("answer", ANSWERS)
def test_without_verification_every_candidate_is_accepted(answer: Availability) -> None:
    """With `verification: Off` a registry's answer does not count."""
    assert Proof.UNVERIFIED is proof(answer, OTHER, verification="Off")


@pytest.mark.parametrize("cause", [Cause.ABSENT, Cause.DENIED])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_image_whose_name_may_be_wrong_moves_only_with_proof(answer: Availability, cause: Cause) -> None:
    """A wrong name would be wrong in another registry too."""
    given_proof = proof(answer, ONE, failure=replace(FAILURE, cause=cause))
    assert (given_proof in {Proof.EQUAL, Proof.PRESENT}) is (isinstance(answer, Available) and answer.digest == ONE)


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
def test_a_proven_candidate_comes_first(expected: str | None, first: Availability, second: Availability) -> None:
    """Then come the unverified ones, in the declared order; one that is known bad is never taken."""
    evidence = Evidence(answers={SECOND: first, THIRD: second})
    chosen = pick_best([verify(candidate, FAILURE, evidence) for candidate in offered()])
    assert expected == (chosen.candidate.image if chosen else None)


@pytest.mark.parametrize(
    ("expected", "second"),
    [
        pytest.param(THIRD, Denied(), id="unknown"),
        pytest.param(SECOND, NotFound(), id="absent"),
        pytest.param(SECOND, SILENT, id="down-too"),
    ],
)
def test_a_candidate_whose_registry_is_known_to_be_down_comes_last(expected: str, second: Availability) -> None:
    """It comes before none: what is down for Saffire may be in a mirror of the nodes."""
    evidence = Evidence(answers={SECOND: SILENT, THIRD: second}, down=frozenset({SECOND}))
    evidence = replace(evidence, down=evidence.down | ({THIRD} if second == SILENT else set()))
    chosen = pick_best([verify(candidate, FAILURE, evidence) for candidate in offered()])
    assert (expected, expected == SECOND) == (chosen and chosen.candidate.image, chosen and chosen.is_down)


def test_a_pod_follows_its_template() -> None:
    """It does so even if another alternative is proven, so that a workload does not use two repositories."""
    evidence = Evidence(answers={SECOND: THERE, THIRD: Denied()})
    chosen = pick_best([verify(candidate, FAILURE, evidence) for candidate in offered()], template_image=THIRD)
    assert THIRD == (chosen.candidate.image if chosen else None)


def test_a_source_that_enforces_comes_before_one_that_observes() -> None:
    """Even if only the observing source's alternative is proven, the other source acts."""
    observing = candidates(Reference.parse(FAILING), [source(mode="Observe", name="a")])[:1]
    enforcing = candidates(Reference.parse(FAILING), [source(["quay.io/acme/web", "x.example/web"], name="b")])
    evidence = Evidence(answers={SECOND: THERE})
    chosen = pick_best([verify(candidate, FAILURE, evidence) for candidate in (*observing, *enforcing)])
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
            f"{IN_QUAY}; {IN_GHCR} does not tell Saffire without other credentials; "
            "push the image to quay.io, or add a pull secret for ghcr.io, or correct its name",
            ABSENT,
            Denied(),
            {},
            id="nobody-may-know",
        ),
        pytest.param(
            "quay.io/acme/web:1.2: quay.io denies the node the image, or has none of that name; "
            f"{IN_GHCR} does not tell Saffire without other credentials; "
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
            "push the image to quay.io, or remove what keeps Saffire from an answer of ghcr.io, or correct its name",
            ABSENT,
            Unreachable("TLS: no handshake"),
            {},
            id="not-to-be-asked",
        ),
        pytest.param(
            f"{IN_QUAY}; {IN_GHCR} did not tell: its parts: it answered 503; "
            "push the image to quay.io, or wait until ghcr.io answers, or correct its name",
            ABSENT,
            Unreachable("its parts: it answered 503", is_server_error=True),
            {},
            id="its-layers-fail",
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
            f"{REFUSED}; {IN_GHCR} may not give the image, for legal reasons (451); "
            "find out why ghcr.io gives the image to nobody",
            FAILURE,
            Withheld(451),
            {},
            id="withheld",
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
def test_each_registry_is_named_with_its_answer(
    expected: str, failure: PullFailure, answer: Availability | None, spec: dict[str, str]
) -> None:
    """Each answer stands behind the name of its registry, and the end of the line says what to do."""
    answers = {SECOND: answer} if answer else {}
    # If a container of the namespace runs the image, the name of the image is right.
    digests = {} if failure.cause in {Cause.ABSENT, Cause.DENIED} else {FAILING: frozenset({ONE})}
    evidence = Evidence(answers=answers, digests=digests)
    sources = [source(ONLY_GHCR, **spec)]
    verified = [verify(candidate, failure, evidence) for candidate in candidates(Reference.parse(FAILING), sources)]
    assert expected == why_none_will_do(verified, failure)


@pytest.mark.parametrize("cause", [Cause.ABSENT, Cause.DENIED])
@pytest.mark.parametrize("answer", [Denied(), Throttled(), Unreachable("connection refused", is_silent=True)])
def test_a_name_that_a_container_of_the_namespace_runs_is_right(cause: Cause, answer: Availability) -> None:
    """Then an unproven candidate will do after 401, 403 and 404, as after any other failure, but not with Strict."""
    failure = replace(FAILURE, cause=cause)
    assert proof(answer, failure=failure) is None
    assert proof(answer, ONE, failure=failure) is Proof.UNVERIFIED
    assert proof(answer, ONE, failure=failure, verification="Strict") is None


def test_a_candidate_for_another_platform_has_to_be_proven_to_suit() -> None:
    """The image has no build for the node; the same image elsewhere may have none either."""
    failure = replace(FAILURE, cause=Cause.PLATFORM)
    assert proof(Available(digest=ONE, suits=True), failure=failure) is Proof.PRESENT
    assert proof(Available(digest=ONE), failure=failure) is None
    assert proof(WrongPlatform(), failure=failure) is None


def test_several_candidates_are_named_in_order() -> None:
    """Each has its own answer; an advice for several registries comes once."""
    evidence = Evidence(answers={SECOND: NotFound(), THIRD: NotFound()})
    verified = [verify(candidate, FAILURE, evidence) for candidate in offered()]
    second_registry = "registry.example:5000"
    expected = (
        f"{REFUSED}; {IN_GHCR} has no such image; {THIRD}: {second_registry} has no such image; "
        f"push the image to ghcr.io or {second_registry}"
    )
    assert expected == why_none_will_do(verified, FAILURE)


def test_of_many_candidates_the_first_five_are_named() -> None:
    """The Event has to have room for its last part, which says what to do."""
    repositories = [f"registry-{number}.example/acme/web" for number in range(8)]
    (declared,) = [source(["quay.io/acme/web", *repositories])]
    images = [f"{repository}:1.2" for repository in repositories]
    evidence = Evidence(answers=dict.fromkeys(images, NotFound()))
    verified = [verify(candidate, FAILURE, evidence) for candidate in candidates(Reference.parse(FAILING), [declared])]
    line = why_none_will_do(verified, FAILURE)
    assert [True] * 5 + [False] * 3 == [image in line for image in images]
    registries = " or ".join(f"registry-{number}.example" for number in range(5))
    assert line.endswith(f"; 3 more will not do either; push the image to {registries}")


def test_a_missing_pull_secret_is_named_among_many_candidates() -> None:
    """Its name is what the reason `PullSecretMissing` sends an operator to look for."""
    refused = [
        Verified(candidate=candidate, why=f"answer {number}", advice="", secret="ghcr-pull" if number == 7 else "")
        for number, candidate in enumerate(8 * offered()[:1])
    ]
    assert "answer 7" in why_none_will_do(refused, FAILURE)


def test_the_digest_of_the_failing_image_may_be_unknown() -> None:
    """Then the advice is to name the image by its digest, or to do without Strict."""
    verified = [verify(offered(verification="Strict")[0], FAILURE, Evidence(answers={SECOND: THERE}))]
    expected = (
        f"{REFUSED}; {IN_GHCR} has it, but nothing tells that it is the same image; "
        "name the image by its digest, or set verification: BestEffort"
    )
    assert expected == why_none_will_do(verified, FAILURE)


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
    """That holds for every cause, verification and second answer."""
    evidence = Evidence(answers={SECOND: first, THIRD: second}, digests={FAILING: frozenset(digests)})
    failure = replace(FAILURE, cause=cause)
    chosen = pick_best([verify(candidate, failure, evidence) for candidate in offered(verification=verification)])
    if chosen:
        answer = evidence.answer_for(chosen.candidate)
        assert not is_known_bad(answer)
        assert not isinstance(answer, Available) or not digests or answer.digest in digests
