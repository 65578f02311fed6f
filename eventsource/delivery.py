"""Delivers CloudEvents as Knative's adapters do: over one connection, and with their rules for retries."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import h11

RETRY_WAITS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each further attempt, as in the adapter (knative/eventing, pkg/adapter/apiserver/events)."""

RETRIED = frozenset({404, 413, 425, 429, 502, 503, 504})
"""The HTTP statuses after which the adapter sends again (CloudEvents SDK for Go, protocol/http)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a delivery ended: the last status, None if no answer came, and the number of attempts."""

    status: int | None
    attempts: int

    @property
    def accepted(self) -> bool:
        """Whether the sink took the Event."""
        return self.status is not None and self.status < HTTPStatus.MULTIPLE_CHOICES


class SinkConnection:
    """A kept-alive HTTP/1.1 connection to the sink of an event source; it sends requests byte by byte as given."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self.path = parts.path or "/"
        self._address = (parts.hostname or "", parts.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def closed_by_server(self) -> bool:
        """Whether the server has closed the connection."""
        return self._streams is not None and self._streams[0].at_eof()

    async def post(self, request: bytes) -> int:
        """Send `request` and return the answer's status; raise if no complete answer comes."""
        try:
            reader, writer = await self._connect()
            writer.write(request)
            await writer.drain()
            status, reusable = await self._read_answer(reader)
        except BaseException:
            await self.close()
            raise
        if not reusable:
            await self.close()
        return status

    async def close(self) -> None:
        """Close the connection, without sending what is left of a request; a later `post` opens another."""
        if self._streams:
            _, writer = self._streams
            self._streams = None
            writer.transport.abort()  # `writer.close()` would wait until a sink that hangs has read the rest
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A server closes a connection that is idle for too long. Like Go's client, this notices before it writes.
        if self.closed_by_server:
            await self.close()
        if not self._streams:
            self._streams = await asyncio.open_connection(*self._address)
        return self._streams

    async def _read_answer(self, reader: asyncio.StreamReader) -> tuple[int, bool]:
        """Read an answer; return its status, and whether the connection may be used again."""
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method="POST", target=self.path, headers=[("Host", self.host)]))
        http.send(h11.EndOfMessage())
        status = 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(2**16))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.EndOfMessage):
                return status, http.our_state is h11.DONE and http.their_state is h11.DONE


async def deliver(connection: SinkConnection, request: bytes, retry_waits: Sequence[float] = RETRY_WAITS) -> Delivery:
    """Post `request` as often as the adapter would. If the last attempt fails, the CloudEvent is lost."""
    status = None
    for attempts, wait in enumerate((0.0, *retry_waits), 1):
        await asyncio.sleep(wait)
        try:
            status = await connection.post(request)
        except (OSError, h11.RemoteProtocolError):
            status = None
        if status is not None and status not in RETRIED:
            return Delivery(status, attempts)
    return Delivery(status, 1 + len(retry_waits))


async def deliver_within(
    seconds: float, connection: SinkConnection, request: bytes, retry_waits: Sequence[float] = RETRY_WAITS
) -> Delivery:
    """Post `request` like `deliver`, but for at most so many seconds. With Knative, its queue-proxy limits the time."""
    try:
        async with asyncio.timeout(seconds):
            return await deliver(connection, request, retry_waits)
    except TimeoutError:
        return Delivery(None, 1)
