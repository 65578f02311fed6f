"""Which sources are read by their names."""

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
    """An API server with one source, which answers the first list after the second one, with what was there before."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.has_come = asyncio.Event()
        self.may_go = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
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
    """Give the API server, and what reads it."""
    api = Slow()
    app = web.Application()
    app.router.add_get("/{path:.*}", api.answer)
    async with TestServer(app) as server:
        connected = await ApiServer.connect(kubeconfig(tmp_path, str(server.make_url(""))), timeout_seconds=5)
        yield api, SourceStore(connected)
        await connected.close()


async def test_an_answer_that_comes_late_does_not_bring_back_old_names(slow: tuple[Slow, SourceStore]) -> None:
    """What the list said that was asked for last counts, in whatever order the answers came."""
    api, declared = slow
    late = asyncio.create_task(declared.in_namespace("shop"))
    await api.has_come.wait()
    await declared.in_namespace("shop")
    api.may_go.set()
    assert ["old"] == [name_of(source) for source in await late]
    (source,) = await declared.in_namespace("shop", may_be_stale=True)
    assert ("new", f"{PATH}/new") == (name_of(source), api.asked[-1])
