"""The yardstick of delivery: the same Events, each no sooner than it was there, as their source sends them."""

import asyncio
import time
import uuid
from collections.abc import Iterable

from playground.api import Manifest
from playground.cloudevent import Envelope, render, timestamp
from playground.sink import Sink, deliver


async def redelivered(events: Iterable[tuple[float, Manifest]], url: str, server: str) -> float:
    """Deliver Events, each with its second after the first one, to a function; return how many seconds that took."""
    sink = Sink(url)
    began = time.perf_counter()
    for born, event in events:
        await asyncio.sleep(max(0.0, began + born - time.perf_counter()))
        await deliver(sink, _request(event, sink, server))
    seconds = time.perf_counter() - began
    await sink.close()
    return seconds


def _request(event: Manifest, sink: Sink, server: str) -> bytes:
    envelope = Envelope(
        id=str(uuid.uuid4()),
        time=timestamp(time.time_ns()),
        source=server,
        host=sink.host,
        path=sink.path,
        namespace="saffire",
    )
    return render("add", event, envelope)
