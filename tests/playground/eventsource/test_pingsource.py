"""The PingSource pings again and again."""

from playground.eventsource.pingsource import PingSource
from testkit.event_sink import RecordingSink


async def test_it_pings_again_and_again() -> None:
    """Each ping has an id of its own, no data, and the type that asks for a sweep."""
    async with RecordingSink() as sink, PingSource(sink.url, seconds=0.01):
        requests = (await sink.until(3))[:3]
    heads = [request.decode().split("\r\n") for request in requests]
    assert {"Ce-Type: dev.knative.sources.ping"} == {line for head in heads for line in head if "Ce-Type" in line}
    assert 3 == len({line for head in heads for line in head if "Ce-Id" in line})
    assert all(request.endswith(b"\r\n\r\n") for request in requests)


async def test_a_ping_that_is_refused_is_sent_again() -> None:
    """If the sink answers 503, the same ping is sent again."""
    async with (
        RecordingSink([b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"]) as sink,
        PingSource(sink.url, seconds=0.01),
    ):
        first, second = (await sink.until(2))[:2]
    assert first == second
