"""Outcomes: what each pod's event is answered with, what is recorded of many pods, and how it is counted."""

import functools
import operator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.errors import ConflictError, RefusedError, SaffireError, TransientError
from saffire.policy.patch import Patch
from saffire.policy.plan import FailBack, Failover, Leave, Plan, Reason, Step, Wait
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
from saffire.record.outcome import PodOutcome, Refusal, RepairOutcome, Totals, WorkloadOutcome
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, NOW, SECOND, Object, annotated, pod, source, source_manifest, workload

FAILURE = PullFailure(section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull")
SOURCE = source_manifest()
MOVED = Failover(
    failure=FAILURE,
    candidate=candidates(Reference.parse(FAILING), [source()])[0],
    workload=workload("Deployment"),
    steps=(Step.TEMPLATE,),
)
IN_PLACE = replace(MOVED, steps=(Step.PODS,))
OBSERVED = replace(MOVED, observed=True)
STUCK = replace(MOVED, steps=())
BACK = FailBack(
    failure=replace(FAILURE, image=SECOND, reason="FailedBack"),
    candidate=replace(MOVED.candidate, image=FAILING),
    workload=workload("Deployment"),
    steps=(Step.TEMPLATE,),
)
WAIT = Wait(failure=FAILURE, until=NOW + timedelta(seconds=30))
PAUSED = Leave(failure=FAILURE, reason=Reason.PAUSED, detail="AlternateImageSource/shop is paused")
DONE = Leave(failure=FAILURE, reason=Reason.ALREADY_MOVED, detail="Deployment/a-deployment")
ROLLOUT = replace(DONE, reason=Reason.ROLLOUT)
AWAY = TransientError("the API server is away")
MOVED_TEXT = f"moved web of Deployment/a-deployment to {SECOND}"
NO_SOURCE = Leave(reason=Reason.NO_SOURCE, detail="the namespace has no AlternateImageSource")


def named(number: int) -> Object:
    """Return one of many pods."""
    found = pod()
    return {**found, "metadata": {**found["metadata"], "name": f"web-{number}", "uid": f"uid-{number}"}}


def verdict(number: int, *plans: Plan) -> PodOutcome:
    """Return what was decided about one of many pods."""
    return PodOutcome(pod=named(number), plans=plans)


def refusal(target: Object, why: str = "admission says no") -> Refusal:
    """Return the refusal of a patch."""
    return Refusal(patch=Patch(target=target, step=Step.PODS, failovers=(), operations=()), why=why)


def treated(
    *verdicts: PodOutcome, refusals: tuple[Refusal, ...] = (), fault: SaffireError | None = None
) -> WorkloadOutcome:
    """Return what became of pods of one controller."""
    return WorkloadOutcome(pods=verdicts, refusals=refusals, fault=fault)


# About one pod.


def test_a_pod_is_told_of_itself_alone() -> None:
    """What was decided about its siblings, and what was refused at these, is none of its event's answer."""
    siblings = treated(
        verdict(0, MOVED),
        verdict(1, STUCK),
        refusals=(refusal(named(1)), refusal(named(0), "mine"), refusal(workload("Deployment"), "the template")),
    )
    outcome = RepairOutcome(workloads=(treated(verdict(2, WAIT), fault=AWAY), siblings))
    expected = f"{MOVED_TEXT}; Pod/web-0 refused: mine; Deployment/a-deployment refused: the template"
    assert (expected, 403, (MOVED,)) == (
        str(outcome.about("uid-0")),
        outcome.about("uid-0").http_status,
        outcome.about("uid-0").plans,
    )


def test_the_fault_of_its_controller_is_its_own() -> None:
    """What kept the pods of one controller from being moved concerns each of them, and nobody else."""
    outcome = RepairOutcome(workloads=(treated(verdict(0), verdict(1), fault=AWAY), treated(verdict(2, MOVED))))
    assert (503, str(AWAY)) == (outcome.about("uid-1").http_status, str(outcome.about("uid-1")))
    assert (200, MOVED_TEXT) == (outcome.about("uid-2").http_status, str(outcome.about("uid-2")))


@pytest.mark.parametrize(
    ("expected", "status", "outcome"),
    [
        pytest.param(
            "NoPullFailure", 200, RepairOutcome(workloads=(treated(verdict(1, MOVED)),)), id="waits-for-no-image"
        ),
        pytest.param("NoSuchPod", 200, RepairOutcome(gone=frozenset({"uid-0"})), id="gone"),
        pytest.param(
            "NoSuchPod", 200, RepairOutcome(gone=frozenset({"uid-0"}), fault=AWAY), id="gone-before-the-fault"
        ),
        pytest.param("NoPullFailure", 200, RepairOutcome(gone=frozenset({"uid-1"})), id="another-is-gone"),
        pytest.param(
            "NoSource: the namespace has no AlternateImageSource", 200, RepairOutcome(nothing=NO_SOURCE), id="no-source"
        ),
        pytest.param("the API server is away", 503, RepairOutcome(fault=AWAY), id="not-looked-at"),
        pytest.param(
            MOVED_TEXT, 200, RepairOutcome(workloads=(treated(verdict(0, MOVED)),), fault=AWAY), id="moved-all-the-same"
        ),
    ],
)
def test_a_pod_that_was_not_treated_is_told_why(expected: str, status: int, outcome: RepairOutcome) -> None:
    """An event is sent again only where its pod may not have been looked at."""
    mine = outcome.about("uid-0")
    assert (expected, status) == (str(mine), mine.http_status)


def test_a_static_pod_is_known_by_the_uid_that_events_call_it() -> None:
    """The kubelet names it by the hash of its file, which is not the uid of its object."""
    static = annotated(named(0), {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "hash"})
    plan = replace(PAUSED, reason=Reason.STATIC_POD, detail="")
    outcome = RepairOutcome(workloads=(treated(PodOutcome(pod=static, plans=(plan,))),))
    assert ("StaticPod", "NoPullFailure") == (str(outcome.about("hash")), str(outcome.about("uid-0")))


# The answer.


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, RepairOutcome()),
        (200, RepairOutcome(nothing=NO_SOURCE)),
        (200, RepairOutcome(workloads=(treated(verdict(0, MOVED, WAIT, PAUSED)),))),
        (
            403,
            RepairOutcome(
                workloads=(treated(verdict(0, MOVED)), treated(verdict(1, STUCK), refusals=(refusal(named(1)),)))
            ),
        ),
        (403, RepairOutcome(workloads=(treated(verdict(0), fault=RefusedError("no")),))),
        (
            503,
            RepairOutcome(
                workloads=(treated(verdict(0, MOVED)), treated(verdict(1, STUCK), fault=ConflictError("moved")))
            ),
        ),
        (
            503,
            RepairOutcome(workloads=(treated(verdict(0), fault=RefusedError("no")), treated(verdict(1), fault=AWAY))),
        ),
        (503, RepairOutcome(workloads=(treated(verdict(0, STUCK), refusals=(refusal(named(0)),)),), fault=AWAY)),
        (503, RepairOutcome(fault=AWAY)),
    ],
)
def test_the_answer_is_that_of_the_worst(status: int, outcome: RepairOutcome) -> None:
    """503 where another delivery may do more, 403 where it would be refused again, and 200 for every decision."""
    assert status == outcome.http_status


def test_the_text_names_everything() -> None:
    """Plans, refusals and faults, in one line."""
    one = treated(verdict(0, MOVED, PAUSED), verdict(1, STUCK), refusals=(refusal(named(1)),), fault=AWAY)
    assert (
        f"{MOVED_TEXT}; Paused: AlternateImageSource/shop is paused; could not {MOVED_TEXT.replace('moved', 'move', 1)}"
        "; Pod/web-1 refused: admission says no; the API server is away; too slow"
    ) == str(RepairOutcome(workloads=(one,), fault=TransientError("too slow")))


def test_every_plan_is_listed() -> None:
    """The reason why there was nothing to treat is a plan too."""
    outcome = RepairOutcome(workloads=(treated(verdict(0, MOVED), verdict(1, WAIT)), treated(verdict(2, PAUSED))))
    assert (MOVED, WAIT, PAUSED) == outcome.plans
    assert (NO_SOURCE,) == RepairOutcome(nothing=NO_SOURCE).plans


# What is worth a line of the log, and what is settled.


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (True, treated(verdict(0, WAIT, MOVED))),
        (True, treated(verdict(0, OBSERVED))),
        (True, treated(verdict(0, STUCK), refusals=(refusal(named(0)),))),
        (True, treated(verdict(0), fault=AWAY)),
        (False, treated(verdict(0, STUCK))),
        (False, treated(verdict(0, WAIT), verdict(1, PAUSED))),
    ],
)
def test_what_was_done_or_went_wrong_is_news(expected: bool, found: WorkloadOutcome) -> None:  # noqa: FBT001 - the row's answer
    """A sweep that changes nothing says nothing of a workload."""
    assert expected == found.is_news


@pytest.mark.parametrize(
    ("expected", "plans"),
    [
        (True, ()),
        (True, (MOVED, DONE, ROLLOUT)),
        (False, (MOVED, WAIT)),
        (False, (STUCK,)),
        (False, (OBSERVED,)),
        (False, (replace(MOVED, left=replace(DONE, reason=Reason.UNREADABLE)),)),
        *(
            (False, (replace(DONE, reason=reason),))
            for reason in Reason
            if reason not in {"AlreadyMoved", "RolloutInProgress"}
        ),
    ],
)
def test_only_what_no_second_look_would_change_is_settled(
    expected: bool,  # noqa: FBT001 - the row's answer
    plans: tuple[Plan, ...],
) -> None:
    """Whatever the passing of time, a source, a role or an annotation may change is looked at again."""
    assert expected == verdict(0, *plans).is_settled


# Records.


def records(*found: WorkloadOutcome) -> list[tuple[Failover, str]]:
    """Return the failovers that are recorded, and the name of the pod that each would be told at."""
    made = RepairOutcome(workloads=found).records(at=NOW)
    assert {NOW} >= {record.at for record, _ in made}
    return [(record.failover, str(told["metadata"]["name"])) for record, told in made]


def test_many_pods_of_a_workload_are_one_record() -> None:
    """Whatever each pod needed, the workload's container was moved once; the first pod stands for all."""
    one = treated(verdict(0, MOVED), verdict(1, IN_PLACE), verdict(2, replace(MOVED, steps=(Step.TEMPLATE, Step.PODS))))
    other = treated(verdict(3, IN_PLACE))  # below another ReplicaSet of the same Deployment
    assert [(replace(MOVED, steps=(Step.TEMPLATE, Step.PODS)), "web-0")] == records(one, other)


def test_steps_are_recorded_in_the_order_they_were_taken() -> None:
    """Pods before the template stay so."""
    one = treated(verdict(0, IN_PLACE), verdict(1, MOVED))
    assert [(replace(MOVED, steps=(Step.PODS, Step.TEMPLATE)), "web-0")] == records(one)


DIFFERENT = {
    "container": replace(MOVED, failure=replace(FAILURE, container="init")),
    "image": replace(MOVED, failure=replace(FAILURE, image=SECOND)),
    "candidate": replace(MOVED, candidate=candidates(Reference.parse(FAILING), [source()])[1]),
    "workload": replace(MOVED, workload=workload("StatefulSet")),
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
def test_failovers_are_recorded_one_by_one_where_they_differ_in(other: Failover) -> None:
    """What an operator would undo apart is recorded apart."""
    assert [(MOVED, "web-0"), (other, "web-1")] == records(treated(verdict(0, MOVED), verdict(1, other)))


def test_what_was_not_done_is_not_recorded() -> None:
    """A failover that a source only observes is; one that took no step, a wait or a reason is not."""
    assert [(OBSERVED, "web-1")] == records(treated(verdict(0, STUCK, WAIT, PAUSED), verdict(1, OBSERVED)))


# Counting.


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        ("all is well", RepairOutcome()),
        ("all is well", RepairOutcome(nothing=NO_SOURCE)),
        ("all is well", RepairOutcome(workloads=(treated(verdict(0, STUCK)),))),
        ("2 moved", RepairOutcome(workloads=(treated(verdict(0, MOVED), verdict(1, OBSERVED)),))),
        (
            "1 moved, 2 moved back",
            RepairOutcome(
                workloads=(treated(verdict(0, MOVED, BACK, replace(BACK, observed=True), replace(BACK, steps=()))),)
            ),
        ),
        ("1 waiting, 2 left alone", RepairOutcome(workloads=(treated(verdict(0, WAIT, PAUSED, DONE)),))),
        (
            "1 moved, 1 refused, 2 failed",
            RepairOutcome(
                workloads=(treated(verdict(0, MOVED), verdict(1, STUCK), refusals=(refusal(named(1)),), fault=AWAY),),
                fault=AWAY,
            ),
        ),
    ],
)
def test_an_outcome_in_numbers(expected: str, outcome: RepairOutcome) -> None:
    """Each pull failure is counted once, by what became of it."""
    assert expected == str(Totals.of(outcome))


PLANS = st.sampled_from([MOVED, BACK, OBSERVED, STUCK, WAIT, PAUSED, DONE])
TREATED = st.builds(
    WorkloadOutcome,
    pods=st.lists(st.builds(PodOutcome, pod=st.integers(0, 3).map(named), plans=st.lists(PLANS).map(tuple))).map(
        tuple
    ),
    refusals=st.lists(st.integers(0, 3).map(named).map(refusal), max_size=2).map(tuple),
    fault=st.sampled_from([None, AWAY, RefusedError("no")]),
)


@given(st.lists(TREATED))
def test_a_sum_counts_what_its_parts_count(found: list[WorkloadOutcome]) -> None:
    """Namespaces that are counted one by one are counted as one."""
    parts = (Totals.of(RepairOutcome(workloads=(one,))) for one in found)
    assert functools.reduce(operator.add, parts, Totals()) == Totals.of(RepairOutcome(workloads=tuple(found)))


@given(st.lists(TREATED), st.integers(0, 3))
def test_whoever_asks_gets_an_answer(found: list[WorkloadOutcome], number: int) -> None:
    """Whatever became of the others, a pod's answer has a status, words, and no plan of another pod."""
    outcome = RepairOutcome(workloads=tuple(found))
    mine = outcome.about(f"uid-{number}")
    assert mine.http_status in {200, 403, 503}
    assert {f"uid-{number}"} >= {one.pod["metadata"]["uid"] for part in mine.workloads for one in part.pods}
    assert outcome.http_status >= mine.http_status


# Calm


def left(cause: Cause, reason: Reason = Reason.UNPROVEN) -> Leave:
    """Return that a failure of that cause was left alone."""
    return Leave(failure=replace(FAILURE, cause=cause), reason=reason)


@pytest.mark.parametrize(
    ("calm", "outcome"),
    [
        pytest.param(True, RepairOutcome(), id="nothing-fails"),
        pytest.param(True, RepairOutcome(workloads=(treated(verdict(1, left(Cause.ABSENT))),)), id="a-typo"),
        pytest.param(True, RepairOutcome(workloads=(treated(verdict(1, PAUSED)),)), id="left-alone"),
        pytest.param(
            False, RepairOutcome(workloads=(treated(verdict(1, left(Cause.REFUSED))),)), id="a-registry-is-down"
        ),
        pytest.param(
            False, RepairOutcome(workloads=(treated(verdict(1, left(Cause.THROTTLED))),)), id="a-registry-throttles"
        ),
        pytest.param(False, RepairOutcome(workloads=(treated(verdict(1, MOVED)),)), id="moved"),
        pytest.param(False, RepairOutcome(workloads=(treated(verdict(1, OBSERVED)),)), id="observed"),
        pytest.param(False, RepairOutcome(workloads=(treated(verdict(1, PAUSED, WAIT)),)), id="waiting"),
        pytest.param(False, RepairOutcome(workloads=(treated(verdict(1), fault=AWAY),)), id="a-workload-s-fault"),
        pytest.param(
            False,
            RepairOutcome(workloads=(treated(verdict(1, PAUSED), refusals=(refusal(pod()),)),)),
            id="a-refused-patch",
        ),
        pytest.param(False, RepairOutcome(fault=AWAY), id="not-all-was-seen"),
        pytest.param(False, RepairOutcome(nothing=NO_SOURCE), id="no-source"),
    ],
)
def test_calm_is_where_nothing_fails_that_has_to_do_with_a_registry(calm: bool, outcome: RepairOutcome) -> None:  # noqa: FBT001 - the row's expectation
    """A pod with a typo may stay for weeks; it keeps nobody from asking registries about the others."""
    assert calm is outcome.is_calm
