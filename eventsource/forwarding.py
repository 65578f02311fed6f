"""
Follows one collection, and posts each change to the function as Knative's ApiServerSource does.

Like that source, it posts one change at a time, repeats a delivery for three seconds, and then drops the change: the
next sweep repairs what the change was about. Two things differ. It posts no deletions: one comes for every Event an
hour later, and the function ignores them. And it reports each gap, so that a sweep follows: when it starts, when the
API server no longer has the version of the last change (HTTP status 410), and when a watch sends a change that cannot
be read, such as an Event that takes more than four megabytes. It does not list what changed in a gap.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import NoReturn

from eventsource.cloudevent import Change, Envelope, render, timestamp
from eventsource.delivery import RETRY_WAITS, SinkConnection, deliver_within
from eventsource.watch import Collection, WatchingServer
from saffire.errors import ExpiredError, SaffireError
from saffire.kube.manifest import Manifest, mapping, text

_CHANGES: dict[str, Change] = {"ADDED": "add", "MODIFIED": "update"}
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_RETRY_AFTER_SECONDS = 30.0
_DELIVERY_SECONDS = 60.0
_LOGGER = logging.getLogger("saffire.eventsource")


def pause_seconds(failures: int, jitter: float, *, retry_after: float = 0.0) -> float:
    """
    Return how long to wait before the next watch, in seconds.

    Args:
        failures: how many watches in a row have failed.
        jitter: from 0 to 1. Sources that lost the same API server do not all return at once.
        retry_after: the seconds that the API server asks to wait, of which 30 at most count; 0 if it names none. A load
            balancer before the API server may name hours.

    >>> [pause_seconds(failures, 1.0) for failures in range(7)]
    [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    >>> pause_seconds(3, 0.0), pause_seconds(0, 0.5, retry_after=2.0), pause_seconds(0, 1.0, retry_after=9999.0)
    (1.0, 2.1875, 30.25)

    """
    longest = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10), _LONGEST_PAUSE_SECONDS)
    return min(retry_after, _LONGEST_RETRY_AFTER_SECONDS) + longest * (1 + jitter) / 2


class Forwarder:
    """
    Posts the changes of one collection to the function.

    Args:
        server: the API server.
        collection: what to follow.
        sink: the URL of the function.
        may_post: tells whether this source still leads.
        on_gap: is called when changes may have been missed.
        retry_waits: the pauses before each further attempt of a delivery, in seconds.

    """

    def __init__(  # noqa: PLR0913 - all but the last are needed
        self,
        server: WatchingServer,
        collection: Collection,
        sink: str,
        *,
        may_post: Callable[[], bool],
        on_gap: Callable[[], None],
        retry_waits: Sequence[float] = RETRY_WAITS,
    ) -> None:
        self.fault = "has not started"
        """Why the collection is not followed now; `""` if it is."""
        self._server = server
        self._collection = collection
        self._connection = SinkConnection(sink)
        self._may_post = may_post
        self._on_gap = on_gap
        self._retry_waits = retry_waits
        self._version = ""
        self._failures = 0

    async def run(self) -> NoReturn:
        """Follow the collection until this is cancelled."""
        try:
            while True:
                retry_after = await self._follow()
                await asyncio.sleep(pause_seconds(self._failures, _jitter(), retry_after=retry_after))
        finally:
            await self._connection.close()

    async def _follow(self) -> float:
        """Follow the collection until the watch ends; return the seconds that the API server asks to wait."""
        retry_after = 0.0
        try:
            if not self._version:
                self._version = await self._server.version(self._collection)
                _LOGGER.info("Watches from now on", extra={"json_fields": {"collection": self._collection.name}})
                self._on_gap()
            self.fault = ""
            async with aclosing(self._server.changes(self._collection, self._version)) as changes:
                async for kind, changed in changes:
                    self._failures = 0
                    version = text(changed, "metadata", "resourceVersion")
                    if kind in _CHANGES:
                        await self._post(_CHANGES[kind], changed)
                    self._version = version
            self._failures = 0
        except ExpiredError:
            # If nothing of the collection changes for minutes, the API server forgets the version that was seen last.
            _LOGGER.info("Watches anew", extra={"json_fields": {"collection": self._collection.name}})
            self._failures += 1
            self._version = ""
        except (SaffireError, ValueError, RecursionError) as error:
            self._failures += 1
            self.fault = str(error)
            if not isinstance(error, SaffireError):
                self._version = ""  # a watch from a new version does not meet the same change again
            retry_after = getattr(error, "retry_after", 0.0)
            self._warn("Cannot watch, and tries again", error=str(error))
        return retry_after

    async def _post(self, change: Change, manifest: Manifest) -> None:
        """Post a change; log it if it is lost."""
        if not self._may_post():
            return
        envelope = Envelope(
            id=str(uuid.uuid4()),
            time=timestamp(time.time_ns()),
            source=self._server.url,
            host=self._connection.host,
            path=self._connection.path,
            namespace="saffire",
        )
        request = render(change, manifest, envelope)
        delivery = await deliver_within(_DELIVERY_SECONDS, self._connection, request, self._retry_waits)
        if not delivery.accepted:
            metadata = mapping(manifest, "metadata")
            name = f"{text(metadata, 'namespace')}/{text(metadata, 'name')}"
            self._warn("Could not deliver a change", object=name, status=delivery.status, attempts=delivery.attempts)

    def _warn(self, message: str, **fields: object) -> None:
        _LOGGER.warning(message, extra={"json_fields": {"collection": self._collection.name, **fields}})


def _jitter() -> float:
    return random.random()  # noqa: S311 - it guards no secret
