"""
Asks the function for sweeps, as the PingSource of knative/pingsource.yaml does.

A sweep repairs what the function would have repaired after Events that were lost. So there is one every minute, and
one soon after each gap: at the start, and whenever the API server no longer has the version from which a watch would go
on.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Sequence
from typing import NoReturn

from eventsource.cloudevent import Envelope, render_ping, timestamp
from eventsource.delivery import RETRY_WAITS, Delivery, SinkConnection, deliver_within

MINUTE = 60.0
_LOGGER = logging.getLogger("saffire.eventsource")


async def send_ping(connection: SinkConnection, retry_waits: Sequence[float] = RETRY_WAITS) -> Delivery:
    """Ask for one sweep, and return how the delivery ended. Saffire answers when the sweep is over."""
    envelope = Envelope(
        id=str(uuid.uuid4()),
        time=timestamp(time.time_ns()),
        source="/apis/v1/namespaces/saffire/pingsources/saffire-sweep",
        host=connection.host,
        path=connection.path,
        namespace="saffire",
    )
    return await deliver_within(MINUTE, connection, render_ping(envelope), retry_waits)


async def ask_for_sweeps(
    sink: str, after_gap: asyncio.Event, *, shortest_seconds: float, longest_seconds: float = MINUTE
) -> NoReturn:
    """
    Ask for a sweep soon after each gap, and otherwise a minute after the last sweep.

    Args:
        sink: the URL of the function.
        after_gap: is set if changes may have been missed.
        shortest_seconds: the shortest time from one sweep to the next; the function ignores a ping that comes sooner.
        longest_seconds: the longest time from one sweep to the next, and from the start to the first sweep.

    """
    connection = SinkConnection(sink)
    last = time.monotonic()
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(after_gap.wait(), last + longest_seconds - time.monotonic())
            after_gap.clear()
            last = time.monotonic()
            delivery = await send_ping(connection)
            if not delivery.accepted:
                fields = {"status": delivery.status, "attempts": delivery.attempts}
                _LOGGER.warning("Could not ask for a sweep", extra={"json_fields": fields})
            await asyncio.sleep(last + shortest_seconds - time.monotonic())
    finally:
        await connection.close()
