"""
A work queue keyed by namespace: one repair runs, one more waits, and further work items are merged into that one.

If a registry goes down, many Events arrive at once. While a repair of a namespace runs, further work items for that
namespace are merged into the work item that waits. So the number of repairs depends on how long a repair takes, not on
the number of Events.

An event source sends one Event at a time, and waits for Saffire's answer. So a repair may report early: it reports its
outcome for the pods of the work item before it reads the other pods of their namespace. Then repairs of many namespaces
run at the same time, and `ReadsUnderWay` limits how many of them read other pods. `AnswerLimit` limits how long the
event source waits for one namespace.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from saffire.errors import TransientError
from saffire.reconcile.request import PodFailed, WorkItem
from saffire.ttl_cache import TtlCache

T = TypeVar("T")

# So many repairs may be due later, mostly after the next try of a kubelet.
_MAX_LATER = 1024


@dataclass(eq=False, kw_only=True, slots=True)
class Run(Generic[T]):
    """A repair that runs or waits: `task` returns its whole outcome, `early_report` the part that is reported early."""

    task: asyncio.Task[T] = field(init=False)
    early_report: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_relied_on: bool = False
    """Whether an answer relies on the repair. If the repair fails, another one has to follow."""
    is_answered_early: bool = False
    """Whether the repair takes longer than the sender of one of its Events waited."""

    def report_early(self, outcome: T) -> None:
        """Report the outcome so far, before the repair ends. Only the first report counts."""
        if not self.early_report.done():
            self.early_report.set_result(outcome)


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
        process: Callable[[WorkItem, Run[T]], Awaitable[T]],
        *,
        may_start_next: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._process = process
        self._may_start_next = may_start_next
        self._running: dict[str, Run[T]] = {}
        self._waiting: dict[str, tuple[WorkItem, Run[T]]] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """Start none of the repairs that are due later."""
        for timer in self._later.values():
            timer.cancel()

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
        run = Run[T]()
        if namespace in self._running:
            run.task = asyncio.create_task(self._run_after(self._running[namespace], namespace))
            self._waiting[namespace] = item, run
        else:
            run.task = asyncio.create_task(self._run(item, run))
            self._running[namespace] = run
        run.task.add_done_callback(_retrieve_error)
        return run

    def enqueue_later(
        self, item: WorkItem, seconds: float, *, then: Callable[[Run[T]], object] = lambda _: None
    ) -> None:
        """
        Enqueue a work item in so many seconds, or enqueue that of an earlier call which is due before.

        `then` is called with the repair once it runs or waits. If too many namespaces have one already, do nothing: the
        next sweep repairs the namespace.
        """

        def enqueue() -> None:
            del self._later[item.namespace]
            then(self.enqueue(item))

        loop, other = asyncio.get_running_loop(), self._later.get(item.namespace)
        if loop.time() + seconds < other.when() if other else len(self._later) < _MAX_LATER:
            if other:
                other.cancel()
            self._later[item.namespace] = loop.call_later(seconds, enqueue)

    async def _run_after(self, running: Run[T], namespace: str) -> T:
        """Wait until the running repair ends or lets the next one start, then process the work item that waits."""
        await asyncio.wait([running.task, running.early_report], return_when=asyncio.FIRST_COMPLETED)
        if not (running.early_report.done() and self._may_start_next(running.early_report.result())):
            await asyncio.wait([running.task])
        item, run = self._waiting.pop(namespace)
        self._running[namespace] = run
        return await self._run(item, run)

    async def _run(self, item: WorkItem, run: Run[T]) -> T:
        try:
            return await self._process(item, run)
        finally:
            if self._running.get(item.namespace) is run:
                del self._running[item.namespace]


# A repair of one pod takes some hundredths of a second, or 1.5 s if a registry does not answer.
_ANSWER_SECONDS = 3.0
_ANSWER_SHARE = 0.1
_KEPT_NAMESPACES = 10_000


class AnswerLimit:
    """
    Limits how long senders wait for answers about a namespace: 3 s at once, and after that a tenth of the time.

    While an event source waits for an answer, it sends no Event of any other namespace. Without this limit, a namespace
    whose repairs are slow could take all of the event source's time. While several senders wait for answers about one
    namespace, the time counts once.

    A sender that prefers to wait is answered at the end of the repair. The limit `longest_seconds` leaves time for a
    repair that runs already, and after it for that of the request, and is reached before Knative stops waiting.

    Args:
        longest_seconds: for how long an answer may wait if its sender prefers that.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, longest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_seconds = longest_seconds
        self._clock = clock
        # By namespace: for how many seconds senders have waited, and when that was counted last.
        self._waited: TtlCache[str, tuple[float, float]] = TtlCache(_KEPT_NAMESPACES, clock)

    async def wait_for(self, namespace: str, result: Awaitable[T], *, wait: bool) -> T | None:
        """
        Return the result that an answer about a namespace waits for; `None` if the sender may wait no longer.

        If the sender prefers to `wait`, raise `TransientError` instead of that.
        """
        if wait:
            return await within(self._longest_seconds, result)
        try:
            with self.waiting(namespace):
                async with asyncio.timeout(self.left(namespace)):
                    return await result
        except TimeoutError:
            return None

    def left(self, namespace: str) -> float:
        """Return for how many seconds a sender may wait for an answer about a namespace, from now on."""
        waited, _ = self._so_far(namespace)
        return max(0.0, _ANSWER_SECONDS - waited)

    @contextmanager
    def waiting(self, namespace: str) -> Iterator[None]:
        """Count the time that this context lasts, in which a sender waits for an answer about a namespace."""
        began = self._clock()
        try:
            yield
        finally:
            waited, counted_at = self._so_far(namespace)
            waited += self._clock() - max(began, counted_at)
            self._waited.put(namespace, (waited, self._clock()), waited / _ANSWER_SHARE)

    def _so_far(self, namespace: str) -> tuple[float, float]:
        """Return for how long senders have waited, less a tenth of the time since then, and when that was counted."""
        waited, counted_at = self._waited.get(namespace) or (0.0, float("-inf"))
        return max(0.0, waited - _ANSWER_SHARE * (self._clock() - counted_at)), counted_at


# So many namespaces are listed at once for Events, and as many for sweeps: each list takes some megabytes. Most Events
# are answered before their namespace is listed.
_LISTED_AT_ONCE = 4
# So many namespaces are repaired as a whole at once: each repair keeps its failing pods until it ends.
_REPAIRED_AT_ONCE = 64


class _Turns:
    """The repairs that read one namespace, or wait until they may; their reads are numbered from 1."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.last_begun = 0
        self.last_whole = 0
        """The last read that has read all pods."""


class ReadsUnderWay(Generic[T]):
    """
    The reads of whole namespaces: in each namespace, one repair at a time reads all pods.

    A repair that asked for a read before this one started does not read again: it has repaired the pods of its own
    work item, and the reader repairs the rest. While the read runs, an Event that it will show is answered at once.

    The number of repairs at once is limited: those that list a namespace or keep many of its pods (`listing`, or
    `listing_for_sweeps`), and all that read one (`repairing`).
    """

    def __init__(self) -> None:
        self.listing = asyncio.Semaphore(_LISTED_AT_ONCE)
        self.listing_for_sweeps = asyncio.Semaphore(_LISTED_AT_ONCE)
        self.repairing = asyncio.Semaphore(_REPAIRED_AT_ONCE)
        self._turns: WeakValueDictionary[str, _Turns] = WeakValueDictionary()
        # By namespace: the repair that reads, the time of its read, and the pods that are left out.
        self._readers: dict[str, tuple[Run[T], datetime, frozenset[str]]] = {}

    @contextmanager
    def reading(self, namespace: str, run: Run[T], *, at: datetime, unsettled: frozenset[str]) -> Iterator[None]:
        """
        Let Events rely on the repair `run` while this context lasts, in which it reads all pods of a namespace.

        It reads each pod at the time `at` or later. The read does not count for the pods in `unsettled`: Saffire may
        still have to patch these.
        """
        self._readers[namespace] = run, at, unsettled
        try:
            yield
        finally:
            del self._readers[namespace]

    def reader_for(self, pod_failed: PodFailed) -> Run[T] | None:
        """Return the repair whose read runs now, and will show what an Event reports; `None` if there is none."""
        if pod_failed.namespace not in self._readers:
            return None
        run, at, unsettled = self._readers[pod_failed.namespace]
        return run if pod_failed.is_shown_at(at) and pod_failed.pod_uid not in unsettled else None

    async def in_turn(
        self, namespace: str, read: Callable[[], Awaitable[T]], *, must: bool, is_whole: Callable[[T], bool]
    ) -> T | None:
        """
        Wait until no other read of the namespace runs, await `read`, and return its result.

        If a read that began during this wait has read all pods, return `None` instead, unless `must`. `is_whole` tells
        of a result whether it is of all pods.
        """
        turns = self._turns.setdefault(namespace, _Turns())
        before = turns.last_begun
        async with turns.lock:
            if turns.last_whole > before and not must:
                return None
            turns.last_begun += 1
            result = await read()
            if is_whole(result):
                turns.last_whole = turns.last_begun
            return result


async def within(seconds: float, result: Awaitable[T]) -> T:
    """Return a result; raise `TransientError` if it takes longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await result
    except TimeoutError as error:
        raise TransientError("the repair took too long") from error


def _retrieve_error(task: asyncio.Task[T]) -> None:
    """
    Retrieve the error of a task, so that asyncio does not log the error if no caller waits for the task.

    A caller that waits gets the error all the same.
    """
    if not task.cancelled():
        task.exception()
