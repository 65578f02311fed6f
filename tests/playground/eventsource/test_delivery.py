"""How events are sent: over one connection, and as often as Knative's adapter would."""

import asyncio
import socket

import pytest

from playground.eventsource.delivery import RETRY_WAITS, Delivery, SinkConnection, deliver
from testkit.event_sink import OK, RecordingSink, answer

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
QUICK = (0.01,) * 5


async def test_a_request_arrives_as_it_was_given() -> None:
    """Not a byte is added, moved or spelt in another way."""
    async with RecordingSink() as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 1) == await deliver(connection, REQUEST, QUICK)
        assert [REQUEST] == server.requests
        await connection.close()


async def test_one_connection_serves_many_requests() -> None:
    """A connection is used again for as long as the server keeps it."""
    async with RecordingSink([OK, answer(204), answer(200, body=b"x" * 100_000)]) as server:
        connection = SinkConnection(server.url)
        assert [200, 204, 200, 200] == [await connection.post(REQUEST) for _ in range(4)]
        assert 1 == server.connections
        await connection.close()


async def test_a_chunked_answer_is_read_to_its_end() -> None:
    """The next request's answer is its own."""
    chunked = b"HTTP/1.1 202 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with RecordingSink([chunked]) as server:
        connection = SinkConnection(server.url)
        assert [202, 200] == [await connection.post(REQUEST), await connection.post(REQUEST)]
        assert 1 == server.connections
        await connection.close()


@pytest.mark.parametrize(
    "reply", [answer(200, "Connection: close"), b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\nrest"]
)
async def test_a_server_may_close_after_an_answer(reply: bytes) -> None:
    """The next request goes over a new connection."""
    async with RecordingSink([reply]) as server:
        connection = SinkConnection(server.url)
        assert [200, 200] == [await connection.post(REQUEST), await connection.post(REQUEST)]
        assert 2 == server.connections
        await connection.close()


async def test_a_connection_closed_while_idle_costs_no_attempt() -> None:
    """Go's client notices before it sends, so a server's keep-alive timeout loses nothing."""
    async with RecordingSink() as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 1) == await deliver(connection, REQUEST, QUICK)
        await server.hang_up()
        async with asyncio.timeout(5):
            while not connection.closed_by_server:  # noqa: ASYNC110 - the end of the stream arrives when the loop gets to it
                await asyncio.sleep(0.01)
        assert Delivery(200, 1) == await deliver(connection, REQUEST, QUICK)
        await connection.close()


@pytest.mark.parametrize("status", [404, 413, 425, 429, 502, 503, 504])
async def test_some_answers_are_tried_again(status: int) -> None:
    """These statuses, and no others, mean that a later attempt may succeed; `Retry-After` is not heeded."""
    async with RecordingSink([answer(status, "Retry-After: 30")] * 2) as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 3) == await deliver(connection, REQUEST, QUICK)
        assert [REQUEST] * 3 == server.requests
        await connection.close()


@pytest.mark.parametrize("status", [300, 400, 401, 403, 408, 409, 410, 412, 415, 418, 422, 423, 500, 501, 507])
async def test_other_answers_are_final(status: int) -> None:
    """The event is lost, and 500 is among these answers."""
    async with RecordingSink([answer(status)]) as server:
        connection = SinkConnection(server.url)
        delivery = await deliver(connection, REQUEST, QUICK)
        assert Delivery(status, 1) == delivery
        assert not delivery.accepted
        await connection.close()


async def test_an_event_is_given_up_after_six_attempts() -> None:
    """The last answer tells why."""
    async with RecordingSink([answer(503)] * 9) as server:
        connection = SinkConnection(server.url)
        assert Delivery(503, 6) == await deliver(connection, REQUEST, QUICK)
        assert 6 == len(server.requests)
        await connection.close()


async def test_a_lost_connection_is_tried_again() -> None:
    """No answer, or half of one, is no reason to give up at once: the sink may get the same event twice."""
    async with RecordingSink(
        [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf", b"junk\r\n\r\n"]
    ) as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 4) == await deliver(connection, REQUEST, QUICK)
        await connection.close()


async def test_nobody_listening_is_no_answer() -> None:
    """A refused connection is tried as often as any other failure."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        connection = SinkConnection(f"http://127.0.0.1:{bound.getsockname()[1]}/")
        delivery = await deliver(connection, REQUEST, QUICK)
    assert Delivery(None, 6) == delivery
    assert not delivery.accepted


def test_the_waits_are_the_adapter_s() -> None:
    """All in all an event is tried for 3.1 seconds."""
    assert (0.1, 0.2, 0.4, 0.8, 1.6) == RETRY_WAITS
