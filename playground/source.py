"""
The stand-in for Knative's ApiServerSource: forwards the Events of a cluster to one sink.

It keeps the real adapter's promises and no better ones, because Saffire must live with them: what its LIST returns
is thrown away, Events are posted one at a time with no timeout, a failed send is retried for about three seconds and
then dropped, and a watch that fell behind loses what happened in the gap.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import h11

from playground.api import Api, ApiError, Manifest
from playground.cloudevent import Change, Envelope, Mode, render, timestamp

log = logging.getLogger(__name__)

Callback = Callable[[Manifest, int | None, int], None]

RETRY_WAITS = (0.1, 0.2, 0.4, 0.8, 1.6)
REWATCH_SECONDS = 0.5
_RETRIED = frozenset({404, 413, 425, 429, 502, 503, 504})
_CHANGES: dict[str, Change] = {"ADDED": "add", "MODIFIED": "update", "DELETED": "delete"}
_EVENTS = "/api/v1/events"


class EventSource:
    """
    Watches the Events of all namespaces and posts each change to `sink`; use as an async context manager.

    Entering returns when the watch's starting point is fixed: every Event written from then on is sent.

    Attributes:
        delivered: how many Events the sink answered with 2xx.
        failed: how many were given up.

    Args:
        api: a client that may list and watch Events.
        sink: `http://HOST:PORT/PATH`.
        namespace: where the ApiServerSource would live.
        mode: `Resource` sends whole Events, `Reference` their names only.
        retry_waits: seconds before each further attempt.
        on_delivery: called after each Event with the last status (None where no answer came) and the attempts made.
    """

    def __init__(  # noqa: PLR0913 - all but the first two have the adapter's own defaults
        self,
        api: Api,
        sink: str,
        *,
        namespace: str = "saffire",
        mode: Mode = "Resource",
        retry_waits: tuple[float, ...] = RETRY_WAITS,
        on_delivery: Callback | None = None,
    ) -> None:
        self.delivered = 0
        self.failed = 0
        self._api = api
        self._sink = Sink(sink)
        self._namespace = namespace
        self._mode = mode
        self._retry_waits = retry_waits
        self._on_delivery = on_delivery
        self._version = ""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._version = await self._latest_version()
        self._task = asyncio.create_task(self._forward())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._sink.close()

    async def _forward(self) -> None:
        while True:
            try:
                async for kind, event in self._watch():
                    if kind in _CHANGES:
                        await self._deliver(_CHANGES[kind], event)
            except (aiohttp.ClientError, OSError, ApiError) as error:
                log.warning("watch of events broke and starts again: %s", error)
                await asyncio.sleep(REWATCH_SECONDS)

    async def _watch(self) -> AsyncIterator[tuple[str, Manifest]]:
        """Watch from the last version seen, or from now where the API server has none older; end when it ends."""
        self._version = self._version or await self._latest_version()
        query = {"resourceVersion": self._version, "allowWatchBookmarks": "true"}
        try:
            async for kind, event in self._api.watch(_EVENTS, **query):
                if kind == "ERROR":
                    raise ApiError(event["code"], event)  # noqa: TRY301 - the same refusal, told inside the stream
                self._version = event["metadata"]["resourceVersion"]
                yield kind, event
        except ApiError as error:
            if error.status == HTTPStatus.GONE:
                self._version = ""
            raise

    async def _latest_version(self) -> str:
        """LIST, as the adapter does, for where to start; like the adapter, forget the items."""
        listed = await self._api.get(_EVENTS, limit="1")
        version: str = listed["metadata"]["resourceVersion"]
        return version

    async def _deliver(self, change: Change, event: Manifest) -> None:
        request = self._request(change, event)
        status: int | None = None
        attempts = 0
        for wait in (0.0, *self._retry_waits):
            await asyncio.sleep(wait)
            attempts += 1
            try:
                status = await self._sink.post(request)
            except (OSError, EOFError, h11.RemoteProtocolError):
                status = None
            if status is not None and status not in _RETRIED:
                break
        self._count(event, status, attempts)

    def _request(self, change: Change, event: Manifest) -> bytes:
        envelope = Envelope(
            id=str(uuid.uuid4()),
            time=timestamp(time.time_ns()),
            source=self._api.server,
            host=self._sink.host,
            path=self._sink.path,
            namespace=self._namespace,
            mode=self._mode,
        )
        return render(change, event, envelope)

    def _count(self, event: Manifest, status: int | None, attempts: int) -> None:
        if status is not None and status < HTTPStatus.MULTIPLE_CHOICES:
            self.delivered += 1
        else:
            self.failed += 1
            log.error("event %s was not delivered: %s", event["metadata"]["name"], status or "no answer")
        if self._on_delivery:
            self._on_delivery(event, status, attempts)


class Sink:
    """One kept-alive HTTP/1.1 connection that sends requests as the bytes they are given as."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self.path = parts.path or "/"
        self._address = (parts.hostname or "", parts.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, request: bytes) -> int:
        """Send `request` and return the answer's status; raise where no whole answer came."""
        try:
            reader, writer = await self._connect()
            writer.write(request)
            await writer.drain()
            status, reusable = await self._answer(reader)
        except BaseException:
            await self.close()
            raise
        if not reusable:
            await self.close()
        return status

    async def close(self) -> None:
        """Close the connection; a later `post` opens another."""
        if self._streams:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # A server closes a connection that idles too long. Go's client notices before it writes, and so does this.
        if self._streams and self._streams[0].at_eof():
            await self.close()
        if not self._streams:
            self._streams = await asyncio.open_connection(*self._address)
        return self._streams

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bool]:
        """Read one answer; return its status and whether the connection may be used again."""
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
