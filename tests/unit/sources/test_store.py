"""Which sources are read by name, and which are listed."""

import json
from collections.abc import AsyncIterator, Sequence
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


class Few:
    """An API server with some sources in a namespace; it keeps the path of each request."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[str] = []

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request for the list or for one source."""
        self.asked.append(request.path.removeprefix(PATH))
        if request.path == PATH:
            return web.json_response({"items": [_source(name) for name in self.names]})
        name = request.path.rpartition("/")[2]
        if name not in self.names:
            return web.json_response({"kind": "Status", "details": {"name": name}}, status=404)
        return web.json_response(_source(name))


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
async def store_of(api: Few | Many, folder: Path) -> AsyncIterator[SourceStore]:
    """Yield a store that reads from this API server."""
    app = web.Application()
    app.router.add_get("/{path:.*}", api.respond)
    async with TestServer(app) as server:
        connected = await ApiServer.connect(kubeconfig(folder, str(server.make_url(""))), timeout_seconds=5)
        yield SourceStore(connected)
        await connected.close()


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        pytest.param((), [""], id="none-is-known"),
        pytest.param(("a",), ["/a"], id="of-one-name"),
        pytest.param(("a", "b"), ["/a", "/b"], id="of-two"),
        pytest.param(("a", "b", "c"), [""], id="of-three"),
        pytest.param(("a", "gone"), ["/a", "/gone", ""], id="one-is-gone"),
    ],
)
async def test_one_or_two_sources_whose_names_are_known_need_no_list(
    tmp_path: Path, names: tuple[str, ...], asked: list[str]
) -> None:
    """A list waits for the API server's cache. If a name stands for no source, the list says which there are."""
    api = Few("a", "b", "c")
    async with store_of(api, tmp_path) as sources:
        read = await sources.in_namespace("shop", names)
    expected = names if "" not in asked else api.names
    assert (list(expected), asked) == ([name_of(source) for source in read], sorted(api.asked, key=asked.index))


@pytest.mark.parametrize("names", [(), [f"source-{number:03}" for number in range(1000)]], ids=["unknown", "known"])
async def test_a_thousand_sources_of_a_namespace_cost_no_more_than_the_first_32(
    tmp_path: Path, names: Sequence[str]
) -> None:
    """The others are not even read: who may create sources cannot make a repair of the namespace slow."""
    api = Many()
    async with store_of(api, tmp_path) as sources:
        for repairs in (1, 2, 3):
            read = await sources.in_namespace("shop", names)
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
