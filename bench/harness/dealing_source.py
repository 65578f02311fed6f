"""An event source with several sinks: one that has answered gets the next Event, as the subscribers of a Broker do."""

import asyncio
from collections.abc import Sequence
from typing import Any

from eventsource.cloudevent import Change
from playground.cluster.api import Api, Manifest
from playground.eventsource.apiserversource import ApiServerSource


class DealingSource(ApiServerSource):
    """
    An `ApiServerSource` that posts each Event to one of `sinks`; each sink gets one Event at a time.

    Args:
        api: a client that may list and watch Events.
        sinks: the URL of each sink.
        options: those of `ApiServerSource`.

    """

    def __init__(self, api: Api, sinks: Sequence[str], **options: Any) -> None:
        super().__init__(api, sinks[0], **options)
        self._idle: asyncio.Queue[ApiServerSource] = asyncio.Queue()
        for sink in sinks:
            self._idle.put_nowait(ApiServerSource(api, sink, **options))
        self._deliveries: set[asyncio.Task[None]] = set()

    async def __aexit__(self, *exception: object) -> None:
        await super().__aexit__(*exception)
        await asyncio.gather(*self._deliveries)

    async def deliver(self, change: Change, event: Manifest) -> None:
        """Begin to deliver an Event as soon as one of the sinks has answered."""
        source = await self._idle.get()
        delivery = asyncio.create_task(source.deliver(change, event))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        delivery.add_done_callback(lambda _: self._idle.put_nowait(source))
