"""
A watchdog over the event loop: how long the longest step of some work keeps all other tasks waiting.

A *step* is what the loop runs between two looks at its other tasks. Seconds of the clock would say as much about the
machine as about the code: it may be slow, and others use it. So a step is measured in the processor's time of this
thread, and compared with the yardstick, a fixed piece of work that the same machine does at the same time. The garbage
collector is off meanwhile: it examines the objects of all tests.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# About 20 ms of a processor of 2024. Work of 20 ms is as long as 20 ms of work: a machine that is half as fast takes
# twice as long for both.
_ROUNDS = 500_000
# The best of so many runs counts: whatever else the machine does makes a run slower, and none faster.
_RUNS = 3


@dataclass(slots=True)
class Steps:
    """The steps of the watched work: how many there were, how long the longest took, in seconds, and what it ran."""

    count: int = 0
    longest: float = 0.0
    slowest: str = ""

    def add(self, seconds: float, what: object) -> None:
        """Add a step of so many seconds."""
        self.count += 1
        if seconds > self.longest:
            self.longest, self.slowest = seconds, str(what)


_watched: ContextVar[Steps | None] = ContextVar("watched", default=None)


@contextmanager
def watched() -> Iterator[Steps]:
    """Measure the steps of the tasks that are created in this context, until its end; give the steps."""
    steps, run = Steps(), asyncio.events.Handle._run  # noqa: SLF001 - asyncio has no other place for that

    def measured(handle: asyncio.Handle) -> None:
        if handle._context.get(_watched) is not steps:  # type: ignore[attr-defined]  # noqa: SLF001 - as above
            run(handle)
            return
        began = time.thread_time()
        run(handle)
        steps.add(time.thread_time() - began, handle)

    token = _watched.set(steps)
    asyncio.events.Handle._run = measured  # type: ignore[method-assign]  # noqa: SLF001 - as above
    gc.disable()
    try:
        yield steps
    finally:
        gc.enable()
        asyncio.events.Handle._run = run  # type: ignore[method-assign]  # noqa: SLF001 - as above
        _watched.reset(token)


async def longest_step(work: Callable[[], Awaitable[object]]) -> Steps:
    """Do the work three times, and return the steps of the run whose longest step was the shortest."""
    runs = []
    for _ in range(_RUNS):
        with watched() as steps:
            await asyncio.create_task(_awaited(work))
        runs.append(steps)
    return min(runs, key=lambda steps: steps.longest)


async def _awaited(work: Callable[[], Awaitable[object]]) -> None:
    await work()


def yardstick() -> float:
    """Return the processor's time, in seconds, of a piece of work that takes about 20 ms."""
    return min(_measured() for _ in range(_RUNS))


def _measured() -> float:
    began, total = time.thread_time(), 0
    for number in range(_ROUNDS):
        total += number % 7
    assert total
    return time.thread_time() - began
