"""Runs: of each namespace one repair at a time and one behind it, whatever becomes of those who wait for them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from saffire.errors import TransientError
from saffire.reconcile.queue import CoalescingLock, CoalescingQueue, ReportEarly
from saffire.reconcile.request import PodFailed, WorkItem

DEADLINE_SECONDS = 10


def hint(number: int = 0) -> PodFailed:
    """Return a hint that differs from others by its number."""
    return PodFailed(
        namespace="shop", pod=f"web-{number}", pod_uid=f"uid-{number}", container="web", event=f"web.{number}"
    )


def order(number: int = 0, namespace: str = "shop") -> WorkItem:
    """Return the order of one hint."""
    return WorkItem(namespace=namespace, failed_pods=(hint(number),))


SWEEP = WorkItem(namespace="shop", whole_namespace=True, audit=True)


class Repairs:
    """Repairs that begin when they may, and end when a test says so."""

    def __init__(self) -> None:
        self.runs: CoalescingQueue[str] = CoalescingQueue(self._carry_out)
        self.begun: list[WorkItem] = []
        self.ended: list[WorkItem] = []
        self.at_once: dict[str, int] = {}
        self.most_at_once = 0
        self.tells: list[ReportEarly[str]] = []
        self._ends: list[asyncio.Future[str]] = []
        self._changed = asyncio.Condition()

    async def _carry_out(self, order: WorkItem, tell: ReportEarly[str]) -> str:
        end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.tells.append(tell)
        self.at_once[order.namespace] = self.at_once.get(order.namespace, 0) + 1
        self.most_at_once = max(self.most_at_once, *self.at_once.values())
        self.begun.append(order)
        self._ends.append(end)
        await self._tell()
        try:
            return await end
        finally:
            self.at_once[order.namespace] -= 1
            self.ended.append(order)
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, look: Callable[[], bool]) -> None:
        """Wait until it is so, by the repairs' own word."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._changed:
            await self._changed.wait_for(look)

    async def until_begun(self, count: int) -> None:
        """Wait until as many repairs have begun."""
        await self.until(lambda: len(self.begun) >= count)

    def end(self, number: int, result: str | Exception = "done") -> None:
        """End the repair of that number, counted from 0 in the order in which they began."""
        if isinstance(result, Exception):
            self._ends[number].set_exception(result)
        else:
            self._ends[number].set_result(result)

    def is_idle(self) -> bool:
        """Tell whether nothing is kept of any repair."""
        return not self.runs._running and not self.runs._waiting  # noqa: SLF001 - nobody else can see a leak


@pytest.fixture
def repairs() -> Repairs:
    """Give repairs of which none has begun."""
    return Repairs()


async def ask(repairs: Repairs, wanted: WorkItem) -> asyncio.Task[str]:
    """Have an order placed, and return the task that waits for it."""
    task = asyncio.create_task(repairs.runs.submit(wanted))
    await turn()
    return task


async def turn() -> None:
    """Let every task that is ready go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def finished(*tasks: Awaitable[str]) -> list[str | BaseException]:
    """Return what came of the tasks."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_order_alone_is_carried_out_as_it_is(repairs: Repairs) -> None:
    """Who asks for the only repair gets its result, and nothing is kept of it."""
    task = await ask(repairs, order())
    await repairs.until_begun(1)
    assert not repairs.is_idle()
    repairs.end(0, "moved")
    assert ["moved"] == await finished(task)
    assert ([order()], True) == (repairs.begun, repairs.is_idle())


async def test_what_arrives_meanwhile_is_one_repair_behind_the_first(repairs: Repairs) -> None:
    """However many orders come during a repair, one follows it that does all of them, and all get its result."""
    first = await ask(repairs, order(0))
    others = [await ask(repairs, order(number)) for number in (1, 2, 1, 3)]
    sweep = await ask(repairs, SWEEP)
    assert [order(0)] == repairs.begun
    repairs.end(0, "first")
    await repairs.until_begun(2)
    repairs.end(1, "second")
    assert ["first", *["second"] * 5] == await finished(first, *others, sweep)
    together = WorkItem(namespace="shop", failed_pods=(hint(1), hint(2), hint(3)), whole_namespace=True, audit=True)
    assert ([order(0), together], 1, True) == (repairs.begun, repairs.most_at_once, repairs.is_idle())


async def test_what_arrives_during_the_second_is_a_third(repairs: Repairs) -> None:
    """A repair that has begun is joined by nobody: what it has read is older than the news."""
    first, second = await ask(repairs, order(0)), await ask(repairs, order(1))
    repairs.end(0, "first")
    await repairs.until_begun(2)
    third = await ask(repairs, order(2))
    repairs.end(1, "second")
    await repairs.until_begun(3)
    repairs.end(2, "third")
    assert ["first", "second", "third"] == await finished(first, second, third)
    assert ([order(0), order(1), order(2)], 1) == (repairs.begun, repairs.most_at_once)


async def test_what_arrives_as_a_repair_ends_is_not_lost(repairs: Repairs) -> None:
    """Between the end of one repair and the start of the next an order joins the next, at any turn of the loop."""
    for turns in range(6):
        begun = len(repairs.begun)
        first, second = await ask(repairs, order(0)), await ask(repairs, order(1))
        repairs.end(begun)
        for _ in range(turns):
            await asyncio.sleep(0)
        late = asyncio.create_task(repairs.runs.submit(order(2)))
        await repairs.until_begun(begun + 2)
        await turn()
        repairs.end(begun + 1)
        if hint(2) not in repairs.begun[begun + 1].failed_pods:
            await repairs.until_begun(begun + 3)
            repairs.end(begun + 2)
        assert ["done"] * 3 == await finished(first, second, late)
        asked = [hint for begun_ in repairs.begun[begun:] for hint in begun_.failed_pods]
        assert [hint(0), hint(1), hint(2)] == asked
        assert (1, True) == (repairs.most_at_once, repairs.is_idle())


async def test_another_namespace_is_not_held_up(repairs: Repairs) -> None:
    """A repair that hangs delays its own namespace alone."""
    hanging, behind = await ask(repairs, order(0)), await ask(repairs, order(1))
    other = await ask(repairs, order(2, "other"))
    await repairs.until_begun(2)
    repairs.end(1, "other")
    assert ["other"] == await finished(other)
    assert [order(2, "other")] == repairs.ended
    repairs.end(0)
    await repairs.until_begun(3)
    repairs.end(2)
    assert ["done", "done"] == await finished(hanging, behind)
    assert repairs.is_idle()


@pytest.mark.parametrize("fault", [TransientError("away"), ZeroDivisionError()], ids=["ours", "a-bug"])
async def test_a_repair_that_fails_does_not_keep_the_next_from_running(repairs: Repairs, fault: Exception) -> None:
    """All who asked for it get its error; those who came later get the result of theirs."""
    first, again = await ask(repairs, order(0)), await ask(repairs, order(1))
    joined = await ask(repairs, order(2))
    repairs.end(0, fault)
    await repairs.until_begun(2)
    third = await ask(repairs, order(3))
    repairs.end(1, fault)
    await repairs.until_begun(3)
    repairs.end(2, "well")
    assert [fault, fault, fault, "well"] == await finished(first, again, joined, third)
    assert repairs.is_idle()


async def test_who_stops_waiting_ends_nothing(repairs: Repairs) -> None:
    """When senders hang up, their repairs go on, and all others get the results."""
    first = await ask(repairs, order(0))
    second, third = await ask(repairs, order(1)), await ask(repairs, order(2))
    for gone in (first, second):
        gone.cancel()
    assert [True, True] == [isinstance(one, asyncio.CancelledError) for one in await finished(first, second)]
    assert ([order(0)], []) == (repairs.begun, repairs.ended)
    repairs.end(0)
    await repairs.until_begun(2)
    assert (hint(1), hint(2)) == repairs.begun[1].failed_pods
    repairs.end(1, "for those who stayed")
    assert ["for those who stayed"] == await finished(third)
    assert repairs.is_idle()


async def test_a_repair_for_which_nobody_waits_is_carried_out(repairs: Repairs) -> None:
    """When every sender has gone, the repair goes on to its end, the one behind it too, and nothing is kept of them."""
    gone = [await ask(repairs, order(number)) for number in (0, 1)]
    for task in gone:
        task.cancel()
    await finished(*gone)
    repairs.end(0)
    await repairs.until_begun(2)
    repairs.end(1)
    await repairs.until(lambda: len(repairs.ended) > 1)
    await turn()
    assert ([order(0), order(1)], True) == (repairs.ended, repairs.is_idle())


async def test_what_is_told_before_the_end_is_enough_for_some(repairs: Repairs) -> None:
    """Whoever is content with what is known so far gets that, and the repair goes on for all others."""
    whole = await ask(repairs, order(0))
    content = asyncio.create_task(repairs.runs.submit(order(1), is_enough=lambda told: told == "web-1 is moved"))
    behind = asyncio.create_task(repairs.runs.submit(order(2), is_enough=lambda told: told == "web-2 is moved"))
    await turn()
    repairs.end(0)
    await repairs.until_begun(2)
    assert ["done"] == await finished(whole)
    repairs.tells[1]("web-1 is moved")
    assert ["web-1 is moved"] == await finished(content)
    assert (behind.done(), repairs.is_idle()) == (False, False)
    late = await ask(repairs, order(3))
    repairs.end(1, "all are moved")
    assert ["all are moved"] == await finished(behind)
    await repairs.until_begun(3)
    repairs.end(2)
    assert ["done"] == await finished(late)
    assert repairs.is_idle()


async def test_nobody_waits_for_a_word_that_does_not_come(repairs: Repairs) -> None:
    """A repair that tells nothing before its end, or fails, ends the wait of those who would have been content."""
    first = asyncio.create_task(repairs.runs.submit(order(0), is_enough=lambda _: True))
    await repairs.until_begun(1)
    second = asyncio.create_task(repairs.runs.submit(order(1), is_enough=lambda _: True))
    await turn()
    repairs.end(0, "done")
    await repairs.until_begun(2)
    fault = TransientError("away")
    repairs.end(1, fault)
    assert ["done", fault] == await finished(first, second)
    assert repairs.is_idle()


class Looks:
    """Looks of one namespace that begin when they may, and end when a test says so."""

    def __init__(self) -> None:
        self.turns = CoalescingLock()
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Future[str]] = {}

    async def take(self, name: str, *, must: bool = False, namespace: str = "shop") -> asyncio.Task[str | None]:
        """Have a look taken, and return the task that waits for it."""

        async def look() -> str:
            self.begun.append(name)
            self._ends[name] = asyncio.get_running_loop().create_future()
            return await self._ends[name]

        task = asyncio.create_task(self.turns.run(namespace, look, must=must))
        await turn()
        return task

    async def end(self, name: str, result: str | Exception = "looked") -> None:
        """End a look that has begun."""
        if isinstance(result, Exception):
            self._ends[name].set_exception(result)
        else:
            self._ends[name].set_result(result)
        await turn()


async def test_one_look_that_waits_does_for_all_who_come_meanwhile() -> None:
    """A second look waits for the first; whoever comes before it begins waits for it, and takes none."""
    looks = Looks()
    first, second = await looks.take("first"), await looks.take("second")
    others = [await looks.take("third"), await looks.take("fourth")]
    elsewhere = await looks.take("elsewhere", namespace="other")
    assert ["first", "elsewhere"] == looks.begun
    await looks.end("first")
    assert ["first", "elsewhere", "second"] == looks.begun
    late = await looks.take("late")
    assert not any(other.done() for other in others)
    await looks.end("second")
    assert ["first", "elsewhere", "second", "late"] == looks.begun
    for name in ("late", "elsewhere"):
        await looks.end(name)
    assert ["looked", "looked", None, None, "looked", "looked"] == [
        await task for task in (first, second, *others, late, elsewhere)
    ]


async def test_a_look_that_fails_does_for_nobody_else() -> None:
    """Whoever waited for it takes one."""
    looks = Looks()
    first, second = await looks.take("first"), await looks.take("second")
    other = await looks.take("other")
    await looks.end("first")
    await looks.end("second", ZeroDivisionError())
    assert ["first", "second", "other"] == looks.begun
    await looks.end("other")
    assert ["looked", "looked"] == [await first, await other]
    with pytest.raises(ZeroDivisionError):
        await second


async def test_who_must_look_takes_a_turn_of_their_own() -> None:
    """However many wait, and whatever becomes of the looks before."""
    looks = Looks()
    first, second = await looks.take("first"), await looks.take("second")
    own = await looks.take("own", must=True)
    await looks.end("first", ZeroDivisionError())
    await looks.end("second")
    assert ["first", "second", "own"] == looks.begun
    await looks.end("own")
    assert ["looked", "looked"] == [await second, await own]
    with pytest.raises(ZeroDivisionError):
        await first


async def test_who_stops_waiting_for_a_look_keeps_nobody_else_from_it() -> None:
    """If a caller has gone before its look began, another of those who waited for that takes one."""
    looks = Looks()
    first, gone = await looks.take("first"), await looks.take("gone")
    second, third = await looks.take("second"), await looks.take("third")
    gone.cancel()
    await turn()
    await looks.end("first")
    assert ["first", "second"] == looks.begun
    await looks.end("second")
    assert ["looked", "looked", None] == [await first, await second, await third]
    assert gone.cancelled()


async def test_an_order_may_follow_what_was_told() -> None:
    """Where what was told says so, the next order is carried out beside the rest of the one before."""
    begun: list[WorkItem] = []
    end = asyncio.Event()

    async def carry_out(order: WorkItem, tell: ReportEarly[str]) -> str:
        begun.append(order)
        tell(order.failed_pods[0].pod)
        await end.wait()
        return "done"

    runs: CoalescingQueue[str] = CoalescingQueue(carry_out, may_start_next=lambda told: told == "web-0")
    tasks = [asyncio.create_task(runs.submit(order(number))) for number in range(3)]
    await turn()
    await turn()
    assert [order(0), WorkItem(namespace="shop", failed_pods=(hint(1), hint(2)))] == begun
    tasks.append(asyncio.create_task(runs.submit(order(3))))
    await turn()
    assert 2 == len(begun)
    end.set()
    assert ["done"] * 4 == await finished(*tasks)
    assert 3 == len(begun)
