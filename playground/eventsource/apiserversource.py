"""
An ApiServerSource as Knative runs it: it forwards the Events of a cluster, or other objects, to one sink.

It is no more reliable than Knative's adapter, because Saffire must work with that one. It ignores what its LIST
returns. It posts Events one at a time, without a timeout. It retries a failed delivery for about three seconds, then
drops it. If its watch falls behind, it loses the changes in the gap.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import Self

import aiohttp

from eventsource.cloudevent import Change, Envelope, Mode, render, timestamp
from eventsource.delivery import RETRY_WAITS, SinkConnection, deliver
from playground.cluster.api import Api, ApiError, Manifest

log = logging.getLogger(__name__)

DeliveryCallback = Callable[[Manifest, int | None, int], None]

_PAUSE_SECONDS = 0.5
_CHANGES: dict[str, Change] = {"ADDED": "add", "MODIFIED": "update", "DELETED": "delete"}
EVENTS = "/api/v1/events"


class ApiServerSource:
    """
    Watches the Events of all namespaces and posts each change to `sink`; use as an async context manager.

    Entering returns when it is fixed where the watch starts: every Event that is written later is sent.

    Args:
        api: a client that may list and watch Events.
        sink: `http://HOST:PORT/PATH`.
        path: the collection to watch; the adapter has a stream for each of its `resources`.
        namespace: the namespace of the ApiServerSource.
        mode: `Resource` sends whole Events, `Reference` only their names.
        retry_waits: seconds before each further attempt.
        since: the resourceVersion to start from; empty for the current one.
        on_delivery: called after each Event with the last status (None if no answer came) and the number of attempts.

    """

    def __init__(  # noqa: PLR0913 - all but the first two have the adapter's own defaults
        self,
        api: Api,
        sink: str,
        *,
        path: str = EVENTS,
        namespace: str = "saffire",
        mode: Mode = "Resource",
        retry_waits: Sequence[float] = RETRY_WAITS,
        since: str = "",
        on_delivery: DeliveryCallback | None = None,
    ) -> None:
        self.delivered = 0
        """How many Events the sink has accepted."""
        self.failed = 0
        """How many Events were dropped."""
        self._api = api
        self._connection = SinkConnection(sink)
        self._path = path
        self._namespace = namespace
        self._mode = mode
        self._retry_waits = retry_waits
        self._on_delivery = on_delivery
        self._version = since
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._version = self._version or await self._latest_version()
        self._task = asyncio.create_task(self._forward())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._connection.close()

    async def _forward(self) -> None:
        while True:
            try:
                async for kind, event in self._watch():
                    if kind in _CHANGES:
                        await self.deliver(_CHANGES[kind], event)
            except (aiohttp.ClientError, OSError, ApiError) as error:
                log.warning("watch of events broke and starts again: %s", error)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _watch(self) -> AsyncIterator[tuple[str, Manifest]]:
        """Watch from the last version seen; if the API server no longer has it, from the current one."""
        self._version = self._version or await self._latest_version()
        query = {"resourceVersion": self._version, "allowWatchBookmarks": "true"}
        try:
            async for kind, event in self._api.watch(self._path, **query):
                if kind == "ERROR":
                    raise ApiError(event["code"], event)  # noqa: TRY301 - the same error, sent inside the stream
                self._version = event["metadata"]["resourceVersion"]
                yield kind, event
        except ApiError as error:
            if error.status == HTTPStatus.GONE:
                self._version = ""
            raise

    async def _latest_version(self) -> str:
        """Return the current resourceVersion from a LIST; the adapter ignores the items too."""
        listed = await self._api.get(self._path, limit="1")
        version: str = listed["metadata"]["resourceVersion"]
        return version

    async def deliver(self, change: Change, event: Manifest) -> None:
        """Send one Event, with the retries of the adapter."""
        delivery = await deliver(self._connection, self._request(change, event), self._retry_waits)
        if delivery.accepted:
            self.delivered += 1
        else:
            self.failed += 1
            log.error("event %s was not delivered: %s", event["metadata"]["name"], delivery.status or "no answer")
        if self._on_delivery:
            self._on_delivery(event, delivery.status, delivery.attempts)

    def _request(self, change: Change, event: Manifest) -> bytes:
        envelope = Envelope(
            id=str(uuid.uuid4()),
            time=timestamp(time.time_ns()),
            source=self._api.server,
            host=self._connection.host,
            path=self._connection.path,
            namespace=self._namespace,
            mode=self._mode,
        )
        return render(change, event, envelope)
