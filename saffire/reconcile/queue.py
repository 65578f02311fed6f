"""
A work queue keyed by namespace: one repair runs, one more waits and absorbs what arrives.

Events come in storms. What arrives while a repair of its namespace runs joins the one that follows, together with all
that arrive until then. So a storm costs as many repairs as there is time for, and not one for each Event.

An event source sends one Event at a time, and waits for its answer. A repair reports what it did for the pods that were
pointed at before it looks at the rest of their namespace, so that repairs of many namespaces run side by side.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from saffire.reconcile.request import WorkItem

T = TypeVar("T")
ReportEarly = Callable[[T], None]
"""Called by a repair, at most once, with what has come of it before its end."""


@dataclass(frozen=True, slots=True)
class _Running(Generic[T]):
    """A repair that is under way or waits: all that comes of it, and what was told before."""

    task: asyncio.Task[T]
    first: asyncio.Future[T]


class CoalescingQueue(Generic[T]):
    """
    The repairs that are under way in this instance.

    Args:
        carry_out: does what an order says; it bounds its own time, and may tell what has come of it before its end.
        frees: says of what was told whether the next order is carried out at once, rather than after the end.

    """

    def __init__(
        self,
        process: Callable[[WorkItem, ReportEarly[T]], Awaitable[T]],
        *,
        may_start_next: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._carry_out = process
        self._frees = may_start_next
        self._running: dict[str, _Running[T]] = {}
        self._waiting: dict[str, tuple[WorkItem, _Running[T]]] = {}

    async def submit(self, order: WorkItem, *, is_enough: Callable[[T], bool] = lambda _: False) -> T:
        """
        Have an order carried out, alone or with others, and return what came of it, or what was told before if enough.

        Whoever stops waiting, since the sender of an event has gone, ends nothing: others may wait too.
        """
        run = self._place(order)
        await asyncio.wait([run.task, run.first], return_when=asyncio.FIRST_COMPLETED)
        if run.first.done() and is_enough(run.first.result()):
            return run.first.result()
        return await asyncio.shield(run.task)

    def _place(self, order: WorkItem) -> _Running[T]:
        """Return the repair that will have carried out the order."""
        namespace = order.namespace
        if namespace in self._waiting:
            waiting, run = self._waiting[namespace]
            self._waiting[namespace] = waiting.merged(order), run
            return run
        first: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if namespace in self._running:
            run = _Running(asyncio.create_task(self._follow(namespace, self._running[namespace], first)), first)
            self._waiting[namespace] = order, run
        else:
            run = _Running(asyncio.create_task(self._run(order, first)), first)
            self._running[namespace] = run
        run.task.add_done_callback(_noticed)
        return run

    async def _follow(self, namespace: str, running: _Running[T], first: asyncio.Future[T]) -> T:
        """Wait for the repair under way, whatever becomes of it, and carry out all that has come together since."""
        await asyncio.wait([running.task, running.first], return_when=asyncio.FIRST_COMPLETED)
        if not (running.first.done() and self._frees(running.first.result())):
            await asyncio.wait([running.task])
        order, self._running[namespace] = self._waiting.pop(namespace)
        return await self._run(order, first)

    async def _run(self, order: WorkItem, first: asyncio.Future[T]) -> T:
        try:
            return await self._carry_out(order, first.set_result)
        finally:
            run = self._running.get(order.namespace)
            if run and run.task is asyncio.current_task():
                del self._running[order.namespace]


class CoalescingLock:
    """
    Looks at the rest of a namespace: one at a time, and one that waits does for all others that come until it begins.

    Its caller has taken care of what it was pointed at before it comes here.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[str, asyncio.Future[bool]] = {}

    async def run(self, namespace: str, look: Callable[[], Awaitable[T]], *, must: bool) -> T | None:
        """Look, and return what came of it; `None` if another one has looked instead, unless the caller `must`."""
        while namespace in self._waiting and not must:
            if await asyncio.shield(self._waiting[namespace]):
                return None
        lock = self._locks.setdefault(namespace, asyncio.Lock())
        has_looked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(namespace, has_looked)
        try:
            async with lock:
                self._forget(namespace, has_looked)
                found = await look()
                has_looked.set_result(True)
                return found
        finally:
            self._forget(namespace, has_looked)
            if not has_looked.done():
                has_looked.set_result(False)

    def _forget(self, namespace: str, has_looked: asyncio.Future[bool]) -> None:
        """Let nobody else wait for a look."""
        if self._waiting.get(namespace) is has_looked:
            del self._waiting[namespace]


def _noticed(task: asyncio.Task[T]) -> None:
    """Take note of an error that nobody waits for any more; whoever does still gets it."""
    if not task.cancelled():
        task.exception()
