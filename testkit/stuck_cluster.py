"""
A cluster whose pods are stuck, as far as Saffire reads it: a server in the place of its API server.

It is for what depends on when an answer comes: the test holds answers back, or has the server refuse requests.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire.dispatch import Dispatcher
from saffire.settings import Settings
from testkit.builders import cluster_source_manifest, kubeconfig, pod, source_manifest, waiting
from testkit.check_registry import eventually

_GROUP = "/apis/saffire.fairwinds.com/v1alpha1"
SOURCES = f"{_GROUP}/alternateimagesources"
CLUSTER_SOURCES = f"{_GROUP}/clusteralternateimagesources"


def pods_of(namespace: str) -> str:
    """Return the path of the pods of a namespace."""
    return f"/api/v1/namespaces/{namespace}/pods"


def owner_in(namespace: str) -> str:
    """Return the path of the ReplicaSet that owns the stuck pods of a namespace. There is no such ReplicaSet."""
    return f"/apis/apps/v1/namespaces/{namespace}/replicasets/web"


class StuckCluster:
    """
    The API server of a cluster. Each namespace has a source that has its name, and so many stuck `pods`.

    The pods are named `web-0`, `web-1` and so on, and the uid of the first one is `pod-uid`.
    """

    def __init__(self, *namespaces: str, pods: int = 1) -> None:
        self.requests: Counter[str] = Counter()
        self.busy: set[str] = set()
        """The paths for which the server answers 429."""
        self.held: dict[str, asyncio.Event] = {}
        """The paths whose answers wait for an event."""
        self.sources = {name: _in(name, source_manifest(name=name, verification="Off")) for name in namespaces}
        self.cluster_sources: list[dict[str, Any]] = []
        self._objects: dict[str, Any] = {
            SOURCES: list(self.sources.values()),
            CLUSTER_SOURCES: self.cluster_sources,
            "/api/v1/namespaces": [{"metadata": {"name": name}} for name in namespaces],
        }
        for name, source in self.sources.items():
            stuck = [_stuck(name, number) for number in range(pods)]
            self._objects |= {
                f"{_GROUP}/namespaces/{name}/alternateimagesources": [source],
                f"{_GROUP}/namespaces/{name}/alternateimagesources/{name}": source,
                f"/api/v1/namespaces/{name}": {"metadata": {"name": name}},
                pods_of(name): stuck,
                **{f"{pods_of(name)}/web-{number}": stuck_pod for number, stuck_pod in enumerate(stuck)},
            }

    def add_cluster_source(self, name: str) -> None:
        """Add a cluster-wide source, which selects every namespace."""
        source = cluster_source_manifest(name=name)
        self.cluster_sources.append(source)
        self._objects[f"{CLUSTER_SOURCES}/{name}"] = source

    def hold(self, *paths: str) -> None:
        """Hold back the answers to requests for these paths."""
        self.held |= {path: asyncio.Event() for path in paths}

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request; what the cluster does not have is answered 404."""
        self.requests[request.path] += 1
        if request.path in self.held:
            await self.held[request.path].wait()
        if request.path in self.busy:
            return web.json_response({"kind": "Status"}, status=429)
        body = self._objects.get(request.path)
        if body is None:
            return web.json_response({"kind": "Status", "details": {"name": "no"}}, status=404)
        return web.json_response({"metadata": {}, "items": body} if isinstance(body, list) else body)


@asynccontextmanager
async def serving(cluster: StuckCluster, folder: Path) -> AsyncIterator[str]:
    """Serve the API of a cluster; yield the path of its kubeconfig, which is in `folder`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", cluster.respond)
    async with TestServer(app) as server:
        yield kubeconfig(folder, str(server.make_url("")))


@asynccontextmanager
async def dispatcher_of(cluster: StuckCluster, folder: Path, **settings: Any) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher for a cluster; `folder` is for its kubeconfig. In the end, every repair is let to its end."""
    async with serving(cluster, folder) as config:
        dispatcher = await Dispatcher.open(
            replace(Settings(), kubeconfig=config, **settings), clock=lambda: datetime.now(UTC)
        )
        try:
            yield dispatcher
        finally:
            cluster.busy.clear()
            for held in cluster.held.values():
                held.set()
            # A repair, or a look at all that a cluster-wide source selects, would leave connections open.
            queues = dispatcher._queue, dispatcher._sweeps._source_changes  # noqa: SLF001
            await eventually(lambda: not any(queue._running for queue in queues))  # noqa: SLF001
            await dispatcher.close()


def _in(namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def _stuck(namespace: str, number: int) -> dict[str, Any]:
    stuck = _in(namespace, pod(waiting()))
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web-uid", "controller": True}
    identity = {"name": f"web-{number}", "uid": f"pod-uid-{number}" if number else "pod-uid"}
    stuck["metadata"] |= {**identity, "ownerReferences": [owner]}
    return stuck
