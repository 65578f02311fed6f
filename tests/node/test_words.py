"""What kubelets say about a registry that is dead: the real one, and the played one, which is held to that."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from playground.api import Manifest
from playground.controlplane import ControlPlane
from playground.node import PlayedNode
from playground.realnode import RealNode
from playground.registries import Registry
from testkit.api.workloads import container, pod, pod_spec
from testkit.node.measurements import Measures
from testkit.node.namespace_fixture import Stage, waiting
from testkit.node.registry_fixture import Shop

LAST = "Error: ImagePullBackOff"
BACKING_OFF = re.compile(r'Back-off pulling image \\".*?\\": ErrImagePull: ')
OF_THE_MOMENT = {
    *("uid", "resourceVersion", "creationTimestamp", "managedFields", "firstTimestamp", "lastTimestamp", "startTime"),
    *("lastTransitionTime", "startedAt", "hostIP", "hostIPs", "podIP", "podIPs", "containerID", "imageID"),
}
"""Fields that no two pods have in common."""


def shape(value: Any, name: str) -> Any:
    """Return what another pod has in common; `name` is the node's and the pod's."""
    if isinstance(value, dict):
        return {key: ... if key in OF_THE_MOMENT else shape(each, name) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each, name) for each in value]
    if isinstance(value, str):
        return re.sub(rf"{name}(\.[0-9a-f]+)?|\d+(\.\d+)?m?s\b|\d+ bytes", "…", value)
    return value


def status(pod: Manifest) -> Manifest:
    """
    Return the status of a pod, told as a played kubelet would tell it at the same time.

    A real one sorts containers by name, tells of a running image by any name that it knows, and may be backing off by
    the time that all the rest is told.
    """
    found: Manifest = json.loads(BACKING_OFF.sub("", json.dumps(pod["status"])))
    for each in (*found.get("initContainerStatuses", ()), *found["containerStatuses"]):
        if each["name"] in waiting(pod):
            each["state"]["waiting"]["reason"] = "ErrImagePull"
        if "running" in each["state"]:
            each["image"] = ...
    return found | {"containerStatuses": sorted(found["containerStatuses"], key=lambda each: str(each["name"]))}


@pytest.fixture(scope="module")
async def nodes(plane: ControlPlane, node: RealNode, dead: Registry) -> AsyncIterator[tuple[str, str]]:
    """Give the names of a real node and of a played one, which cannot reach the dead registry either."""
    async with PlayedNode(plane.admin, "played", dead={dead.domain}):
        yield node.name, "played"


@pytest.mark.parametrize("role", ["initContainers", "containers"])
async def test_a_played_kubelet_speaks_like_a_real_one(
    nodes: tuple[str, str], stage: Stage, shop: Shop, role: str, measures: Measures
) -> None:
    """Of the same pod both tell the same, in the same order; their Events and their status have the same shape."""
    bad, good = container("bad", shop.dead()), container("good", shop.alive())
    containers = {"containers": [good, bad]} if role == "containers" else {"containers": [good], role: [bad]}
    uids: dict[str, str] = {}
    for name in nodes:
        selector = {"kubernetes.io/hostname": name}
        spec = {**pod_spec(), **containers, "automountServiceAccountToken": False, "nodeSelector": selector}
        uids[name] = (await stage.apply(pod(spec, name=name)))["metadata"]["uid"]
    running = {"good"} if role == "containers" else set()
    await stage.until(lambda: all(has_settled(stage, uid, running) for uid in uids.values()))
    for name, uid in uids.items():
        measures.add(f"failure in {role} of {name}", status=lag(stage, uid))
    real, imitated = ([shape(event, name) for event in stage.events(uid)] for name, uid in uids.items())
    assert real == imitated
    real_status, imitated_status = (shape(status(stage.pods[uid]), name) for name, uid in uids.items())
    assert real_status == imitated_status


def has_settled(stage: Stage, uid: str, running: set[str]) -> bool:
    """Say whether all that follows one failed pull has been told of a pod, of which these containers run."""
    statuses = stage.pods[uid]["status"].get("containerStatuses", ())
    runs = {each["name"] for each in statuses if "running" in each["state"]}
    told = {event["message"] for event in stage.events(uid)}
    return LAST in told and bool(waiting(stage.pods[uid])) and runs == running


def lag(stage: Stage, uid: str) -> float:
    """Return by how many seconds the status of a pod came after the first Event that told of its failure."""
    failed = stage.when(lambda each: each.get("reason") == "Failed" and each["involvedObject"]["uid"] == uid)
    return stage.when(lambda each: each["metadata"]["uid"] == uid and bool(waiting(each))) - failed
