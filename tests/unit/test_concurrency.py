"""Sharing the event loop: long work lets other tasks run, and results keep their order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from saffire.concurrency import RateLimit, gather_in_order, yielding

MANY = 100


async def numbers() -> AsyncIterator[int]:
    """Yield numbers without giving the loop to other tasks."""
    for number in range(MANY):
        yield number


async def test_other_tasks_run_between_items() -> None:
    """A task that is ready does not wait for the last item."""
    lengths: list[int] = []

    async def observe() -> None:
        while True:
            lengths.append(len(yielded))
            await asyncio.sleep(0)

    yielded: list[int] = []
    task = asyncio.create_task(observe())
    async for number in yielding(numbers()):
        yielded.append(number)  # noqa: PERF401 - the other task reads the list between items
    task.cancel()
    assert list(range(MANY)) == yielded
    assert any(0 < length < MANY for length in lengths)


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
