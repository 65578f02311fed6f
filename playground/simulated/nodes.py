"""
Played nodes: for machines without root, they make a cluster's pods live and fail as kubelets would.

What a kubelet says and does about one pod is decided in `kubelet_pod`. Here the nodes meet the API server: one watch
for all pods of all nodes, and one small task for each pod that writes what was decided, in order.
"""

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Self

from playground.cluster.api import UNREACHABLE, Api, ApiError, Manifest
from playground.simulated.api import LEASE_SECONDS, KubeletApi
from playground.simulated.images import NodeImages
from playground.simulated.pod import Node, Pace, PodWorker

log = logging.getLogger(__name__)

_PODS = "/api/v1/pods"
_PAUSE_SECONDS = 0.5


def _addresses(first: str) -> Iterator[str]:
    return (str(IPv4Address(first) + number) for number in itertools.count())


# Shared by all nodes of the process, so that no two nodes or pods ever have the same.
_NODE_ADDRESSES = _addresses("10.0.0.1")
_POD_ADDRESSES = _addresses("10.128.0.1")


class SimulatedNodes:
    """
    Nodes that seem to be there; use as an async context manager.

    Entering returns when the Nodes are registered. Leaving deletes them, and the control plane collects their pods. It
    raises what went wrong meanwhile, which disturbs no other pod than its own.

    Args:
        api: a client that may write Nodes, Leases, Events and Pods.
        names: of the nodes.
        dead: domains of the registries that refuse connections; kept, not copied, so it may change at any time.
        pace: how fast the kubelets are.

    """

    def __init__(
        self, api: Api, names: Iterable[str], *, dead: set[str] | None = None, pace: Pace | None = None
    ) -> None:
        self.dead: set[str] = set() if dead is None else dead
        """Domains of the registries that refuse connections, as of now."""
        self._api = api
        self._kubelet = KubeletApi(api)
        self._pace = pace or Pace()
        self._hosts = {name: Node(name, next(_NODE_ADDRESSES), NodeImages(self.dead)) for name in names}
        self._pods: dict[str, SimulatedPod] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """The names of the nodes."""
        return list(self._hosts)

    def lose_containers(self) -> None:
        """
        Have every container die and every image go: what ran has to be pulled again, all of it at once.

        Which pod is looked at first is chance, as with a kubelet, which keeps its pods in a map.
        """
        for host in self._hosts.values():
            host.images.present.clear()
        for played in random.sample(list(self._pods.values()), len(self._pods)):
            played.lose()

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._kubelet.register(host.name, host.address) for host in self._hosts.values()))
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._task:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
        finally:
            await asyncio.gather(*(self._kubelet.unregister(name) for name in self._hosts))
        if self._kubelet.refusals:
            raise ExceptionGroup("a played kubelet wrote what the API server does not take", self._kubelet.refusals)

    async def _run(self) -> None:
        # A fault of the play itself ends the group, and leaving the nodes raises it.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_leases())
            while True:
                try:
                    await self._follow(tasks)
                except (*UNREACHABLE, ApiError) as error:
                    log.warning("watch of pods broke and starts again: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """List the nodes' pods, then follow them until the watch ends."""
        # One watch serves all nodes: hundreds of them, as real kubelets have, would be most of the API server's work.
        selector = f"spec.nodeName={next(iter(self._hosts))}" if len(self._hosts) == 1 else "spec.nodeName!="
        listed = await self._api.get(_PODS, fieldSelector=selector)
        for uid in self._pods.keys() - {pod["metadata"]["uid"] for pod in listed["items"]}:
            self._forget(uid)
        for pod in listed["items"]:
            self._see(pod, tasks)
        version = listed["metadata"]["resourceVersion"]
        async for kind, pod in self._api.watch(_PODS, fieldSelector=selector, resourceVersion=version):
            if kind == "ERROR":
                raise ApiError(pod["code"], pod)
            if kind == "DELETED":
                self._forget(pod["metadata"]["uid"])
            else:
                self._see(pod, tasks)

    def _see(self, pod: Manifest, tasks: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        host = self._hosts.get(pod["spec"]["nodeName"])
        over = pod["status"]["phase"] in {"Succeeded", "Failed"} and "deletionTimestamp" not in pod["metadata"]
        if uid in self._pods:
            self._pods[uid].update(pod)
        elif host and not over:
            worker = PodWorker(pod, host, next(_POD_ADDRESSES), self._pace)
            played = SimulatedPod(worker, self._kubelet)
            played.task = tasks.create_task(played.play())
            self._pods[uid] = played

    def _forget(self, uid: str) -> None:
        gone = self._pods.pop(uid, None)
        if gone and gone.task:
            gone.task.cancel()

    async def _renew_leases(self) -> None:
        while True:
            for name in self._hosts:
                try:
                    await self._kubelet.renew(name)
                except ApiError as error:
                    log.debug("lease of %s is not renewed: %s", name, error)
                # Four renewals in a lease's time, spread over it: what a kubelet does, and no bursts.
                await asyncio.sleep(LEASE_SECONDS / 4 / len(self._hosts))


class SimulatedNode(SimulatedNodes):
    """One played node; for the arguments see `SimulatedNodes`."""

    def __init__(
        self, api: Api, name: str = "node-1", *, dead: set[str] | None = None, pace: Pace | None = None
    ) -> None:
        super().__init__(api, [name], dead=dead, pace=pace)


class SimulatedPod:
    """
    The task that plays one pod.

    Args:
        worker: decides.
        kubelet: writes.

    """

    def __init__(self, worker: PodWorker, kubelet: KubeletApi) -> None:
        self.task: asyncio.Task[None] | None = None
        self._worker = worker
        self._kubelet = kubelet
        self._due = asyncio.Event()
        self._written: Manifest = {}

    def update(self, pod: Manifest) -> None:
        """Take the pod as it is now, and look at it at once if it differs in more than status."""
        if self._worker.update(pod):
            self._due.set()

    def lose(self) -> None:
        """Have the pod's containers die, and look at it at once."""
        self._worker.lose(datetime.now(UTC))
        self._due.set()

    async def play(self) -> None:
        """Look at the pod whenever a look is due, until it is gone."""
        while not self._worker.leaving:
            self._due.clear()
            round_ = self._worker.sync(datetime.now(UTC))
            if not await self._write(round_.status, round_.events):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(round_.again.total_seconds() if round_.again else None):
                    await self._due.wait()
        end = self._worker.end(datetime.now(UTC))
        await self._write(end.status, end.events)
        await self._kubelet.remove(self._worker.pod)

    async def _write(self, status: Manifest, events: list[Manifest]) -> bool:
        """Write the status if it is news, then the Events; return whether the pod is still there."""
        if status != self._written:
            if not await self._kubelet.report(self._worker.pod, status):
                return False
            self._written = status
        for event in events:
            await self._kubelet.tell(event)
        return True
