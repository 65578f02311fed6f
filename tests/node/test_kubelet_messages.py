"""What kubelets report about a dead registry: the simulated kubelet has to report the same as the real one."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from playground.simulated.nodes import SimulatedNode
from testkit.api.workloads import container, pod, pod_spec
from testkit.node.measurements import Measurements
from testkit.node.namespace_fixture import NamespaceFixture, waiting
from testkit.node.registry_fixture import Repositories

LAST = "Error: ImagePullBackOff"
BACKING_OFF = re.compile(r'Back-off pulling image \\".*?\\": ErrImagePull: ')
OF_THE_MOMENT = {
    *("uid", "resourceVersion", "creationTimestamp", "managedFields", "firstTimestamp", "lastTimestamp", "startTime"),
    *("lastTransitionTime", "startedAt", "hostIP", "hostIPs", "podIP", "podIPs", "containerID", "imageID"),
}
"""Fields that differ between any two pods."""


def shape(value: Any, name: str) -> Any:
    """Return what another pod has in common with this value; `name` is the name of the node and of the pod."""
    if isinstance(value, dict):
        return {key: ... if key in OF_THE_MOMENT else shape(below, name) for key, below in value.items()}
    if isinstance(value, list):
        return [shape(below, name) for below in value]
    if isinstance(value, str):
        return re.sub(rf"{name}(\.[0-9a-f]+)?|\d+(\.\d+)?m?s\b|\d+ bytes", "…", value)
    return value


def status(pod: Manifest) -> Manifest:
    """
    Return the status of a pod as a simulated kubelet would write it at the same time.

    A real kubelet sorts containers by name, writes any of the names of a running image, and may already be in back-off
    when the rest is reported.
    """
    status: Manifest = json.loads(BACKING_OFF.sub("", json.dumps(pod["status"])))
    for entry in (*status.get("initContainerStatuses", ()), *status["containerStatuses"]):
        if entry["name"] in waiting(pod):
            entry["state"]["waiting"]["reason"] = "ErrImagePull"
        if "running" in entry["state"]:
            entry["image"] = ...
    return status | {"containerStatuses": sorted(status["containerStatuses"], key=lambda entry: str(entry["name"]))}


@pytest.fixture(scope="module")
async def nodes(plane: ControlPlane, node: RealNode, dead: Registry) -> AsyncIterator[tuple[str, str]]:
    """Give the names of a real node and of a simulated one; neither can reach the dead registry."""
    async with SimulatedNode(plane.admin, "simulated", dead={dead.domain}):
        yield node.name, "simulated"


@pytest.mark.parametrize("role", ["initContainers", "containers"])
async def test_a_simulated_kubelet_writes_like_a_real_one(
    nodes: tuple[str, str],
    namespace: NamespaceFixture,
    repositories: Repositories,
    role: str,
    measurements: Measurements,
) -> None:
    """Of the same pod both tell the same, in the same order; their Events and their status have the same shape."""
    bad, good = container("bad", repositories.dead()), container("good", repositories.alive())
    containers = {"containers": [good, bad]} if role == "containers" else {"containers": [good], role: [bad]}
    uids: dict[str, str] = {}
    for name in nodes:
        selector = {"kubernetes.io/hostname": name}
        spec = {**pod_spec(), **containers, "automountServiceAccountToken": False, "nodeSelector": selector}
        uids[name] = (await namespace.apply(pod(spec, name=name)))["metadata"]["uid"]
    running = {"good"} if role == "containers" else set()
    await namespace.until(lambda: all(has_settled(namespace, uid, running) for uid in uids.values()))
    for name, uid in uids.items():
        measurements.add(f"failure in {role} of {name}", status=lag(namespace, uid))
    real, imitated = ([shape(event, name) for event in namespace.events(uid)] for name, uid in uids.items())
    assert real == imitated
    real_status, imitated_status = (shape(status(namespace.pods[uid]), name) for name, uid in uids.items())
    assert real_status == imitated_status


def has_settled(namespace: NamespaceFixture, uid: str, running: set[str]) -> bool:
    """Say whether all reports that follow one failed pull are there, for a pod of which these containers run."""
    statuses = namespace.pods[uid]["status"].get("containerStatuses", ())
    runs = {entry["name"] for entry in statuses if "running" in entry["state"]}
    messages = {event["message"] for event in namespace.events(uid)}
    return LAST in messages and bool(waiting(namespace.pods[uid])) and runs == running


def lag(namespace: NamespaceFixture, uid: str) -> float:
    """Return how many seconds after the first Event of its failure the status of a pod followed."""
    failed = namespace.when(
        lambda manifest: manifest.get("reason") == "Failed" and manifest["involvedObject"]["uid"] == uid
    )
    return namespace.when(lambda manifest: manifest["metadata"]["uid"] == uid and bool(waiting(manifest))) - failed
