"""
The directory: which namespaces have a source that speaks for them, so that the Events of all others cost nothing.

Most namespaces have none, and in an outage their pods fail like all others. One list of the sources of the whole
cluster serves all Events of a second. Only a namespace whose first Event this is has a list made for it. What a list
said is good for a minute: a sweep makes one, and where none comes to this instance, the next Event does. Whether a
cluster-wide source selects a namespace is known by `sources`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from saffire.errors import SaffireError

# For so long a list is good enough to tell that a namespace still has no source.
_GOOD_SECONDS = 1.0
# For so long it is good enough to tell that one has. The names that it tells have to outlive that (`declared`).
_RENEWED_SECONDS = 60.0
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
        self._with: frozenset[str] = frozenset()
        self._without: set[str] = set()

    async def has_source(self, namespace: str) -> bool:
        """Tell whether a source speaks for a namespace; raise a `SaffireError` where the API server does not say."""
        await self._renew()
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

    async def _renew(self) -> None:
        """
        Have the sources listed if that was long ago, once for all namespaces: a repair reads them by their names.

        Should that fail, each repair looks for itself.
        """
        if self._is_old():
            async with self._listing:
                if self._is_old():
                    self._tried_at = self._clock()
                    with suppress(SaffireError):
                        await self.namespaces()

    def _is_old(self) -> bool:
        return bool(self._with) and self._clock() - max(self._listed_at, self._tried_at) > _RENEWED_SECONDS

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
