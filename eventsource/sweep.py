"""
Asks the function for sweeps, as the PingSource of knative/pingsource.yaml does.

A sweep repairs what the function would have repaired after Events that were lost. So there is one every minute, and
one soon after each gap: at the start, and whenever a watch cannot go on from where the last one ended.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import NoReturn

from eventsource.cloudevent import Envelope, render_ping, timestamp
from eventsource.delivery import RETRY_WAITS, Delivery, SinkConnection, deliver_within

MINUTE = 60.0
_ARRIVAL_SECONDS = 5.0
"""
How late a ping may reach the function, which counts from then on. A delivery is repeated for 3.1 s, and the function
loads most of its modules at its first request.
"""
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


async def ask_for_sweeps(  # noqa: PLR0913 - four are named
    sink: str,
    after_gap: asyncio.Event,
    *,
    shortest_seconds: float,
    longest_seconds: float = MINUTE,
    arrival_seconds: float = _ARRIVAL_SECONDS,
    on_answer: Callable[[Delivery], None] = lambda _: None,
) -> NoReturn:
    """
    Ask for a sweep soon after each gap, and otherwise a minute after the last. A ping that is not accepted is repeated.

    Args:
        sink: the URL of the function.
        after_gap: is set if changes may have been missed.
        shortest_seconds: the shortest time from one sweep to the next; the function ignores a ping that comes sooner.
        longest_seconds: the longest time from one sweep to the next, and from the start to the first sweep.
        arrival_seconds: how long a ping may be under way.
        on_answer: is called with how the delivery of each ping ended.

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
            on_answer(delivery)
            if not delivery.accepted:
                after_gap.set()
                fields = {"status": delivery.status, "attempts": delivery.attempts}
                _LOGGER.warning("Could not ask for a sweep", extra={"json_fields": fields})
            await asyncio.sleep(last + shortest_seconds + arrival_seconds - time.monotonic())
    finally:
        await connection.close()
