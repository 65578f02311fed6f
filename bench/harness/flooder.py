"""
A program: floods a function with requests of one kind, in a process of its own, in bounded number.

Each order names the kind of the flood; `""` ends it, and the answer says how many requests were sent. The kinds are
what any pod of a cluster can send. All but the burst have a bounded rate.
"""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from bench.harness.child_process import answer, orders
from eventsource.cloudevent import Envelope, render, render_ping, timestamp, with_headers
from eventsource.delivery import SinkConnection
from playground.cluster.api import Manifest

PER_SECOND = 100
"""How many requests a flood sends in a second. With more of them, the flood itself would use up two cores."""

BURST = "a burst of senders that hang up"
"""A flood as fast as this process can send."""

MOST = 20_000
"""After so many requests, a flood ends by itself."""

_CONNECTIONS = 50
_SOURCES = "saffire.fairwinds.com/v1alpha1"
_numbers = itertools.count()


def _envelope(host: str) -> Envelope:
    now = timestamp(time.time_ns())
    return Envelope(id=str(uuid.uuid4()), time=now, source="https://10.96.0.1:443", host=host, namespace="saffire")


def _failure(namespace: str) -> Manifest:
    """Return an Event about a pod that does not exist."""
    number = next(_numbers)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"web-{number}.1", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": namespace,
            "name": f"web-{number}",
            "uid": str(uuid.uuid4()),
            "fieldPath": "spec.containers{web}",
        },
        "type": "Warning",
        "reason": "Failed",
        "message": 'Failed to pull image "quay.io/acme/web:1": dial tcp 192.0.2.1:443: connect: connection refused',
    }


def _source() -> Manifest:
    """Return a source in a namespace that does not exist."""
    metadata = {"name": "shop", "namespace": f"invented-{next(_numbers)}", "generation": 1}
    return {"apiVersion": _SOURCES, "kind": "AlternateImageSource", "metadata": metadata}


_REQUESTS: dict[str, Callable[[str], bytes]] = {
    "pings": lambda host: render_ping(_envelope(host)),
    "changes of sources in invented namespaces": lambda host: render("add", _source(), _envelope(host)),
    "invented pods": lambda host: render("add", _failure("shop-0"), _envelope(host)),
    "invented namespaces": lambda host: render("add", _failure(f"invented-{next(_numbers)}"), _envelope(host)),
    "senders that hang up": lambda host: with_headers(
        render("add", _failure("shop-0"), _envelope(host)), Prefer="wait=60"
    ),
    "bodies that never end": lambda host: render("add", _failure("shop-0"), _envelope(host))[:-1],
}
_HANGS_UP, _NEVER_ENDS = "senders that hang up", "bodies that never end"
_REQUESTS[BURST] = _REQUESTS[_HANGS_UP]
KINDS = tuple(_REQUESTS)


class Flood:
    """A flood of one kind that goes on until it is stopped or has sent its most; `sent` counts its requests."""

    def __init__(self, url: str, kind: str) -> None:
        self.sent = 0
        parts = urlsplit(url)
        self._url, self._kind = url, kind
        self._host, self._address = parts.netloc, (parts.hostname or "", parts.port or 80)
        self._held: list[asyncio.StreamWriter] = []
        self._tasks = [asyncio.create_task(self._send()) for _ in range(_CONNECTIONS)]

    async def stop(self) -> None:
        """Stop sending, and close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._held:
            writer.close()

    async def _send(self) -> None:
        """Send one connection's share of the requests."""
        connection = SinkConnection(self._url)
        due, pause = time.monotonic(), 0.0 if self._kind == BURST else _CONNECTIONS / PER_SECOND
        while self.sent < MOST:
            due = max(due + pause, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            request = _REQUESTS[self._kind](self._host)
            self.sent += 1
            with contextlib.suppress(OSError, EOFError):
                if self._kind in {_HANGS_UP, _NEVER_ENDS, BURST}:
                    await self._leave(request)
                else:
                    await connection.post(request)

    async def _leave(self, request: bytes) -> None:
        """Send a request on a connection of its own; read no answer."""
        _, writer = await asyncio.open_connection(*self._address)
        writer.write(request)
        await writer.drain()
        if self._kind == _NEVER_ENDS:
            self._held.append(writer)
        else:
            writer.close()


async def main() -> None:
    """Flood the function at the URL of the first order, as the further orders say."""
    given = orders()
    first: dict[str, Any] = await anext(given)
    answer()
    flood: Flood | None = None
    async for order in given:
        sent = 0
        if flood:
            await flood.stop()
            sent = flood.sent
        flood = Flood(first["url"], order["flood"]) if order["flood"] else None
        answer(sent=sent)


if __name__ == "__main__":
    asyncio.run(main())
