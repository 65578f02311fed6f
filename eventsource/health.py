"""Answers the kubelet's probes: whether the process runs, and whether it can do its work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

_REQUEST_SECONDS = 5


@contextlib.asynccontextmanager
async def health_server(
    port: int, fault: Callable[[], str], *, request_seconds: float = _REQUEST_SECONDS
) -> AsyncIterator[None]:
    """
    Serve `/healthz`, and `/readyz`, which answers 503 with the text of `fault` unless that is empty.

    Each connection is closed after its answer, or if no request comes in time. Their number is not limited: otherwise
    strangers could take all of them, and the kubelet's probes would fail.

    Args:
        port: the port, on every address of the pod.
        fault: returns why the process cannot do its work; `""` if it can.
        request_seconds: how long a request and its answer may take.

    """

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        writer.close()

    server = await asyncio.start_server(respond, None, port, limit=2**13)
    try:
        yield
    finally:
        server.close()
