"""Deliveries use one connection, and are repeated as often as by Knative's adapter."""

import asyncio
import socket

import pytest

from eventsource.delivery import RETRY_WAITS, Delivery, SinkConnection, deliver, deliver_within
from testkit.event_sink import OK, RecordingSink, answer

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
QUICK = (0.01,) * 5


async def test_a_request_arrives_unchanged() -> None:
    """The server gets exactly the bytes that were given."""
    async with RecordingSink() as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 1) == await deliver(connection, REQUEST, QUICK)
        assert [REQUEST] == server.requests
        await connection.close()


async def test_one_connection_serves_many_requests() -> None:
    """A connection is used again as long as the server keeps it open."""
    async with RecordingSink([OK, answer(204), answer(200, body=b"x" * 100_000)]) as server:
        connection = SinkConnection(server.url)
        assert [200, 204, 200, 200] == [await connection.post(REQUEST) for _ in range(4)]
        assert 1 == server.connections
        await connection.close()


async def test_a_chunked_answer_is_read_completely() -> None:
    """The next request gets its own answer."""
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
    """If the server closes the connection after an answer, the next request opens another."""
    async with RecordingSink([reply]) as server:
        connection = SinkConnection(server.url)
        assert [200, 200] == [await connection.post(REQUEST), await connection.post(REQUEST)]
        assert 2 == server.connections
        await connection.close()


async def test_a_connection_closed_while_idle_costs_no_attempt() -> None:
    """Like Go's client, it notices before it sends, so the server's keep-alive timeout costs no event."""
    async with RecordingSink() as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 1) == await deliver(connection, REQUEST, QUICK)
        await server.hang_up()
        async with asyncio.timeout(5):
            while not connection.closed_by_server:  # noqa: ASYNC110 - the event loop reads the end
                await asyncio.sleep(0.01)
        assert Delivery(200, 1) == await deliver(connection, REQUEST, QUICK)
        await connection.close()


@pytest.mark.parametrize("status", [404, 413, 425, 429, 502, 503, 504])
async def test_some_statuses_are_retried(status: int) -> None:
    """After these statuses, the request is sent again; `Retry-After` is ignored."""
    async with RecordingSink([answer(status, "Retry-After: 30")] * 2) as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 3) == await deliver(connection, REQUEST, QUICK)
        assert [REQUEST] * 3 == server.requests
        await connection.close()


@pytest.mark.parametrize("status", [300, 400, 401, 403, 408, 409, 410, 412, 415, 418, 422, 423, 500, 501, 507])
async def test_other_statuses_are_final(status: int) -> None:
    """After any other status, 500 among them, the event is lost."""
    async with RecordingSink([answer(status)]) as server:
        connection = SinkConnection(server.url)
        delivery = await deliver(connection, REQUEST, QUICK)
        assert Delivery(status, 1) == delivery
        assert not delivery.accepted
        await connection.close()


async def test_a_sink_that_reads_nothing_is_left_in_time() -> None:
    """A request that is larger than what the kernel takes does not keep the source from its next."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = SinkConnection(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        large = b"POST / HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n" + b" " * 50_000_000
        async with asyncio.timeout(10):
            assert Delivery(None, 1) == await deliver_within(0.5, connection, large)


async def test_an_event_is_dropped_after_six_attempts() -> None:
    """The delivery has the status of the last answer."""
    async with RecordingSink([answer(503)] * 9) as server:
        connection = SinkConnection(server.url)
        assert Delivery(503, 6) == await deliver(connection, REQUEST, QUICK)
        assert 6 == len(server.requests)
        await connection.close()


async def test_a_lost_connection_is_retried() -> None:
    """Without an answer, or with half an answer, the request is sent again, so the sink may get an event twice."""
    async with RecordingSink(
        [b"", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf", b"junk\r\n\r\n"]
    ) as server:
        connection = SinkConnection(server.url)
        assert Delivery(200, 4) == await deliver(connection, REQUEST, QUICK)
        await connection.close()


async def test_a_refused_connection_is_retried() -> None:
    """A refused connection is retried as often as any other failure, and has no status."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        connection = SinkConnection(f"http://127.0.0.1:{bound.getsockname()[1]}/")
        delivery = await deliver(connection, REQUEST, QUICK)
    assert Delivery(None, 6) == delivery
    assert not delivery.accepted


def test_the_waits_are_those_of_the_adapter() -> None:
    """In total, an event is retried for 3.1 seconds."""
    assert (0.1, 0.2, 0.4, 0.8, 1.6) == RETRY_WAITS
