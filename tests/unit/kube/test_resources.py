"""Patches: namespaces whose webhooks are slow leave room for those of others."""

import asyncio
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from testkit.builders import kubeconfig
from testkit.check_registry import eventually

SLOW = tuple(f"slow-{number}" for number in range(12))


async def test_slow_webhooks_of_other_namespaces_hold_up_no_patch(tmp_path: Path) -> None:
    """There are a hundred connections to the API server. A dozen namespaces that wait for webhooks leave some free."""
    end, under_way = asyncio.Event(), set[str]()

    async def respond(request: web.Request) -> web.Response:
        namespace = request.path.split("/")[4]
        if namespace in SLOW:
            under_way.add(namespace)
            await end.wait()
        return web.json_response({})

    def patch(namespace: str) -> asyncio.Task[object]:
        target = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": namespace}}
        return asyncio.create_task(cluster.apply(target, ()))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    async with TestServer(app) as server:
        api = await ApiServer.connect(kubeconfig(tmp_path, str(server.make_url(""))), timeout_seconds=60)
        cluster = Cluster(api, Kinds())
        slow = [patch(namespace) for namespace in SLOW for _ in range(16)]
        try:
            await eventually(lambda: len(under_way) == len(SLOW))
            async with asyncio.timeout(5):
                await patch("quick")
            assert not any(task.done() for task in slow)
        finally:
            end.set()
            await asyncio.gather(*slow)
            await api.close()
