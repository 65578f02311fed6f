"""The event source asks for a sweep every minute, and after each gap, but not sooner than the function sweeps."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from eventsource.sweep import ask_for_sweeps
from testkit.event_sink import RecordingSink, answer

NEVER = 3600.0


@contextlib.asynccontextmanager
async def asking(
    sink: RecordingSink, *, shortest: float, longest: float, arrival: float = 0.0
) -> AsyncIterator[asyncio.Event]:
    """Ask the sink for sweeps, and give the event that tells of a gap."""
    gap = asyncio.Event()
    asked = ask_for_sweeps(sink.url, gap, shortest_seconds=shortest, longest_seconds=longest, arrival_seconds=arrival)
    task = asyncio.ensure_future(asked)
    try:
        yield gap
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_it_asks_again_and_again() -> None:
    """Each ping has an id of its own, and the type that asks for a sweep."""
    async with RecordingSink() as sink, asking(sink, shortest=0.0, longest=0.05):
        started = time.monotonic()
        requests = (await sink.until(3))[:3]
    assert time.monotonic() - started >= 0.15
    assert all(b"Ce-Type: dev.knative.sources.ping\r\n" in request for request in requests)
    assert 3 == len({request.partition(b"Ce-Id: ")[2][:36] for request in requests})


async def test_a_gap_is_swept_at_once() -> None:
    """Nobody waits for the minute to end."""
    async with RecordingSink() as sink, asking(sink, shortest=0.0, longest=NEVER) as gap:
        gap.set()
        await sink.until(1)


async def test_a_gap_soon_after_a_sweep_waits() -> None:
    """The function ignores a ping that comes too soon, so it comes as soon as the function takes it."""
    async with RecordingSink() as sink, asking(sink, shortest=0.3, longest=NEVER) as gap:
        gap.set()
        await sink.until(1)
        started = time.monotonic()
        gap.set()
        await sink.until(2)
    assert time.monotonic() - started >= 0.2


async def test_a_ping_that_arrives_late_is_followed_late() -> None:
    """The function counts from when it takes a ping, and ignores the next if that comes too soon."""
    async with RecordingSink([answer(503)] * 2) as sink, asking(sink, shortest=0.3, longest=NEVER, arrival=0.6) as gap:
        gap.set()
        await sink.until(3)
        accepted = time.monotonic()
        gap.set()
        await sink.until(4)
    assert time.monotonic() - accepted >= 0.3


async def test_a_sweep_after_a_gap_is_asked_for_until_it_is_accepted() -> None:
    """The API server restarts when there are gaps, and the function accepts no ping then."""
    async with RecordingSink([answer(500)] * 2) as sink, asking(sink, shortest=0.0, longest=NEVER) as gap:
        gap.set()
        await sink.until(3)


async def test_a_sweep_that_is_refused_is_no_end() -> None:
    """After a status that is not retried, the next minute asks again."""
    async with RecordingSink([answer(500)]) as sink, asking(sink, shortest=0.0, longest=0.01):
        await sink.until(3)
