"""
A work queue keyed by namespace: one repair runs, one more waits, and further work items are merged into that one.

If a registry goes down, many Events arrive at once. While a repair of a namespace runs, further work items for that
namespace are merged into the work item that waits. So the number of repairs depends on how long a repair takes, not on
the number of Events.

An event source sends one Event at a time, and waits for Saffire's answer. So a repair may report early: it reports its
outcome for the pods of the work item before it reads the other pods of their namespace. Then repairs of many namespaces
run side by side.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from saffire.reconcile.request import WorkItem

T = TypeVar("T")
ReportEarly = Callable[[T], None]
"""The function that a repair calls with its outcome so far, at most once and before the repair ends."""


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """A repair that runs or waits: `task` returns its whole outcome, `early_report` the one that it reports early."""

    task: asyncio.Task[T]
    early_report: asyncio.Future[T]


class CoalescingQueue(Generic[T]):
    """
    The repairs that run and wait in this instance.

    Args:
        process: repairs what a work item names. It limits its own time, and may report its outcome early.
        may_start_next: tells, by the outcome that a repair reports early, whether the next work item of the namespace
            may start at once. Otherwise the next work item starts when the repair ends.

    """

    def __init__(
        self,
        process: Callable[[WorkItem, ReportEarly[T]], Awaitable[T]],
        *,
        may_start_next: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._process = process
        self._may_start_next = may_start_next
        self._running: dict[str, Run[T]] = {}
        self._waiting: dict[str, tuple[WorkItem, Run[T]]] = {}

    async def submit(self, item: WorkItem, *, is_enough: Callable[[T], bool] = lambda _: False) -> T:
        """
        Process a work item, alone or merged with others, and return the outcome.

        If `is_enough` accepts the outcome that the repair reports early, return that outcome.
        """
        return await self.outcome(self.enqueue(item), is_enough=is_enough)

    async def outcome(self, run: Run[T], *, is_enough: Callable[[T], bool] = lambda _: False) -> T:
        """
        Return the outcome of a repair that runs or waits.

        If `is_enough` accepts the outcome that the repair reports early, return that outcome. If the caller stops
        waiting, because the sender of its Event disconnected, the repair goes on: other callers may wait for it too.
        """
        await asyncio.wait([run.task, run.early_report], return_when=asyncio.FIRST_COMPLETED)
        if run.early_report.done() and is_enough(run.early_report.result()):
            return run.early_report.result()
        return await asyncio.shield(run.task)

    def enqueue(self, item: WorkItem) -> Run[T]:
        """Start a repair for a work item, or merge the work item into the one that waits; return the repair."""
        namespace = item.namespace
        if namespace in self._waiting:
            waiting, run = self._waiting[namespace]
            self._waiting[namespace] = waiting.merged(item), run
            return run
        early_report: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if namespace in self._running:
            task = asyncio.create_task(self._run_after(namespace, self._running[namespace], early_report))
            run = Run(task, early_report)
            self._waiting[namespace] = item, run
        else:
            run = Run(asyncio.create_task(self._run(item, early_report)), early_report)
            self._running[namespace] = run
        run.task.add_done_callback(_retrieve_error)
        return run

    async def _run_after(self, namespace: str, running: Run[T], early_report: asyncio.Future[T]) -> T:
        """Wait until the running repair ends or lets the next one start, then process the work item that waits."""
        await asyncio.wait([running.task, running.early_report], return_when=asyncio.FIRST_COMPLETED)
        if not (running.early_report.done() and self._may_start_next(running.early_report.result())):
            await asyncio.wait([running.task])
        item, self._running[namespace] = self._waiting.pop(namespace)
        return await self._run(item, early_report)

    async def _run(self, item: WorkItem, early_report: asyncio.Future[T]) -> T:
        try:
            return await self._process(item, early_report.set_result)
        finally:
            run = self._running.get(item.namespace)
            if run and run.task is asyncio.current_task():
                del self._running[item.namespace]


class CoalescingLock:
    """
    A lock keyed by namespace: one caller reads all pods of the namespace, and one more waits to read them for others.

    The others are the callers that arrive before the waiting caller starts to read. Each caller is a repair that has
    repaired the pods of its own work item by then.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[str, asyncio.Future[bool]] = {}

    async def run(self, namespace: str, read: Callable[[], Awaitable[T]], *, must: bool) -> T | None:
        """
        Await `read`, and return its result.

        If another caller waits to read the namespace, return `None` once it has done so. With `must`, always read.
        """
        while namespace in self._waiting and not must:
            if await asyncio.shield(self._waiting[namespace]):
                return None
        lock = self._locks.setdefault(namespace, asyncio.Lock())
        has_read: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(namespace, has_read)
        try:
            async with lock:
                self._stop_waiting(namespace, has_read)
                result = await read()
                has_read.set_result(True)
                return result
        finally:
            self._stop_waiting(namespace, has_read)
            if not has_read.done():
                has_read.set_result(False)

    def _stop_waiting(self, namespace: str, has_read: asyncio.Future[bool]) -> None:
        """Let no further caller rely on the read of the caller whose future is `has_read`."""
        if self._waiting.get(namespace) is has_read:
            del self._waiting[namespace]


def _retrieve_error(task: asyncio.Task[T]) -> None:
    """
    Retrieve the error of a task, so that asyncio does not log the error if no caller waits for the task.

    A caller that waits gets the error all the same.
    """
    if not task.cancelled():
        task.exception()
