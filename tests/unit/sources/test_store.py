"""Which sources are read by name, and which are listed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire import logs
from saffire.errors import TransientError
from saffire.kube.client import ApiServer
from saffire.kube.manifest import name_of
from saffire.sources.store import SourceStore
from testkit.builders import kubeconfig
from testkit.scripted_api import scripted_api

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


class Many:
    """An API server with many sources in a namespace; it hands out as many as are asked for, sorted by name."""

    def __init__(self, count: int = 1000) -> None:
        self.names = sorted(f"source-{number:03}" for number in range(count))
        self.answered = 0

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request for a page."""
        begin = int(request.query.get("continue", "0"))
        end = begin + int(request.query["limit"])
        page = self.names[begin:end]
        self.answered += len(page)
        token = str(end) if end < len(self.names) else ""
        return web.json_response({"items": [_source(name) for name in page], "metadata": {"continue": token}})


def _source(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}}


@asynccontextmanager
async def store_of(api: Slow | Many, folder: Path) -> AsyncIterator[SourceStore]:
    """Yield a store that reads from this API server."""
    app = web.Application()
    app.router.add_get("/{path:.*}", api.respond)
    async with TestServer(app) as server:
        connected = await ApiServer.connect(kubeconfig(folder, str(server.make_url(""))), timeout_seconds=5)
        yield SourceStore(connected)
        await connected.close()


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Slow, SourceStore]]:
    """Give the API server, and a store that reads from it."""
    api = Slow()
    async with store_of(api, tmp_path) as sources:
        yield api, sources


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


@pytest.mark.parametrize("may_be_stale", [False, True])
async def test_a_thousand_sources_of_a_namespace_cost_no_more_than_the_first_32(
    tmp_path: Path, *, may_be_stale: bool
) -> None:
    """The others are not even read: who may create sources cannot make a repair of the namespace slow."""
    api = Many()
    async with store_of(api, tmp_path) as sources:
        for repairs in (1, 2, 3):
            read = await sources.in_namespace("shop", may_be_stale=may_be_stale)
            assert (api.names[:32], 32 * repairs) == ([name_of(source) for source in read], api.answered)


async def test_an_answer_that_is_no_list_does_not_count_as_none(tmp_path: Path) -> None:
    """Whatever stands before the API server may answer 200 with anything. That there are no sources takes a list."""
    async with scripted_api(tmp_path, {f"GET {PATH}": [(200, {"kind": "Status"})]}) as server:
        with pytest.raises(TransientError, match=r"^the API server did not answer with a list$"):
            await SourceStore(server).in_namespace("shop")


@pytest.mark.parametrize(("count", "lasts"), [(32, []), (33, ["shop/source-031"])])
async def test_the_log_says_once_that_there_are_more_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, lasts: list[str]
) -> None:
    """Whoever wonders why a source has no status finds the reason there, and which source is the last that counts."""
    logs.configure("INFO")
    async with store_of(Many(count), tmp_path) as sources:
        for _ in range(3):
            await sources.in_namespace("shop")
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert [("Only the first 32 sources by name are used", last) for last in lasts] == [
        (line["message"], line["last"]) for line in lines
    ]
