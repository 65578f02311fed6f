"""The watcher reports what the API server's objects show, once, and the result follows from it."""

import io
import json
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.demo.result import proofs, result_rows, unrecovered
from playground.demo.timeline import Terminal, Timeline
from playground.demo.watcher import Watcher

OLD = "ghcr.io/acme/web:1"
NEW = "quay.io/acme/web:1"
WEB = [("Deployment", "web")]


class Output:
    """A watcher, and what it printed."""

    def __init__(self, *dead: str) -> None:
        self._out = io.StringIO()
        self._timeline = Timeline(self._out, Terminal(colour=False, width=100))
        self.watcher = Watcher(self._timeline, set(dead))

    def update(self, kind: str, *manifests: Manifest, at: float = 1.0) -> None:
        """Give the watcher objects, one after the other."""
        for manifest in manifests:
            self.watcher.update(kind, manifest, at)

    def lines(self) -> list[str]:
        """Return what was printed, without times and spaces."""
        self._timeline.flush()
        return [" ".join(line[13:].split()) for line in self._out.getvalue().splitlines()]


def pod(image: str, *, ready: bool = False, name: str = "web-1", **status: Any) -> Manifest:
    """Return a pod of the Deployment."""
    shown = {"phase": "Pending", "conditions": [{"type": "Ready", "status": str(ready)}], **status}
    metadata = {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}}
    return {"metadata": metadata, "spec": {"containers": [{"name": "web", "image": image}]}, "status": shown}


def deployment(image: str, *, moved: bool = False, updated: int = 1) -> Manifest:
    """Return the Deployment, with Saffire's record if it `moved`."""
    entry = {"container": "web", "from": OLD, "to": NEW, "proof": "equal digest"}
    history = json.dumps({"v": 1, "failovers": [entry]})
    annotations = {"saffire.fairwinds.com/history": history} if moved else {}
    metadata = {"name": "web", "namespace": "shop", "generation": 1, "annotations": annotations}
    template = {"spec": {"containers": [{"name": "web", "image": image}]}}
    status = {"observedGeneration": 1, "updatedReplicas": updated}
    return {"metadata": metadata, "spec": {"replicas": 1, "template": template}, "status": status}


def event(message: str) -> Manifest:
    """Return an Event about the pod."""
    return {
        "metadata": {"name": "web-1.1", "namespace": "shop"},
        "involvedObject": {"name": "web-1"},
        "message": message,
    }


FAILED = event(f'Failed to pull image "{OLD}": connection refused')


@pytest.fixture
def output() -> Output:
    """Give a watcher that knows of a dead registry."""
    return Output("ghcr.io")


def test_a_failed_pull_is_reported_once(output: Output) -> None:
    """A failed pull is one entry, however many Events the kubelet writes."""
    output.update("Pod", pod(OLD))
    output.update("Event", FAILED, event("Error: ErrImagePull"), event("Created pod: web-1"), FAILED)
    assert [f"fails Pod/web-1 {OLD}"] == output.lines()


def test_a_patch_with_saffires_record_is_reported(output: Output) -> None:
    """If Saffire patches a template, that is one entry."""
    output.update("Deployment", deployment(OLD), deployment(NEW, moved=True), deployment(NEW, moved=True, updated=0))
    assert ["patched Deployment/web ghcr.io → quay.io"] == output.lines()


def test_the_proofs_are_those_of_the_record(output: Output) -> None:
    """A proof is named once, with the workloads that moved by it; as long as nothing has moved, there is none."""
    output.update("Deployment", deployment(OLD))
    assert "" == proofs(output.watcher)
    output.update("Deployment", deployment(NEW, moved=True), deployment(OLD), deployment(NEW, moved=True))
    assert "equal digest (web)" == proofs(output.watcher)


def test_a_rollout_is_not_a_patch(output: Output) -> None:
    """A change by somebody else is not reported as a patch of Saffire."""
    output.update("Deployment", deployment(OLD), deployment(NEW))
    output.update("Deployment", deployment("ghcr.io/acme/web:2", moved=True))
    assert [] == output.lines()


def test_running_again_means_without_the_dead_registry(output: Output) -> None:
    """A pod that still runs from the dead registry has not recovered."""
    output.update("Pod", pod(OLD))
    output.update("Event", FAILED)
    output.update("Pod", pod(OLD, ready=True), pod(NEW), pod(NEW, ready=True), pod(NEW, ready=True), at=3.0)
    assert [f"fails Pod/web-1 {OLD}", f"runs Pod/web-1 {NEW}"] == output.lines()


def test_decisions_are_those_of_the_log(output: Output) -> None:
    """A failover is reported with workload and candidate, others with their reason, routine decisions not at all."""
    failover = {"plan": "Failover", "workload": "Deployment/web", "candidate": NEW}
    rollout = {"plan": "Leave", "reason": "RolloutInProgress", "detail": "names another"}
    routine = {"plan": "Leave", "reason": "NoPullFailure"}
    output.watcher.read_log_line({"pod": "shop/web-1", "seconds": 0.5, "plans": [failover, rollout, routine]}, 2.0)
    output.watcher.read_log_line({"message": "Could not post an Event"}, 2.0)
    assert [f"decided Deployment/web → {NEW}", "left Pod/web-1 RolloutInProgress: names another"] == output.lines()


def test_a_workload_recovers_when_all_pods_run_elsewhere(output: Output) -> None:
    """A workload has recovered when its pods run and its rollout is complete."""
    output.update("Deployment", deployment(OLD), deployment(NEW, moved=True))
    output.update("Pod", pod(NEW, ready=True))
    assert [] == unrecovered(output.watcher, WEB)


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([], "it has 0 pods instead of 1"),
        ([pod(OLD, ready=True)], "1 more still run from ghcr.io"),
        ([pod(NEW)], "web-1 hangs in Pending"),
        (
            [pod(OLD, initContainerStatuses=[{"state": {"waiting": {"reason": "ImagePullBackOff"}}}])],
            "web-1 hangs in Init:ImagePullBackOff",
        ),
        ([pod(NEW, ready=True), pod(NEW, ready=True, name="web-2")], "it has 2 pods instead of 1"),
    ],
)
def test_the_reason_is_given(output: Output, pods: list[Manifest], reason: str) -> None:
    """The reason says the state of the pod as `kubectl get pods` does."""
    output.update("Deployment", deployment(NEW))
    output.update("Pod", *pods)
    assert [f"Deployment/web: {reason}"] == unrecovered(output.watcher, WEB)


def test_a_rollout_that_goes_on_is_unrecovered(output: Output) -> None:
    """If pods are about to be replaced, the workload has not recovered."""
    output.update("Deployment", deployment(NEW, updated=0))
    output.update("Pod", pod(NEW, ready=True))
    assert ["Deployment/web: its rollout goes on"] == unrecovered(output.watcher, WEB)


def test_what_is_gone_is_unrecovered(output: Output) -> None:
    """A workload that was never created, or was deleted, has not recovered."""
    assert ["Deployment/web: it is not there"] == unrecovered(output.watcher, WEB)
    output.update("Deployment", deployment(NEW))
    output.watcher.remove("Deployment", deployment(NEW))
    assert ["Deployment/web: it is not there"] == unrecovered(output.watcher, WEB)


def test_the_table_has_the_times(output: Output) -> None:
    """It has the times of the first failed, first recovered and last moved pod, since the first failure of all."""
    output.update("Pod", pod(OLD), at=1.0)
    output.update("Event", FAILED, at=2.0)
    output.update("Deployment", deployment(OLD), deployment(NEW, moved=True), at=2.1)
    output.update("Pod", pod(NEW, ready=True), at=4.0)
    table = list(result_rows(output.watcher, origin=1.5))
    assert ("Deployment/web", "quay.io", "0.5 s", "2.5 s", "2.5 s", "template") in table
    assert ("StatefulSet/db", "-", "-", "-", "-", "-") in table


def test_the_table_promises_nothing(output: Output) -> None:
    """If a workload has not recovered, the table has no time at which all of it had moved."""
    output.update("Pod", pod(OLD), at=1.0)
    output.update("Event", FAILED, at=2.0)
    output.update("Pod", pod(NEW, ready=True), at=4.0)
    assert ("Deployment/web", "-", "0.5 s", "2.5 s", "-", "-") in list(result_rows(output.watcher, origin=1.5))
