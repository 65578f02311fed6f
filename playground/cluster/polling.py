"""Waiting for what no event tells of."""

import asyncio
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Look, again and again, until `look` says that it is so."""
    while not await look():  # noqa: ASYNC110 -- no event tells
        await asyncio.sleep(POLL_SECONDS)
