"""What simulated kubelets write when the API server refuses a write or does not answer."""

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
    """Give a pod that is bound to no node."""
    namespace = f"kubelet-{uuid.uuid4().hex[:8]}"
    await plane.admin.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
    # Pods are refused until the service account exists. The controller would create it later.
    await plane.admin.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    )
    manifest = {
        "metadata": {"name": "web"},
        "spec": {
            "nodeSelector": {"no-node": "has-this"},
            "containers": [{"name": "app", "image": "quay.io/acme/web:v1"}],
        },
    }
    created: Manifest = await plane.admin.post(f"/api/v1/namespaces/{namespace}/pods", manifest)
    yield created
    await plane.admin.delete(f"/api/v1/namespaces/{namespace}")


def path(pod: Manifest) -> str:
    """Return the URL path of the pod."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def predecessor(pod: Manifest) -> Manifest:
    """Return an earlier pod of the same name."""
    other = deepcopy(pod)
    other["metadata"]["uid"] = str(uuid.uuid4())
    return other


def event_about(pod: Manifest, count: int) -> Manifest:
    """Return an Event with this count."""
    correlator = Correlator("node-1")
    events = [correlator.record(pod, OCCURRENCE, datetime.now(UTC)) for _ in range(count)]
    assert events[-1]
    return events[-1]


async def events(api: Api, pod: Manifest) -> list[Manifest]:
    """Return the kubelet's Events in the pod's namespace."""
    listed = (await api.get(f"/api/v1/namespaces/{pod['metadata']['namespace']}/events"))["items"]
    return [event for event in listed if event["source"].get("component") == "kubelet"]


class UnreliableApi(Api):
    """A client whose every third request succeeds."""

    attempts = 0

    async def request(self, *args: Any, **options: Any) -> Any:
        """Fail to connect, be refused with 429, or send the request."""
        self.attempts += 1
        if self.attempts % 3 == 1:
            raise aiohttp.ClientConnectionError
        if self.attempts % 3 == 2:
            raise ApiError(429, "too many requests")
        return await super().request(*args, **options)


async def test_a_status_never_reaches_another_pod_of_the_same_name(plane: ControlPlane, pod: Manifest) -> None:
    """If a StatefulSet's pod was replaced by a pod of the same name, the status of the old pod is not written."""
    assert not await KubeletApi(plane.admin).write_status(predecessor(pod), STATUS)
    assert "Pending" == (await plane.admin.get(path(pod)))["status"]["phase"]


async def test_a_new_address_replaces_the_old_one(plane: ControlPlane, pod: Manifest) -> None:
    """A pod has the addresses that were written last, and none from an earlier node of the same name."""
    for address in ("10.0.0.1", "10.0.0.2"):
        addresses = {"hostIP": address, "hostIPs": [{"ip": address}], "podIP": address, "podIPs": [{"ip": address}]}
        assert await KubeletApi(plane.admin).write_status(pod, {"phase": "Running", "conditions": [], **addresses})
    status = (await plane.admin.get(path(pod)))["status"]
    assert ([{"ip": "10.0.0.2"}], [{"ip": "10.0.0.2"}]) == (status["hostIPs"], status["podIPs"])


async def test_the_status_of_a_deleted_pod_is_dropped(plane: ControlPlane, pod: Manifest) -> None:
    """The result says whether the pod still exists."""
    kubelet = KubeletApi(plane.admin)
    assert await kubelet.write_status(pod, STATUS)
    await plane.admin.delete(path(pod), gracePeriodSeconds="0")
    assert not await kubelet.write_status(pod, STATUS)


async def test_another_pod_of_the_same_name_is_never_deleted(plane: ControlPlane, pod: Manifest) -> None:
    """Only the pod with the given uid is deleted."""
    kubelet = KubeletApi(plane.admin)
    await kubelet.delete_pod(predecessor(pod))
    assert pod["metadata"]["uid"] == (await plane.admin.get(path(pod)))["metadata"]["uid"]
    await kubelet.delete_pod(pod)
    with pytest.raises(ApiError, match="not found"):
        await plane.admin.get(path(pod))


async def test_an_expired_event_is_created_again(plane: ControlPlane, pod: Manifest) -> None:
    """If the Event to update does not exist, it is created with its count."""
    await KubeletApi(plane.admin).write_event(event_about(pod, 3))
    [event] = await events(plane.admin, pod)
    assert (3, "Error: ErrImagePull") == (event["count"], event["message"])


async def test_an_event_that_is_refused_is_dropped(plane: ControlPlane, pod: Manifest) -> None:
    """If its namespace does not exist, the Event is dropped without an error."""
    event = event_about(pod, 1)
    event["metadata"]["namespace"] = event["involvedObject"]["namespace"] = "never-was"
    await KubeletApi(plane.admin).write_event(event)
    assert not await events(plane.admin, pod)


async def test_a_write_is_repeated_until_it_succeeds(plane: ControlPlane, pod: Manifest) -> None:
    """If the API server does not answer, or answers 429, the write is repeated."""
    async with UnreliableApi(plane.server, str(plane.authority), plane.admin.token) as api, asyncio.timeout(10):
        await KubeletApi(api).write_event(event_about(pod, 1))
    assert 1 == len(await events(plane.admin, pod))
