"""Simulated nodes on a real control plane: its scheduler and controllers see pods run, fail and recover."""

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, Self, TypeVar

import pytest

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.simulated.nodes import SimulatedNode, SimulatedNodes
from playground.simulated.pod import Pace

pytestmark = pytest.mark.api

T = TypeVar("T")

FAST = Pace().divided(40)
BAD, GOOD = "quay.io/acme/web:v1", "ghcr.io/acme/web:v1"


async def eventually(read: Callable[[], Awaitable[T]], is_expected: Callable[[T], bool]) -> T:
    """Read until the result is as expected, and return it; after twenty seconds, fail and show the last result."""
    deadline = asyncio.get_running_loop().time() + 20
    while not is_expected(result := await read()):
        assert asyncio.get_running_loop().time() < deadline, json.dumps(result, indent=1)
        await asyncio.sleep(0.02)
    return result


WORKLOADS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
}


class Shop:
    """
    A namespace, and a workload in it whose pods run on some nodes.

    The workload names these nodes, because the scheduler may still choose a node that has just left.
    """

    def __init__(self, api: Api, *nodes: str) -> None:
        self.api = api
        self.nodes = nodes
        self.namespace = f"node-{uuid.uuid4().hex[:8]}"

    async def __aenter__(self) -> Self:
        await self.api.post("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        return self

    async def __aexit__(self, *_: object) -> None:
        # Deleting the namespace takes seconds, and its pods must not outlive the node.
        await self.clear()
        await self.api.delete(f"/api/v1/namespaces/{self.namespace}")

    async def clear(self) -> None:
        """Delete all workloads, and wait until their pods are gone."""
        for collection in WORKLOADS.values():
            await self.api.delete(collection.format(self.namespace), propagationPolicy="Background")
        await eventually(self.pods, lambda pods: not pods)

    async def apply(self, kind: str, spec: Manifest) -> None:
        """Create or change the workload `web`."""
        metadata = {"name": "web", "namespace": self.namespace}
        version = "/".join(WORKLOADS[kind].split("/")[2:4])
        on_nodes = {"key": "kubernetes.io/hostname", "operator": "In", "values": self.nodes}
        required = {"nodeSelectorTerms": [{"matchExpressions": [on_nodes]}]}
        affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        spec["template"]["spec"]["affinity"] = affinity
        await self.api.apply({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})

    async def pods(self) -> list[Manifest]:
        """Return the pods."""
        listed: list[Manifest] = (await self.api.get(f"/api/v1/namespaces/{self.namespace}/pods"))["items"]
        return listed

    async def events(self) -> list[Manifest]:
        """Return the kubelet's Events, oldest first."""
        listed = (await self.api.get(f"/api/v1/namespaces/{self.namespace}/events"))["items"]
        events = [event for event in listed if event["source"].get("component") == "kubelet"]
        return sorted(events, key=lambda event: int(event["metadata"]["name"].rpartition(".")[2], 16))

    async def until_waiting(self, reason: str, number: int = 1) -> list[Manifest]:
        """Wait until `number` pods have a container that waits for this reason, and return all pods."""
        return await eventually(self.pods, lambda pods: sum(reason in waiting_reasons(pod) for pod in pods) >= number)

    async def until_phase(self, phase: str, number: int = 1) -> list[Manifest]:
        """Wait until there are `number` pods, all in this phase, and return them."""
        return await eventually(
            self.pods, lambda pods: len(pods) == number and all(pod["status"]["phase"] == phase for pod in pods)
        )

    async def patch_image(self, pod: Manifest, role: str, image: str) -> None:
        """Give the first container of a role another image, in place."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
        await self.api.patch(path, [{"op": "replace", "path": f"/spec/{role}/0/image", "value": image}], "json")


def waiting_reasons(pod: Manifest) -> set[str]:
    """Return why the pod's containers wait."""
    statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
    return {status["state"]["waiting"]["reason"] for status in statuses if "waiting" in status["state"]}


def phases(pods: list[Manifest]) -> Counter[str]:
    """Return the number of pods in each phase."""
    return Counter(pod["status"]["phase"] for pod in pods)


def uid(pod: Manifest) -> str:
    """Return the uid of a pod."""
    identity: str = pod["metadata"]["uid"]
    return identity


def template(image: str, init: str = "", **spec: str) -> Manifest:
    """Return a pod template with one container, and an init container if it has an image."""
    init_containers = [{"name": "prepare", "image": init}] if init else []
    containers = [{"name": "app", "image": image}]
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": containers, "initContainers": init_containers, **spec},
    }


def selected(image: str, init: str = "") -> Manifest:
    """Return the fields that every spec of apps/v1 needs."""
    return {"selector": {"matchLabels": {"app": "web"}}, "template": template(image, init)}


@pytest.fixture
async def node(plane: ControlPlane) -> AsyncIterator[SimulatedNode]:
    """Give the node `node-1`, which cannot reach quay.io."""
    async with SimulatedNode(plane.admin, "node-1", dead={"quay.io"}, pace=FAST) as running:
        yield running


@pytest.fixture
async def shop(plane: ControlPlane, node: SimulatedNode) -> AsyncIterator[Shop]:
    """Give a namespace whose pods run on that node."""
    async with Shop(plane.admin, *node.names) as shop:
        yield shop


async def test_a_node_is_ready_and_alive_until_it_leaves(plane: ControlPlane) -> None:
    """The Node loses its taints and renews its Lease; both are deleted at the end."""
    api, name = plane.admin, "node-to-leave"
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    async with SimulatedNode(api, name):
        await eventually(lambda: api.get(f"/api/v1/nodes/{name}"), lambda node: not node["spec"].get("taints"))
        await eventually(
            lambda: api.get(leases), lambda listed: name in {lease["metadata"]["name"] for lease in listed["items"]}
        )
    for path in (f"/api/v1/nodes/{name}", f"{leases}/{name}"):
        with pytest.raises(ApiError, match="not found"):
            await api.get(path)


async def test_a_node_replaces_its_predecessor(plane: ControlPlane) -> None:
    """A Node of the same name that an earlier process left behind is replaced."""
    await plane.admin.post("/api/v1/nodes", {"metadata": {"name": "node-again"}})
    async with SimulatedNode(plane.admin, "node-again"):
        node = await plane.admin.get("/api/v1/nodes/node-again")
        assert "10k" == node["status"]["capacity"]["pods"]


async def test_events_of_a_failing_pod_run_ahead_of_its_status(shop: Shop) -> None:
    """The API server stores the Events of the first pull before the status that shows its failure."""
    await shop.apply("Deployment", {"replicas": 1, **selected(BAD)})
    [pod] = await shop.until_waiting("ErrImagePull")
    pulling, failed, error = (await shop.events())[:3]
    assert ["Pulling", "Failed", "Failed"] == [pulling["reason"], failed["reason"], error["reason"]]
    assert 'Failed to pull image "quay.io/acme/web:v1": failed to pull and unpack' in failed["message"]
    assert "Error: ErrImagePull" == error["message"]
    assert "spec.containers{app}" == failed["involvedObject"]["fieldPath"]
    assert int(error["metadata"]["resourceVersion"]) < int(pod["metadata"]["resourceVersion"])


async def test_a_repeated_event_is_the_same_object_with_a_higher_count(shop: Shop) -> None:
    """The second pull updates the Event of the first."""
    await shop.apply("Deployment", {"replicas": 1, **selected(BAD)})
    events = await eventually(shop.events, lambda events: any(event["count"] > 1 for event in events))
    about_pull = [event for event in events if event["reason"] == "Pulling"]
    assert [BAD] == [event["message"].split('"')[1] for event in about_pull]
    assert "kubelet" == about_pull[0]["metadata"]["managedFields"][0]["manager"]


async def test_a_rollout_to_another_image_recovers(shop: Shop) -> None:
    """New pods run, and those that failed are deleted."""
    await shop.apply("Deployment", {"replicas": 3, **selected(BAD)})
    await shop.until_waiting("ImagePullBackOff", 3)
    await shop.apply("Deployment", {"replicas": 3, **selected(GOOD)})
    pods = await shop.until_phase("Running", 3)
    assert {GOOD} == {pod["spec"]["containers"][0]["image"] for pod in pods}
    assert 3 == len({pod["status"]["podIP"] for pod in pods})


@pytest.mark.parametrize("role", ["containers", "initContainers"])
async def test_a_stuck_pod_recovers_in_place(shop: Shop, role: str) -> None:
    """If the pod itself gets another image, that is pulled at once, and the pod runs without a restart."""
    images = (BAD, GOOD) if role == "containers" else (GOOD, BAD)
    await shop.apply("DaemonSet", selected(*images))
    [stuck] = await shop.until_waiting("ImagePullBackOff")
    await shop.patch_image(stuck, role, GOOD)
    [pod] = await shop.until_phase("Running")
    assert uid(stuck) == uid(pod)
    assert 0 == pod["status"]["containerStatuses"][0]["restartCount"]
    assert "Completed" == pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"]


async def test_a_running_container_restarts_for_another_image(shop: Shop) -> None:
    """The pod stays, and its container is restarted once."""
    await shop.apply("Deployment", {"replicas": 1, **selected(GOOD)})
    [pod] = await shop.until_phase("Running")
    await shop.patch_image(pod, "containers", "ghcr.io/acme/web:v2")
    await eventually(shop.pods, lambda pods: pods[0]["status"]["containerStatuses"][0]["restartCount"] == 1)
    assert {"Killing", "Pulling", "Pulled", "Created", "Started"} == {event["reason"] for event in await shop.events()}


async def test_a_condition_that_becomes_true_loses_its_reason(shop: Shop) -> None:
    """A merge patch would keep the reason and message of the time before the pod was Ready."""
    await shop.apply("Deployment", {"replicas": 1, **selected(GOOD)})
    [pod] = await shop.until_phase("Running")
    assert {"True"} == {condition["status"] for condition in pod["status"]["conditions"]}
    assert not [condition for condition in pod["status"]["conditions"] if {"reason", "message"} & condition.keys()]


async def test_a_registry_that_comes_back_ends_the_waiting(shop: Shop, node: SimulatedNode) -> None:
    """If the registry is alive again, the next pull after the back-off succeeds."""
    await shop.apply("StatefulSet", {"replicas": 1, "serviceName": "web", **selected(BAD)})
    await shop.until_waiting("ImagePullBackOff")
    node.dead.clear()
    await shop.until_phase("Running")


async def test_a_job_completes(shop: Shop) -> None:
    """A Job's pod succeeds, and the Job controller counts it and removes its finalizer."""
    await shop.apply("Job", {"template": template(GOOD, GOOD, restartPolicy="Never")})
    path = f"/apis/batch/v1/namespaces/{shop.namespace}/jobs/web"
    await eventually(lambda: shop.api.get(path), lambda job: job["status"].get("succeeded") == 1)
    [pod] = await shop.until_phase("Succeeded")
    assert not pod["metadata"].get("finalizers")


async def test_a_job_s_stuck_pod_can_be_deleted(shop: Shop) -> None:
    """The Job controller removes the finalizer of a pod only in a final phase, so a deleted pod gets one."""
    await shop.apply("Job", {"template": template(BAD, restartPolicy="Never")})
    await shop.until_waiting("ErrImagePull")
    await shop.clear()


async def test_deleted_pods_are_removed(shop: Shop) -> None:
    """Deleted pods are removed, whether they ran or waited."""
    await shop.apply("Deployment", {"replicas": 2, **selected(GOOD, BAD)})
    await shop.until_waiting("ErrImagePull", 2)
    await shop.apply("Deployment", {"replicas": 0, **selected(GOOD, BAD)})
    await eventually(shop.pods, lambda pods: not pods)


async def test_a_pod_that_vanishes_disturbs_no_other(shop: Shop) -> None:
    """If a pod is deleted by force, its simulation ends, and its successor is simulated."""
    await shop.apply("StatefulSet", {"replicas": 1, "serviceName": "web", **selected(BAD)})
    [pod] = await shop.until_waiting("ErrImagePull")
    path = f"/api/v1/namespaces/{shop.namespace}/pods/{pod['metadata']['name']}"
    await shop.api.delete(path, gracePeriodSeconds="0")
    [successor] = await eventually(
        shop.pods, lambda pods: bool(pods and uid(pods[0]) != uid(pod) and "ErrImagePull" in waiting_reasons(pods[0]))
    )
    assert pod["metadata"]["name"] == successor["metadata"]["name"]


async def test_many_nodes_are_simulated_at_once(plane: ControlPlane) -> None:
    """A DaemonSet has a pod on each node, every pod and node has its own address, and every node pulls."""
    names = [f"node-of-many-{number}" for number in range(5)]
    async with SimulatedNodes(plane.admin, names, pace=FAST), Shop(plane.admin, *names) as shop:
        await shop.apply("DaemonSet", selected(GOOD))
        pods = await shop.until_phase("Running", 5)
        assert set(names) == {pod["spec"]["nodeName"] for pod in pods}
        assert 10 == len({pod["status"][address] for pod in pods for address in ("hostIP", "podIP")})
        assert 5 == sum(event["reason"] == "Pulling" for event in await shop.events())


class BrokenWatches(Api):
    """A client whose watches end after one change each."""

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield one change."""
        async for change in super().watch(path, **query):
            yield change
            return


async def test_a_watch_that_ends_is_started_again(plane: ControlPlane) -> None:
    """The next list shows what was missed in between."""
    async with (
        BrokenWatches(plane.server, str(plane.authority), plane.admin.token) as api,
        SimulatedNode(api, "node-of-breaks", dead={"quay.io"}, pace=FAST),
        Shop(plane.admin, "node-of-breaks") as shop,
    ):
        await shop.apply("Deployment", {"replicas": 4, **selected(BAD)})
        await shop.until_waiting("ErrImagePull", 4)
        await shop.apply("Deployment", {"replicas": 4, **selected(GOOD)})
        await shop.until_phase("Running", 4)


class RefusingApi(Api):
    """A client whose writes of a pod's status are refused with `status`, unless that is OK."""

    status = HTTPStatus.OK
    namespace = ""
    refused = ""

    async def request(self, method: str, path: str, *rest: Any, **query: Any) -> Any:
        """Send a request, or refuse it."""
        # A pod that an earlier test left behind may be scheduled to this node.
        if self.status != HTTPStatus.OK and path.endswith("/status") and f"/namespaces/{self.namespace}/" in path:
            self.refused = self.refused or path
            if path == self.refused:
                raise ApiError(self.status, {"message": "refused"})
        return await super().request(method, path, *rest, **query)


@pytest.mark.parametrize("status", [HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY])
async def test_a_pod_whose_status_is_refused_disturbs_no_other(plane: ControlPlane, status: HTTPStatus) -> None:
    """The other pods run. A conflict is retried; any other refusal is an error that leaving the node raises."""
    stuck: list[str] = []
    outcome = pytest.raises(ExceptionGroup) if status == HTTPStatus.UNPROCESSABLE_ENTITY else contextlib.nullcontext()
    with outcome:
        async with (
            RefusingApi(plane.server, str(plane.authority), plane.admin.token) as api,
            SimulatedNode(api, "node-refused", pace=FAST),
            Shop(plane.admin, "node-refused") as shop,
        ):
            api.status, api.namespace = status, shop.namespace
            await shop.apply("Deployment", {"replicas": 3, **selected(GOOD)})
            pods = await eventually(shop.pods, lambda pods: {"Pending": 1, "Running": 2} == phases(pods))
            stuck += [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Pending"]
            api.status = HTTPStatus.OK
            if status == HTTPStatus.CONFLICT:
                await shop.until_phase("Running", 3)
    assert api.refused.endswith(f"/{stuck[0]}/status")
