"""A source whose function accepts no ping lets the other pod have its turn."""

from pathlib import Path

from eventsource.delivery import Delivery
from eventsource.leading import Leader
from eventsource.watch import WatchingServer
from testkit.builders import kubeconfig
from testkit.event_sink import RecordingSink


async def test_two_refused_pings_in_a_row_make_it_stand_back(tmp_path: Path) -> None:
    """The probe of a function that cannot reach the API server is answered all the same."""
    server = await WatchingServer.connect(kubeconfig(tmp_path, "http://127.0.0.1:9"), timeout_seconds=5)
    async with RecordingSink() as sink:
        leader = Leader(server, sink.url, shortest_seconds=20)
        for status in (503, 200, 503):
            leader.pinged(Delivery(status, 6))
        assert await leader.function_answers()
        leader.pinged(Delivery(None, 6))
        assert not await leader.function_answers()
    await server.close()
