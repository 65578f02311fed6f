"""Writes to the API server what a kubelet writes: its Node, its Lease, and the status and Events of its pods."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from playground.cluster.api import LEASES, PATCH_TYPES, UNREACHABLE, Api, ApiError, Manifest
from playground.simulated.events import rfc3339

log = logging.getLogger(__name__)

LEASE_SECONDS = 40
"""How long a node counts as alive after it has renewed its Lease."""


_WRITES_AT_ONCE = 64
_PAUSE_SECONDS = 0.5
_NODES = "/api/v1/nodes"
_CAPACITY = {"cpu": "1k", "memory": "10Ti", "ephemeral-storage": "10Ti", "pods": "10k"}


class KubeletApi:
    """
    The writes of all simulated kubelets of one process.

    A write is repeated until the API server answers. If its object no longer exists, it is dropped, as in a kubelet.

    Args:
        api: a client that may write Nodes, Leases, Events and Pods.

    """

    def __init__(self, api: Api) -> None:
        self.refused_statuses: list[ApiError] = []
        """The errors of statuses that the API server refused, which is a fault of the simulation."""
        self._api = api
        # Each write is short, and thousands at once would not be faster.
        self._write_slots = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def register(self, name: str, address: str) -> None:
        """Create the Node; if an earlier process has left one of that name, replace it."""
        node = _node(name, address)
        try:
            await self._send("POST", _NODES, node)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            await self.unregister(name)
            await self._send("POST", _NODES, node)

    async def unregister(self, name: str) -> None:
        """Delete the Node and its Lease, if the API server still answers."""
        await self._api.delete_node(name)

    async def renew(self, name: str) -> None:
        """Renew the node's Lease."""
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        # This does not wait for a slot: if a node is late with its Lease, the control plane takes it for dead.
        try:
            await self._send("PATCH", f"{LEASES}/{name}", {"spec": spec}, PATCH_TYPES["merge"])
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
            await self._send("POST", LEASES, lease)

    async def write_status(self, pod: Manifest, status: Manifest) -> bool:
        """Write the pod's status; return whether the pod still exists."""
        # A strategic merge keeps fields that the patch does not name. So fields that a condition lost are named,
        conditions = [{"message": None, "reason": None, **condition} for condition in status["conditions"]]
        # and lists of addresses replace those of an earlier node of the same name.
        addresses: Manifest = {
            key: [{"$patch": "replace"}, *status[key]] for key in ("hostIPs", "podIPs") if key in status
        }
        # With the uid, the status never reaches a new pod of the same name.
        uid = {"uid": pod["metadata"]["uid"]}
        patch = {"metadata": uid, "status": {**status, **addresses, "conditions": conditions}}
        try:
            await self._write("PATCH", f"{_path(pod)}/status", patch, PATCH_TYPES["strategic"])
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND or "metadata.uid" in str(error):
                return False
            # The simulation of this pod and all others goes on.
            log.error("the status of %s is refused: %s", _path(pod), error)  # noqa: TRY400 -- the traceback says no more
            self.refused_statuses.append(error)
        return True

    async def write_event(self, event: Manifest) -> None:
        """Create the Event, or update it if it is a repeated one."""
        try:
            if event["count"] == 1 or not await self._update(event):
                await self._write("POST", _collection(event), event)
        except ApiError as error:
            # The namespace is being deleted.
            log.debug("event %s was refused: %s", event["metadata"]["name"], error)

    async def _update(self, event: Manifest) -> bool:
        """Update the Event; return False if it has expired, or was never written because of the limit."""
        changes = {key: event[key] for key in ("count", "lastTimestamp", "message")}
        path = f"{_collection(event)}/{event['metadata']['name']}"
        try:
            await self._write("PATCH", path, changes, PATCH_TYPES["strategic"])
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    async def delete_pod(self, pod: Manifest) -> None:
        """Delete a terminating pod for good, as none of its containers runs any more."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod["metadata"]["uid"]},
        }
        with contextlib.suppress(ApiError):
            await self._write("DELETE", _path(pod), options)

    async def _write(self, method: str, path: str, body: Any, content_type: str = "application/json") -> None:
        async with self._write_slots:
            await self._send(method, path, body, content_type)

    async def _send(self, method: str, path: str, body: Any, content_type: str = "application/json") -> None:
        while True:
            try:
                await self._api.request(method, path, body, content_type, fieldManager="kubelet")
            except UNREACHABLE as error:
                log.debug("%s %s gets no answer: %s", method, path, error)
            except ApiError as error:
                if not _is_temporary(method, error):
                    raise
                log.debug("%s %s has to wait: %s", method, path, error)
            else:
                return
            await asyncio.sleep(_PAUSE_SECONDS)


def _is_temporary(method: str, error: ApiError) -> bool:
    """Return whether a repeated write may succeed: the API server was busy, or the object changed meanwhile."""
    if error.status == HTTPStatus.CONFLICT:
        return method == "PATCH"
    return error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status == HTTPStatus.TOO_MANY_REQUESTS


def _collection(event: Manifest) -> str:
    return f"/api/v1/namespaces/{event['metadata']['namespace']}/events"


def _path(pod: Manifest) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _node(name: str, address: str) -> Manifest:
    now = rfc3339(datetime.now(UTC))
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
        },
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "allocatable": _CAPACITY,
            "capacity": _CAPACITY,
            "conditions": [ready],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "containerd://1.6.20",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.34.4",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "simulated",
                "systemUUID": "",
            },
        },
    }
