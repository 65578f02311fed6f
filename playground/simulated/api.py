"""What a kubelet writes to the API server: its Node and Lease, and the status, Events and end of its pods."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from playground.cluster.api import PATCH_TYPES, UNREACHABLE, Api, ApiError, Manifest
from playground.simulated.events import rfc3339

log = logging.getLogger(__name__)

LEASE_SECONDS = 40

_WRITES_AT_ONCE = 64
_PAUSE_SECONDS = 0.5
_NODES = "/api/v1/nodes"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_CAPACITY = {"cpu": "1k", "memory": "10Ti", "ephemeral-storage": "10Ti", "pods": "10k"}


class KubeletApi:
    """
    The writes of all played kubelets of one process.

    A write is repeated until the API server has answered it. Writes about what is gone are dropped, as a kubelet does.

    Args:
        api: a client that may write Nodes, Leases, Events and Pods.

    """

    def __init__(self, api: Api) -> None:
        self.refusals: list[ApiError] = []
        """Statuses that the API server did not take, which is a fault of the play."""
        self._api = api
        # Each write is short, and the API server has no use for thousands of them at once.
        self._turns = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def register(self, name: str, address: str) -> None:
        """Create the Node, instead of one that an earlier process may have left behind."""
        node = _node(name, address)
        try:
            await self._send("POST", _NODES, node)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            await self.unregister(name)
            await self._send("POST", _NODES, node)

    async def unregister(self, name: str) -> None:
        """Delete the Node and its Lease, if the API server is still there to do it."""
        for path in (f"{_NODES}/{name}", f"{_LEASES}/{name}"):
            with contextlib.suppress(ApiError, *UNREACHABLE):
                await self._api.delete(path)

    async def renew(self, name: str) -> None:
        """Say that the node is alive."""
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        # Without waiting for a turn: a node that is late with this is taken for dead.
        try:
            await self._send("PATCH", f"{_LEASES}/{name}", {"spec": spec}, PATCH_TYPES["merge"])
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
            await self._send("POST", _LEASES, lease)

    async def report(self, pod: Manifest, status: Manifest) -> bool:
        """Write the pod's status; return whether the pod is still there."""
        # A strategic merge keeps what a patch doesn't name, so what a condition no longer says has to be named,
        conditions = [{"message": None, "reason": None, **condition} for condition in status["conditions"]]
        # and the addresses of a node that had the name before would stay beside this one's.
        addresses: Manifest = {
            key: [{"$patch": "replace"}, *status[key]] for key in ("hostIPs", "podIPs") if key in status
        }
        # The uid keeps the status from a pod that has come back under the same name.
        uid = {"uid": pod["metadata"]["uid"]}
        patch = {"metadata": uid, "status": {**status, **addresses, "conditions": conditions}}
        try:
            await self._write("PATCH", f"{_path(pod)}/status", patch, PATCH_TYPES["strategic"])
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND or "metadata.uid" in str(error):
                return False
            # The pod is played on, and so are all others.
            log.error("the status of %s is refused: %s", _path(pod), error)  # noqa: TRY400 -- the trace says nothing
            self.refusals.append(error)
        return True

    async def tell(self, event: Manifest) -> None:
        """Create the Event, or update the one that it repeats."""
        try:
            if event["count"] == 1 or not await self._update(event):
                await self._write("POST", _collection(event), event)
        except ApiError as error:
            # The namespace is on its way out: there is nobody left to tell.
            log.debug("event %s was refused: %s", event["metadata"]["name"], error)

    async def _update(self, event: Manifest) -> bool:
        """Count the Event up; return False where it has expired, or was never written because of the limit."""
        changes = {key: event[key] for key in ("count", "lastTimestamp", "message")}
        path = f"{_collection(event)}/{event['metadata']['name']}"
        try:
            await self._write("PATCH", path, changes, PATCH_TYPES["strategic"])
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    async def remove(self, pod: Manifest) -> None:
        """Let go of a pod that has been deleted, now that nothing of it runs."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod["metadata"]["uid"]},
        }
        with contextlib.suppress(ApiError):
            await self._write("DELETE", _path(pod), options)

    async def _write(self, method: str, path: str, body: Any, content_type: str = "application/json") -> None:
        async with self._turns:
            await self._send(method, path, body, content_type)

    async def _send(self, method: str, path: str, body: Any, content_type: str = "application/json") -> None:
        while True:
            try:
                await self._api.request(method, path, body, content_type, fieldManager="kubelet")
            except UNREACHABLE as error:
                log.debug("%s %s gets no answer: %s", method, path, error)
            except ApiError as error:
                if not _may_pass(method, error):
                    raise
                log.debug("%s %s has to wait: %s", method, path, error)
            else:
                return
            await asyncio.sleep(_PAUSE_SECONDS)


def _may_pass(method: str, error: ApiError) -> bool:
    """Return whether the write may yet succeed: the API server was busy, or others changed the object meanwhile."""
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
                "osImage": "played",
                "systemUUID": "",
            },
        },
    }
