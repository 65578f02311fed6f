"""A PingSource as Knative runs it: it asks Saffire for a sweep, once a minute."""

import asyncio
import contextlib
from typing import Self

from eventsource.delivery import SinkConnection
from eventsource.sweep import send_ping

MINUTE = 60.0


class PingSource:
    """
    Sends pings to `sink`; use as an async context manager.

    Args:
        sink: `http://HOST:PORT/PATH`.
        seconds: from one ping to the next, and from the start to the first.

    """

    def __init__(self, sink: str, *, seconds: float = MINUTE) -> None:
        self._connection = SinkConnection(sink)
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._ping())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._connection.close()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await send_ping(self._connection)
