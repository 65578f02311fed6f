"""
What happens in the demo: a registry dies, and everything that happens on an ordinary day goes on.

A node joins, a version is rolled out, a pod is rescheduled, a job is due. Each of them needs to pull an image.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from playground.cluster.api import Api, Manifest
from playground.demo.cluster import DemoCluster
from playground.demo.result import WORKLOADS, unrecovered
from playground.demo.timeline import Timeline
from playground.demo.watcher import Watcher
from playground.environment import apply, load

REGISTRY = "ghcr.io"
FIRST_NODES = ("node-1", "node-2")
LATE_NODE = "node-3"
NEW_IMAGE = f"{REGISTRY}/acme/web:2.0"

_SECONDS_BETWEEN = 3
_START_SECONDS = 60
_POLL_SECONDS = 0.1
_NETWORK = {
    "True": ("NoRouteCreated", "the node has no pod network yet"),
    "False": ("FlannelIsUp", "flannel is running on this node"),
}


class DemoScript:
    """
    Runs the script of the demo in a cluster.

    Args:
        api: a client that may do everything.
        cluster: the nodes and registries.
        watcher: knows the state of the pods.
        timeline: shows what is about to happen.

    """

    def __init__(self, api: Api, cluster: DemoCluster, watcher: Watcher, timeline: Timeline) -> None:
        self._api = api
        self._cluster = cluster
        self._watcher = watcher
        self._timeline = timeline
        self._unconnected: set[str] = set()

    async def start_workloads(self) -> None:
        """Start all workloads while all registries are alive; return when they run. The report is not due yet."""
        await self._add_nodes(*FIRST_NODES)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        sources = [*load("examples", "alternateimagesource.yaml"), *load("examples", "flannel.yaml")]
        await apply(self._api, [namespace, *sources, *load("playground", "demo", "workloads.yaml")])
        running = [(kind, name) for kind, name in WORKLOADS if kind != "CronJob"]
        if missing := await self.until_recovered(_START_SECONDS, running):
            raise TimeoutError("; ".join(missing))

    async def run_outage(self) -> None:
        """Kill the registry, then do what needs new pulls."""
        self._timeline.print_heading(
            f"{REGISTRY} dies. {LATE_NODE} joins: it needs flannel before it takes other pods."
        )
        self._watcher.dead.add(REGISTRY)
        await self._cluster.kill_registry(REGISTRY)
        await self._add_nodes(LATE_NODE)
        await asyncio.sleep(_SECONDS_BETWEEN)
        self._timeline.print_heading(f"web 2.0 is rolled out: {NEW_IMAGE} is on no node yet.")
        await self._roll_out()
        await asyncio.sleep(_SECONDS_BETWEEN)
        await self._reschedule()
        await asyncio.sleep(_SECONDS_BETWEEN)
        self._timeline.print_heading("The report is due.")
        await self._run_report()

    async def until_recovered(self, seconds: float, workloads: Sequence[tuple[str, str]] = WORKLOADS) -> list[str]:
        """Wait until the workloads have recovered; return those that have not after `seconds`."""
        deadline = time.monotonic() + seconds
        while (missing := unrecovered(self._watcher, workloads)) and time.monotonic() < deadline:  # noqa: ASYNC110 - brief
            await asyncio.sleep(_POLL_SECONDS)
        return missing

    async def connect_nodes(self) -> None:
        """Do what flannel does, until cancelled: report that a node has a network once flannel runs there."""
        while True:
            for pod in self._watcher.pods_of("flannel"):
                node = pod["spec"].get("nodeName", "")
                if node in self._unconnected and self._watcher.has_recovered(pod):
                    self._unconnected.remove(node)
                    await self._report_network(node, unavailable="False")
            await asyncio.sleep(_POLL_SECONDS)

    async def _add_nodes(self, *nodes: str) -> None:
        await self._cluster.add_nodes(*nodes)
        for node in nodes:
            await self._report_network(node, unavailable="True")
        self._unconnected.update(nodes)  # only now: flannel may run there already

    async def _report_network(self, node: str, *, unavailable: str) -> None:
        reason, message = _NETWORK[unavailable]
        condition = {"type": "NetworkUnavailable", "status": unavailable, "reason": reason, "message": message}
        await self._api.patch(f"/api/v1/nodes/{node}/status", {"status": {"conditions": [condition]}}, "strategic")

    async def _roll_out(self) -> None:
        """Do what `kubectl set image deployment/web web=...` does."""
        template = {"spec": {"containers": [{"name": "web", "image": NEW_IMAGE}]}}
        path = "/apis/apps/v1/namespaces/shop/deployments/web"
        await self._api.patch(path, {"spec": {"template": template}}, "strategic")

    async def _reschedule(self) -> None:
        """Do what `kubectl drain` does, but to only one pod."""
        pod = self._watcher.objects["Pod", "shop", "db-0"]
        node = pod["spec"]["nodeName"]
        self._timeline.print_heading(f"{node} is cordoned, and db-0 is rescheduled.")
        await self._api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
        await self._api.delete("/api/v1/namespaces/shop/pods/db-0", gracePeriodSeconds="1")

    async def _run_report(self) -> None:
        """Do what `kubectl create job --from=cronjob/report` does."""
        cronjob = await self._api.get("/apis/batch/v1/namespaces/shop/cronjobs/report")
        await self._api.post("/apis/batch/v1/namespaces/shop/jobs", _job_of(cronjob))


def _job_of(cronjob: Manifest) -> dict[str, Any]:
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": cronjob["metadata"]["name"],
        "uid": cronjob["metadata"]["uid"],
        "controller": True,
    }
    metadata = {
        "name": f"{owner['name']}-now",
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        "ownerReferences": [owner],
    }
    return {"metadata": metadata, "spec": cronjob["spec"]["jobTemplate"]["spec"]}
