"""Played nodes on a real control plane, whose scheduler and controllers see pods live, fail and recover."""

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


async def eventually(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    """Look until what is seen is wanted, and return it; after twenty seconds fail with what was seen last."""
    deadline = asyncio.get_running_loop().time() + 20
    while not wanted(seen := await look()):
        assert asyncio.get_running_loop().time() < deadline, json.dumps(seen, indent=1)
        await asyncio.sleep(0.02)
    return seen


WORKLOADS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
}


class Shop:
    """
    One namespace, and what runs in it on some nodes.

    It keeps to these nodes: a scheduler may still choose one that has just left.
    """

    def __init__(self, api: Api, *nodes: str) -> None:
        self.api = api
        self.nodes = nodes
        self.namespace = f"node-{uuid.uuid4().hex[:8]}"

    async def __aenter__(self) -> Self:
        await self.api.post("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        return self

    async def __aexit__(self, *_: object) -> None:
        # The namespace's own end takes seconds, and its pods must not outlive the node.
        await self.clear()
        await self.api.delete(f"/api/v1/namespaces/{self.namespace}")

    async def clear(self) -> None:
        """Delete what runs, and wait until it is gone."""
        for collection in WORKLOADS.values():
            await self.api.delete(collection.format(self.namespace), propagationPolicy="Background")
        await eventually(self.pods, lambda pods: not pods)

    async def apply(self, kind: str, spec: Manifest) -> None:
        """Create or change the workload `web`."""
        metadata = {"name": "web", "namespace": self.namespace}
        version = "/".join(WORKLOADS[kind].split("/")[2:4])
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": self.nodes}
        required = {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
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
        told = [one for one in listed if one["source"].get("component") == "kubelet"]
        return sorted(told, key=lambda one: int(one["metadata"]["name"].rpartition(".")[2], 16))

    async def until_waiting(self, reason: str, number: int = 1) -> list[Manifest]:
        """Wait until that many pods have a container that waits for this reason, and return all pods."""
        return await eventually(self.pods, lambda pods: sum(reason in waiting_reasons(pod) for pod in pods) >= number)

    async def until_phase(self, phase: str, number: int = 1) -> list[Manifest]:
        """Wait until there are that many pods, all of them in this phase, and return them."""
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
    """Return how many pods are in which phase."""
    return Counter(pod["status"]["phase"] for pod in pods)


def uid(pod: Manifest) -> str:
    """Return what tells a pod from its namesakes."""
    identity: str = pod["metadata"]["uid"]
    return identity


def template(image: str, init: str = "", **spec: str) -> Manifest:
    """Return a pod template with one container, and an init container if it has an image."""
    inits = [{"name": "prepare", "image": init}] if init else []
    containers = [{"name": "app", "image": image}]
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, "initContainers": inits, **spec}}


def selected(image: str, init: str = "") -> Manifest:
    """Return what every spec of apps/v1 needs."""
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
    """The Node registers without taints that stay, renews its Lease, and takes both away at the end."""
    api, name = plane.admin, "node-to-leave"
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    async with SimulatedNode(api, name):
        await eventually(lambda: api.get(f"/api/v1/nodes/{name}"), lambda node: not node["spec"].get("taints"))
        await eventually(
            lambda: api.get(leases), lambda listed: name in {one["metadata"]["name"] for one in listed["items"]}
        )
    for path in (f"/api/v1/nodes/{name}", f"{leases}/{name}"):
        with pytest.raises(ApiError, match="not found"):
            await api.get(path)


async def test_a_node_replaces_its_predecessor(plane: ControlPlane) -> None:
    """What an earlier process left behind under the same name is no obstacle."""
    await plane.admin.post("/api/v1/nodes", {"metadata": {"name": "node-again"}})
    async with SimulatedNode(plane.admin, "node-again"):
        node = await plane.admin.get("/api/v1/nodes/node-again")
        assert "10k" == node["status"]["capacity"]["pods"]


async def test_events_of_a_failing_pod_run_ahead_of_its_status(shop: Shop) -> None:
    """The API server has stored each Event of the first pull before the status that tells of it."""
    await shop.apply("Deployment", {"replicas": 1, **selected(BAD)})
    [pod] = await shop.until_waiting("ErrImagePull")
    pulling, failed, error = (await shop.events())[:3]
    assert ["Pulling", "Failed", "Failed"] == [pulling["reason"], failed["reason"], error["reason"]]
    assert 'Failed to pull image "quay.io/acme/web:v1": failed to pull and unpack' in failed["message"]
    assert "Error: ErrImagePull" == error["message"]
    assert "spec.containers{app}" == failed["involvedObject"]["fieldPath"]
    assert int(error["metadata"]["resourceVersion"]) < int(pod["metadata"]["resourceVersion"])


async def test_a_repeated_event_is_the_same_object_counted_up(shop: Shop) -> None:
    """The second pull writes no new Event."""
    await shop.apply("Deployment", {"replicas": 1, **selected(BAD)})
    told = await eventually(shop.events, lambda events: any(one["count"] > 1 for one in events))
    about_pull = [one for one in told if one["reason"] == "Pulling"]
    assert [BAD] == [one["message"].split('"')[1] for one in about_pull]
    assert "kubelet" == about_pull[0]["metadata"]["managedFields"][0]["manager"]


async def test_a_rollout_to_another_image_recovers(shop: Shop) -> None:
    """New pods come up, and those that failed are let go."""
    await shop.apply("Deployment", {"replicas": 3, **selected(BAD)})
    await shop.until_waiting("ImagePullBackOff", 3)
    await shop.apply("Deployment", {"replicas": 3, **selected(GOOD)})
    pods = await shop.until_phase("Running", 3)
    assert {GOOD} == {pod["spec"]["containers"][0]["image"] for pod in pods}
    assert 3 == len({pod["status"]["podIP"] for pod in pods})


@pytest.mark.parametrize("role", ["containers", "initContainers"])
async def test_a_stuck_pod_recovers_in_place(shop: Shop, role: str) -> None:
    """Another image in the pod itself is pulled at once, and the pod runs without a restart."""
    images = (BAD, GOOD) if role == "containers" else (GOOD, BAD)
    await shop.apply("DaemonSet", selected(*images))
    [stuck] = await shop.until_waiting("ImagePullBackOff")
    await shop.patch_image(stuck, role, GOOD)
    [pod] = await shop.until_phase("Running")
    assert uid(stuck) == uid(pod)
    assert 0 == pod["status"]["containerStatuses"][0]["restartCount"]
    assert "Completed" == pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"]


async def test_a_running_container_restarts_for_another_image(shop: Shop) -> None:
    """The pod stays, its container's count of restarts grows, and the condition Ready turns twice."""
    await shop.apply("Deployment", {"replicas": 1, **selected(GOOD)})
    [pod] = await shop.until_phase("Running")
    await shop.patch_image(pod, "containers", "ghcr.io/acme/web:v2")
    await eventually(shop.pods, lambda pods: pods[0]["status"]["containerStatuses"][0]["restartCount"] == 1)
    assert {"Killing", "Pulling", "Pulled", "Created", "Started"} == {one["reason"] for one in await shop.events()}


async def test_a_condition_that_turns_loses_its_reason(shop: Shop) -> None:
    """What a patch leaves unsaid would stay: a pod that is Ready must not say why it isn't."""
    await shop.apply("Deployment", {"replicas": 1, **selected(GOOD)})
    [pod] = await shop.until_phase("Running")
    assert {"True"} == {one["status"] for one in pod["status"]["conditions"]}
    assert not [one for one in pod["status"]["conditions"] if "reason" in one or "message" in one]


async def test_a_registry_that_comes_back_ends_the_waiting(shop: Shop, node: SimulatedNode) -> None:
    """The next pull after the back-off succeeds."""
    await shop.apply("StatefulSet", {"replicas": 1, "serviceName": "web", **selected(BAD)})
    await shop.until_waiting("ImagePullBackOff")
    node.dead.clear()
    await shop.until_phase("Running")


async def test_a_job_completes(shop: Shop) -> None:
    """A Job's pod runs to its end, and the Job controller counts it and lets it go."""
    await shop.apply("Job", {"template": template(GOOD, GOOD, restartPolicy="Never")})
    path = f"/apis/batch/v1/namespaces/{shop.namespace}/jobs/web"
    await eventually(lambda: shop.api.get(path), lambda job: job["status"].get("succeeded") == 1)
    [pod] = await shop.until_phase("Succeeded")
    assert not pod["metadata"].get("finalizers")


async def test_a_job_s_stuck_pod_can_be_deleted(shop: Shop) -> None:
    """The finalizer on a Job's pod is lifted only when the pod is over, so a pod that leaves says that it is."""
    await shop.apply("Job", {"template": template(BAD, restartPolicy="Never")})
    await shop.until_waiting("ErrImagePull")
    await shop.clear()


async def test_pods_that_are_deleted_go(shop: Shop) -> None:
    """Deleting leaves nothing behind, whether the pods ran or waited."""
    await shop.apply("Deployment", {"replicas": 2, **selected(GOOD, BAD)})
    await shop.until_waiting("ErrImagePull", 2)
    await shop.apply("Deployment", {"replicas": 0, **selected(GOOD, BAD)})
    await eventually(shop.pods, lambda pods: not pods)


async def test_a_pod_that_vanishes_disturbs_no_other(shop: Shop) -> None:
    """A pod removed by force while it is being played is forgotten, and its successor is played."""
    await shop.apply("StatefulSet", {"replicas": 1, "serviceName": "web", **selected(BAD)})
    [pod] = await shop.until_waiting("ErrImagePull")
    path = f"/api/v1/namespaces/{shop.namespace}/pods/{pod['metadata']['name']}"
    await shop.api.delete(path, gracePeriodSeconds="0")
    [successor] = await eventually(
        shop.pods, lambda pods: bool(pods and uid(pods[0]) != uid(pod) and "ErrImagePull" in waiting_reasons(pods[0]))
    )
    assert pod["metadata"]["name"] == successor["metadata"]["name"]


async def test_one_play_has_many_nodes(plane: ControlPlane) -> None:
    """A DaemonSet has a pod on each of them, each with an address of its own, and each node pulls for itself."""
    names = [f"node-of-many-{number}" for number in range(5)]
    async with SimulatedNodes(plane.admin, names, pace=FAST), Shop(plane.admin, *names) as shop:
        await shop.apply("DaemonSet", selected(GOOD))
        pods = await shop.until_phase("Running", 5)
        assert set(names) == {pod["spec"]["nodeName"] for pod in pods}
        assert 10 == len({pod["status"][address] for pod in pods for address in ("hostIP", "podIP")})
        assert 5 == sum(one["reason"] == "Pulling" for one in await shop.events())


class BrokenWatches(Api):
    """A client whose watches end after one change each."""

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield one change."""
        async for change in super().watch(path, **query):
            yield change
            return


async def test_a_watch_that_ends_is_begun_again(plane: ControlPlane) -> None:
    """What was missed in between, the next list tells."""
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
    """A client that is refused what it has to say of one pod's status in a namespace, while `status` is not OK."""

    status = HTTPStatus.OK
    namespace = ""
    refused = ""

    async def request(self, method: str, path: str, *rest: Any, **query: Any) -> Any:
        """Send one request, or refuse to."""
        # A pod that an earlier test left behind may have been scheduled to this node.
        if self.status != HTTPStatus.OK and path.endswith("/status") and f"/namespaces/{self.namespace}/" in path:
            self.refused = self.refused or path
            if path == self.refused:
                raise ApiError(self.status, {"message": "refused"})
        return await super().request(method, path, *rest, **query)


@pytest.mark.parametrize("status", [HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY])
async def test_a_pod_whose_status_is_refused_disturbs_no_other(plane: ControlPlane, status: HTTPStatus) -> None:
    """The others run. A conflict passes; what is refused for good is a fault of the play, which leaving tells."""
    stuck: list[str] = []
    told = pytest.raises(ExceptionGroup) if status == HTTPStatus.UNPROCESSABLE_ENTITY else contextlib.nullcontext()
    with told:
        async with (
            RefusingApi(plane.server, str(plane.authority), plane.admin.token) as api,
            SimulatedNode(api, "node-refused", pace=FAST),
            Shop(plane.admin, "node-refused") as shop,
        ):
            api.status, api.namespace = status, shop.namespace
            await shop.apply("Deployment", {"replicas": 3, **selected(GOOD)})
            pods = await eventually(shop.pods, lambda pods: {"Pending": 1, "Running": 2} == phases(pods))
            stuck += [one["metadata"]["name"] for one in pods if one["status"]["phase"] == "Pending"]
            api.status = HTTPStatus.OK
            if status == HTTPStatus.CONFLICT:
                await shop.until_phase("Running", 3)
    assert api.refused.endswith(f"/{stuck[0]}/status")
