"""Outcomes: the answer to an Event about a pod, the records of many pods, and the totals."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.errors import ConflictError, RefusedError, SaffireError, TransientError
from saffire.policy.patch import Patch
from saffire.policy.plan import Failover, Leave, Plan, Reason, Reversion, Step, Wait
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
BACK = Failover(
    failure=replace(FAILURE, image=SECOND, reason="FailedBack"),
    candidate=replace(MOVED.candidate, image=FAILING),
    workload=workload("Deployment"),
    steps=(Step.TEMPLATE,),
    is_back=True,
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
    template = pod()
    return {**template, "metadata": {**template["metadata"], "name": f"web-{number}", "uid": f"uid-{number}"}}


def of_pod(number: int, *plans: Plan) -> PodOutcome:
    """Return the outcome for one of many pods."""
    return PodOutcome(pod=named(number), plans=plans)


def refusal(target: Object, why: str = "admission says no") -> Refusal:
    """Return the refusal of a patch."""
    return Refusal(patch=Patch(target=target, step=Step.PODS, failovers=(), operations=()), why=why)


def of_workload(
    *pods: PodOutcome, refusals: tuple[Refusal, ...] = (), fault: SaffireError | None = None
) -> WorkloadOutcome:
    """Return the outcome for pods of one controller."""
    return WorkloadOutcome(pods=pods, refusals=refusals, fault=fault)


# One pod


def test_the_answer_about_a_pod_has_nothing_of_its_siblings() -> None:
    """Their plans, and the refusals of patches of them, are not in it."""
    siblings = of_workload(
        of_pod(0, MOVED),
        of_pod(1, STUCK),
        refusals=(refusal(named(1)), refusal(named(0), "own"), refusal(workload("Deployment"), "the template")),
    )
    outcome = RepairOutcome(workloads=(of_workload(of_pod(2, WAIT), fault=AWAY), siblings))
    expected = (
        f"{MOVED_TEXT}; the API server refused to patch Pod/web-0: own; "
        "the API server refused to patch Deployment/a-deployment: the template"
    )
    assert (expected, 403, (MOVED,)) == (
        str(outcome.about("uid-0")),
        outcome.about("uid-0").http_status,
        outcome.about("uid-0").plans,
    )


def test_the_fault_of_its_controller_is_its_own() -> None:
    """The fault of one controller's pods is in the answer about each of them, and in no other answer."""
    outcome = RepairOutcome(workloads=(of_workload(of_pod(0), of_pod(1), fault=AWAY), of_workload(of_pod(2, MOVED))))
    assert (503, str(AWAY)) == (outcome.about("uid-1").http_status, str(outcome.about("uid-1")))
    assert (200, MOVED_TEXT) == (outcome.about("uid-2").http_status, str(outcome.about("uid-2")))


@pytest.mark.parametrize(
    ("expected", "status", "outcome"),
    [
        pytest.param(
            "NoPullFailure", 200, RepairOutcome(workloads=(of_workload(of_pod(1, MOVED)),)), id="waits-for-no-image"
        ),
        pytest.param("NoSuchPod", 200, RepairOutcome(gone=frozenset({"uid-0"})), id="gone"),
        pytest.param(
            "NoSuchPod", 200, RepairOutcome(gone=frozenset({"uid-0"}), fault=AWAY), id="gone-before-the-fault"
        ),
        pytest.param("NoPullFailure", 200, RepairOutcome(gone=frozenset({"uid-1"})), id="another-is-gone"),
        pytest.param(
            "NoSource: the namespace has no AlternateImageSource",
            200,
            RepairOutcome(nothing_to_do=NO_SOURCE),
            id="no-source",
        ),
        pytest.param("the API server is away", 503, RepairOutcome(fault=AWAY), id="not-read"),
        pytest.param(
            MOVED_TEXT,
            200,
            RepairOutcome(workloads=(of_workload(of_pod(0, MOVED)),), fault=AWAY),
            id="moved-all-the-same",
        ),
    ],
)
def test_the_answer_about_a_pod_without_an_outcome_says_why(expected: str, status: int, outcome: RepairOutcome) -> None:
    """The status asks for another delivery only if the pod may not have been read."""
    about = outcome.about("uid-0")
    assert (expected, status) == (str(about), about.http_status)


def test_a_static_pod_has_the_uid_that_events_use_for_it() -> None:
    """The kubelet uses the hash of the pod's file as its uid, which is not the uid of the object."""
    static = annotated(named(0), {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "hash"})
    plan = replace(PAUSED, reason=Reason.STATIC_POD, detail="")
    outcome = RepairOutcome(workloads=(of_workload(PodOutcome(pod=static, plans=(plan,))),))
    assert (f"left web with {FAILING}: StaticPod", "NoPullFailure") == (
        str(outcome.about("hash")),
        str(outcome.about("uid-0")),
    )


# The answer


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, RepairOutcome()),
        (200, RepairOutcome(nothing_to_do=NO_SOURCE)),
        (200, RepairOutcome(workloads=(of_workload(of_pod(0, MOVED, WAIT, PAUSED)),))),
        (
            403,
            RepairOutcome(
                workloads=(of_workload(of_pod(0, MOVED)), of_workload(of_pod(1, STUCK), refusals=(refusal(named(1)),)))
            ),
        ),
        (403, RepairOutcome(workloads=(of_workload(of_pod(0), fault=RefusedError("no")),))),
        (
            503,
            RepairOutcome(
                workloads=(of_workload(of_pod(0, MOVED)), of_workload(of_pod(1, STUCK), fault=ConflictError("moved")))
            ),
        ),
        (
            503,
            RepairOutcome(
                workloads=(of_workload(of_pod(0), fault=RefusedError("no")), of_workload(of_pod(1), fault=AWAY))
            ),
        ),
        (503, RepairOutcome(workloads=(of_workload(of_pod(0, STUCK), refusals=(refusal(named(0)),)),), fault=AWAY)),
        (503, RepairOutcome(fault=AWAY)),
    ],
)
def test_the_answer_is_that_of_the_worst(status: int, outcome: RepairOutcome) -> None:
    """503 if another delivery may do more, 403 if it would be refused again, and 200 for every decision."""
    assert status == outcome.http_status


def test_the_text_names_everything() -> None:
    """Plans, refusals and faults, in one line."""
    outcome = of_workload(of_pod(0, MOVED, PAUSED), of_pod(1, STUCK), refusals=(refusal(named(1)),), fault=AWAY)
    assert (
        f"{MOVED_TEXT}; left web with {FAILING}: Paused: AlternateImageSource/shop is paused; "
        f"could not {MOVED_TEXT.replace('moved', 'move', 1)}"
        "; the API server refused to patch Pod/web-1: admission says no; the API server is away; too slow"
    ) == str(RepairOutcome(workloads=(outcome,), fault=TransientError("too slow")))


def test_every_plan_is_listed() -> None:
    """The reason why there was nothing to do is a plan too."""
    outcome = RepairOutcome(workloads=(of_workload(of_pod(0, MOVED), of_pod(1, WAIT)), of_workload(of_pod(2, PAUSED))))
    assert (MOVED, WAIT, PAUSED) == outcome.plans
    assert (NO_SOURCE,) == RepairOutcome(nothing_to_do=NO_SOURCE).plans


# What is logged, and what is settled


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        (True, of_workload(of_pod(0, WAIT, MOVED))),
        (True, of_workload(of_pod(0, OBSERVED))),
        (True, of_workload(of_pod(0, STUCK), refusals=(refusal(named(0)),))),
        (True, of_workload(of_pod(0), fault=AWAY)),
        (False, of_workload(of_pod(0, STUCK))),
        (False, of_workload(of_pod(0, WAIT), of_pod(1, PAUSED))),
    ],
)
def test_what_was_done_or_went_wrong_is_news(expected: bool, outcome: WorkloadOutcome) -> None:  # noqa: FBT001 - the row's answer
    """A sweep that changes nothing of a workload logs nothing about it."""
    assert expected == outcome.is_news


@pytest.mark.parametrize(
    ("expected", "plans"),
    [
        (True, ()),
        (True, (MOVED, DONE, ROLLOUT)),
        (False, (MOVED, WAIT)),
        (False, (STUCK,)),
        (False, (OBSERVED,)),
        (False, (replace(MOVED, pod_leave=replace(DONE, reason=Reason.UNREADABLE)),)),
        *(
            (False, (replace(DONE, reason=reason),))
            for reason in Reason
            if reason not in {"AlreadyMoved", "RolloutInProgress"}
        ),
    ],
)
def test_only_what_no_later_repair_would_change_is_settled(
    expected: bool,  # noqa: FBT001 - the row's answer
    plans: tuple[Plan, ...],
) -> None:
    """A decision that time, a source, a role or an annotation may change is made again."""
    assert expected == of_pod(0, *plans).is_settled


# Records


def records(*workloads: WorkloadOutcome) -> list[tuple[Failover, str]]:
    """Return the failovers of the records, each with the name of the object that its Event is about."""
    made = RepairOutcome(workloads=workloads).records(at=NOW)
    assert {NOW} >= {record.at for record in made}
    return [(record.failover, str(record.regarding["metadata"]["name"])) for record in made]


def test_many_pods_of_a_workload_are_one_record() -> None:
    """Whatever each pod needed, the workload's container was moved once."""
    outcome = of_workload(
        of_pod(0, MOVED), of_pod(1, IN_PLACE), of_pod(2, replace(MOVED, steps=(Step.TEMPLATE, Step.PODS)))
    )
    other = of_workload(of_pod(3, IN_PLACE))  # below another ReplicaSet of the same Deployment
    assert [(replace(MOVED, steps=(Step.TEMPLATE, Step.PODS)), "a-deployment")] == records(outcome, other)


def test_steps_are_recorded_in_the_order_in_which_they_were_taken() -> None:
    """Pods that were patched before the template stay before it."""
    outcome = of_workload(of_pod(0, IN_PLACE), of_pod(1, MOVED))
    assert [(replace(MOVED, steps=(Step.PODS, Step.TEMPLATE)), "a-deployment")] == records(outcome)


DIFFERENT = {
    "container": replace(MOVED, failure=replace(FAILURE, container="init")),
    "image": replace(MOVED, failure=replace(FAILURE, image=SECOND)),
    "candidate": replace(MOVED, candidate=candidates(Reference.parse(FAILING), [source()])[1]),
    "workload": replace(MOVED, workload=workload("StatefulSet")),
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
def test_failovers_are_recorded_one_by_one_where_they_differ_in(other: Failover) -> None:
    """Failovers that an operator would undo separately have separate records."""
    made = records(of_workload(of_pod(0, MOVED), of_pod(1, other)))
    assert [(MOVED, "a-deployment"), (other, other.workload["metadata"]["name"])] == made


def test_what_was_not_done_is_not_recorded() -> None:
    """An observed failover is recorded. A failover without a step, a wait and a reason to leave are not."""
    assert [(OBSERVED, "a-deployment")] == records(of_workload(of_pod(0, STUCK, WAIT, PAUSED), of_pod(1, OBSERVED)))


# Numbers


def started(number: int, seconds: float, *plans: Plan) -> PodOutcome:
    """Return the outcome for a pod that has waited for so many seconds."""
    at = (NOW - timedelta(seconds=seconds)).isoformat()
    condition = {"type": "ContainersReady", "status": "False", "lastTransitionTime": at}
    manifest = named(number)
    return PodOutcome(pod={**manifest, "status": {"startTime": at, "conditions": [condition]}}, plans=plans)


def test_how_long_workloads_waited_until_they_were_moved() -> None:
    """The pod counts that waited longest. A clock of a node that is ahead makes no time negative."""
    patched = of_workload(started(0, 5, MOVED), started(1, 30, WAIT, IN_PLACE), started(2, 90, WAIT))
    ahead = of_workload(started(0, -2, MOVED))
    others = of_workload(started(3, 7, WAIT), started(4, 7, OBSERVED), started(5, 7, STUCK), of_pod(6, MOVED))
    outcome = RepairOutcome(workloads=(patched, ahead, others))
    assert [30, 0] == list(outcome.waits(until=NOW))


def test_which_nodes_cannot_pull() -> None:
    """Each is counted with the containers that wait there."""
    fault = Leave(failure=FAILURE, reason=Reason.NODE_FAULT)
    nodes = {0: "node1", 1: "node1", 2: "node2", 3: "node3"}
    plans = {0: (fault, fault), 1: (fault,), 2: (WAIT, fault), 3: (PAUSED, MOVED)}
    pods = (PodOutcome(pod={**named(key), "spec": {"nodeName": nodes[key]}}, plans=plans[key]) for key in nodes)
    outcome = RepairOutcome(workloads=(of_workload(*pods),))
    assert {("saffire_node_fault", "node1"): 3, ("saffire_node_fault", "node2"): 1} == outcome.faulty_nodes


# Totals


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        ("all is well", RepairOutcome()),
        ("all is well", RepairOutcome(nothing_to_do=NO_SOURCE)),
        ("all is well", RepairOutcome(workloads=(of_workload(of_pod(0, STUCK)),))),
        ("2 moved", RepairOutcome(workloads=(of_workload(of_pod(0, MOVED), of_pod(1, OBSERVED)),))),
        (
            "1 moved, 2 moved back",
            RepairOutcome(
                workloads=(of_workload(of_pod(0, MOVED, BACK, replace(BACK, observed=True), replace(BACK, steps=()))),)
            ),
        ),
        ("1 waiting, 2 left alone", RepairOutcome(workloads=(of_workload(of_pod(0, WAIT, PAUSED, DONE)),))),
        (
            "1 moved, 1 refused, 2 failed",
            RepairOutcome(
                workloads=(of_workload(of_pod(0, MOVED), of_pod(1, STUCK), refusals=(refusal(named(1)),), fault=AWAY),),
                fault=AWAY,
            ),
        ),
    ],
)
def test_an_outcome_in_numbers(expected: str, outcome: RepairOutcome) -> None:
    """Each pull failure is counted once, by its plan."""
    assert expected == str(Totals.of(outcome))


PLANS = st.sampled_from([MOVED, BACK, OBSERVED, STUCK, WAIT, PAUSED, DONE])
WORKLOADS = st.builds(
    WorkloadOutcome,
    pods=st.lists(st.builds(PodOutcome, pod=st.integers(0, 3).map(named), plans=st.lists(PLANS).map(tuple))).map(tuple),
    refusals=st.lists(st.integers(0, 3).map(named).map(refusal), max_size=2).map(tuple),
    fault=st.sampled_from([None, AWAY, RefusedError("no")]),
)


@given(st.lists(WORKLOADS))
def test_the_sum_of_totals_is_the_totals_of_all(workloads: list[WorkloadOutcome]) -> None:
    """A sweep adds the totals of its namespaces."""
    totals = Totals()
    for workload_outcome in workloads:
        totals.update(Totals.of(RepairOutcome(workloads=(workload_outcome,))))
    assert str(Totals.of(RepairOutcome(workloads=tuple(workloads)))) == str(totals)


@given(st.lists(WORKLOADS), st.integers(0, 3))
def test_every_pod_has_an_answer(workloads: list[WorkloadOutcome], number: int) -> None:
    """Whatever the outcome of the others, the answer about a pod has a status and no plan of another pod."""
    outcome = RepairOutcome(workloads=tuple(workloads))
    about = outcome.about(f"uid-{number}")
    assert about.http_status in {200, 403, 503}
    pods = [pod_outcome.pod for workload_outcome in about.workloads for pod_outcome in workload_outcome.pods]
    assert {f"uid-{number}"} >= {answered["metadata"]["uid"] for answered in pods}
    assert outcome.http_status >= about.http_status


# Calm


def left(cause: Cause, reason: Reason = Reason.UNPROVEN) -> Leave:
    """Return the plan that leaves a failure of that cause alone."""
    return Leave(failure=replace(FAILURE, cause=cause), reason=reason)


@pytest.mark.parametrize(
    ("calm", "outcome"),
    [
        pytest.param(True, RepairOutcome(), id="nothing-fails"),
        pytest.param(True, RepairOutcome(workloads=(of_workload(of_pod(1, left(Cause.ABSENT))),)), id="a-typo"),
        pytest.param(True, RepairOutcome(workloads=(of_workload(of_pod(1, PAUSED)),)), id="left-alone"),
        pytest.param(
            False, RepairOutcome(workloads=(of_workload(of_pod(1, left(Cause.REFUSED))),)), id="a-registry-is-down"
        ),
        pytest.param(
            False, RepairOutcome(workloads=(of_workload(of_pod(1, left(Cause.THROTTLED))),)), id="a-registry-throttles"
        ),
        pytest.param(False, RepairOutcome(workloads=(of_workload(of_pod(1, MOVED)),)), id="moved"),
        pytest.param(False, RepairOutcome(workloads=(of_workload(of_pod(1, OBSERVED)),)), id="observed"),
        pytest.param(False, RepairOutcome(workloads=(of_workload(of_pod(1, PAUSED, WAIT)),)), id="waiting"),
        pytest.param(False, RepairOutcome(workloads=(of_workload(of_pod(1), fault=AWAY),)), id="a-workload-s-fault"),
        pytest.param(
            False,
            RepairOutcome(workloads=(of_workload(of_pod(1, PAUSED), refusals=(refusal(pod()),)),)),
            id="a-refused-patch",
        ),
        pytest.param(False, RepairOutcome(fault=AWAY), id="not-every-pod-was-read"),
        pytest.param(False, RepairOutcome(nothing_to_do=NO_SOURCE), id="no-source"),
    ],
)
def test_calm_means_that_nothing_fails_for_a_registry(calm: bool, outcome: RepairOutcome) -> None:  # noqa: FBT001 - the row's answer
    """A pod with a typo may stay for weeks. Registries are probed about the other images all the same."""
    assert calm is outcome.is_calm


# Pods that were moved in place, and failovers that were undone

UNDONE = Reversion(
    workload=workload("Deployment"), container="web", before=FAILING, after=SECOND, at=NOW, source="shop", by="kubectl"
)


@pytest.mark.parametrize(
    ("expected", "regarding", "plans"),
    [
        pytest.param(("web-0", "web-1"), "web-0", [IN_PLACE, IN_PLACE], id="in-place"),
        pytest.param((), "a-deployment", [MOVED, IN_PLACE], id="the-template-too"),
        pytest.param((), "a-deployment", [replace(OBSERVED, steps=(Step.PODS,))], id="only-observed"),
    ],
)
def test_a_record_names_the_pods_that_were_moved_in_place(
    expected: tuple[str, ...], regarding: str, plans: list[Plan]
) -> None:
    """If the template was moved as well, the workload alone is named. The Event is about the first pod, or about it."""
    pods = (of_pod(number, plan) for number, plan in enumerate(plans))
    (record,) = RepairOutcome(workloads=(of_workload(*pods),)).records(at=NOW)
    assert (expected, regarding) == (record.pods, record.regarding["metadata"]["name"])


@pytest.mark.parametrize(
    ("expected", "plan"),
    [
        pytest.param(1, replace(MOVED, reversions=(UNDONE,)), id="moved-again"),
        pytest.param(1, replace(DONE, reason=Reason.REVERTED, reversions=(UNDONE,)), id="left-alone"),
        pytest.param(0, replace(STUCK, reversions=(UNDONE,)), id="the-patch-was-refused"),
        pytest.param(0, replace(OBSERVED, reversions=(UNDONE,)), id="only-observed"),
        pytest.param(0, WAIT, id="no-candidate-left"),
    ],
)
def test_a_reversion_is_recorded_once_the_decision_was_carried_out(expected: int, plan: Plan) -> None:
    """If an object changed while Saffire decided, the decision may have been about an older state."""
    outcome = RepairOutcome(workloads=(of_workload(of_pod(0, plan)),))
    assert expected == len(outcome.reversions)
