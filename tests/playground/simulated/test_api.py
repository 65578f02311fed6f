"""What played kubelets write, where the API server disagrees or is away."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.simulated.api import KubeletApi
from playground.simulated.events import Correlator, Occurrence

pytestmark = pytest.mark.api

OCCURRENCE = Occurrence("Warning", "Failed", "Error: ErrImagePull", "spec.containers{app}")
STATUS: Manifest = {"phase": "Failed", "conditions": []}


@pytest.fixture
async def pod(plane: ControlPlane) -> AsyncIterator[Manifest]:
    """Give a pod that no node has yet."""
    namespace = f"kubelet-{uuid.uuid4().hex[:8]}"
    await plane.admin.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
    # Made here rather than waited for: without its service account a namespace takes no pods.
    await plane.admin.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    )
    manifest = {
        "metadata": {"name": "web"},
        "spec": {"nodeSelector": {"nobody": "has"}, "containers": [{"name": "app", "image": "quay.io/acme/web:v1"}]},
    }
    created: Manifest = await plane.admin.post(f"/api/v1/namespaces/{namespace}/pods", manifest)
    yield created
    await plane.admin.delete(f"/api/v1/namespaces/{namespace}")


def path(pod: Manifest) -> str:
    """Return where the pod is."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def namesake(pod: Manifest) -> Manifest:
    """Return a pod of the same name that was there before."""
    other = deepcopy(pod)
    other["metadata"]["uid"] = str(uuid.uuid4())
    return other


def event_about(pod: Manifest, count: int) -> Manifest:
    """Return an Event that has been counted up to `count`."""
    correlator = Correlator("node-1")
    events = [correlator.record(pod, OCCURRENCE, datetime.now(UTC)) for _ in range(count)]
    assert events[-1]
    return events[-1]


async def events(api: Api, pod: Manifest) -> list[Manifest]:
    """Return the kubelet's Events in the pod's namespace."""
    listed = (await api.get(f"/api/v1/namespaces/{pod['metadata']['namespace']}/events"))["items"]
    return [event for event in listed if event["source"].get("component") == "kubelet"]


class Shaky(Api):
    """A client that reaches the API server at every third attempt only."""

    attempts = 0

    async def request(self, *args: Any, **options: Any) -> Any:
        """Fail to connect, be told to slow down, or pass the request on."""
        self.attempts += 1
        if self.attempts % 3 == 1:
            raise aiohttp.ClientConnectionError
        if self.attempts % 3 == 2:
            raise ApiError(429, "too many requests")
        return await super().request(*args, **options)


async def test_a_status_never_reaches_a_namesake(plane: ControlPlane, pod: Manifest) -> None:
    """A StatefulSet's pod comes back under its old name: what is still to be said about the old one is not said."""
    assert not await KubeletApi(plane.admin).write_status(namesake(pod), STATUS)
    assert "Pending" == (await plane.admin.get(path(pod)))["status"]["phase"]


async def test_a_node_with_another_address_takes_its_pods_over(plane: ControlPlane, pod: Manifest) -> None:
    """A pod has the addresses that it was told last, and none of a node that had the name before."""
    for address in ("10.0.0.1", "10.0.0.2"):
        addresses = {"hostIP": address, "hostIPs": [{"ip": address}], "podIP": address, "podIPs": [{"ip": address}]}
        assert await KubeletApi(plane.admin).write_status(pod, {"phase": "Running", "conditions": [], **addresses})
    status = (await plane.admin.get(path(pod)))["status"]
    assert ([{"ip": "10.0.0.2"}], [{"ip": "10.0.0.2"}]) == (status["hostIPs"], status["podIPs"])


async def test_a_status_of_a_pod_that_is_gone_is_dropped(plane: ControlPlane, pod: Manifest) -> None:
    """The answer says whether there is a pod."""
    kubelet = KubeletApi(plane.admin)
    assert await kubelet.write_status(pod, STATUS)
    await plane.admin.delete(path(pod), gracePeriodSeconds="0")
    assert not await kubelet.write_status(pod, STATUS)


async def test_a_namesake_is_never_removed(plane: ControlPlane, pod: Manifest) -> None:
    """Only the pod that was asked to go is let go."""
    kubelet = KubeletApi(plane.admin)
    await kubelet.delete_pod(namesake(pod))
    assert pod["metadata"]["uid"] == (await plane.admin.get(path(pod)))["metadata"]["uid"]
    await kubelet.delete_pod(pod)
    with pytest.raises(ApiError, match="not found"):
        await plane.admin.get(path(pod))


async def test_an_expired_event_is_written_anew(plane: ControlPlane, pod: Manifest) -> None:
    """Where there is nothing to count up, the Event is created with the count that it has."""
    await KubeletApi(plane.admin).write_event(event_about(pod, 3))
    [event] = await events(plane.admin, pod)
    assert (3, "Error: ErrImagePull") == (event["count"], event["message"])


async def test_an_event_that_is_refused_is_dropped(plane: ControlPlane, pod: Manifest) -> None:
    """A namespace that is gone takes no Events, and that stops nobody."""
    event = event_about(pod, 1)
    event["metadata"]["namespace"] = event["involvedObject"]["namespace"] = "never-was"
    await KubeletApi(plane.admin).write_event(event)
    assert not await events(plane.admin, pod)


async def test_a_write_outlives_an_outage(plane: ControlPlane, pod: Manifest) -> None:
    """What the API server did not answer, or had no time for, is written later."""
    async with Shaky(plane.server, str(plane.authority), plane.admin.token) as api, asyncio.timeout(10):
        await KubeletApi(api).write_event(event_about(pod, 1))
    assert 1 == len(await events(plane.admin, pod))
