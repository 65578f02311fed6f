"""The witness tells what the API server's objects show, once, and the verdict follows from it."""

import io
import json
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.demo.result import missing, rows
from playground.demo.timeline import Paint, Timeline
from playground.demo.watcher import Watcher

OLD = "ghcr.io/acme/web:1"
NEW = "quay.io/acme/web:1"
WEB = [("Deployment", "web")]


class Watched:
    """A witness, and what it printed."""

    def __init__(self, *dead: str) -> None:
        self._out = io.StringIO()
        self._timeline = Timeline(self._out, Paint(colour=False))
        self.witness = Watcher(self._timeline, set(dead))

    def see(self, kind: str, *manifests: Manifest, at: float = 1.0) -> None:
        """Show the witness one object after another."""
        for manifest in manifests:
            self.witness.see(kind, manifest, at)

    def told(self) -> list[str]:
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
    history = json.dumps({"v": 1, "failovers": [{"container": "web", "from": OLD, "to": NEW}]})
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
def watched() -> Watched:
    """Give a witness of a dead registry."""
    return Watched("ghcr.io")


def test_a_failed_pull_is_told_once(watched: Watched) -> None:
    """However often the kubelet says so."""
    watched.see("Pod", pod(OLD))
    watched.see("Event", FAILED, event("Error: ErrImagePull"), event("Created pod: web-1"), FAILED)
    assert [f"fails Pod/web-1 {OLD}"] == watched.told()


def test_a_patch_is_told_where_its_record_is(watched: Watched) -> None:
    """The template and the pod that Saffire moved are told of, each once."""
    watched.see("Deployment", deployment(OLD), deployment(NEW, moved=True), deployment(NEW, moved=True, updated=0))
    assert ["patched Deployment/web ghcr.io → quay.io"] == watched.told()


def test_a_rollout_is_not_a_patch(watched: Watched) -> None:
    """What somebody else changes is not said to be Saffire's."""
    watched.see("Deployment", deployment(OLD), deployment(NEW))
    watched.see("Deployment", deployment("ghcr.io/acme/web:2", moved=True))
    assert [] == watched.told()


def test_running_again_means_without_the_dead_registry(watched: Watched) -> None:
    """A pod that still runs from the dead registry has not come back."""
    watched.see("Pod", pod(OLD))
    watched.see("Event", FAILED)
    watched.see("Pod", pod(OLD, ready=True), pod(NEW), pod(NEW, ready=True), pod(NEW, ready=True), at=3.0)
    assert [f"fails Pod/web-1 {OLD}", f"runs Pod/web-1 {NEW}"] == watched.told()


def test_decisions_are_those_of_the_log(watched: Watched) -> None:
    """A failover names workload and candidate, another decision its reason, and the everyday ones are not told."""
    failover = {"plan": "Failover", "workload": "Deployment/web", "candidate": NEW}
    rollout = {"plan": "Leave", "reason": "RolloutInProgress", "detail": "names another"}
    everyday = {"plan": "Leave", "reason": "NoPullFailure"}
    watched.witness.hear({"pod": "shop/web-1", "seconds": 0.5, "plans": [failover, rollout, everyday]}, 2.0)
    watched.witness.hear({"message": "Could not post an Event"}, 2.0)
    assert [f"decided Deployment/web → {NEW}", "left Pod/web-1 RolloutInProgress: names another"] == watched.told()


def test_nothing_is_missing_once_all_pods_run_elsewhere(watched: Watched) -> None:
    """A workload is back when its pods and its rollout are."""
    watched.see("Deployment", deployment(OLD), deployment(NEW, moved=True))
    watched.see("Pod", pod(NEW, ready=True))
    assert [] == missing(watched.witness, WEB)


@pytest.mark.parametrize(
    ("shown", "said"),
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
def test_what_is_missing_is_said(watched: Watched, shown: list[Manifest], said: str) -> None:
    """In the words of `kubectl get pods`."""
    watched.see("Deployment", deployment(NEW))
    watched.see("Pod", *shown)
    assert [f"Deployment/web: {said}"] == missing(watched.witness, WEB)


def test_a_rollout_that_goes_on_is_missing(watched: Watched) -> None:
    """Pods that are about to be replaced are not the end of it."""
    watched.see("Deployment", deployment(NEW, updated=0))
    watched.see("Pod", pod(NEW, ready=True))
    assert ["Deployment/web: its rollout goes on"] == missing(watched.witness, WEB)


def test_what_is_gone_is_missing(watched: Watched) -> None:
    """A workload that nobody has seen, or that was deleted, is not back."""
    assert ["Deployment/web: it is not there"] == missing(watched.witness, WEB)
    watched.see("Deployment", deployment(NEW))
    watched.witness.forget("Deployment", deployment(NEW))
    assert ["Deployment/web: it is not there"] == missing(watched.witness, WEB)


def test_the_table_has_the_times(watched: Watched) -> None:
    """First failure, first pod that ran again, last pod that moved, all since the first failure of any workload."""
    watched.see("Pod", pod(OLD), at=1.0)
    watched.see("Event", FAILED, at=2.0)
    watched.see("Deployment", deployment(OLD), deployment(NEW, moved=True), at=2.1)
    watched.see("Pod", pod(NEW, ready=True), at=4.0)
    table = list(rows(watched.witness, origin=1.5))
    assert ("Deployment/web", "ghcr.io → quay.io", "0.5 s", "2.5 s", "2.5 s", "template") in table
    assert ("StatefulSet/db", "-", "-", "-", "-", "-") in table


def test_the_table_promises_nothing(watched: Watched) -> None:
    """Of a workload that is not back, it does not say when all of it had moved."""
    watched.see("Pod", pod(OLD), at=1.0)
    watched.see("Event", FAILED, at=2.0)
    watched.see("Pod", pod(NEW, ready=True), at=4.0)
    assert ("Deployment/web", "-", "0.5 s", "2.5 s", "-", "-") in list(rows(watched.witness, origin=1.5))
