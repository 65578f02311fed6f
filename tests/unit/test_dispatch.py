"""The dispatcher under a flood: what strangers ask for costs the API server a bounded number of requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from playground.cluster.polling import until
from saffire.dispatch import Dispatcher
from saffire.errors import TransientError
from saffire.reconcile.request import ClusterSourceChanged, PodFailed, SourceChanged, SweepDue
from saffire.settings import Settings
from testkit.builders import kubeconfig
from testkit.check_registry import eventually

MANY = 500
SOURCES = "/apis/saffire.fairwinds.com/v1alpha1/alternateimagesources"
CLUSTER_WIDE = "/apis/saffire.fairwinds.com/v1alpha1/clusteralternateimagesources"
NOTHING = "swept 0 of 0 namespaces: all is well"
LATER = "ignored: among many others; a look at its namespace follows"


class EmptyCluster:
    """A server in the place of the API server of a cluster without sources; it counts requests by path."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.is_down = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer every request of a connection with an empty list, or with 503."""
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests[head.split()[1].decode().partition("?")[0]] += 1
                await self.may_answer.wait()
                status, body = (503, b"{}") if self.is_down else (200, b'{"kind":"List","metadata":{},"items":[]}')
                fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
                writer.write(f"HTTP/1.1 {status} X\r\n{fields}\r\n\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def hang_up(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.close()


@pytest.fixture
def empty_cluster() -> EmptyCluster:
    """Give a cluster without sources."""
    return EmptyCluster()


@asynccontextmanager
async def dispatcher_of(
    cluster: EmptyCluster, folder: Path, settings: Settings | None = None
) -> AsyncIterator[Dispatcher]:
    """Run a dispatcher for a cluster."""
    server = await asyncio.start_server(cluster.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    config = kubeconfig(folder, f"http://{host}:{port}")
    dispatcher = await Dispatcher.open(
        replace(settings or Settings(), kubeconfig=config), clock=lambda: datetime.now(UTC)
    )
    try:
        yield dispatcher
    finally:
        await dispatcher.close()
        cluster.hang_up()
        server.close()
        await server.wait_closed()


@pytest.fixture
async def dispatcher(empty_cluster: EmptyCluster, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    """Give a dispatcher for the cluster without sources, with the default settings."""
    async with dispatcher_of(empty_cluster, tmp_path) as opened:
        yield opened


async def sweeps(dispatcher: Dispatcher) -> bool:
    """Tell whether a ping makes a sweep."""
    return not (await dispatcher.dispatch(SweepDue())).is_redundant


async def test_pings_start_a_sweep_each_twenty_seconds(dispatcher: Dispatcher, empty_cluster: EmptyCluster) -> None:
    """The first sweep starts at once. A ping that comes too soon, or during a sweep, is answered without a request."""
    empty_cluster.may_answer.clear()
    first = asyncio.create_task(dispatcher.dispatch(SweepDue()))
    await eventually(lambda: bool(empty_cluster.requests))
    during = await dispatcher.dispatch(SweepDue())
    empty_cluster.may_answer.set()
    answer = await first
    assert (200, NOTHING, False) == (answer.status, answer.line, answer.is_redundant)
    before = empty_cluster.requests.total()
    for answer in (during, *[await dispatcher.dispatch(SweepDue()) for _ in range(MANY)]):
        assert (200, "ignored: the last sweep began ", True) == (answer.status, answer.line[:30], answer.is_redundant)
    assert before == empty_cluster.requests.total()


async def test_a_sweep_that_failed_is_soon_tried_again(dispatcher: Dispatcher, empty_cluster: EmptyCluster) -> None:
    """The event source delivers a ping again after 503, and that ping sweeps a second after the failure."""
    empty_cluster.is_down = True
    with pytest.raises(TransientError):
        await dispatcher.dispatch(SweepDue())
    assert (await dispatcher.dispatch(SweepDue())).is_redundant
    empty_cluster.is_down = False
    async with asyncio.timeout(5):
        await until(lambda: sweeps(dispatcher))


async def test_a_sender_that_hangs_up_ends_no_sweep(empty_cluster: EmptyCluster, tmp_path: Path) -> None:
    """The sweep goes on, and the next ping starts no second one beside it, however short the interval is."""
    empty_cluster.may_answer.clear()
    async with dispatcher_of(empty_cluster, tmp_path, Settings(sweep_interval_seconds=0.001)) as dispatcher:
        first = asyncio.create_task(dispatcher.dispatch(SweepDue()))
        await eventually(lambda: 2 == empty_cluster.requests.total())
        first.cancel()
        await asyncio.wait([first])
        assert (await dispatcher.dispatch(SweepDue())).is_redundant
        assert 2 == empty_cluster.requests.total()
        empty_cluster.may_answer.set()
        async with asyncio.timeout(5):
            await until(lambda: sweeps(dispatcher))
        assert 4 == empty_cluster.requests.total()


def pod_failed(number: int) -> PodFailed:
    """Return a made-up failure of a pod."""
    return PodFailed(
        namespace=f"invented-{number}", pod="web-0", pod_uid="uid", container="web", event="web-0.1", image="acme/web"
    )


@pytest.mark.parametrize("at_once", [1, 50])
async def test_made_up_failures_cost_few_requests(
    dispatcher: Dispatcher, empty_cluster: EmptyCluster, at_once: int
) -> None:
    """Events of namespaces that do not exist share a few lists, whether they come one by one or at once."""
    began = asyncio.get_running_loop().time()
    for start in range(0, MANY, at_once):
        requests = map(pod_failed, range(start, start + at_once))
        answers = await asyncio.gather(*map(dispatcher.dispatch, requests))
        assert {(200, "NoSource: the namespace has no AlternateImageSource")} == {
            (answer.status, answer.line) for answer in answers
        }
    seconds = asyncio.get_running_loop().time() - began
    assert empty_cluster.requests.total() <= 30 + 5 * seconds


@pytest.mark.parametrize("at_once", [1, 50])
async def test_made_up_changes_of_sources_cost_few_requests(
    dispatcher: Dispatcher, empty_cluster: EmptyCluster, at_once: int
) -> None:
    """So do changes of sources that do not exist. No sender waits for a limit."""
    began = asyncio.get_running_loop().time()
    for start in range(0, MANY, at_once):
        requests = [
            SourceChanged(namespace=f"invented-{number}", source="shop")
            if number % 2
            else ClusterSourceChanged(source=f"invented-{number}")
            for number in range(start, start + at_once)
        ]
        answers = await asyncio.gather(*map(dispatcher.dispatch, requests))
        assert {200} == {answer.status for answer in answers}
        assert {"NoSource: the source is gone", LATER} >= {answer.line for answer in answers}
    seconds = asyncio.get_running_loop().time() - began
    assert seconds < 5
    assert {SOURCES, CLUSTER_WIDE} == empty_cluster.requests.keys()
    assert max(empty_cluster.requests.values()) <= 30 + 5 * seconds
