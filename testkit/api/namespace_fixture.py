"""
The fixture of a test: a namespace of the real control plane, with a client of the function.

What a test asserts is read from the API server, its audit log, or the function's own log.
"""

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self, TypeVar

import aiohttp

from eventsource.cloudevent import Change, Mode
from playground.cluster.api import Api, ApiError, Manifest
from playground.simulated.events import rfc3339
from testkit.api.audit_log import AuditLog, Call
from testkit.api.function_client import Answer, FunctionClient
from testkit.api.workloads import ALIVE, DEAD

DEADLINE_SECONDS = 60
POLL_SECONDS = 0.05
GROUP = "saffire.fairwinds.com/v1alpha1"
CLUSTER_WIDE = f"/apis/{GROUP}/clusteralternateimagesources"
HISTORY = "saffire.fairwinds.com/history"
IGNORE = "saffire.fairwinds.com/ignore"
READS = frozenset({"get", "list"})
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff"})

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """Call `look` until it returns something true, and return that; raise `TimeoutError` after a minute."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            seen = await look()
            if seen:
                return seen
            await asyncio.sleep(POLL_SECONDS)


class NamespaceFixture:
    """
    A namespace; use as an async context manager.

    Args:
        api: a client that may do everything.
        url: the function's.
        audit_log: the requests of the function.
        dead: the registries that do not answer; tests may add others.

    """

    def __init__(self, api: Api, url: str, audit_log: AuditLog, dead: set[str]) -> None:
        self.api = api
        self.url = url
        self.dead = dead
        self.name = f"shop-{uuid.uuid4().hex[:8]}"
        self._audit = audit_log
        self._mark = audit_log.mark()
        self._cluster_wide: list[str] = []

    @property
    def sources(self) -> str:
        """The URL path of the namespace's sources."""
        return f"/apis/{GROUP}/namespaces/{self.name}/alternateimagesources"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def another(self) -> "NamespaceFixture":
        """Return a fixture of another namespace on the same cluster."""
        return NamespaceFixture(self.api, self.url, self._audit, self.dead)

    async def open(self, **annotations: str) -> None:
        """Create the namespace, and wait until pods can be created in it."""
        metadata = {"name": self.name, "annotations": annotations}
        await self.api.post("/api/v1/namespaces", {"metadata": metadata})
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts"
        await until(lambda: self._items(path))

    async def close(self) -> None:
        """Delete the namespace and this fixture's cluster-wide sources. The namespace's content is gone later."""
        for name in self._cluster_wide:
            await self.api.delete(f"{CLUSTER_WIDE}/{name}")
        await self.api.delete(f"/api/v1/namespaces/{self.name}")

    # What a test creates.

    async def apply(self, manifest: Manifest) -> Manifest:
        """Create or update an object of the namespace."""
        metadata = {**manifest["metadata"], "namespace": self.name}
        return await self.api.apply({**manifest, "metadata": metadata})

    async def source(self, *repositories: str, name: str = "shop", **spec: Any) -> Manifest:
        """Create an AlternateImageSource with one set, by default that of `OLD` and `NEW`."""
        equivalent = repositories or (f"{DEAD}/acme/*", f"{ALIVE}/acme/*")
        wanted = {"imageSourceReplacements": [{"equivalentRepositories": list(equivalent)}], **spec}
        manifest = {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": name}, "spec": wanted}
        return await self.apply(manifest)

    async def label(self, **labels: str | None) -> None:
        """Set labels of the namespace."""
        await self.api.patch(f"/api/v1/namespaces/{self.name}", {"metadata": {"labels": labels}})

    async def cluster_source(self, *repositories: str, name: str = "", **spec: Any) -> Manifest:
        """Create a ClusterAlternateImageSource, by default for this namespace alone; `close` deletes it."""
        equivalent = repositories or (f"{DEAD}/acme/*", f"{ALIVE}/acme/*")
        manifest = {
            "apiVersion": GROUP,
            "kind": "ClusterAlternateImageSource",
            "metadata": {"name": name or self.name},
            "spec": {
                "imageSourceReplacements": [{"equivalentRepositories": list(equivalent)}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.name}},
                **spec,
            },
        }
        applied = await self.api.apply(manifest)
        self._cluster_wide = [*dict.fromkeys((*self._cluster_wide, applied["metadata"]["name"]))]
        return applied

    async def cluster_status(self, name: str = "") -> Manifest:
        """Return the status of a ClusterAlternateImageSource."""
        live = await self.api.get(f"{CLUSTER_WIDE}/{name or self.name}")
        status: Manifest = live.get("status", {})
        return status

    async def fail(self, workload: Manifest) -> tuple[Manifest, Manifest]:
        """Create a workload whose images cannot be pulled; return one of its pods and the Event about its failure."""
        await self.apply(workload)
        pod, *_ = await self.failing(of=workload["metadata"]["name"])
        return pod, await self.event(pod)

    async def annotate(self, manifest: Manifest, key: str, value: str) -> None:
        """Annotate a live object."""
        await self.api.patch(await self.api.path(manifest), {"metadata": {"annotations": {key: value}}})

    async def write_answered(self, *registries: str, name: str = "shop") -> None:
        """Write into the status of a source that these registries have just answered Saffire, as in quiet times."""
        source = await self.read({"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": name}})
        entries = [{"registry": registry, "answeredAt": rfc3339(datetime.now(UTC))} for registry in registries]
        path = await self.api.path(source)
        await self.api.patch(f"{path}/status", {"status": {"registries": entries}})

    async def write_kubelet_event(
        self, pod: Manifest, section: str, container: str, image: str, **fields: Any
    ) -> Manifest:
        """Write the Event that a kubelet would write about a failed pull, changed by `fields`; return it."""
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{pod['metadata']['name']}.{uuid.uuid4().hex[:16]}", "namespace": self.name},
            "involvedObject": reference(pod) | {"fieldPath": f"spec.{section}{{{container}}}"},
            "type": "Warning",
            "reason": "Failed",
            "message": f'Failed to pull image "{image}": dial tcp 192.0.2.1:443: connect: connection refused',
            "source": {"component": "kubelet"},
            "count": 1,
            **fields,
        }
        written: Manifest = await self.api.post(f"/api/v1/namespaces/{self.name}/events", event)
        return written

    # What a test reads.

    async def read(self, manifest: Manifest) -> Manifest:
        """Return the current state of an object."""
        metadata = {**manifest["metadata"], "namespace": self.name}
        live: Manifest = await self.api.get(await self.api.path({**manifest, "metadata": metadata}))
        return live

    async def until_gone(self, manifest: Manifest) -> None:
        """Wait until an object is deleted, which it is, too, once another has its name: a StatefulSet's pods return."""
        uid = manifest["metadata"].get("uid")

        async def look() -> bool:
            try:
                live = await self.read(manifest)
            except ApiError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return True
            return uid not in {None, live["metadata"]["uid"]}

        await until(look)

    async def patched(self, before: Manifest) -> tuple[Manifest, Manifest]:
        """Return the object before and after the function's first patch, whatever changed it later."""
        collection = (await self.api.path(before)).rpartition("/")[0]
        query = {
            "resourceVersion": before["metadata"]["resourceVersion"],
            "fieldSelector": f"metadata.name={before['metadata']['name']}",
        }
        changes = self.api.watch(collection, **query)
        assert isinstance(changes, AsyncGenerator)
        async with asyncio.timeout(DEADLINE_SECONDS), contextlib.aclosing(changes):
            async for _, after in changes:
                if HISTORY in after["metadata"].get("annotations", {}):
                    return before, after
                before = after
        raise AssertionError("the watch ended before the patch")

    async def status(self, name: str = "shop") -> Manifest:
        """Return the status of an AlternateImageSource."""
        live = await self.read({"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": name}})
        status: Manifest = live.get("status", {})
        return status

    async def columns(self, name: str = "shop") -> dict[str, Any]:
        """Return what `kubectl get ais` prints of an AlternateImageSource, by the names of the columns."""
        headers = {
            "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io",
            "Authorization": f"Bearer {self.api.token}",
        }
        tls = ssl.create_default_context(cafile=self.api.authority)
        url = f"{self.api.server}{self.sources}/{name}"
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url, ssl=tls) as response:
            table = await response.json()
        (row,) = table["rows"]
        return dict(zip((column["name"] for column in table["columnDefinitions"]), row["cells"], strict=True))

    async def pods(self) -> list[Manifest]:
        """Return the pods that are not being deleted."""
        listed = await self._items(f"/api/v1/namespaces/{self.name}/pods")
        return [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]

    async def failing(self, count: int = 1, *, of: str = "") -> list[Manifest]:
        """Wait until so many pods, of a workload if `of` names it, have a failed pull in their status; return them."""

        async def look() -> list[Manifest] | None:
            pods = [pod for pod in await self.pods() if is_of(pod, of)]
            failing = [pod for pod in pods if waiting(pod) & PULL_REASONS]
            return failing if len(failing) >= count else None

        return await until(look)

    async def event(self, pod: Manifest, container: str = "") -> Manifest:
        """Wait for the Event of a pod that carries the error of its pull, and return it."""

        async def look() -> Manifest | None:
            for event in await self.events(reason="Failed", uid=pod["metadata"]["uid"]):
                if event["message"].startswith("Failed to pull") and container in event["involvedObject"]["fieldPath"]:
                    return event
            return None

        return await until(look)

    async def events(self, uid: str = "", **fields: str) -> list[Manifest]:
        """Return the Events about the object with that uid, or about all objects, whose `fields` have these values."""
        selectors = {**fields, **({"involvedObject.uid": uid} if uid else {})}
        selector = ",".join(f"{key}={value}" for key, value in selectors.items())
        return await self._items(f"/api/v1/namespaces/{self.name}/events", fieldSelector=selector)

    async def saffire_events(self, manifest: Manifest) -> list[tuple[str, str]]:
        """Return reason and message of every Event that Saffire wrote about an object."""
        written = await self.events(manifest["metadata"]["uid"], source="saffire")
        return [(event["reason"], event["message"]) for event in written]

    # What the function does.

    async def post(
        self, event: Manifest, change: Change = "add", mode: Mode = "Resource", *, url: str = "", waits: bool = True
    ) -> Answer:
        """Deliver an Event to the function, or to the one at `url`; it `waits` until its repair is done."""
        async with FunctionClient(url or self.url) as client:
            return await client.post(event, change, mode, waits=waits)

    async def sweep(self, *, url: str = "") -> Answer:
        """Ask the function, or the one at `url`, to sweep the whole cluster."""
        async with FunctionClient(url or self.url) as client:
            return await client.ping()

    def mark(self) -> None:
        """Forget the requests until now."""
        self._mark = self._audit.mark()

    def calls(self) -> list[Call]:
        """Return the function's requests about this namespace since the last mark."""
        return self._audit.calls(self._mark, self.name)

    def patches(self) -> list[tuple[str, str]]:
        """
        Return resource and name of each successful patch since the last mark, in order.

        Patches of a source's status do not count.
        """
        return [
            (call.resource, call.name)
            for call in self.calls()
            if call.verb == "patch" and call.status == 200 and call.resource != "alternateimagesources/status"
        ]

    def patches_beside(self, *, of: Manifest) -> list[tuple[str, str]]:
        """Return the patches without those of other pods than `of`, which are moved along with it."""
        name = of["metadata"]["name"]
        return [(resource, which) for resource, which in self.patches() if resource != "pods" or which == name]

    def writes_but_status(self) -> list[Call]:
        """Return the writes without those of a source's status."""
        return [call for call in self.writes() if call.resource != "alternateimagesources/status"]

    def writes(self) -> list[Call]:
        """Return every attempt to write since the last mark."""
        return [call for call in self.calls() if call.verb not in READS]

    async def _items(self, path: str, **query: str) -> list[Manifest]:
        """Return the items of a list, each with its own kind and API version, as if it were read alone."""
        listed = await self.api.get(path, **query)
        kind = {"apiVersion": listed["apiVersion"], "kind": listed["kind"].removesuffix("List")}
        return [{**kind, **item} for item in listed["items"]]


def reference(pod: Manifest) -> Manifest:
    """Return the reference by which an Event names a pod."""
    return {"apiVersion": "v1", "kind": "Pod", **{key: pod["metadata"][key] for key in ("name", "namespace", "uid")}}


def is_of(pod: Manifest, workload: str) -> bool:
    """Say whether a pod has that name, or is named after the workload with that name."""
    name: str = pod["metadata"]["name"]
    return not workload or name == workload or name.startswith(f"{workload}-")


def statuses(pod: Manifest) -> dict[str, Manifest]:
    """Return the status of each container of a pod, by name."""
    status = pod.get("status", {})
    return {
        entry["name"]: entry
        for field in ("initContainerStatuses", "containerStatuses")
        for entry in status.get(field, ())
    }


def waiting(pod: Manifest) -> set[str]:
    """Return the reasons why containers of a pod wait."""
    return {entry["state"]["waiting"]["reason"] for entry in statuses(pod).values() if "waiting" in entry["state"]}
