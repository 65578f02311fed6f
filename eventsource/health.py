"""Answers the kubelet's probes: whether the process runs, and whether it can do its work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

_REQUEST_SECONDS = 5
_MOST_CONNECTIONS = 512
"""Some 10 MB. The event loop accepts 100 in each turn, and a probe takes three turns: so it is never the oldest."""


@contextlib.asynccontextmanager
async def health_server(
    port: int, fault: Callable[[], str], *, request_seconds: float = _REQUEST_SECONDS, most: int = _MOST_CONNECTIONS
) -> AsyncIterator[None]:
    """
    Serve `/healthz`, and `/readyz`, which answers 503 with the text of `fault` unless that is empty.

    Each connection is closed after its answer, or if no request comes in time. If there are too many, the oldest is
    closed: strangers can neither fill the memory nor keep out the kubelet, whose probe is answered in milliseconds.

    Args:
        port: the port, on every address of the pod.
        fault: returns why the process cannot do its work; `""` if it can.
        request_seconds: how long a request and its answer may take.
        most: how many connections may be open.

    """
    writers: dict[asyncio.StreamWriter, None] = {}  # the oldest first

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers[writer] = None
        if len(writers) > most:
            oldest = next(iter(writers))
            del writers[oldest]
            oldest.transport.abort()
        with contextlib.suppress(TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(request_seconds):
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1:2]
                text = fault() if path == [b"/readyz"] else ""
                status = "503 Service Unavailable" if text else "200 OK"
                body = text.encode()
                lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: text/plain")
                writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
                await writer.drain()
        writers.pop(writer, None)
        writer.close()

    server = await asyncio.start_server(respond, None, port, limit=2**13)
    try:
        yield
    finally:
        server.close()
