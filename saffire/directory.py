"""
The directory: which namespaces have an AlternateImageSource, so that the Events of all others cost nothing.

Most namespaces have none, and in an outage their pods fail like all others. One list of the sources of the whole
cluster serves all Events of a second. Only a namespace whose first Event this is has a list made for it.
"""

import asyncio
from collections.abc import Awaitable, Callable

# For so long a list is good enough to tell that a namespace still has no source.
_GOOD_SECONDS = 1.0
_KEPT = 10_000


class Directory:
    """
    The namespaces with sources, as far as this instance knows.

    Args:
        list_all: asks the API server for them.

    """

    def __init__(self, list_all: Callable[[], Awaitable[tuple[str, ...]]]) -> None:
        self._list_all = list_all
        self._listing = asyncio.Lock()
        self._listed_at = float("-inf")
        self._with: frozenset[str] = frozenset()
        self._without: set[str] = set()

    async def has_source(self, namespace: str) -> bool:
        """Tell whether a namespace has a source; raise a `SaffireError` where the API server does not say."""
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
        """Return the namespaces with sources, as they are now."""
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
