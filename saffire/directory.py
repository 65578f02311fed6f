"""
The directory: which namespaces have a source that speaks for them, so that the Events of all others cost nothing.

Most namespaces have none, and in an outage their pods fail like all others. One list of the sources of the whole
cluster serves all Events of a second. Only a namespace whose first Event this is has a list made for it. Whether a
cluster-wide source selects a namespace is known by `sources`.
"""

import asyncio
from collections.abc import Awaitable, Callable

from saffire.errors import SaffireError

# For so long a list is good enough to tell that a namespace still has no source.
_GOOD_SECONDS = 1.0
_KEPT = 10_000


class Directory:
    """
    The namespaces with sources, as far as this instance knows.

    Args:
        list_all: asks the API server for those with sources of their own.
        select: tells whether a cluster-wide source speaks for one.

    """

    def __init__(
        self, list_all: Callable[[], Awaitable[tuple[str, ...]]], select: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._list_all = list_all
        self._select = select
        self._listing = asyncio.Lock()
        self._listed_at = float("-inf")
        self._with: frozenset[str] = frozenset()
        self._without: set[str] = set()

    async def has_source(self, namespace: str) -> bool:
        """Tell whether a source speaks for a namespace; raise a `SaffireError` where the API server does not say."""
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

    async def _has_own(self, namespace: str) -> bool:
        arrived = asyncio.get_running_loop().time()
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
        asked_at = asyncio.get_running_loop().time()
        found = frozenset(await self._list_all())
        if asked_at >= self._listed_at:
            self._with, self._listed_at = found, asked_at
        return found

    def _knows(self, namespace: str) -> bool:
        """
        Tell whether the last list is good enough for this namespace.

        One that had a source is looked at, and that look begins with its sources.
        """
        age = asyncio.get_running_loop().time() - self._listed_at
        return namespace in self._with or (age <= _GOOD_SECONDS and namespace in self._without)
