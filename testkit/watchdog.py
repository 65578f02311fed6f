"""
A watchdog over the event loop: how long the longest step of some work keeps all other tasks waiting.

A *step* is what the loop runs between two looks at its other tasks. Seconds of the clock would say as much about the
machine as about the code: it may be slow, and others use it. So a step is measured in the processor's time of this
thread, and compared with the yardstick, a fixed piece of work that the same machine does at the same time. Both vary by
a half on a busy machine, so tests allow twice the yardstick; without pauses, a step takes fifty times as long. The
garbage collector is off meanwhile: it examines the objects of all tests.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

# About 20 ms of a processor of 2024. A machine that is half as fast takes twice as long for these rounds, and for the
# work that is measured.
_ROUNDS = 500_000
# The best of so many runs counts: whatever else the machine does makes a run slower, and none faster.
_RUNS = 3


@dataclass(slots=True)
class Steps:
    """The steps of the watched work: how many there were, and how long the longest took, in seconds."""

    count: int = 0
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """Add a step of so many seconds."""
        self.count += 1
        self.longest = max(self.longest, seconds)


_watched: ContextVar[Steps | None] = ContextVar("watched", default=None)


async def steps_of(work: Callable[[], Coroutine[Any, Any, object]]) -> Steps:
    """Do the work in a task, and return the steps of this task and of all tasks that it starts."""
    steps, run = Steps(), asyncio.events.Handle._run  # noqa: SLF001 - asyncio has no other place for that

    def measured(handle: asyncio.Handle) -> None:
        if handle._context.get(_watched) is not steps:  # type: ignore[attr-defined]  # noqa: SLF001 - as above
            run(handle)
            return
        began = time.thread_time()
        run(handle)
        steps.add(time.thread_time() - began)

    context = copy_context()
    context.run(_watched.set, steps)
    asyncio.events.Handle._run = measured  # type: ignore[assignment, method-assign]  # noqa: SLF001 - as above
    gc.disable()
    try:
        await asyncio.create_task(work(), context=context)
    finally:
        gc.enable()
        asyncio.events.Handle._run = run  # type: ignore[method-assign]  # noqa: SLF001 - as above
    return steps


async def longest_step(work: Callable[[], Coroutine[Any, Any, object]]) -> Steps:
    """Do the work three times, and return the steps of the run whose longest step was the shortest."""
    return min([await steps_of(work) for _ in range(_RUNS)], key=lambda steps: steps.longest)


def yardstick() -> float:
    """Return the processor's time, in seconds, of a piece of work that takes about 20 ms."""
    return min(_measured() for _ in range(_RUNS))


def _measured() -> float:
    began, total = time.thread_time(), 0
    for number in range(_ROUNDS):
        total += number % 7
    assert total
    return time.thread_time() - began
