"""
Simulated nodes: for machines without root, they let a cluster's pods run and fail as kubelets would.

`pod.py` decides what a kubelet does about a pod. This module talks to the API server: one watch for all pods of all
nodes, and one task per pod that writes what was decided, in order.
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


# Shared by all nodes of the process, so that no two nodes or pods have the same address.
_NODE_ADDRESSES = _addresses("10.0.0.1")
_POD_ADDRESSES = _addresses("10.128.0.1")


class SimulatedNodes:
    """
    Simulated nodes; use as an async context manager.

    Entering returns when the Nodes are registered. Leaving deletes them, and the control plane deletes their pods.
    Leaving also raises the errors of the meantime, each of which concerned only its own pod.

    Args:
        api: a client that may write Nodes, Leases, Events and Pods.
        names: the names of the nodes.
        dead: the domains of the registries that refuse connections; it is not copied, and may change at any time.
        pace: how fast the kubelets are.

    """

    def __init__(
        self, api: Api, names: Iterable[str], *, dead: set[str] | None = None, pace: Pace | None = None
    ) -> None:
        self.dead: set[str] = set() if dead is None else dead
        """The domains of the registries that refuse connections now."""
        self._api = api
        self._kubelet = KubeletApi(api)
        self._pace = pace or Pace()
        self._nodes = {name: Node(name, next(_NODE_ADDRESSES), NodeImages(self.dead)) for name in names}
        self._pods: dict[str, SimulatedPod] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def names(self) -> list[str]:
        """The names of the nodes."""
        return list(self._nodes)

    def lose_containers(self) -> None:
        """
        End every container and delete every image, so that all images have to be pulled again at once.

        The order of the pods is random, as in a kubelet, which keeps its pods in a map.
        """
        for node in self._nodes.values():
            node.images.present.clear()
        for pod in random.sample(list(self._pods.values()), len(self._pods)):
            pod.lose_containers()

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._kubelet.register(node.name, node.address) for node in self._nodes.values()))
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._task:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
        finally:
            await asyncio.gather(*(self._kubelet.unregister(name) for name in self._nodes))
        if self._kubelet.refused_statuses:
            raise ExceptionGroup(
                "the API server refused what a simulated kubelet wrote", self._kubelet.refused_statuses
            )

    async def _run(self) -> None:
        # A fault of the simulation itself ends the group, and leaving the nodes raises it.
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
        # One watch serves all nodes. With one per node, as in real kubelets, the watches of hundreds of nodes would be
        # most of the API server's work.
        selector = f"spec.nodeName={next(iter(self._nodes))}" if len(self._nodes) == 1 else "spec.nodeName!="
        listed = await self._api.get(_PODS, fieldSelector=selector)
        for uid in self._pods.keys() - {pod["metadata"]["uid"] for pod in listed["items"]}:
            self._forget(uid)
        for pod in listed["items"]:
            self._update(pod, tasks)
        version = listed["metadata"]["resourceVersion"]
        async for kind, pod in self._api.watch(_PODS, fieldSelector=selector, resourceVersion=version):
            if kind == "ERROR":
                raise ApiError(pod["code"], pod)
            if kind == "DELETED":
                self._forget(pod["metadata"]["uid"])
            else:
                self._update(pod, tasks)

    def _update(self, pod: Manifest, tasks: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        node = self._nodes.get(pod["spec"]["nodeName"])
        ended = pod["status"]["phase"] in {"Succeeded", "Failed"} and "deletionTimestamp" not in pod["metadata"]
        if uid in self._pods:
            self._pods[uid].update(pod)
        elif node and not ended:
            worker = PodWorker(pod, node, next(_POD_ADDRESSES), self._pace)
            simulated = SimulatedPod(worker, self._kubelet)
            simulated.task = tasks.create_task(simulated.run())
            self._pods[uid] = simulated

    def _forget(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod and pod.task:
            pod.task.cancel()

    async def _renew_leases(self) -> None:
        while True:
            for name in self._nodes:
                try:
                    await self._kubelet.renew(name)
                except ApiError as error:
                    log.debug("lease of %s is not renewed: %s", name, error)
                # As a kubelet, renew four times within the duration of a Lease; spread over time, so without bursts.
                await asyncio.sleep(LEASE_SECONDS / 4 / len(self._nodes))


class SimulatedNode(SimulatedNodes):
    """One simulated node; `SimulatedNodes` describes the arguments."""

    def __init__(
        self, api: Api, name: str = "node-1", *, dead: set[str] | None = None, pace: Pace | None = None
    ) -> None:
        super().__init__(api, [name], dead=dead, pace=pace)


class SimulatedPod:
    """
    The task that simulates one pod.

    Args:
        worker: decides what happens to the pod.
        kubelet: writes it to the API server.

    """

    def __init__(self, worker: PodWorker, kubelet: KubeletApi) -> None:
        self.task: asyncio.Task[None] | None = None
        self._worker = worker
        self._kubelet = kubelet
        self._due = asyncio.Event()
        self._written: Manifest = {}

    def update(self, pod: Manifest) -> None:
        """Take over the pod as it is now, and sync it at once if more than its status differs."""
        if self._worker.update(pod):
            self._due.set()

    def lose_containers(self) -> None:
        """End the pod's containers, and sync it at once."""
        self._worker.lose_containers(datetime.now(UTC))
        self._due.set()

    async def run(self) -> None:
        """Sync the pod whenever that is due, until it is deleted."""
        while not self._worker.terminating:
            self._due.clear()
            result = self._worker.sync(datetime.now(UTC))
            if not await self._write(result.status, result.events):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(result.resync_after.total_seconds() if result.resync_after else None):
                    await self._due.wait()
        result = self._worker.terminate(datetime.now(UTC))
        await self._write(result.status, result.events)
        await self._kubelet.delete_pod(self._worker.pod)

    async def _write(self, status: Manifest, events: list[Manifest]) -> bool:
        """Write the status if it has changed, then the Events; return whether the pod still exists."""
        if status != self._written:
            if not await self._kubelet.write_status(self._worker.pod, status):
                return False
            self._written = status
        for event in events:
            await self._kubelet.write_event(event)
        return True
