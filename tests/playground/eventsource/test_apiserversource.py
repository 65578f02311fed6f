"""The ApiServerSource on a real API server: what it sends, what it never sends, and what it loses."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from eventsource.cloudevent import Envelope, render
from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.eventsource.apiserversource import ApiServerSource
from testkit.event_sink import RecordingSink, answer

pytestmark = pytest.mark.api

QUICK = (0.01,) * 5


@pytest.fixture
async def namespace(plane: ControlPlane) -> AsyncIterator[str]:
    """Give a namespace for the Events of a test."""
    name = f"source-{uuid.uuid4().hex[:8]}"
    await plane.admin.post("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    await plane.admin.delete(f"/api/v1/namespaces/{name}")


async def write(api: Api, namespace: str, name: str) -> Manifest:
    """Write an Event as a kubelet would."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": namespace},
        "type": "Warning",
        "reason": "Failed",
        "message": 'Failed to pull image "a&b": <é>',
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
    }
    written: Manifest = await api.post(f"/api/v1/namespaces/{namespace}/events", event)
    return written


def parsed(request: bytes) -> tuple[dict[str, str], Manifest]:
    """Return headers and body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    return dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]), json.loads(body)


def names(requests: list[bytes]) -> list[str]:
    """Return the name of the Event in each request."""
    return [parsed(request)[0]["Ce-Name"] for request in requests]


@asynccontextmanager
async def sent_to(sink: RecordingSink, api: Api, **options: Any) -> AsyncIterator[ApiServerSource]:
    """Give a source that posts to `sink`."""
    async with ApiServerSource(api, sink.url, retry_waits=QUICK, **options) as source:
        yield source


class BrokenWatches(Api):
    """A client whose watches end after one change each; if `status` is set, the next watch is refused with it."""

    status = 0

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield one change, or raise the error."""
        if self.status:
            self.status, status = 0, self.status
            raise ApiError(status, "refused")
        async for change in super().watch(path, **query):
            yield change
            return


@asynccontextmanager
async def broken_watches(plane: ControlPlane) -> AsyncIterator[BrokenWatches]:
    """Give a client of the control plane whose watches end early."""
    async with BrokenWatches(plane.server, str(plane.authority), plane.admin.token) as api:
        yield api


async def test_each_change_of_an_event_is_sent_once_and_completely(plane: ControlPlane, namespace: str) -> None:
    """Add, update and delete arrive in order, each with the complete Event of the API server, with managedFields."""
    async with RecordingSink(about=namespace) as sink, sent_to(sink, plane.admin) as source:
        path = f"/api/v1/namespaces/{namespace}/events/web.1"
        added = await write(plane.admin, namespace, "web.1")
        updated = await plane.admin.patch(path, {"count": 2})
        await plane.admin.delete(path)
        headers, bodies = zip(*map(parsed, await sink.until(3)), strict=True)
        changes = [header["Ce-Type"].rpartition(".")[2] for header in headers]
        assert ["add", "update", "delete"] == changes
        assert (added, updated) == bodies[:2]
        assert (2, "web.1") == (bodies[2]["count"], bodies[2]["metadata"]["name"])
        assert bodies[0]["metadata"]["managedFields"]
        assert 0 == source.failed


async def test_other_objects_are_sent_too(plane: ControlPlane, namespace: str) -> None:
    """With another `path`, the source sends the changes of that collection."""
    path = f"/api/v1/namespaces/{namespace}/secrets"  # a new namespace has none
    async with RecordingSink(about=namespace) as sink, sent_to(sink, plane.admin, path=path):
        await plane.admin.post(path, {"metadata": {"name": "credentials"}})
        headers, body = parsed((await sink.until(1))[0])
    assert ("Secret", "credentials") == (headers["Ce-Kind"], headers["Ce-Name"])
    assert {"kind": "Secret", "apiVersion": "v1"}.items() <= body.items()


async def test_a_request_is_rendered_as_in_the_recordings(plane: ControlPlane, namespace: str) -> None:
    """The bytes are those of `render`, which is tested against recordings, for this API server and this sink."""
    async with RecordingSink(about=namespace) as sink, sent_to(sink, plane.admin, namespace="knative-sources"):
        event = await write(plane.admin, namespace, "web.1")
        [request] = await sink.until(1)
        headers, _ = parsed(request)
        envelope = Envelope(
            id=str(uuid.UUID(headers["Ce-Id"], version=4)),
            time=headers["Ce-Time"],
            source=plane.server,
            host=sink.url.split("/")[2],
            namespace="knative-sources",
        )
        assert render("add", event, envelope) == request


async def test_reference_mode_sends_only_the_name_of_the_event(plane: ControlPlane, namespace: str) -> None:
    """The body has neither the reason nor the message nor the pod."""
    async with RecordingSink(about=namespace) as sink, sent_to(sink, plane.admin, mode="Reference"):
        await write(plane.admin, namespace, "web.1")
        [request] = await sink.until(1)
        headers, body = parsed(request)
        assert "dev.knative.apiserver.ref.add" == headers["Ce-Type"]
        assert {"kind": "Event", "namespace": namespace, "name": "web.1", "apiVersion": "v1"} == body


async def test_events_from_before_the_start_are_never_sent(plane: ControlPlane, namespace: str) -> None:
    """The adapter ignores what its LIST returns."""
    await write(plane.admin, namespace, "before.1")
    async with RecordingSink(about=namespace) as sink, sent_to(sink, plane.admin):
        await write(plane.admin, namespace, "after.1")
        assert ["after.1"] == names(await sink.until(1))


async def test_a_source_may_be_late(plane: ControlPlane, namespace: str) -> None:
    """If it starts from an earlier version, it sends what happened since, like a source that fell behind."""
    before = (await plane.admin.get("/api/v1/events", limit="1"))["metadata"]["resourceVersion"]
    await write(plane.admin, namespace, "web.1")
    async with RecordingSink(about=namespace) as sink, sent_to(sink, plane.admin, since=before):
        [request] = await sink.until(1)
        assert "web.1" == parsed(request)[0]["Ce-Name"]


async def test_one_event_is_sent_at_a_time(plane: ControlPlane, namespace: str) -> None:
    """As long as the sink has not answered, the next Event waits."""
    async with RecordingSink(about=namespace) as sink, sent_to(sink, plane.admin):
        sink.released.clear()
        written = [f"web.{number}" for number in range(5)]
        for name in written:
            await write(plane.admin, namespace, name)
        assert ["web.0"] == names(await sink.until(1))
        sink.released.set()
        assert written == names(await sink.until(5))
        assert 1 == sink.connections


async def test_an_event_that_is_refused_is_dropped_and_reported(plane: ControlPlane, namespace: str) -> None:
    """The source goes on with the next Event. Counters and callback have the result of each delivery."""
    results: asyncio.Queue[tuple[str, int | None, int]] = asyncio.Queue()

    def on_delivery(event: Manifest, status: int | None, attempts: int) -> None:
        if event["metadata"]["namespace"] == namespace:
            results.put_nowait((event["metadata"]["name"], status, attempts))

    answers = [answer(500), answer(503)]
    async with (
        RecordingSink(answers, about=namespace) as sink,
        sent_to(sink, plane.admin, on_delivery=on_delivery) as source,
        asyncio.timeout(10),
    ):
        for number in range(3):
            await write(plane.admin, namespace, f"web.{number}")
        assert [("web.0", 500, 1), ("web.1", 200, 2), ("web.2", 200, 1)] == [await results.get() for _ in range(3)]
        assert 1 == source.failed
        assert source.delivered >= 2
        first, second = (parsed(request)[0]["Ce-Id"] for request in sink.requests[1:3])
        assert first == second


async def test_a_watch_that_ends_goes_on_where_it_ended(plane: ControlPlane, namespace: str) -> None:
    """Events that are written between two watches are sent too."""
    async with broken_watches(plane) as api, RecordingSink(about=namespace) as sink, sent_to(sink, api):
        written = [f"web.{number}" for number in range(3)]
        for name in written:
            await write(plane.admin, namespace, name)
        assert written == names(await sink.until(3))


async def test_a_watch_that_fell_too_far_behind_loses_the_gap(plane: ControlPlane, namespace: str) -> None:
    """After a 410 the adapter lists again, and never sends the Events from in between."""
    async with broken_watches(plane) as api, RecordingSink(about=namespace) as sink, sent_to(sink, api):
        sink.released.clear()
        await write(plane.admin, namespace, "web.first")
        await sink.until(1)
        api.status = 410
        await write(plane.admin, namespace, "web.lost")
        sink.released.set()
        # From outside it is not visible when the source has listed again. Events from before that are part of the gap.
        while len(sink.requests) == 1:
            await write(plane.admin, namespace, f"web.{uuid.uuid4()}")
        assert "web.lost" not in names(sink.requests)
