"""An event sink that records its requests, and gives the answers that a test has chosen."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """Return the bytes of an HTTP answer with this status, these header lines, a Content-Length and this body."""
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


class RecordingSink:
    """
    An HTTP server that gives each request the next of `answers`, and the status 200 after the last of them.

    If an answer is empty or says `Connection: close`, the server closes the connection after the answer. If the head of
    a request does not contain `about`, the server answers with 200 and does not record the request: many tests share
    the control plane, and the control plane also has Events that are not about a test.
    """

    def __init__(self, answers: Sequence[bytes] = (), about: str = "") -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""
        self.released = asyncio.Event()
        self.released.set()
        self._answers = list(answers)
        self._about = about.encode()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://{}:{}/".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()

    async def hang_up(self) -> None:
        """Close all connections, as a server does with idle connections."""
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._writers.clear()

    async def until(self, requests: int) -> list[bytes]:
        """Wait until the server has recorded that many requests; return all of them, each with head and body."""
        async with asyncio.timeout(10):
            while True:
                if len(self.requests) >= requests:
                    return self.requests
                await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0)
                reply = await self._reply(head, await reader.readexactly(length))
                writer.write(reply)
                await writer.drain()
                if not reply or b"Connection: close" in reply:
                    break
        writer.close()

    async def _reply(self, head: bytes, body: bytes) -> bytes:
        if self._about not in head:
            return OK
        self.requests.append(head + body)
        await self.released.wait()
        return self._answers.pop(0) if self._answers else OK
