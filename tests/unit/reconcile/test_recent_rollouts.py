"""Rollouts: news of pods from before their template was moved can wait, and no other news."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saffire.errors import SaffireError, TransientError
from saffire.policy.decide import Gathered, decide
from saffire.policy.plan import Failover, Step
from saffire.pulls.failure import find_pull_failures
from saffire.reconcile.recent import RecentReads, Rollouts
from saffire.reconcile.request import PodFailed
from saffire.record.outcome import PodOutcome, WorkloadOutcome
from testkit.builders import FAILING, NOW, SECOND, Object, chain, pod, source, waiting

HINT = PodFailed(
    namespace="shop", pod="web-1", pod_uid="another", container="web", event="web-1.1", image=FAILING, at=NOW
)


def of_controller(uid: str, controller: str) -> Object:
    """Return a failing pod of a controller."""
    made = pod(waiting())
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": controller, "controller": True}
    return {**made, "metadata": {**made["metadata"], "uid": uid, "ownerReferences": [owner]}}


def knows(
    hint: PodFailed, *, fault: SaffireError | None = None, controller: str = "replica-set", **changes: Any
) -> bool:
    """Move the template above a pod of a ReplicaSet, and tell whether news of another pod can wait."""
    moved, other = of_controller("first", "replica-set"), of_controller("another", controller)
    scene = Gathered(namespace={}, pod=moved, sources=(source(verification="Off"),), owners=chain("Deployment"))
    [failure] = find_pull_failures(moved)
    plan = decide(failure, scene, now=NOW)
    assert isinstance(plan, Failover)
    assert (Step.TEMPLATE,) == plan.steps
    treated = WorkloadOutcome(pods=(PodOutcome(pod=moved, plans=(replace(plan, **changes),)),), fault=fault)
    memory, rollouts = RecentReads(), Rollouts()
    for seen in (moved, other, pod()):
        rollouts.observe(seen)
    kept = rollouts.settle([treated], memory, now=NOW)
    assert (HINT.pod_uid in kept) == memory.covers(HINT)
    return memory.covers(hint)


def test_news_of_a_pod_that_is_about_to_be_replaced_can_wait() -> None:
    """Whether its Event names the image, or only says that a pull failed."""
    assert (True, True) == (knows(HINT), knows(replace(HINT, image="")))


@pytest.mark.parametrize(
    "changes",
    [{"image": SECOND}, {"container": "proxy"}, {"pod_uid": "third"}, {"at": NOW + timedelta(seconds=1)}, {"at": None}],
    ids=str,
)
def test_other_news_cannot(changes: dict[str, Any]) -> None:
    """Not of another image, container or pod, nor from after the move: somebody may have put the template back."""
    assert not knows(replace(HINT, **changes))


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
def test_nor_can_news_of_a_pod_that_no_rollout_replaces(changes: dict[str, Any]) -> None:
    """Of another controller, or where pods have to be patched themselves, or where nothing was done."""
    assert not knows(HINT, **changes)
