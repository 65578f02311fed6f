"""
Sharing the event loop, and tuning Python's garbage collector.

There is one event loop, and its tasks run in turn. If many pods fail at once, an Event of one namespace waits at each
step until the current steps of other namespaces are done. So no step may take long. The garbage collector examines all
objects while no task runs, so it should run seldom.
"""

import asyncio
import functools
import gc
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from typing import TypeVar

T = TypeVar("T")
# Items between two yields to the loop. Each yield lasts until all other ready tasks had their turn, so it should not
# come after every item.
_ITEMS_PER_YIELD = 16


async def yield_to_loop() -> None:
    """Let every other task that is ready run once."""
    await asyncio.sleep(0)


async def yielding(items: AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the items, and let other tasks run after every 16 of them."""
    count = 0
    async for item in items:
        yield item
        count += 1
        if count % _ITEMS_PER_YIELD == 0:
            await yield_to_loop()


async def gather_in_order(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Return the results, in order. A single awaitable gets no task of its own, which would cost two loop rounds."""
    if len(awaitables) == 1:
        return [await awaitables[0]]
    return list(await asyncio.gather(*awaitables))


def tune_garbage_collector() -> None:
    """
    Let the garbage collector run seldom, and ignore the objects that exist now, which are mostly modules.

    A page of pods has tens of thousands of objects, and none of them is garbage while it is read. By default, Python
    examines them after every 700 new objects. With many failing pods, that took a seventh of the processor's time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@functools.cache
def collect_garbage_every(seconds: float) -> None:
    """
    Run a full collection at this interval, for as long as the running event loop runs.

    A closed connection is a reference cycle of few objects with a quarter of a megabyte of buffers. Without this,
    Python would free it only after hours.
    """
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, _collect, seconds, loop)


def _collect(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    gc.collect()
    loop.call_later(seconds, _collect, seconds, loop)
