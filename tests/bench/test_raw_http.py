"""The minimal client reads an answer to its end, and accepts only the expected status."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.harness.raw_http import RawConnection

GOOD = (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"yes")


@contextmanager
def answering(*parts: bytes) -> Iterator[str]:
    """Listen as a function that answers one connection with these bytes, in these parts; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(2**16)
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=serve)
        thread.start()
        yield "http://{}:{}/".format(*server.getsockname())
        thread.join()


def test_an_answer_may_come_in_parts() -> None:
    """Many servers write head and body separately."""
    with answering(*GOOD) as url, RawConnection(url) as connection:
        assert b"".join(GOOD) == connection.post(b"POST / HTTP/1.1\r\n\r\n")


def test_a_refusal_may_be_the_answer_that_is_wanted() -> None:
    """If a 503 is expected, no other status is accepted, not even a 200."""
    with answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as url, RawConnection(url) as connection:
        connection.post(b"POST / HTTP/1.1\r\n\r\n", 503)
    with answering(*GOOD) as url, RawConnection(url) as connection, pytest.raises(ValueError, match="200"):
        connection.post(b"POST / HTTP/1.1\r\n\r\n", 503)


@pytest.mark.parametrize(
    ("parts", "error"),
    [((b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",), ValueError), (GOOD[:1], EOFError), ((), EOFError)],
    ids=["refused", "cut", "nothing"],
)
def test_no_other_answer_counts(parts: tuple[bytes, ...], error: type[Exception]) -> None:
    """A fast failure must not count as a fast answer."""
    with answering(*parts) as url, RawConnection(url) as connection, pytest.raises(error):
        connection.post(b"POST / HTTP/1.1\r\n\r\n")
