"""A minimal HTTP client: one connection, bytes out, bytes in, so that the function is measured and not the client."""

import itertools
import socket
import time
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

_LENGTH = b"content-length: "
_TIMEOUT_SECONDS = 10


class RawConnection:
    """A connection to a function; use as a context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 80

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address, _TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def post(self, request: bytes, status: int = 200) -> bytes:
        """Send a request and return the answer, head and body; raise `ValueError` if its status is another."""
        self._socket.sendall(request)
        answer = b""
        while not _is_whole(answer):
            more = self._socket.recv(2**16)
            if not more:
                raise EOFError("the function hung up")
            answer += more
        if not answer.startswith(b"HTTP/1.1 %d " % status):
            raise ValueError(answer)
        return answer

    def rate(self, requests: Sequence[bytes], seconds: float) -> float:
        """Send requests in a loop for some seconds; return how many were answered per second."""
        began = time.perf_counter()
        for count, request in enumerate(itertools.cycle(requests)):
            if count and time.perf_counter() - began > seconds:
                return count / (time.perf_counter() - began)
            self.post(request)
        raise ValueError("no requests")


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]
    return len(body) >= int(length)
