"""
The directory: which namespaces have a source that speaks for them, so that the Events of all others cost nothing.

Most namespaces have none, and in an outage their pods fail like all others. One list of the sources of the whole
cluster serves all Events of a second. Only a namespace whose first Event this is has a list made for it. A sweep makes
one, too; where none comes to this instance, an Event has one made, and does not wait for it. Whether a cluster-wide
source selects a namespace is known by `sources`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from saffire.errors import SaffireError

# For so long a list is good enough to tell that a namespace still has no source.
_GOOD_SECONDS = 1.0
# Sweeps list every minute. The names of a list are good for 90 s (`declared`), and known anew before that.
_RENEWED_SECONDS = 75.0
_AGAIN_SECONDS = 5.0
_KEPT = 10_000


class Directory:
    """
    The namespaces with sources, as far as this instance knows.

    Args:
        list_all: asks the API server for those with sources of their own.
        select: tells whether a cluster-wide source speaks for one.
        clock: tells seconds from any start.

    """

    def __init__(
        self,
        list_all: Callable[[], Awaitable[tuple[str, ...]]],
        select: Callable[[str], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._list_all = list_all
        self._select = select
        self._clock = clock
        self._listing = asyncio.Lock()
        self._listed_at = float("-inf")
        self._tried_at = float("-inf")
        self._renewal: asyncio.Task[None] | None = None
        self._with: frozenset[str] = frozenset()
        self._without: set[str] = set()

    async def has_source(self, namespace: str) -> bool:
        """Tell whether a source speaks for a namespace; raise a `SaffireError` where the API server does not say."""
        self._renew()
        if namespace in self._with:
            return True
        try:
            if await self._select(namespace):
                return True
        except SaffireError:
            if await self._has_own(namespace):
                return True
            raise
        return await self._has_own(namespace)

    def _renew(self) -> None:
        """
        Have the sources listed beside the Events, if that was long ago, and once for all namespaces.

        A repair reads sources by the names that a list had. Nobody waits for this one; should it fail, another one
        follows soon.
        """
        now = self._clock()
        is_old = now - self._listed_at > _RENEWED_SECONDS and now - self._tried_at > _AGAIN_SECONDS
        if self._with and is_old:
            self._tried_at = now
            self._renewal = asyncio.create_task(self._list_again())

    async def _list_again(self) -> None:
        with suppress(SaffireError):
            await self.namespaces()

    async def _has_own(self, namespace: str) -> bool:
        arrived = self._clock()
        if not self._knows(namespace):
            async with self._listing:
                if self._listed_at < arrived and not self._knows(namespace):
                    await self.namespaces()
        if namespace in self._with:
            self._without.discard(namespace)
            return True
        if len(self._without) >= _KEPT:
            self._without.clear()
        self._without.add(namespace)
        return False

    async def namespaces(self) -> frozenset[str]:
        """Return the namespaces with sources of their own, as they are now."""
        asked_at = self._clock()
        found = frozenset(await self._list_all())
        if asked_at >= self._listed_at:
            self._with, self._listed_at = found, asked_at
        return found

    def _knows(self, namespace: str) -> bool:
        """
        Tell whether the last list is good enough for this namespace.

        One that had a source is looked at, and that look begins with its sources.
        """
        age = self._clock() - self._listed_at
        return namespace in self._with or (age <= _GOOD_SECONDS and namespace in self._without)
