"""What the event source does when watches end, break or fall silent, and when the function takes nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from eventsource.forwarding import Forwarder
from eventsource.watch import COLLECTIONS, WatchingServer
from playground.cluster.controlplane import ControlPlane
from testkit.api.clusters import CRDS, install, manifest
from testkit.api.event_source import EventSourceProcess, EventSourceSink, install_source, parsed, write_event
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.event_sink import answer

QUICK = (0.01,) * 5


@pytest.fixture(scope="module")
async def account(cluster: ControlPlane) -> Path:
    """Give the kubeconfig of the event source's account."""
    return await install_source(cluster)


@pytest.fixture
async def server(account: Path) -> AsyncIterator[WatchingServer]:
    """Give the API server as the event source reads it."""
    opened = await WatchingServer.connect(str(account), timeout_seconds=5)
    yield opened
    await opened.close()


@asynccontextmanager
async def forwarding(server: WatchingServer, sink: EventSourceSink) -> AsyncIterator[Forwarder]:
    """Forward failed pulls to the sink; yield once the watch has a version to start from."""
    started = asyncio.Event()
    forwarder = Forwarder(
        server, COLLECTIONS[0], sink.url, may_post=lambda: True, on_gap=started.set, retry_waits=QUICK
    )
    task = asyncio.ensure_future(forwarder.run())
    try:
        async with asyncio.timeout(20):
            await started.wait()
        yield forwarder
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def write(cluster: ControlPlane, namespace: NamespaceFixture, names: Sequence[str]) -> None:
    """Write Events one after the other."""
    for name in names:
        await write_event(cluster.admin, namespace.name, name)


async def test_a_watch_that_the_server_ends_goes_on(
    cluster: ControlPlane, server: WatchingServer, namespace: NamespaceFixture
) -> None:
    """What is written between two watches is sent once, in order."""
    server.watch_seconds = 1
    written = [f"web-{number}" for number in range(40)]
    async with EventSourceSink() as sink, forwarding(server, sink):
        for name in written:
            await write_event(cluster.admin, namespace.name, name)
            await sink.eventually(namespace.name, *written[: written.index(name)], name)


async def test_a_silent_watch_is_opened_again(
    cluster: ControlPlane, server: WatchingServer, namespace: NamespaceFixture
) -> None:
    """A watch that brings nothing for too long counts as broken; what comes then is sent all the same."""
    server.silent_seconds = 1
    async with EventSourceSink() as sink, forwarding(server, sink) as forwarder:

        async def is_noticed() -> bool:
            return "the watch broke" in forwarder.fault

        await until(is_noticed)
        await write_event(cluster.admin, namespace.name, "web")
        await sink.eventually(namespace.name, "web")
        await until(lambda: _is_sound(forwarder))


async def _is_sound(forwarder: Forwarder) -> bool:
    return not forwarder.fault


@pytest.mark.parametrize("status", [503, 500])
async def test_a_change_that_the_function_does_not_take_is_lost(
    cluster: ControlPlane, server: WatchingServer, namespace: NamespaceFixture, status: int
) -> None:
    """A 503 is repeated five times, whatever it says of `Retry-After`, a 500 never; then comes the next Event."""
    attempts = 6 if status == 503 else 1
    answers = [answer(status, "Retry-After: 30")] * attempts
    async with EventSourceSink(answers, namespace.name) as sink, forwarding(server, sink):
        await write(cluster, namespace, ["lost", "taken"])
        await sink.eventually(namespace.name, *["lost"] * attempts, "taken")
    ids = [parsed(request)[0]["Ce-Id"] for request in sink.about(namespace.name)]
    assert 2 == len(set(ids))


async def test_one_change_is_sent_at_a_time(
    cluster: ControlPlane, server: WatchingServer, namespace: NamespaceFixture
) -> None:
    """As long as the function has not answered, the next Event waits, and the API server keeps it."""
    async with EventSourceSink((), namespace.name) as sink, forwarding(server, sink):
        sink.released.clear()
        written = [f"web-{number}" for number in range(5)]
        await write(cluster, namespace, written)
        await sink.eventually(namespace.name, "web-0")
        sink.released.set()
        await sink.eventually(namespace.name, *written)


@pytest.fixture
async def breakable(binaries: dict[str, Path]) -> AsyncIterator[ControlPlane]:
    """Give a control plane that a test may break, with the custom resources."""
    async with ControlPlane(binaries) as plane:
        await install(plane, *map(manifest, CRDS))
        yield plane


async def compact(plane: ControlPlane) -> None:
    """Make etcd forget every version but the current one, as the API server has it do every five minutes."""
    version = (await plane.admin.get("/api/v1/events", limit="1"))["metadata"]["resourceVersion"]
    socket = aiohttp.UnixConnector(str(plane.folder / "client:0"))
    async with (
        aiohttp.ClientSession(connector=socket) as etcd,
        etcd.post("http://etcd/v3/kv/compaction", json={"revision": version, "physical": True}) as done,
    ):
        assert 200 == done.status, await done.text()


async def test_a_restart_of_the_api_server_and_a_forgotten_version(breakable: ControlPlane) -> None:
    """The source asks for a sweep, since it cannot know what it missed, and posts what comes after."""
    account = await install_source(breakable)
    api = breakable.admin
    async with EventSourceSink() as sink, EventSourceProcess(account, sink.url) as source:
        await source.until_ready()
        await sink.until_swept(1)
        # Events have no watch cache: what moves the version of etcd on moves theirs on as well.
        for number in range(3):
            await api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"other-{number}"}})
        await compact(breakable)
        assert len(COLLECTIONS) == source.output().count("Watches from now on")
        swept = sink.sweeps()
        await breakable.restart_api_server()
        await source.until_logged("Watches from now on", len(COLLECTIONS) + 1)
        await sink.until_swept(swept + 1)
        await source.until_ready()
        await write_event(api, "default", "after")
        await sink.eventually("default", "after")
        assert "Cannot watch, and tries again" in source.output()
