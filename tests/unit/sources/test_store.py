"""Which sources are read by name, and which are listed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire.kube.client import ApiServer
from saffire.kube.manifest import name_of
from saffire.sources.store import SourceStore
from testkit.builders import kubeconfig

PATH = "/apis/saffire.fairwinds.com/v1alpha1/namespaces/shop/alternateimagesources"


class Slow:
    """An API server with one source; it answers the first list after the second one, and with the older source."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.has_come = asyncio.Event()
        self.may_go = asyncio.Event()

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request."""
        self.asked.append(request.path)
        if request.path != PATH:
            return web.json_response(_source("new"))
        if not self.has_come.is_set():
            self.has_come.set()
            await self.may_go.wait()
            return web.json_response({"items": [_source("old")]})
        return web.json_response({"items": [_source("new")]})


def _source(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}}


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Slow, SourceStore]]:
    """Give the API server, and a store that reads from it."""
    api = Slow()
    app = web.Application()
    app.router.add_get("/{path:.*}", api.respond)
    async with TestServer(app) as server:
        connected = await ApiServer.connect(kubeconfig(tmp_path, str(server.make_url(""))), timeout_seconds=5)
        yield api, SourceStore(connected)
        await connected.close()


async def test_a_late_answer_does_not_bring_back_old_names(slow: tuple[Slow, SourceStore]) -> None:
    """The names of the list that was requested last are kept, in whatever order the answers come."""
    api, sources = slow
    late = asyncio.create_task(sources.in_namespace("shop"))
    await api.has_come.wait()
    await sources.in_namespace("shop")
    api.may_go.set()
    assert ["old"] == [name_of(source) for source in await late]
    (source,) = await sources.in_namespace("shop", may_be_stale=True)
    assert ("new", f"{PATH}/new") == (name_of(source), api.asked[-1])
