"""Patches whose answer is lost, contradicted or changed; all others are tested on a control plane."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.kube.workload import template_image_field
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import Failover, Leave, MissingSecret, Reason, Step
from saffire.pulls.failure import find_pull_failures
from saffire.reconcile.apply import apply_failovers
from saffire.record.outcome import PodOutcome, RepairOutcome, WorkloadOutcome
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, NOW, SECOND, THIRD, annotated, moved, pod, source, waiting, workload
from testkit.scripted_api import TEST_FAILED, Answers, scripted_api, status

PATH = "/api/v1/namespaces/shop/pods/web-0"
STUCK = pod(waiting())
MOVED = annotated(
    {**pod(waiting(image=SECOND), web=SECOND)}, {ANNOTATION: History((moved(FAILING, SECOND, NOW),)).rendered()}
)
ELSEWHERE = {**MOVED, "spec": pod(web=THIRD)["spec"]}
GONE: dict[str, Any] = {**MOVED, "spec": {"containers": []}}
LOST = status(503, "the server is currently unable to handle the request")


[FAILURE] = find_pull_failures(STUCK)
IN_PLACE = Failover(
    failure=FAILURE,
    candidate=candidates(Reference.parse(FAILING), [source()])[0],
    workload=STUCK,
    steps=(Step.PODS,),
)


async def applied(folder: Path, answers: Answers, failover: Failover = IN_PLACE) -> WorkloadOutcome:
    """Move the container of a pod, by default of a bare pod in place, and return the outcome."""
    async with scripted_api(folder, answers) as server:
        cluster, planned = Cluster(server, Kinds()), PodOutcome(pod=STUCK, plans=(failover,))
        outcome, _ = await apply_failovers(cluster, (planned,), now=NOW, slots=asyncio.Semaphore(1))
    return outcome


@pytest.mark.parametrize(
    ("expected", "patches"),
    [
        pytest.param((Step.PODS,), [(200, MOVED)], id="answered"),
        pytest.param((Step.PODS,), [LOST, TEST_FAILED], id="the-first-answer-was-lost"),
        pytest.param(Reason.ALREADY_MOVED, [TEST_FAILED], id="another-instance-was-faster"),
    ],
)
async def test_a_failover_is_ours_only_if_an_answer_was_lost(
    tmp_path: Path, expected: tuple[Step, ...] | Reason, patches: list[tuple[int, Any]]
) -> None:
    """Two instances may move a pod within one second, so that the history alone does not tell which of them did."""
    outcome = await applied(tmp_path, {f"PATCH {PATH}": patches, f"GET {PATH}": [(200, MOVED)]})
    [plan] = outcome.plans
    assert expected == (plan.reason if isinstance(plan, Leave) else isinstance(plan, Failover) and plan.steps)
    made = RepairOutcome(workloads=(outcome,)).records(at=NOW)
    assert len(made) == (0 if expected is Reason.ALREADY_MOVED else 1)


@pytest.mark.parametrize(
    ("instead", "patched"),
    [
        pytest.param(FAILING, STUCK, id="the-old-image"),
        pytest.param(THIRD, ELSEWHERE, id="a-third-image"),
        pytest.param("nothing", GONE, id="no-container"),
    ],
)
@pytest.mark.parametrize("conflicts", [0, 1])
async def test_an_image_that_admission_replaces_is_no_failover(
    tmp_path: Path, instead: str, patched: dict[str, Any], conflicts: int
) -> None:
    """A webhook may accept the patch and put another image into the object; the operator is told which."""
    answers = {f"PATCH {PATH}": [*[TEST_FAILED] * conflicts, (200, patched)], f"GET {PATH}": [(200, STUCK)]}
    outcome = await applied(tmp_path, answers)
    [refusal] = outcome.refusals
    assert (True, f"admission put {instead} in place of the alternative") == (refusal.is_denial, refusal.why)
    assert [()] == [plan.steps for plan in outcome.plans if isinstance(plan, Failover)]
    assert () == RepairOutcome(workloads=(outcome,)).records(at=NOW)
    assert 403 == RepairOutcome(workloads=(outcome,)).http_status


# A template that RBAC or admission denies

DEPLOYMENT = workload("Deployment")
TEMPLATE_PATH = "/apis/apps/v1/namespaces/shop/deployments/a-deployment"
DENIED = status(403, 'admission webhook "release.example.com" denied the request: images come from the release train')
BY_TEMPLATE = replace(
    IN_PLACE,
    workload=DEPLOYMENT,
    steps=(Step.TEMPLATE,),
    image_field=template_image_field(DEPLOYMENT, Kinds(), FAILURE.section, FAILURE.container),
)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(DENIED, id="denied"),
        pytest.param((200, DEPLOYMENT), id="accepted-and-put-back"),
        pytest.param(status(500, 'failed calling webhook "release.example.com"'), id="its-webhook-cannot-be-called"),
    ],
)
@pytest.mark.parametrize(
    "steps",
    [(Step.TEMPLATE,), (Step.TEMPLATE, Step.PODS), (Step.PODS, Step.TEMPLATE)],
    ids=lambda steps: "-".join(step.name for step in steps),
)
async def test_if_a_template_is_denied_its_stuck_pod_moves_in_place_once(
    tmp_path: Path, answer: tuple[int, Any], steps: tuple[Step, ...]
) -> None:
    """The outcome tells of the refusal, and the record of the pod says why the template stays."""
    answers = {f"PATCH {TEMPLATE_PATH}": [answer], f"PATCH {PATH}": [(200, MOVED), LOST]}
    outcome = await applied(tmp_path, answers, replace(BY_TEMPLATE, steps=steps))
    [refusal], repair = outcome.refusals, RepairOutcome(workloads=(outcome,))
    [record] = repair.records(at=NOW)
    assert (("web-0",), (Step.PODS,)) == (record.pods, record.failover.steps)
    assert f"its template stays, since the API server refused to patch it: {refusal.why}" == record.failover.note
    assert (None, 403) == (outcome.fault, repair.http_status)


async def test_if_template_and_pod_are_denied_both_are_told(tmp_path: Path) -> None:
    """Nothing was moved, and nothing is recorded as moved."""
    answers = {f"PATCH {TEMPLATE_PATH}": [DENIED], f"PATCH {PATH}": [DENIED]}
    outcome = await applied(tmp_path, answers, BY_TEMPLATE)
    assert ["Deployment", "Pod"] == [refusal.patch.target["kind"] for refusal in outcome.refusals]
    assert [()] == [plan.steps for plan in outcome.plans if isinstance(plan, Failover)]
    assert () == RepairOutcome(workloads=(outcome,)).records(at=NOW)


UNCALLED = status(500, 'failed calling webhook "release.example.com"')


@pytest.mark.parametrize(
    "failover",
    [
        pytest.param(IN_PLACE, id="the-pod-itself"),
        pytest.param(
            replace(BY_TEMPLATE, missing_secret=MissingSecret(secret="ghcr")),  # noqa: S106 - its name
            id="no-pod-can-be-freed",
        ),
    ],
)
async def test_where_no_pod_can_be_patched_instead_a_webhook_is_waited_for(tmp_path: Path, failover: Failover) -> None:
    """The event source delivers the Event again, and nothing is remembered: the webhook may be back in a second."""
    paths = (PATH, TEMPLATE_PATH)
    outcome = await applied(tmp_path, {f"PATCH {path}": [UNCALLED, UNCALLED, UNCALLED] for path in paths}, failover)
    assert ((), 503) == (outcome.refusals, RepairOutcome(workloads=(outcome,)).http_status)


FAIL_BACK = Failover(
    failure=FAILURE,
    candidate=IN_PLACE.candidate,
    workload=DEPLOYMENT,
    steps=BY_TEMPLATE.steps,
    image_field=BY_TEMPLATE.image_field,
    is_back=True,
)
INVALID = status(422, "Deployment.apps is invalid", reason="Invalid", details={"causes": [{"reason": "Invalid"}]})


@pytest.mark.parametrize(
    ("answer", "failover"),
    [
        pytest.param(DENIED, FAIL_BACK, id="its-pods-run"),
        pytest.param(INVALID, BY_TEMPLATE, id="the-next-sweep-tries-again"),
    ],
)
async def test_no_pod_is_touched_in_place_of_a_template_without_need(
    tmp_path: Path, answer: tuple[int, Any], failover: Failover
) -> None:
    """A patch in place would restart what is well, or would free the pod whose failure leads back to the template."""
    outcome = await applied(tmp_path, {f"PATCH {TEMPLATE_PATH}": [answer]}, failover)
    assert ([()], None) == ([plan.steps for plan in outcome.plans if isinstance(plan, Failover)], outcome.fault)
    assert 1 == len(outcome.refusals)
