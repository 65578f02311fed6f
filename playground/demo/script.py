"""
The story that the demo tells: a registry dies on an ordinary day, and everything that happens on such days goes on.

A node joins, a version is rolled out, a pod starts anew elsewhere, a job is due. Each needs to pull an image.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from playground.cluster.api import Api, Manifest
from playground.demo.cluster import DemoCluster
from playground.demo.result import WORKLOADS, missing
from playground.demo.timeline import Timeline
from playground.demo.watcher import Watcher
from playground.environment import apply, load

REGISTRY = "ghcr.io"
FIRST_NODES = ("node-1", "node-2")
LATE_NODE = "node-3"
NEW_IMAGE = f"{REGISTRY}/acme/web:2.0"

_APART_SECONDS = 3
_CALM_SECONDS = 60
_POLL_SECONDS = 0.1
_NETWORK = {
    "True": ("NoRouteCreated", "the node has no pod network yet"),
    "False": ("FlannelIsUp", "flannel is running on this node"),
}


class DemoScript:
    """
    Makes things happen in a cluster.

    Args:
        api: a client that may do everything.
        world: has nodes and registries.
        witness: knows what has become of the pods.
        timeline: is told what is about to happen.

    """

    def __init__(self, api: Api, world: DemoCluster, witness: Watcher, timeline: Timeline) -> None:
        self._api = api
        self._world = world
        self._witness = witness
        self._timeline = timeline
        self._unconnected: set[str] = set()

    async def calm(self) -> None:
        """Let everything run, with every registry alive, but for the report, which is not due."""
        await self._join(*FIRST_NODES)
        shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        sources = [*load("examples", "alternateimagesource.yaml"), *load("examples", "flannel.yaml")]
        await apply(self._api, [shop, *sources, *load("playground", "demo", "workloads.yaml")])
        running = [(kind, name) for kind, name in WORKLOADS if kind != "CronJob"]
        if lacking := await self.settle(_CALM_SECONDS, running):
            raise TimeoutError("; ".join(lacking))

    async def outage(self) -> None:
        """Let the registry die, and the day go on."""
        self._timeline.say(f"{REGISTRY} dies. {LATE_NODE} joins: it needs flannel before it takes other pods.")
        self._witness.dead.add(REGISTRY)
        await self._world.kill(REGISTRY)
        await self._join(LATE_NODE)
        await asyncio.sleep(_APART_SECONDS)
        self._timeline.say(f"web 2.0 is rolled out: {NEW_IMAGE} is on no node yet.")
        await self._roll_out()
        await asyncio.sleep(_APART_SECONDS)
        await self._reschedule()
        await asyncio.sleep(_APART_SECONDS)
        self._timeline.say("The report is due.")
        await self._run_report()

    async def settle(self, seconds: float, workloads: Sequence[tuple[str, str]] = WORKLOADS) -> list[str]:
        """Wait until the workloads lack nothing; return what is lacking after `seconds` all the same."""
        deadline = time.monotonic() + seconds
        while (lacking := missing(self._witness, workloads)) and time.monotonic() < deadline:  # noqa: ASYNC110 - brief
            await asyncio.sleep(_POLL_SECONDS)
        return lacking

    async def connect_nodes(self) -> None:
        """Do, for as long as it runs, what flannel does: where it runs, the node has a network."""
        while True:
            for pod in self._witness.pods_of("flannel"):
                node = pod["spec"].get("nodeName", "")
                if node in self._unconnected and self._witness.is_back(pod):
                    self._unconnected.remove(node)
                    await self._report_network(node, unavailable="False")
            await asyncio.sleep(_POLL_SECONDS)

    async def _join(self, *nodes: str) -> None:
        await self._world.join(*nodes)
        for node in nodes:
            await self._report_network(node, unavailable="True")
        self._unconnected.update(nodes)  # not before: flannel may run already

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
        """Do what `kubectl drain` does, to one pod."""
        pod = self._witness.objects["Pod", "shop", "db-0"]
        node = pod["spec"]["nodeName"]
        self._timeline.say(f"{node} is cordoned, and db-0 starts anew elsewhere.")
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
