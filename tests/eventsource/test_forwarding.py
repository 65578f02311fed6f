"""A watch that sends what cannot be read, or is refused again and again, ends nothing and costs little."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from eventsource.forwarding import Forwarder
from eventsource.watch import COLLECTIONS, WatchingServer
from saffire.errors import TransientError
from testkit.builders import kubeconfig
from testkit.event_sink import RecordingSink

OLD, NEW = "1", "2"
Watch = Callable[[str], tuple[int, bytes]]
"""The status and the lines of a watch from a version."""


def event(name: str, version: str = "3", **fields: Any) -> bytes:
    """Return the line that tells of an Event."""
    metadata = {"name": name, "namespace": "shop", "resourceVersion": version}
    changed = {"apiVersion": "v1", "kind": "Event", "metadata": metadata, **fields}
    return json.dumps({"type": "ADDED", "object": changed}).encode() + b"\n"


@asynccontextmanager
async def watched(folder: Path, watch: Watch) -> AsyncIterator[WatchingServer]:
    """Give an API server whose first list has the version `OLD`, and each later one `NEW`."""
    versions = [OLD]

    async def respond(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": versions.pop() if versions else NEW}})
        status, lines = watch(request.query["resourceVersion"])
        return web.Response(status=status, body=lines)

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    async with TestServer(app) as server:
        connected = await WatchingServer.connect(kubeconfig(folder, str(server.make_url(""))), timeout_seconds=5)
        try:
            yield connected
        finally:
            await connected.close()


@asynccontextmanager
async def forwarding(server: WatchingServer, sink: RecordingSink) -> AsyncIterator[list[str]]:
    """Forward to the sink; give a list with an item for each gap."""
    gaps: list[str] = []
    forwarder = Forwarder(
        server, COLLECTIONS[0], sink.url, may_post=lambda: True, on_gap=lambda: gaps.append("gap"), retry_waits=()
    )
    task = asyncio.ensure_future(forwarder.run())
    try:
        yield gaps
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(event("long", message="<" * 5_000_000), id="longer than aiohttp reads"),
        pytest.param(b"<html>\n", id="no JSON"),
        pytest.param(b"{}\n", id="no change"),
        pytest.param(b'{"type": "ADDED", "object": {"metadata": 1}}\n', id="no metadata"),
        pytest.param(b'{"type": "ADDED", "object": ' + b'{"a": ' * 3000 + b"1" + b"}" * 3001 + b"\n", id="deep"),
        pytest.param(
            event("deep").replace(b'"v1"', b'"v1", "x": ' + b'{"a": ' * 1010 + b"1" + b"}" * 1010),
            id="too deep to be written",
        ),
    ],
)
async def test_what_cannot_be_read_is_left_to_a_sweep(tmp_path: Path, line: bytes) -> None:
    """The source goes on from a new version, which is past the change, and reports a gap."""

    def watch(version: str) -> tuple[int, bytes]:
        return 200, {OLD: line, NEW: event("next")}.get(version, b"")

    async with RecordingSink() as sink, watched(tmp_path, watch) as server, forwarding(server, sink) as gaps:
        await sink.until(1)
        assert b"Ce-Name: next\r\n" in sink.requests[-1]
        assert ["gap", "gap"] == gaps


async def test_versions_that_are_always_forgotten_are_asked_for_ever_less(tmp_path: Path) -> None:
    """An API server that answers every watch with 410 gets fewer and fewer requests."""
    times: list[float] = []
    enough = asyncio.Event()

    def watch(_: str) -> tuple[int, bytes]:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 5:
            enough.set()
        return 410, b""

    async with RecordingSink() as sink, watched(tmp_path, watch) as server, forwarding(server, sink):
        async with asyncio.timeout(30):
            await enough.wait()
    # With the least jitter: half of 0.5, 1, 2 and 4 seconds.
    assert times[-1] - times[0] >= 3.75


async def test_a_list_without_a_version_starts_no_watch(tmp_path: Path) -> None:
    """A watch from no version would begin with every Event that there is."""

    async def respond(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {}})

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    async with TestServer(app) as server:
        connected = await WatchingServer.connect(kubeconfig(tmp_path, str(server.make_url(""))), timeout_seconds=5)
        with pytest.raises(TransientError, match="no version"):
            await connected.version(COLLECTIONS[0])
        await connected.close()
