"""The fixture of a test: a namespace of the node tier's cluster, and the time of all that happens in it."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Self

from playground.cluster.api import UNREACHABLE, Api, ApiError, Manifest
from playground.environment import follow

DEADLINE_SECONDS = 60
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff"})
COLLECTIONS = {
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Event": "/api/v1/namespaces/{}/events",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Pod": "/api/v1/namespaces/{}/pods",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
}

_NODE_LIMIT = "pull QPS exceeded"

_ROLLED_OUT = {
    "DaemonSet": ("currentNumberScheduled", "updatedNumberScheduled", "numberReady"),
    "Deployment": ("replicas", "updatedReplicas", "readyReplicas"),
    "StatefulSet": ("replicas", "updatedReplicas", "readyReplicas"),
}
"""The fields that count the existing pods, those of the newest template, and the ready ones."""


class NamespaceFixture:
    """
    A namespace that is watched; use as an async context manager.

    Args:
        api: a client that may do everything.

    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self.name = f"shop-{uuid.uuid4().hex[:8]}"
        self.seen: list[tuple[float, Manifest]] = []
        self.objects: dict[str, dict[str, Manifest]] = {kind: {} for kind in COLLECTIONS}
        self.pods = self.objects["Pod"]
        self.ready: list[tuple[float, int]] = []
        """After each change of a pod, its time and how many pods were ready."""
        self._news = asyncio.Condition()
        self._watches: list[asyncio.Task[None]] = []
        self._fault: Exception | None = None

    async def __aenter__(self) -> Self:
        await self.api.post("/api/v1/namespaces", {"metadata": {"name": self.name}})
        self._watches = [asyncio.create_task(self._watch(kind)) for kind in COLLECTIONS]
        return self

    async def __aexit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self.api.delete(f"/api/v1/namespaces/{self.name}")

    async def apply(self, manifest: Manifest) -> Manifest:
        """Create or update an object of the namespace."""
        return await self.api.apply(manifest | {"metadata": {**manifest["metadata"], "namespace": self.name}})

    async def declare(self, source: Manifest) -> None:
        """Create a source whose registries have answered Saffire before, as in quiet times."""
        live = await self.apply(source)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        listed = live["spec"]["imageSourceReplacements"][0]["equivalentRepositories"]
        answered = [{"registry": repository.partition("/")[0], "answeredAt": now} for repository in listed]
        path = await self.api.path(live)
        await self.api.patch(f"{path}/status", {"status": {"registries": answered}})

    async def until(self, look: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> float:
        """Wait until an object changes and `look` returns true; return the time of that change."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: self._fault or look())
        if self._fault:
            raise self._fault
        return self.seen[-1][0]

    def events(self, uid: str) -> list[Manifest]:
        """Return the kubelet's Events about a pod, in order; a repeated Event counts each time."""
        events = (
            event for _, event in self.seen if event["kind"] == "Event" and event["reportingComponent"] == "kubelet"
        )
        return [event for event in events if event["involvedObject"]["uid"] == uid]

    def staying(self) -> list[Manifest]:
        """Return the pods that are not being deleted."""
        return [pod for pod in self.pods.values() if "deletionTimestamp" not in pod["metadata"]]

    def completed(self, name: str) -> bool:
        """Say whether a Job whose name starts with `name` is complete."""
        jobs = [job for job in self.objects["Job"].values() if job["metadata"]["name"].startswith(name)]
        return any(("Complete", "True") in conditions(job) for job in jobs)

    def settled(self) -> bool:
        """Say whether every rollout is complete, and no pod is being deleted."""
        rollouts = (workload for kind in _ROLLED_OUT for workload in self.objects[kind].values())
        return len(self.pods) == len(self.staying()) and all(_is_rolled_out(workload) for workload in rollouts)

    @property
    def made(self) -> int:
        """How many pods there were until now."""
        return len({manifest["metadata"]["uid"] for _, manifest in self.seen if manifest["kind"] == "Pod"})

    def first_failure(self) -> float:
        """Return when the first failed pull was reported."""
        return self.when(tells_of_failure)

    def when(self, look: Callable[[Manifest], bool]) -> float:
        """Return when the first object was seen for which `look` returns true."""
        return next(at for at, manifest in self.seen if look(manifest))

    async def _watch(self, kind: str) -> None:
        try:
            async for stays, manifest in follow(self.api, COLLECTIONS[kind].format(self.name), kind):
                await self._see(manifest, stays=stays)
        except (ApiError, *UNREACHABLE) as error:
            self._fault = error
            async with self._news:
                self._news.notify_all()

    async def _see(self, manifest: Manifest, *, stays: bool) -> None:
        async with self._news:
            self.seen.append((time.monotonic(), manifest))
            objects = self.objects[manifest["kind"]]
            objects.pop(manifest["metadata"]["uid"], None)
            objects.update({manifest["metadata"]["uid"]: manifest} if stays else {})
            if manifest["kind"] == "Pod":
                self.ready.append((self.seen[-1][0], sum(map(works, self.staying()))))
            self._news.notify_all()


def _is_rolled_out(workload: Manifest) -> bool:
    """Say whether the controller of a workload has replaced all pods of older templates, if that is its task."""
    spec, status = workload["spec"], workload.get("status", {})
    if workload["metadata"]["generation"] != status.get("observedGeneration"):
        return False
    strategy = spec.get("updateStrategy", {})
    if spec.get("paused") or strategy.get("type") == "OnDelete" or strategy.get("rollingUpdate", {}).get("partition"):
        return True
    wanted = status.get("desiredNumberScheduled", spec.get("replicas"))
    return {wanted} == {status.get(field) for field in _ROLLED_OUT[workload["kind"]]}


def missing(counts: Sequence[tuple[float, int]], wanted: int, since: float, until: float) -> float:
    """
    Return for how long wanted pods were missing between two times, summed over the pods.

    `counts` has how many pods were ready, with the time of each change.
    """
    ready = [count for at, count in counts if at <= since][-1:] or [0]
    changes = [(since, ready[0]), *((at, count) for at, count in counts if since < at < until), (until, 0)]
    return sum((end - at) * max(0, wanted - count) for (at, count), (end, _) in pairwise(changes))


def tells_of_failure(manifest: Manifest) -> bool:
    """Say whether an object is an Event of a failed pull; one about the node's own pull limit does not count."""
    message = str(manifest.get("message")) if manifest["kind"] == "Event" else ""
    return message.startswith("Failed to pull image") and _NODE_LIMIT not in message


def waiting(pod: Manifest) -> set[str]:
    """Return the containers of a pod that wait because of a failed pull, according to its status."""
    return {
        entry["name"] for entry in _statuses(pod) if entry["state"].get("waiting", {}).get("reason") in PULL_REASONS
    }


def conditions(manifest: Manifest) -> list[tuple[str, str]]:
    """Return type and status of each condition."""
    return [(condition["type"], condition["status"]) for condition in manifest["status"].get("conditions", ())]


def works(pod: Manifest) -> bool:
    """Say whether a pod is ready."""
    return ("Ready", "True") in conditions(pod)


def succeeded(pod: Manifest) -> bool:
    """Say whether a pod has succeeded."""
    return bool("Succeeded" == pod["status"].get("phase"))


def restarts(pod: Manifest) -> int:
    """Return how often containers of a pod were started again."""
    return sum(entry["restartCount"] for entry in _statuses(pod))


def _statuses(pod: Manifest) -> list[Manifest]:
    return [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
