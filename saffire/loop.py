"""
The event loop: long work lets others have their turn.

There is one event loop, and all that is ready in it goes round in turns. In a storm an Event of one namespace waits
at each step for whatever other namespaces do in one go, so that nothing may take long in one go.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from typing import TypeVar

T = TypeVar("T")

# Each round of the loop takes as long as all others want, so that there are not to be too many either.
_IN_ONE_GO = 16


async def give_way() -> None:
    """Let whoever is ready go first."""
    await asyncio.sleep(0)


async def in_turns(many: AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield what there is, and give way now and then."""
    count = 0
    async for one in many:
        yield one
        count += 1
        if count % _IN_ONE_GO == 0:
            await give_way()


async def side_by_side(all_of: Sequence[Awaitable[T]]) -> list[T]:
    """Return what comes of each, in order; one alone needs no task, which would cost it two rounds."""
    if len(all_of) == 1:
        return [await all_of[0]]
    return list(await asyncio.gather(*all_of))
