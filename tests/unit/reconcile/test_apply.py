"""Patches whose answer is lost, contradicted or changed; all others are tested on a control plane."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import Failover, Leave, Reason, Step
from saffire.pulls.failure import find_pull_failures
from saffire.reconcile.apply import apply_failovers
from saffire.record.outcome import PodOutcome, RepairOutcome, WorkloadOutcome
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, NOW, SECOND, THIRD, annotated, moved, pod, source, waiting
from testkit.scripted_api import TEST_FAILED, Answers, scripted_api, status

PATH = "/api/v1/namespaces/shop/pods/web-0"
STUCK = pod(waiting())
MOVED = annotated(
    {**pod(waiting(image=SECOND), web=SECOND)}, {ANNOTATION: History((moved(FAILING, SECOND, NOW),)).rendered()}
)
ELSEWHERE = {**MOVED, "spec": pod(web=THIRD)["spec"]}
GONE: dict[str, Any] = {**MOVED, "spec": {"containers": []}}
LOST = status(503, "the server is currently unable to handle the request")


async def applied(folder: Path, answers: Answers) -> WorkloadOutcome:
    """Move the container of a bare pod in place, and return the outcome."""
    [failure] = find_pull_failures(STUCK)
    candidate = candidates(Reference.parse(FAILING), [source()])[0]
    failover = Failover(failure=failure, candidate=candidate, workload=STUCK, steps=(Step.PODS,))
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
