"""Waits for conditions that send no notification when they become true."""

import asyncio
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Check `condition` again and again, until it is true."""
    while not await condition():  # noqa: ASYNC110 -- nothing notifies
        await asyncio.sleep(POLL_SECONDS)
