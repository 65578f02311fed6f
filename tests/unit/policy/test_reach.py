"""
The reach of a repair: each row of what a node says, and what the registry answers Saffire.

A row has the cause that the node names, the answer of the original's registry, and the fault that this proves.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.reach import (
    CONNECTION,
    Fault,
    FaultEvidence,
    Reach,
    diagnose,
    may_be_taken_down,
    reach_of,
    shared_facts,
    why_limited,
)
from saffire.pulls.cause import Cause
from saffire.pulls.failure import STALLED, PullFailure, Section
from saffire.registry.availability import (
    NOT_ASKED,
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Throttled,
    Unreachable,
    Withheld,
)

AVAILABLE = Available(digest="sha256:1")
SILENT = Unreachable("connection refused", is_silent=True)
LATE = Unreachable("no answer within 1.5 s", is_silent=True, is_late=True)
BROKEN = Unreachable("it answered 503", is_silent=True, is_server_error=True)
TLS = Unreachable("TLS: certificate has expired", is_tls=True)
GUARDED = Unreachable("its address is not one that may be asked")
ANSWERS: tuple[Availability, ...] = (
    AVAILABLE,
    SILENT,
    LATE,
    BROKEN,
    TLS,
    GUARDED,
    NOT_ASKED,
    Denied(),
    Throttled(),
    NotFound(),
    Incomplete("config"),
)
SEEN = FaultEvidence(has_answered_before=True, any_registry_answers=True, ready_pods=4)
"""By default the registry has answered before, other registries answer, and four pods of the workload are ready."""
OUTAGE, NODE, UNPROVEN = Fault.OUTAGE, Fault.NODE, Fault.UNPROVEN


def failure(cause: Cause, image: str = "quay.io/acme/web:1", **fields: object) -> PullFailure:
    """Return a pull failure with this cause."""
    base = PullFailure(section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull", cause=cause)
    return replace(base, **fields)  # type: ignore[arg-type]


# What a fault is


@pytest.mark.parametrize(
    ("causes", "answer", "fault"),
    [
        (CONNECTION, SILENT, OUTAGE),
        ({Cause.TIMEOUT}, LATE, OUTAGE),
        (CONNECTION - {Cause.TIMEOUT}, LATE, UNPROVEN),
        ({Cause.SERVER_ERROR, Cause.PARTIAL, Cause.THROTTLED, Cause.DENIED, Cause.ABSENT}, LATE, UNPROVEN),
        (CONNECTION, BROKEN, OUTAGE),
        (CONNECTION, AVAILABLE, NODE),
        (CONNECTION, Denied(), NODE),
        (CONNECTION, Throttled(), NODE),
        (CONNECTION, NotFound(), NODE),
        (CONNECTION, GUARDED, UNPROVEN),
        (CONNECTION, NOT_ASKED, UNPROVEN),
        ({Cause.TLS}, TLS, OUTAGE),
        (CONNECTION - {Cause.TLS}, TLS, UNPROVEN),
        ({Cause.SERVER_ERROR, Cause.PARTIAL}, AVAILABLE, NODE),
        ({Cause.SERVER_ERROR, Cause.PARTIAL}, BROKEN, OUTAGE),
        ({Cause.SERVER_ERROR, Cause.PARTIAL}, SILENT, OUTAGE),
        ({Cause.SERVER_ERROR, Cause.PARTIAL}, NotFound(), OUTAGE),
        ({Cause.PARTIAL}, Incomplete("layer sha256:1"), OUTAGE),
        ({Cause.SERVER_ERROR, Cause.PARTIAL}, Throttled(), UNPROVEN),
        ({Cause.SERVER_ERROR, Cause.PARTIAL}, Denied(), UNPROVEN),
        ({Cause.THROTTLED, Cause.DENIED}, AVAILABLE, UNPROVEN),
        ({Cause.THROTTLED, Cause.DENIED}, Throttled(), UNPROVEN),
        ({Cause.THROTTLED, Cause.DENIED}, Denied(), UNPROVEN),
        ({Cause.THROTTLED, Cause.DENIED, Cause.ABSENT}, SILENT, OUTAGE),
        ({Cause.DENIED, Cause.ABSENT}, BROKEN, OUTAGE),
        ({Cause.ABSENT}, AVAILABLE, NODE),
        ({Cause.ABSENT, Cause.DENIED}, NotFound(), UNPROVEN),
        ({Cause.UNKNOWN}, AVAILABLE, NODE),
        ({Cause.UNKNOWN}, SILENT, OUTAGE),
        ({Cause.SHUT_DOWN}, Withheld(410), OUTAGE),
        ({Cause.PLATFORM}, AVAILABLE, UNPROVEN),
    ],
)
def test_the_fault_is_what_node_and_registry_say_together(
    causes: frozenset[Cause], answer: Availability, fault: Fault
) -> None:
    """Like is compared with like."""
    assert {diagnose(failure(cause), replace(SEEN, answer=answer)) for cause in causes} == {fault}


@pytest.mark.parametrize("missing", ["has_answered_before", "any_registry_answers"])
@pytest.mark.parametrize("cause", [Cause.REFUSED, Cause.SERVER_ERROR, Cause.THROTTLED, Cause.ABSENT, Cause.UNKNOWN])
def test_silence_proves_nothing_without_something_to_compare_it_with(cause: Cause, missing: str) -> None:
    """An error of the registry itself (5xx) needs no comparison."""
    evidence = replace(SEEN, answer=SILENT)
    evidence = {
        "has_answered_before": replace(evidence, has_answered_before=False),
        "any_registry_answers": replace(evidence, any_registry_answers=False),
    }[missing]
    assert diagnose(failure(cause), evidence) is UNPROVEN
    assert diagnose(failure(cause), replace(evidence, answer=BROKEN)) is OUTAGE


# How far a repair may go


@pytest.mark.parametrize("ready", [0, 4, None])
def test_a_proven_outage_moves_the_workload_at_once(ready: int | None) -> None:
    """It does so whatever else is known, and before the status shows the failure."""
    evidence = replace(SEEN, answer=SILENT, ready_pods=ready)
    assert reach_of(failure(Cause.REFUSED), evidence) is Reach.WORKLOAD
    assert reach_of(failure(Cause.REFUSED), replace(evidence, in_status=False)) is Reach.WORKLOAD


@pytest.mark.parametrize("ready", [0, 4, None])
def test_a_fault_of_one_node_waits_for_the_next_try_and_then_frees_the_stuck_pods_alone(ready: int | None) -> None:
    """The template stays, whether or not a pod is ready."""
    evidence = replace(SEEN, answer=AVAILABLE, ready_pods=ready)
    assert reach_of(failure(Cause.REFUSED), evidence) is Reach.NEXT_TRY
    assert reach_of(failure(Cause.REFUSED), replace(evidence, tries=2)) is Reach.PODS
    assert reach_of(failure(Cause.REFUSED), replace(evidence, failing_for=timedelta(seconds=30))) is Reach.PODS


def test_several_nodes_that_fail_again_move_the_workload_although_the_registry_answers() -> None:
    """A single node that is all there are counts as several."""
    evidence = replace(SEEN, answer=AVAILABLE, nodes=2)
    assert reach_of(failure(Cause.REFUSED), evidence) is Reach.NEXT_TRY
    assert reach_of(failure(Cause.REFUSED), replace(evidence, tries=2)) is Reach.WORKLOAD
    only_node = replace(evidence, nodes=1, is_every_node=True, tries=2)
    assert reach_of(failure(Cause.REFUSED), only_node) is Reach.WORKLOAD


@pytest.mark.parametrize("answer", [NOT_ASKED, GUARDED, Throttled(), AVAILABLE])
@pytest.mark.parametrize("cause", [Cause.THROTTLED, Cause.DENIED])
def test_where_nothing_is_proven_a_workload_without_a_ready_pod_moves_at_once(
    cause: Cause, answer: Availability
) -> None:
    """No healthy pod can be harmed; else a second node decides, or the only one."""
    evidence = replace(SEEN, answer=answer)
    assert reach_of(failure(cause), replace(evidence, ready_pods=0)) is Reach.WORKLOAD
    assert reach_of(failure(cause), evidence) is Reach.NEXT_TRY
    assert reach_of(failure(cause), replace(evidence, ready_pods=None)) is Reach.NEXT_TRY
    assert reach_of(failure(cause), replace(evidence, tries=2)) is Reach.PODS
    assert reach_of(failure(cause), replace(evidence, nodes=2)) is Reach.WORKLOAD
    assert reach_of(failure(cause), replace(evidence, tries=2, is_every_node=True)) is Reach.WORKLOAD


def test_a_young_node_gets_two_more_tries() -> None:
    """It may not have a network yet."""
    evidence = replace(SEEN, answer=AVAILABLE, tries_to_wait_for=3)
    for first in (replace(evidence, tries=2), replace(evidence, failing_for=timedelta(seconds=59))):
        assert reach_of(failure(Cause.DNS), first) is Reach.NEXT_TRY
    for last in (replace(evidence, tries=3), replace(evidence, failing_for=timedelta(seconds=60))):
        assert reach_of(failure(Cause.DNS), last) is Reach.PODS


@pytest.mark.parametrize("answer", [answer for answer in ANSWERS if answer not in (SILENT, LATE, BROKEN)])
def test_an_event_alone_moves_nothing_while_no_outage_is_proven(answer: Availability) -> None:
    """Anybody who may create Events can make one up."""
    evidence = replace(SEEN, answer=answer, in_status=False, tries=9, nodes=9, ready_pods=0, is_every_node=True)
    assert reach_of(failure(Cause.REFUSED), evidence) is Reach.NEXT_TRY


def test_a_pull_that_has_stalled_may_still_succeed_unless_an_outage_is_proven() -> None:
    """A large image takes minutes, too."""
    stalled = failure(Cause.TIMEOUT, reason=STALLED)
    assert reach_of(stalled, replace(SEEN, answer=AVAILABLE, tries=9, ready_pods=0)) is Reach.NEXT_TRY
    assert reach_of(stalled, replace(SEEN, answer=SILENT)) is Reach.WORKLOAD
    # Saffire itself says that the pull times out, so that does not agree with Saffire's own question.
    assert reach_of(stalled, replace(SEEN, answer=LATE, tries=9, ready_pods=0)) is Reach.NEXT_TRY


@pytest.mark.parametrize("domain", ["127.0.0.1:5000", "localhost:5000", "localhost", "[::1]:5000"])
def test_a_registry_on_each_node_is_left_in_place(domain: str) -> None:
    """What Saffire reaches on loopback is another registry, unless an operator says otherwise."""
    of_node = failure(Cause.REFUSED, f"{domain}/acme/web:1")
    evidence = replace(SEEN, answer=GUARDED, nodes=9)
    assert reach_of(of_node, evidence) is Reach.NEXT_TRY
    assert reach_of(of_node, replace(evidence, tries=2)) is Reach.PODS
    assert reach_of(of_node, replace(evidence, ready_pods=0)) is Reach.WORKLOAD
    # An operator who lists the registry as insecure says that Saffire reaches the same registry.
    assert reach_of(of_node, replace(evidence, answer=SILENT)) is Reach.WORKLOAD


def test_an_image_without_a_build_for_the_node_does_not_wait_for_another_try() -> None:
    """The same image has the same builds at the next try."""
    evidence = replace(SEEN, answer=AVAILABLE)
    assert reach_of(failure(Cause.PLATFORM), evidence) is Reach.PODS
    assert reach_of(failure(Cause.PLATFORM), replace(evidence, ready_pods=0)) is Reach.WORKLOAD


@pytest.mark.parametrize("answer", [NotFound(), Denied(), Withheld(451)])
@pytest.mark.parametrize("cause", [Cause.ABSENT, Cause.DENIED, Cause.CLIENT_ERROR])
def test_a_registry_that_refuses_one_image_is_compared_with_another_image(cause: Cause, answer: Availability) -> None:
    """A takedown and an outage look alike for one image."""
    evidence = replace(SEEN, answer=answer, ready_pods=0)
    assert may_be_taken_down(failure(cause), evidence)
    assert reach_of(failure(cause), evidence) is Reach.NEXT_TRY
    refuses_all = replace(evidence, other_image_is_there=False)
    assert not may_be_taken_down(failure(cause), refuses_all)
    assert reach_of(failure(cause), refuses_all) is Reach.WORKLOAD


@pytest.mark.parametrize("cause", Cause)
def test_failures_say_the_same_if_they_are_of_one_image_or_if_the_registry_is_to_blame(cause: Cause) -> None:
    """With the same pull secrets, one image fails for one reason; if the registry is down, other images do too."""
    other = "quay.io/acme/other:1"
    of_image, of_other = shared_facts(failure(cause), ("pull",)), shared_facts(failure(cause, other), ())
    assert of_image & shared_facts(failure(Cause.ABSENT), ("pull",))
    is_of_registry = cause in CONNECTION | {Cause.SERVER_ERROR, Cause.SHUT_DOWN, Cause.THROTTLED}
    assert is_of_registry == bool(of_image & of_other)
    assert not of_image & shared_facts(failure(cause, "ghcr.io/acme/web:1"), ("pull",))


counts = st.integers(1, 4)
evidences = st.builds(
    FaultEvidence,
    answer=st.sampled_from(ANSWERS),
    has_answered_before=st.booleans(),
    any_registry_answers=st.booleans(),
    tries=counts,
    failing_for=st.integers(0, 90).map(lambda seconds: timedelta(seconds=seconds)),
    nodes=counts,
    is_every_node=st.just(False),  # noqa: FBT003 - a strategy
    ready_pods=st.one_of(st.none(), st.integers(0, 3)),
    other_image_is_there=st.sampled_from([None, False]),
    in_status=st.booleans(),
)


@given(st.sampled_from(Cause), evidences)
def test_one_node_never_moves_healthy_pods_from_a_registry_that_answers(cause: Cause, evidence: FaultEvidence) -> None:
    """That holds for every cause and all other evidence."""
    one_node = replace(evidence, nodes=1, ready_pods=evidence.ready_pods or 3)
    is_answering = isinstance(evidence.answer, Available | Throttled | Denied)
    if is_answering:
        assert reach_of(failure(cause), one_node) is not Reach.WORKLOAD


@given(st.sampled_from(Cause), evidences)
def test_more_evidence_of_the_same_fault_never_narrows_the_reach(cause: Cause, evidence: FaultEvidence) -> None:
    """More tries, more nodes, no ready pods: each of them only widens it."""
    order = [Reach.NEXT_TRY, Reach.PODS, Reach.WORKLOAD]
    before = order.index(reach_of(failure(cause), evidence))
    for more in (
        replace(evidence, tries=evidence.tries + 2),
        replace(evidence, nodes=evidence.nodes + 1),
        replace(evidence, is_every_node=True),
        replace(evidence, ready_pods=0),
        replace(evidence, in_status=True),
    ):
        assert order.index(reach_of(failure(cause), more)) >= before


# What an operator reads


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (replace(SEEN, answer=AVAILABLE), "quay.io answers Saffire, so the fault is of the node, or passes"),
        (replace(SEEN, answer=NOT_ASKED), "quay.io was not asked, so only this node says so"),
        (replace(SEEN, answer=SILENT, any_registry_answers=False), "no registry answers Saffire"),
        (replace(SEEN, answer=SILENT, has_answered_before=False), "quay.io has not answered Saffire within a day"),
        (replace(SEEN, answer=LATE), "quay.io did not answer Saffire in time, and may only be slow"),
        (replace(SEEN, answer=GUARDED), "Saffire cannot ask quay.io (its address is not one that may be asked)"),
        (replace(SEEN, answer=AVAILABLE, in_status=False), "only an Event says so"),
    ],
)
def test_why_the_template_stays_is_said_in_words(evidence: FaultEvidence, words: str) -> None:
    """The words name the registry and what is missing."""
    assert why_limited(failure(Cause.REFUSED), evidence).startswith(words)


def test_words_are_there_for_every_cause_and_answer() -> None:
    """No combination is without a reason."""
    for cause in Cause:
        for answer in ANSWERS:
            assert why_limited(failure(cause), replace(SEEN, answer=answer))
