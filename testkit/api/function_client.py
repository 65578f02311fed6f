"""An HTTP client of the function: bytes out, the answer in as text, on a connection that is kept open."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import h11

from eventsource.cloudevent import Change, Envelope, Mode, render, render_ping, timestamp, with_headers
from playground.cluster.api import Manifest

ANSWER_SECONDS = 60
Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The function's answer. `head` has its headers unchanged, and `text` is the body."""

    status: int
    head: bytes
    text: str


class FunctionClient:
    """A keep-alive connection to the function; use as an async context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._address = (parts.hostname or "", parts.port or 80)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._streams:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def send(self, request: bytes, *, end: bool = False) -> Answer | None:
        """
        Send a request and return the answer; `None` if the function hung up without one.

        With `end`, the client sends nothing more, even if the request promised a longer body.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            reused = self._streams is not None
            answer = await self._exchange(request, end=end)
            # A server closes an idle connection; then the request got lost, and is sent again.
            return answer if answer or not reused else await self._exchange(request, end=end)

    async def post(
        self, event: Manifest, change: Change = "add", mode: Mode = "Resource", *, waits: bool = True
    ) -> Answer:
        """Send an Event, or an object of another kind, as the event source would; `waits` until its repair is done."""
        request = render(change, event, self._envelope("https://10.96.0.1:443", "saffire", mode))
        return await self._answer(with_headers(request, Prefer="wait=60") if waits else request)

    async def ping(self, body: bytes = b"", content_type: str = "") -> Answer:
        """Ask for a sweep, as the PingSource would."""
        source = "/apis/v1/namespaces/saffire/pingsources/saffire-sweep"
        return await self._answer(render_ping(self._envelope(source, "knative-eventing"), body, content_type))

    def _envelope(self, source: str, namespace: str, mode: Mode = "Resource") -> Envelope:
        now = timestamp(time.time_ns())
        return Envelope(id=str(uuid.uuid4()), time=now, source=source, host=self.host, namespace=namespace, mode=mode)

    async def _answer(self, request: bytes) -> Answer:
        answer = await self.send(with_headers(request, Accept="text/plain"))
        if answer is None:
            raise EOFError("the function hung up")
        return answer

    async def _exchange(self, request: bytes, *, end: bool) -> Answer | None:
        try:
            self._streams = self._streams or await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            with contextlib.suppress(ConnectionError):  # it may have answered before it hung up
                writer.write(request)
                await writer.drain()
                if end:
                    writer.write_eof()
            answer, reusable = await _read(reader, b"HEAD" if request.startswith(b"HEAD ") else b"POST")
        except (ConnectionError, h11.RemoteProtocolError):
            answer, reusable = None, False
        if not reusable or end:
            await self.close()
        return answer


async def _read(reader: asyncio.StreamReader, method: bytes) -> tuple[Answer | None, bool]:
    """Read an answer; return it and whether the connection can be used again."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "function")]))
    http.send(h11.EndOfMessage())
    status, head, body = 0, b"", b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(2**16))
        elif isinstance(event, h11.Response):
            status, head = event.status_code, b"\r\n".join(b": ".join(header) for header in event.headers)
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            reusable = http.their_state is h11.DONE and http.our_state is h11.DONE
            return Answer(status, head, body.decode()), reusable
        elif not isinstance(event, h11.InformationalResponse):
            return None, False


def request(headers: Iterable[Header] = (), body: bytes = b"", *, method: str = "POST", path: str = "/") -> bytes:
    """Return the bytes of an HTTP request, whatever `headers` contain; encoded as Latin-1, as in HTTP."""
    given = list(headers)
    if not any(name.lower() in {"content-length", "transfer-encoding"} for name, _ in given):
        given.append(("Content-Length", str(len(body))))
    lines = [f"{method} {path} HTTP/1.1", "Host: function", *(f"{name}: {value}" for name, value in given)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
