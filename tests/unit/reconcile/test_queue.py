"""The work queue: one repair of a namespace runs and one more waits, even if their callers stop waiting."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saffire.errors import TransientError
from saffire.reconcile.queue import AnswerLimit, CoalescingQueue, ReadsUnderWay, Run
from saffire.reconcile.request import PodFailed, WorkItem
from testkit.builders import NOW

DEADLINE_SECONDS = 10


def pod_failed(number: int = 0) -> PodFailed:
    """Return the request for a failed pod, which differs from others by its number."""
    return PodFailed(
        namespace="shop", pod=f"web-{number}", pod_uid=f"uid-{number}", container="web", event=f"web.{number}"
    )


def item(number: int = 0, namespace: str = "shop") -> WorkItem:
    """Return the work item of one failed pod."""
    return WorkItem(namespace=namespace, failed_pods=(pod_failed(number),))


SWEEP = WorkItem(namespace="shop", whole_namespace=True, audit=True)


class Repairs:
    """A queue whose repairs end when a test says so."""

    def __init__(self) -> None:
        self.queue: CoalescingQueue[str] = CoalescingQueue(self._process)
        self.begun: list[WorkItem] = []
        self.ended: list[WorkItem] = []
        self.at_once: dict[str, int] = {}
        self.most_at_once = 0
        self.runs: list[Run[str]] = []
        self._ends: list[asyncio.Future[str]] = []
        self._changed = asyncio.Condition()

    async def _process(self, work_item: WorkItem, run: Run[str]) -> str:
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.runs.append(run)
        self.at_once[work_item.namespace] = self.at_once.get(work_item.namespace, 0) + 1
        self.most_at_once = max(self.most_at_once, *self.at_once.values())
        self.begun.append(work_item)
        self._ends.append(end)
        await self._notify()
        try:
            return await end
        finally:
            self.at_once[work_item.namespace] -= 1
            self.ended.append(work_item)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked whenever a repair begins or ends."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._changed:
            await self._changed.wait_for(is_so)

    async def until_begun(self, count: int) -> None:
        """Wait until so many repairs have begun."""
        await self.until(lambda: len(self.begun) >= count)

    def end(self, number: int, result: str | Exception = "done") -> None:
        """End the repair of that number, counted from 0 in the order in which they began."""
        if isinstance(result, Exception):
            self._ends[number].set_exception(result)
        else:
            self._ends[number].set_result(result)

    def is_idle(self) -> bool:
        """Tell whether the queue holds no repair."""
        return not self.queue._running and not self.queue._waiting  # noqa: SLF001 - a leak shows nowhere else


@pytest.fixture
def repairs() -> Repairs:
    """Give a queue without repairs."""
    return Repairs()


async def submit(repairs: Repairs, work_item: WorkItem) -> asyncio.Task[str]:
    """Submit a work item, and return the task that waits for its outcome."""
    task = asyncio.create_task(repairs.queue.submit(work_item))
    await run_ready_tasks()
    return task


async def run_ready_tasks() -> None:
    """Let every task that is ready run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def finished(*tasks: Awaitable[str]) -> list[str | BaseException]:
    """Return the results and errors of the tasks."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_work_item_alone_is_processed_as_it_is(repairs: Repairs) -> None:
    """The caller of the only repair gets its outcome, and the queue is empty after that."""
    task = await submit(repairs, item())
    await repairs.until_begun(1)
    assert not repairs.is_idle()
    repairs.end(0, "moved")
    assert ["moved"] == await finished(task)
    assert ([item()], True) == (repairs.begun, repairs.is_idle())


async def test_what_arrives_during_a_repair_is_one_repair_after_it(repairs: Repairs) -> None:
    """All work items that arrive during a repair are one repair after it, and all their callers get its outcome."""
    first = await submit(repairs, item(0))
    others = [await submit(repairs, item(number)) for number in (1, 2, 1, 3)]
    sweep = await submit(repairs, SWEEP)
    assert [item(0)] == repairs.begun
    repairs.end(0, "first")
    await repairs.until_begun(2)
    repairs.end(1, "second")
    assert ["first", *["second"] * 5] == await finished(first, *others, sweep)
    merged = WorkItem(
        namespace="shop", failed_pods=(pod_failed(1), pod_failed(2), pod_failed(3)), whole_namespace=True, audit=True
    )
    assert ([item(0), merged], 1, True) == (repairs.begun, repairs.most_at_once, repairs.is_idle())


async def test_what_waits_stays_small(repairs: Repairs) -> None:
    """Eight thousand work items that arrive during a repair take no second, and become one look at the namespace."""
    repairs.queue.enqueue(item(0))
    await repairs.until_begun(1)
    began = time.perf_counter()
    for number in range(8_000):
        repairs.queue.enqueue(item(number))
    assert 1 > time.perf_counter() - began
    last = await submit(repairs, item(8_000))
    repairs.end(0)
    await repairs.until_begun(2)
    repairs.end(1)
    assert ["done"] == await finished(last)
    assert WorkItem(namespace="shop", whole_namespace=True, many_failed=True) == repairs.begun[1]


async def test_what_arrives_during_the_second_is_a_third(repairs: Repairs) -> None:
    """No work item is merged into a repair that has begun: the repair may have read the pods before they failed."""
    first, second = await submit(repairs, item(0)), await submit(repairs, item(1))
    repairs.end(0, "first")
    await repairs.until_begun(2)
    third = await submit(repairs, item(2))
    repairs.end(1, "second")
    await repairs.until_begun(3)
    repairs.end(2, "third")
    assert ["first", "second", "third"] == await finished(first, second, third)
    assert ([item(0), item(1), item(2)], 1) == (repairs.begun, repairs.most_at_once)


async def test_what_arrives_as_a_repair_ends_is_not_lost(repairs: Repairs) -> None:
    """Between the end of one repair and the start of the next, at any turn of the loop, a work item joins the next."""
    for turns in range(6):
        begun = len(repairs.begun)
        first, second = await submit(repairs, item(0)), await submit(repairs, item(1))
        repairs.end(begun)
        for _ in range(turns):
            await asyncio.sleep(0)
        late = asyncio.create_task(repairs.queue.submit(item(2)))
        await repairs.until_begun(begun + 2)
        await run_ready_tasks()
        repairs.end(begun + 1)
        if pod_failed(2) not in repairs.begun[begun + 1].failed_pods:
            await repairs.until_begun(begun + 3)
            repairs.end(begun + 2)
        assert ["done"] * 3 == await finished(first, second, late)
        processed = [failed for work_item in repairs.begun[begun:] for failed in work_item.failed_pods]
        assert [pod_failed(0), pod_failed(1), pod_failed(2)] == processed
        assert (1, True) == (repairs.most_at_once, repairs.is_idle())


async def test_another_namespace_is_not_held_up(repairs: Repairs) -> None:
    """A repair that hangs delays only its own namespace."""
    hanging, behind = await submit(repairs, item(0)), await submit(repairs, item(1))
    other = await submit(repairs, item(2, "other"))
    await repairs.until_begun(2)
    repairs.end(1, "other")
    assert ["other"] == await finished(other)
    assert [item(2, "other")] == repairs.ended
    repairs.end(0)
    await repairs.until_begun(3)
    repairs.end(2)
    assert ["done", "done"] == await finished(hanging, behind)
    assert repairs.is_idle()


@pytest.mark.parametrize("fault", [TransientError("away"), ZeroDivisionError()], ids=["ours", "a-bug"])
async def test_a_repair_that_fails_does_not_keep_the_next_from_running(repairs: Repairs, fault: Exception) -> None:
    """All callers of a repair get its error; callers of the next repair get the outcome of that."""
    first, again = await submit(repairs, item(0)), await submit(repairs, item(1))
    joined = await submit(repairs, item(2))
    repairs.end(0, fault)
    await repairs.until_begun(2)
    third = await submit(repairs, item(3))
    repairs.end(1, fault)
    await repairs.until_begun(3)
    repairs.end(2, "well")
    assert [fault, fault, fault, "well"] == await finished(first, again, joined, third)
    assert repairs.is_idle()


async def test_a_caller_that_stops_waiting_ends_no_repair(repairs: Repairs) -> None:
    """If senders disconnect, their repairs go on, and all other callers get the outcomes."""
    first = await submit(repairs, item(0))
    second, third = await submit(repairs, item(1)), await submit(repairs, item(2))
    for task in (first, second):
        task.cancel()
    assert [True, True] == [isinstance(end, asyncio.CancelledError) for end in await finished(first, second)]
    assert ([item(0)], []) == (repairs.begun, repairs.ended)
    repairs.end(0)
    await repairs.until_begun(2)
    assert (pod_failed(1), pod_failed(2)) == repairs.begun[1].failed_pods
    repairs.end(1, "for those who wait")
    assert ["for those who wait"] == await finished(third)
    assert repairs.is_idle()


async def test_a_repair_for_which_no_caller_waits_is_processed(repairs: Repairs) -> None:
    """If every sender disconnects, the repair and the one after it go on to their end, and the queue is empty then."""
    tasks = [await submit(repairs, item(number)) for number in (0, 1)]
    for task in tasks:
        task.cancel()
    await finished(*tasks)
    repairs.end(0)
    await repairs.until_begun(2)
    repairs.end(1)
    await repairs.until(lambda: len(repairs.ended) > 1)
    await run_ready_tasks()
    assert ([item(0), item(1)], True) == (repairs.ended, repairs.is_idle())


async def test_an_early_report_is_enough_for_some_callers(repairs: Repairs) -> None:
    """A caller that accepts the early report gets it, and the repair goes on for all others."""
    whole = await submit(repairs, item(0))
    content = asyncio.create_task(repairs.queue.submit(item(1), is_enough=lambda report: report == "web-1 is moved"))
    behind = asyncio.create_task(repairs.queue.submit(item(2), is_enough=lambda report: report == "web-2 is moved"))
    await run_ready_tasks()
    repairs.end(0)
    await repairs.until_begun(2)
    assert ["done"] == await finished(whole)
    repairs.runs[1].report_early("web-1 is moved")
    assert ["web-1 is moved"] == await finished(content)
    assert (behind.done(), repairs.is_idle()) == (False, False)
    late = await submit(repairs, item(3))
    repairs.end(1, "all are moved")
    assert ["all are moved"] == await finished(behind)
    await repairs.until_begun(3)
    repairs.end(2)
    assert ["done"] == await finished(late)
    assert repairs.is_idle()


async def test_no_caller_waits_for_an_early_report_that_does_not_come(repairs: Repairs) -> None:
    """If a repair ends or fails without an early report, callers that would accept one get the outcome or the error."""
    first = asyncio.create_task(repairs.queue.submit(item(0), is_enough=lambda _: True))
    await repairs.until_begun(1)
    second = asyncio.create_task(repairs.queue.submit(item(1), is_enough=lambda _: True))
    await run_ready_tasks()
    repairs.end(0, "done")
    await repairs.until_begun(2)
    fault = TransientError("away")
    repairs.end(1, fault)
    assert ["done", fault] == await finished(first, second)
    assert repairs.is_idle()


async def test_an_item_that_is_due_early_does_not_wait_for_one_that_is_due_late(repairs: Repairs) -> None:
    """A repair after the kubelet's next try may be due in a minute, and one for a flood of Events in seconds."""
    for seconds in (60, 0.01, 60):
        repairs.queue.enqueue_later(item(), seconds)
    await repairs.until_begun(1)
    repairs.end(0)
    await repairs.until(lambda: [item()] == repairs.ended)


class Senders:
    """Senders that wait for answers, and the time that passes meanwhile."""

    def __init__(self) -> None:
        self.now = 100.0
        self.limit = AnswerLimit(longest_seconds=50, clock=lambda: self.now)

    def wait(self, seconds: float, namespace: str = "shop") -> None:
        """Let a sender wait for so many seconds."""
        with self.limit.waiting(namespace):
            self.now += seconds

    def left(self, namespace: str = "shop") -> float:
        """Return for how long a sender may wait."""
        return round(self.limit.left(namespace), 3)


def test_senders_wait_three_seconds_and_then_a_tenth_of_the_time() -> None:
    """However long the repairs of a namespace take, an event source has nine tenths of its time for others."""
    senders = Senders()
    senders.wait(2)
    assert (1, 3) == (senders.left(), senders.left("other"))
    senders.wait(5)
    assert 0 == senders.left()
    waited = 0.0
    for _ in range(1000):
        senders.now += 1
        waited += (seconds := senders.left())
        senders.wait(seconds)
    assert 90 < waited < 111
    senders.now += 3600
    assert 3 == senders.left()


def test_the_time_in_which_several_senders_wait_counts_once() -> None:
    """A Broker delivers twenty Events at a time."""
    senders = Senders()
    with senders.limit.waiting("shop"), senders.limit.waiting("shop"):
        senders.wait(1)
        senders.now += 1
    assert 1 == round(senders.left())


class Reads:
    """Reads of namespaces, which end when a test says so."""

    def __init__(self) -> None:
        self.under_way: ReadsUnderWay[str] = ReadsUnderWay()
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Future[str]] = {}

    async def start(self, name: str, *, must: bool = False, namespace: str = "shop") -> asyncio.Task[str | None]:
        """Ask for a read, and return the task that waits for it."""

        async def read() -> str:
            self.begun.append(name)
            self._ends[name] = asyncio.get_running_loop().create_future()
            return await self._ends[name]

        is_whole = "read".__eq__
        task = asyncio.create_task(self.under_way.in_turn(namespace, read, must=must, is_whole=is_whole))
        await run_ready_tasks()
        return task

    async def end(self, name: str, result: str | Exception = "read") -> None:
        """End a read that has begun."""
        if isinstance(result, Exception):
            self._ends[name].set_exception(result)
        else:
            self._ends[name].set_result(result)
        await run_ready_tasks()


async def test_one_read_that_waits_does_for_all_callers_that_come_before_it_starts() -> None:
    """A second read waits for the first; callers that come before it starts do not read once it has ended."""
    reads = Reads()
    first, second = await reads.start("first"), await reads.start("second")
    others = [await reads.start("third"), await reads.start("fourth")]
    elsewhere = await reads.start("elsewhere", namespace="other")
    assert ["first", "elsewhere"] == reads.begun
    await reads.end("first")
    assert ["first", "elsewhere", "second"] == reads.begun
    late = await reads.start("late")
    assert not any(other.done() for other in others)
    await reads.end("second")
    assert ["first", "elsewhere", "second", "late"] == reads.begun
    for name in ("late", "elsewhere"):
        await reads.end(name)
    assert ["read", "read", None, None, "read", "read"] == [
        await task for task in (first, second, *others, late, elsewhere)
    ]


async def test_a_read_that_fails_does_for_no_other_caller() -> None:
    """A caller that waited for it reads itself."""
    reads = Reads()
    first, second = await reads.start("first"), await reads.start("second")
    other = await reads.start("other")
    await reads.end("first")
    await reads.end("second", ZeroDivisionError())
    assert ["first", "second", "other"] == reads.begun
    await reads.end("other")
    assert ["read", "read"] == [await first, await other]
    with pytest.raises(ZeroDivisionError):
        await second


async def test_a_read_that_ran_out_of_time_does_for_no_other_caller() -> None:
    """Its caller gets what was read; another that waited for it reads the rest."""
    reads = Reads()
    first, second = await reads.start("first"), await reads.start("second")
    other = await reads.start("other")
    await reads.end("first")
    await reads.end("second", "a part")
    assert ["first", "second", "other"] == reads.begun
    await reads.end("other")
    assert ["read", "a part", "read"] == [await first, await second, await other]


async def test_a_caller_that_must_read_does_so() -> None:
    """It does so however many callers wait, and whether earlier reads succeed or fail."""
    reads = Reads()
    first, second = await reads.start("first"), await reads.start("second")
    own = await reads.start("own", must=True)
    await reads.end("first", ZeroDivisionError())
    await reads.end("second")
    assert ["first", "second", "own"] == reads.begun
    await reads.end("own")
    assert ["read", "read"] == [await second, await own]
    with pytest.raises(ZeroDivisionError):
        await first


async def test_a_caller_that_stops_waiting_keeps_no_other_from_reading() -> None:
    """If a caller stops waiting before its read starts, one of those that relied on it reads."""
    reads = Reads()
    first, gone = await reads.start("first"), await reads.start("gone")
    second, third = await reads.start("second"), await reads.start("third")
    gone.cancel()
    await run_ready_tasks()
    await reads.end("first")
    assert ["first", "second"] == reads.begun
    await reads.end("second")
    assert ["read", "read", None] == [await first, await second, await third]
    assert gone.cancelled()


@pytest.mark.parametrize(
    ("expected", "after", "fields"),
    [
        pytest.param(True, 2, {}, id="older-by-more-than-a-status-lags"),
        pytest.param(False, 1.999, {}, id="as-old-as-its-status-may-lag"),
        pytest.param(False, -1, {}, id="newer"),
        pytest.param(False, 60, {"namespace": "other"}, id="another-namespace"),
        pytest.param(False, 60, {"at": None}, id="without-a-time"),
        pytest.param(False, 60, {"pod_uid": "unsettled"}, id="a-pod-that-is-left-out"),
    ],
)
async def test_an_older_event_may_rely_on_a_read_that_runs(
    *, expected: bool, after: float, fields: dict[str, Any]
) -> None:
    """It may do so only while the read runs, whose repair it names."""
    under_way, failed, run = ReadsUnderWay[str](), replace(pod_failed(), **({"at": NOW} | fields)), Run[str]()
    assert under_way.reader_for(failed) is None
    at = NOW + timedelta(seconds=after)
    with under_way.reading("shop", run, at=at, unsettled=frozenset({"unsettled"})):
        assert (run if expected else None) is under_way.reader_for(failed)
    assert under_way.reader_for(failed) is None


async def test_a_work_item_may_start_after_an_early_report() -> None:
    """If the early report allows it, the next work item is processed beside the rest of the one before."""
    begun: list[WorkItem] = []
    end = asyncio.Event()

    async def process(work_item: WorkItem, run: Run[str]) -> str:
        begun.append(work_item)
        run.report_early(work_item.failed_pods[0].pod)
        await end.wait()
        return "done"

    queue: CoalescingQueue[str] = CoalescingQueue(process, may_start_next=lambda report: report == "web-0")
    tasks = [asyncio.create_task(queue.submit(item(number))) for number in range(3)]
    await run_ready_tasks()
    await run_ready_tasks()
    assert [item(0), WorkItem(namespace="shop", failed_pods=(pod_failed(1), pod_failed(2)))] == begun
    tasks.append(asyncio.create_task(queue.submit(item(3))))
    await run_ready_tasks()
    assert 2 == len(begun)
    end.set()
    assert ["done"] * 4 == await finished(*tasks)
    assert 3 == len(begun)
