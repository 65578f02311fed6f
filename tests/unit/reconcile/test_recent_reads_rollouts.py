"""Rollouts: Events about pods from before their template was patched can wait, and no other Events."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saffire.errors import SaffireError, TransientError
from saffire.policy.decide import Gathered
from saffire.policy.plan import Failover, Step
from saffire.pulls.failure import find_pull_failures
from saffire.reconcile.recent_reads import RecentReads, Rollouts
from saffire.reconcile.request import PodFailed
from saffire.record.outcome import PodOutcome, WorkloadOutcome
from testkit.builders import FAILING, NOW, SECOND, Object, chain, pod, source, waiting
from testkit.decisions import decide

FAILED = PodFailed(
    namespace="shop", pod="web-1", pod_uid="another", container="web", event="web-1.1", image=FAILING, at=NOW
)


def of_controller(uid: str, controller: str) -> Object:
    """Return a failing pod of a controller."""
    made = pod(waiting())
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": controller, "controller": True}
    return {**made, "metadata": {**made["metadata"], "uid": uid, "ownerReferences": [owner]}}


def is_covered(
    failed: PodFailed, *, fault: SaffireError | None = None, controller: str = "replica-set", **changes: Any
) -> bool:
    """Move the template of a ReplicaSet's pod; tell whether an Event about another pod is covered by that."""
    moved, other = of_controller("first", "replica-set"), of_controller("another", controller)
    gathered = Gathered(namespace={}, pod=moved, sources=(source(verification="Off"),), owners=chain("Deployment"))
    [failure] = find_pull_failures(moved)
    plan = decide(failure, gathered, now=NOW)
    assert isinstance(plan, Failover)
    assert (Step.TEMPLATE,) == plan.steps
    outcome = WorkloadOutcome(pods=(PodOutcome(pod=moved, plans=(replace(plan, **changes),)),), fault=fault)
    recent, rollouts = RecentReads(), Rollouts()
    for observed in (moved, other, pod()):
        rollouts.observe(observed)
    replaced = rollouts.settle([outcome], recent, now=NOW)
    assert (FAILED.pod_uid in replaced) == recent.covers(FAILED)
    return recent.covers(failed)


def test_an_event_about_a_pod_that_is_about_to_be_replaced_can_wait() -> None:
    """It can wait whether it names the image or only says that a pull failed."""
    assert (True, True) == (is_covered(FAILED), is_covered(replace(FAILED, image="")))


@pytest.mark.parametrize(
    "changes",
    [
        {"image": SECOND},
        {"container": "proxy"},
        {"pod_uid": "third"},
        {"namespace": "other"},
        {"at": NOW + timedelta(seconds=1)},
        {"at": None},
    ],
    ids=str,
)
def test_other_events_cannot(changes: dict[str, Any]) -> None:
    """That is so for another image, container or pod, and after the patch: somebody may have put the template back."""
    assert not is_covered(replace(FAILED, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"controller": "another-replica-set"},
        {"fault": TransientError("the API server did not answer")},
        {"steps": (Step.PODS, Step.TEMPLATE)},
        {"steps": (Step.PODS,)},
        {"steps": ()},
        {"observed": True},
    ],
    ids=str,
)
def test_nor_can_an_event_about_a_pod_that_no_rollout_replaces(changes: dict[str, Any]) -> None:
    """The pod has another controller, or its workload's pods have to be patched themselves, or nothing was done."""
    assert not is_covered(FAILED, **changes)
