"""
Which sources apply to a namespace: its own first, and after them the cluster-wide ones whose selector matches it.

`NamespaceIndex` answers the Events of namespaces without any source without a request. Most namespaces have none, and
in an outage their pods fail like all others. One list of the whole cluster's sources serves all Events of a second. If
a namespace's first Event arrives, a list is made for it. A sweep lists too; if none reaches this instance, an Event
starts a list and does not wait for it.

`SourceIndex` knows the cluster-wide sources, which are few and change seldom. What was read serves every repair of a
second. That there are none holds for a minute: a new one has an Event of its own, and a sweep sees it. A namespace's
labels are read with the namespace, where they matter; only a sweep lists those of all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from saffire import logs
from saffire.errors import RefusedError, SaffireError
from saffire.kube.manifest import Manifest, is_label, text
from saffire.kube.resources import Cluster
from saffire.kube.selector import Selector
from saffire.sources.candidates import StoredSource, labels_of, parse_if_valid, selecting, selects
from saffire.sources.spec import Source
from saffire.sources.store import SourceStore
from saffire.ttl_cache import TtlCache

# For so long a list is good enough to tell that a namespace still has no source.
_LIST_SECONDS = 1.0
# Sweeps list every minute. The names of a list are good for 90 s (`declared`), and known anew before that.
_RENEWED_SECONDS = 75.0
_AGAIN_SECONDS = 5.0
_KEPT_WITHOUT = 10_000


class NamespaceIndex:
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
        if len(self._without) >= _KEPT_WITHOUT:
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
        return namespace in self._with or (age <= _LIST_SECONDS and namespace in self._without)


_GOOD_SECONDS = 1.0
_NONE_SECONDS = 60.0
# For so long labels are good enough to tell whether an Event is worth a repair, which reads them again.
_LABELS_SECONDS = 10.0
_ROOM = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSelection:
    """A cluster-wide source, whether it can be used, and the namespaces that its selector takes; else none."""

    source: Manifest
    is_usable: bool
    namespaces: frozenset[str]

    def covers(self, entry: Manifest) -> bool:
        """Tell whether an entry of its `status.active` is about one of the namespaces, as far as these are known."""
        return not self.is_usable or text(entry, "target", "namespace") in self.namespaces


class SourceIndex:
    """The sources of one cluster, as far as they have to be known."""

    def __init__(self, cluster: Cluster, declared: SourceStore) -> None:
        self._cluster = cluster
        self._store = declared
        self._cluster_wide: tuple[StoredSource, ...] = ()
        self._listed_at = float("-inf")
        self._writes = 0
        self._listing = asyncio.Lock()
        self._labels: TtlCache[str, Manifest] = TtlCache(_ROOM, time.monotonic)
        self._was_refused = False

    async def applying_to(
        self, namespace: str, *, fresh: bool, may_be_stale: bool = False
    ) -> tuple[tuple[Manifest, ...], Manifest | None]:
        """
        Return the sources that speak for a namespace, its own first, and the Namespace; `None` where that is gone.

        With `anew` their status is not older than what this instance last wrote; `in_haste` one that was created in
        the last 90 s may be missing. A namespace with sources of its own does without the others while the API server
        does not tell of those.
        """
        own, wide, found = await asyncio.gather(
            self._store.in_namespace(namespace, may_be_stale=may_be_stale),
            self._known_or_fault(fresh=fresh and self._writes != self._store.writes),
            self._cluster.namespace(namespace),
        )
        if isinstance(wide, SaffireError):
            if not own:
                raise wide
            logs.failed("Could not list the cluster-wide sources", {"namespace": namespace, "error": str(wide)})
            wide = ()
        return ((*own, *selecting(wide, found)) if found else own), found

    async def apply_to(self, namespace: str) -> bool:
        """Tell whether a cluster-wide source speaks for a namespace, by what its labels were some seconds ago."""
        wide = [source for _, source in await self._known() if source]
        if not wide:
            return False
        if any(source.selector == Selector() for source in wide):
            return True
        labels = self._labels.get(namespace)
        if labels is None:
            found = await self._cluster.namespace(namespace)
            labels = labels_of(found) if found else {}
            self._labels.put(namespace, labels, _LABELS_SECONDS)
        return any(selects(source, labels) for source in wide)

    async def cluster_selections(self) -> tuple[ClusterSelection, ...]:
        """Return every cluster-wide source as it is now, with its namespaces; those are listed if it takes any."""
        wide = await self._known(fresh=True)
        labels: dict[str, Manifest] = {}
        if any(source for _, source in wide):
            labels = {name: found async for name, found in self._store.namespace_labels() if is_label(name)}
        return tuple(
            ClusterSelection(source=manifest, is_usable=source is not None, namespaces=_taken(source, labels))
            for manifest, source in wide
        )

    async def _known_or_fault(self, *, fresh: bool) -> tuple[StoredSource, ...] | SaffireError:
        try:
            return await self._known(fresh=fresh)
        except SaffireError as error:
            return error

    async def _known(self, *, fresh: bool = False) -> tuple[StoredSource, ...]:
        """Return the cluster-wide sources, listed no longer ago than is good enough, or `anew` from now on."""
        arrived = time.monotonic()
        if fresh or self._is_old(arrived):
            async with self._listing:
                if self._listed_at < arrived and (fresh or self._is_old(time.monotonic())):
                    asked_at, writes = time.monotonic(), self._store.writes
                    self._cluster_wide = tuple(
                        (manifest, parse_if_valid(manifest)) for manifest in await self._list(may_be_stale=not fresh)
                    )
                    self._listed_at, self._writes = asked_at, writes
        return self._cluster_wide

    def _is_old(self, now: float) -> bool:
        return now - self._listed_at > (_GOOD_SECONDS if self._cluster_wide else _NONE_SECONDS)

    async def _list(self, *, may_be_stale: bool) -> tuple[Manifest, ...]:
        """List them; whoever was installed before there were any may not do that, and has none."""
        try:
            return await self._store.cluster_wide(may_be_stale=may_be_stale)
        except RefusedError as error:
            if not self._was_refused:
                self._was_refused = True
                logs.failed("Could not list the cluster-wide sources", {"error": str(error)})
            return ()


def _taken(source: Source | None, labels: Mapping[str, Manifest]) -> frozenset[str]:
    """Return those of the namespaces that a source's selector takes."""
    return frozenset(name for name, found in labels.items() if source and selects(source, found))
