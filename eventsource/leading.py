"""What the source does while it leads: it forwards each collection, and asks for sweeps."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

from eventsource.delivery import SinkConnection
from eventsource.forwarding import Forwarder
from eventsource.sweep import ask_for_sweeps
from eventsource.watch import COLLECTIONS, WatchingServer

_ANSWER_SECONDS = 5.0
_OK = 200


class Leader:
    """
    Posts to the function for as long as `lead` runs.

    Args:
        server: the API server.
        sink: the URL of the function.
        shortest_seconds: the shortest time from one sweep to the next.

    """

    def __init__(self, server: WatchingServer, sink: str, *, shortest_seconds: float) -> None:
        self._server = server
        self._sink = sink
        self._shortest_seconds = shortest_seconds
        self._forwarders: Sequence[Forwarder] = ()

    @property
    def fault(self) -> str:
        """Why a collection is not watched now; `""` if all are, or if this source does not lead."""
        return next((forwarder.fault for forwarder in self._forwarders if forwarder.fault), "")

    async def lead(self, may_post: Callable[[], bool]) -> NoReturn:
        """Forward and ask for sweeps until this is cancelled; post nothing while `may_post` returns false."""
        after_gap = asyncio.Event()
        self._forwarders = [
            Forwarder(self._server, collection, self._sink, may_post=may_post, on_gap=after_gap.set)
            for collection in COLLECTIONS
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for forwarder in self._forwarders:
                    group.create_task(forwarder.run())
                await ask_for_sweeps(self._sink, after_gap, shortest_seconds=self._shortest_seconds)
        finally:
            self._forwarders = ()

    async def function_answers(self) -> bool:
        """Tell whether the function answers its probe within five seconds."""
        connection = SinkConnection(self._sink)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return (
                    await connection.post(f"GET /healthz HTTP/1.1\r\nHost: {connection.host}\r\n\r\n".encode()) == _OK
                )
        except Exception:  # noqa: BLE001 - whatever keeps it from answering
            return False
        finally:
            await connection.close()
