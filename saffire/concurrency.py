"""
The event loop, and Python's garbage collector.

There is one event loop, and what is ready in it runs in turns. In a storm an Event of one namespace waits at each step
for whatever other namespaces do in one go, so nothing may take long in one go. The collector looks through all objects
while nobody else runs, so it comes seldom.
"""

import asyncio
import functools
import gc
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from typing import TypeVar

T = TypeVar("T")
# Each round of the loop takes as long as all others want, so that there are not to be too many either.
_IN_ONE_GO = 16


async def yield_to_loop() -> None:
    """Let whoever is ready go first."""
    await asyncio.sleep(0)


async def yielding(many: AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield what there is, and give way now and then."""
    count = 0
    async for one in many:
        yield one
        count += 1
        if count % _IN_ONE_GO == 0:
            await yield_to_loop()


async def gather_in_order(all_of: Sequence[Awaitable[T]]) -> list[T]:
    """Return what comes of each, in order; one alone needs no task, which would cost it two rounds."""
    if len(all_of) == 1:
        return [await all_of[0]]
    return list(await asyncio.gather(*all_of))


def tune_garbage_collector() -> None:
    """
    Let the collector of garbage come seldom, and never look at what is there by now: modules, for the most part.

    A page of pods is tens of thousands of objects, and none of them is garbage while it is read. To look through them
    whenever 700 more have come, as is Python's way, took a seventh of the processor's time in a storm.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@functools.cache
def collect_garbage_every(seconds: float) -> None:
    """
    Have everything looked through now and then, in the running event loop and as long as that runs.

    A connection that was closed is a cycle of few objects with a quarter of a megabyte of buffers. Left to itself,
    Python would come to it after hours.
    """
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, _collect, seconds, loop)


def _collect(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    gc.collect()
    loop.call_later(seconds, _collect, seconds, loop)
