"""
Sharing the event loop and other pools, limiting how often work is done, and tuning Python's garbage collector.

There is one event loop, and its tasks run in turn. If many pods fail at once, an Event of one namespace waits at each
step until the current steps of other namespaces are done. So no step may take long. While the garbage collector
examines all objects, no task runs. So the collector should run seldom.
"""

import asyncio
import functools
import gc
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
# After this time, a task with much to do gives way. The loop runs about twenty rounds from an Event to its answer. So a
# task that is always busy delays the answer by 0.04 s.
_TURN_SECONDS = 0.002


async def yield_to_loop() -> None:
    """Let every other task that is ready run once."""
    await asyncio.sleep(0)


class Turn:
    """
    The turn of a task: the time since the task last let other tasks run.

    A task that may have much to do calls `give_way` wherever it can pause. While it has little to do, it does not
    pause, since a pause lasts until all other ready tasks had their turn.

    Args:
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    async def give_way(self) -> None:
        """Let other tasks run, if this task has kept the loop for 2 ms."""
        if self._clock() - self._began >= _TURN_SECONDS:
            await yield_to_loop()
            self._began = self._clock()


async def in_turns(steps: Generator[None, None, T]) -> T:
    """Run a generator to its end, and return what it returns; at each `yield` it may give way to other tasks."""
    turn = Turn()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await turn.give_way()


async def with_pauses(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield the items of a long collection, and let other tasks run after every 2 ms of work on them."""
    turn = Turn()
    for item in items:
        yield item
        await turn.give_way()


async def gather_in_order(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """
    Return the results, in the order of the awaitables.

    A single awaitable gets no task of its own, since a task costs two rounds of the event loop.
    """
    if len(awaitables) == 1:
        return [await awaitables[0]]
    return list(await asyncio.gather(*awaitables))


class RateLimit:
    """
    A limit for work that strangers can ask for: some of it at once, then one piece after the other with pauses.

    The limit is a token bucket whose tokens are seconds. Each piece of work is charged with the pause that it deserves.

    Args:
        burst_seconds: for how many seconds' worth of charges no pause is due.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, burst_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst_seconds = burst_seconds
        self._clock = clock
        self._paid_at = float("-inf")

    @property
    def delay(self) -> float:
        """In how many seconds the next piece of work may begin; 0 if it may begin now."""
        return max(0.0, self._paid_at - self._clock() - self._burst_seconds)

    def charge(self, seconds: float) -> None:
        """
        Count a piece of work that deserves a pause of so many `seconds`.

        The delay is never longer than the pause of the latest piece, even if much is done without regard to the limit.
        """
        now = self._clock()
        self._paid_at = min(max(self._paid_at, now), now + self._burst_seconds) + seconds


# For each place that an asker holds, more than this many must be free before it takes another one.
_FREE_PER_PLACE = 4


class Shares:
    """
    A pool of places, such as connections. An *asker* is a namespace, or whoever else may hold places for long.

    An asker takes another place only while it holds less than a quarter of the free places. A lone asker gets a fifth
    of all places, and the next one a fifth of the rest. Only more than a dozen askers together can use up a large pool.
    Then a place that becomes free goes to an asker that holds none. If several askers may take a place, the one that
    has waited longest since its last place comes first.

    Args:
        places: the number of places.

    """

    def __init__(self, places: int) -> None:
        self.free = places
        """How many places nobody holds."""
        self._held: Counter[str] = Counter()
        # By asker: the calls that wait, in the order in which they came. The asker that comes next is the first.
        self._waiting: dict[str, dict[asyncio.Future[None], None]] = {}

    async def take(self, asker: str) -> None:
        """Take a place, or wait for one. Whoever takes a place has to give it back."""
        if asker not in self._waiting and self._may_take(asker):
            self._take(asker)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(asker, {})[waiter] = None
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._leave(asker, waiter)
            else:
                self.give_back(asker)
            raise

    def give_back(self, asker: str) -> None:
        """Give a place back, and let those in who may take one now."""
        self.free += 1
        self._held[asker] -= 1
        if not self._held[asker]:
            del self._held[asker]
        while (next_asker := next(filter(self._may_take, self._waiting), None)) is not None:
            waiters = self._waiting.pop(next_asker)
            waiter = next(iter(waiters))
            del waiters[waiter]
            if waiters:
                self._waiting[next_asker] = waiters  # behind the other askers
            if not waiter.cancelled():
                self._take(next_asker)
                waiter.set_result(None)

    def _may_take(self, asker: str) -> bool:
        return self._held[asker] * _FREE_PER_PLACE < self.free

    def _take(self, asker: str) -> None:
        self.free -= 1
        self._held[asker] += 1

    def _leave(self, asker: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiting.get(asker, {})
        waiters.pop(waiter, None)
        if not waiters:
            self._waiting.pop(asker, None)


async def gather_in_turns(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """
    Return the results, in the order of the coroutines. Other tasks run before each further coroutine starts.

    If many coroutines were started together, all of them would take their first step before any other task runs again.
    """
    tasks: list[asyncio.Task[T]] = []
    try:
        for coroutine in coroutines:
            tasks.append(asyncio.create_task(coroutine))
            await yield_to_loop()
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


def tune_garbage_collector() -> None:
    """
    Let the garbage collector run seldom, and ignore the objects that exist now, which are mostly modules.

    A page of pods makes tens of thousands of Python objects. While Saffire reads the page, none of them is garbage. By
    default, Python examines objects after every 700 new ones, or 2,000 from 3.13 on. With many failing pods, that took
    a seventh of the processor's time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@functools.cache
def collect_garbage_every(seconds: float) -> None:
    """
    Run a full garbage collection every so many `seconds`, until the event loop that runs now stops.

    A closed connection is a reference cycle of few objects with a quarter of a megabyte of buffers. Without these
    collections, Python would free the buffers only after hours.
    """
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, _collect, seconds, loop)


def _collect(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    gc.collect()
    loop.call_later(seconds, _collect, seconds, loop)
