"""The event loop's turns: nobody is kept waiting by long work, and nothing is done in another order for that."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from saffire.concurrency import gather_in_order, yielding

MANY = 100


async def numbers() -> AsyncIterator[int]:
    """Yield numbers, none of which has to be waited for."""
    for number in range(MANY):
        yield number


async def test_others_have_their_turn_meanwhile() -> None:
    """Whoever is ready does not wait for the last of many."""
    seen: list[int] = []

    async def other() -> None:
        while True:
            seen.append(len(got))
            await asyncio.sleep(0)

    got: list[int] = []
    task = asyncio.create_task(other())
    async for number in yielding(numbers()):
        got.append(number)  # noqa: PERF401 - the other looks at it meanwhile
    task.cancel()
    assert list(range(MANY)) == got
    assert any(0 < length < MANY for length in seen)


async def double(number: int) -> int:
    """Return twice a number, a turn later."""
    await asyncio.sleep(0)
    if not number:
        raise ValueError("nothing")
    return 2 * number


@pytest.mark.parametrize("many", [[], [1], [3, 1, 2]])
async def test_what_comes_of_each_has_its_order(many: list[int]) -> None:
    """However many there are."""
    assert [2 * number for number in many] == await gather_in_order([double(number) for number in many])


@pytest.mark.parametrize("many", [[0], [1, 0]])
async def test_what_goes_wrong_is_raised(many: list[int]) -> None:
    """However many there are."""
    with pytest.raises(ValueError, match="nothing"):
        await gather_in_order([double(number) for number in many])
