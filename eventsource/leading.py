"""What the source does while it leads: it forwards each collection, and asks for sweeps."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from eventsource.delivery import Delivery, SinkConnection
from eventsource.forwarding import Forwarder
from eventsource.sweep import MINUTE, ask_for_sweeps
from eventsource.watch import COLLECTIONS, WatchingServer

_ANSWER_SECONDS = 5.0
_OK = 200
_REFUSED_PINGS = 2


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
        self._refused_pings = 0
        self._back_at = float("-inf")

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
                await ask_for_sweeps(
                    self._sink, after_gap, shortest_seconds=self._shortest_seconds, on_answer=self.pinged
                )
        finally:
            self._forwarders = ()

    def pinged(self, delivery: Delivery) -> None:
        """Note how a ping ended; after two in a row that the function did not accept, its pod stands back a minute."""
        self._refused_pings = 0 if delivery.accepted else self._refused_pings + 1
        if self._refused_pings == _REFUSED_PINGS:
            self._refused_pings, self._back_at = 0, time.monotonic() + MINUTE

    async def function_answers(self) -> bool:
        """
        Tell whether the function answers its probe within five seconds, and its pod does not stand back.

        The probe asks nothing of the cluster. A function that cannot reach the API server answers it, but accepts no
        ping. If the other pod's does not either, the Lease goes back and forth.
        """
        if time.monotonic() < self._back_at:
            return False
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
