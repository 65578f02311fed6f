"""Sharing the event loop: long work lets other tasks run, and results keep their order."""

import asyncio
from collections.abc import Generator

import pytest

from saffire.concurrency import RateLimit, Turn, gather_in_order, gather_in_turns, in_turns, with_pauses


async def test_long_work_lets_other_tasks_run() -> None:
    """A task that has kept the loop for 2 ms gives way; one that has kept it for less does not."""
    turns: list[float] = []
    now = 0.0
    turn = Turn(lambda: now)

    async def observe() -> None:
        while True:
            turns.append(now)
            await asyncio.sleep(0)

    task = asyncio.create_task(observe())
    for now in (0, 0.001, 0.0019, 0.002, 0.003, 0.0039, 0.0041):  # noqa: B007 - the clock returns it
        await turn.give_way()
    task.cancel()
    assert [0.002, 0.0041] == turns


async def test_a_long_collection_lets_other_tasks_run() -> None:
    """Its items come in order; a task that is ready does not wait for the last of them."""
    seen: list[int] = []

    async def observe() -> int:
        return len(seen)

    task = asyncio.create_task(observe())
    async for number in with_pauses(range(100_000)):  # which takes much longer than 2 ms
        seen.append(number)  # noqa: PERF401 - the other task reads the list between items
    assert list(range(100_000)) == seen
    assert 0 < await task < 100_000


async def test_steps_are_run_to_their_end() -> None:
    """What the last step returns is the result; a fault of a step is raised."""

    def steps(divisor: int) -> Generator[None, None, int]:
        yield
        yield
        return 6 // divisor

    assert 3 == await in_turns(steps(2))
    with pytest.raises(ZeroDivisionError):
        await in_turns(steps(0))


async def test_other_tasks_run_between_the_first_steps_of_many() -> None:
    """The first step of each may take long. The results are in order."""
    order: list[int] = []

    async def begin(number: int) -> int:
        order.append(number)
        await asyncio.sleep(0)
        return 2 * number

    async def observe() -> None:
        while True:
            order.append(0)
            await asyncio.sleep(0)

    task = asyncio.create_task(observe())
    assert [2, 4, 6] == await gather_in_turns(begin(number) for number in (1, 2, 3))
    task.cancel()
    assert 0 in order[order.index(1) : order.index(2)]
    assert 0 in order[order.index(2) : order.index(3)]


async def test_a_fault_ends_the_rest() -> None:
    """No task goes on alone if one fails, or if the caller is cancelled."""
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("wait")

    async def fail() -> None:
        raise ValueError("nothing")

    with pytest.raises(ValueError, match="nothing"):
        await gather_in_turns(coroutine for coroutine in (wait(), fail()))
    await asyncio.sleep(0)
    assert ["wait"] == ended


async def double(number: int) -> int:
    """Return twice a number after one round of the loop; raise an error for 0."""
    await asyncio.sleep(0)
    if not number:
        raise ValueError("nothing")
    return 2 * number


@pytest.mark.parametrize("values", [[], [1], [3, 1, 2]])
async def test_results_are_in_order(values: list[int]) -> None:
    """None, one or several awaitables give their results in the order of the arguments."""
    assert [2 * number for number in values] == await gather_in_order([double(number) for number in values])


@pytest.mark.parametrize("values", [[0], [1, 0]])
async def test_an_error_is_raised(values: list[int]) -> None:
    """It is raised from a single awaitable and from one of several."""
    with pytest.raises(ValueError, match="nothing"):
        await gather_in_order([double(number) for number in values])


def test_a_rate_limit_allows_a_burst_and_then_pauses() -> None:
    """Work is allowed at once until its charges exceed the burst; after a rest, a burst is allowed again."""
    now = 0.0
    limit = RateLimit(3, lambda: now)
    for _ in range(3):
        limit.charge(1)
        assert 0 == limit.delay
    limit.charge(1)
    assert 1 == limit.delay
    now = 0.75
    assert 0.25 == limit.delay
    now = 1
    assert 0 == limit.delay
    now = 100
    for _ in range(4):
        assert 0 == limit.delay
        limit.charge(1)
    assert 1 == limit.delay


def test_work_that_is_done_all_the_same_adds_one_pause_at_most() -> None:
    """Whoever does not ask for the delay cannot run up one for all others."""
    limit = RateLimit(3, lambda: 0.0)
    for _ in range(1000):
        limit.charge(1)
    assert 1 == limit.delay
