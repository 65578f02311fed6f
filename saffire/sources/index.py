"""
Which sources apply to a namespace: the namespace's own sources, then cluster-wide sources that select the namespace.

A namespace's own source is an AlternateImageSource. A *cluster-wide* source is a ClusterAlternateImageSource, and it
applies to every namespace whose labels its selector matches.

`NamespaceIndex` tells whether any source applies to a namespace. Most namespaces have no source, and in an outage their
pods fail like all others. So most Events are answered without a request to the API server. One list of all
AlternateImageSources of the cluster is good for all Events of one second. If the first Event of a namespace arrives,
Saffire makes a list for it. A sweep makes a list too. If no sweep reaches this instance, an Event starts a list and
does not wait for it. If a source is said to have changed, a list shows whether it did.

Anybody can post CloudEvents about namespaces and sources that do not exist. So the lists that CloudEvents ask for are
limited: after the first few, they have pauses between them. Then an Event of a new namespace is answered from the last
list, and a change of a source waits for the next one.

`SourceIndex` keeps the cluster-wide sources, which are few and seldom change. One list of them is good for all repairs
of one second. If there are no cluster-wide sources, Saffire makes no new list for a minute: the event source sends an
event for a new one, and a sweep makes a list anyway. The labels of a namespace are read with the Namespace, if they
matter. A sweep lists the labels of all namespaces. So do Events, if they are about too many namespaces.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from saffire import logs
from saffire.concurrency import RateLimit
from saffire.errors import RefusedError, SaffireError
from saffire.kube.manifest import Manifest, is_label, name_of, text
from saffire.kube.resources import Cluster
from saffire.kube.selector import Selector
from saffire.sources.candidates import labels_of, parse_valid, selects
from saffire.sources.spec import source_of
from saffire.sources.store import SourceStore, version_of
from saffire.ttl_cache import TtlCache

# Does a namespace have a source?

# For so many seconds a list proves that a namespace still has no source.
_LIST_SECONDS = 1.0
# A sweep makes a list every minute. `SourceStore` keeps the names of a list for 90 s. A list that is older than this
# is renewed, before the names expire.
_RENEWED_SECONDS = 75.0
_AGAIN_SECONDS = 5.0
_KEPT_WITHOUT = 10_000
# Lists that CloudEvents ask for: 20 at once, then one in a quarter of a second.
_LIST_PAUSE_SECONDS = 0.25
_LIST_BURST_SECONDS = 5.0


class NamespaceIndex:
    """
    The namespaces that have AlternateImageSources of their own, as far as this instance has listed them.

    Args:
        list_all: asks the API server for the version of every source, by namespace and name.
        select: tells whether a cluster-wide source applies to a namespace.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(
        self,
        list_all: Callable[[], Awaitable[Mapping[str, Mapping[str, str]]]],
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
        self._limit = RateLimit(_LIST_BURST_SECONDS, clock)
        self._with: Mapping[str, Mapping[str, str]] = {}
        self._without: set[str] = set()

    async def has_source(self, namespace: str) -> bool:
        """Tell whether any source applies to a namespace; raise `SaffireError` if the API server does not tell."""
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
        If the last list has a source and is older than 75 s, start a new list in a task of its own.

        A repair reads sources by the names of the last list. No Event waits for the new list. If the new list fails, a
        later Event starts another one, at least 5 s after this one.
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
        """
        Tell whether a namespace has a source of its own.

        If the last list of sources is too old to tell that, list the sources of all namespaces first.
        """
        arrived = self._clock()
        if not self._is_answered(namespace):
            async with self._listing:
                if self._listed_at < arrived and not self._is_answered(namespace):
                    self._limit.charge(_LIST_PAUSE_SECONDS)
                    await self.namespaces()
        if namespace in self._with:
            self._without.discard(namespace)
            return True
        if len(self._without) >= _KEPT_WITHOUT:
            self._without.clear()
        self._without.add(namespace)
        return False

    @property
    def is_busy(self) -> bool:
        """Whether `version_of` has to wait before it can list the sources."""
        return self._limit.delay > 0

    async def version_of(self, namespace: str, source: str) -> str | None:
        """
        Return the version of a namespace's source; `None` if there is no such source.

        The version is that of a list that begins after this call. One list serves all callers that wait for it.
        """
        arrived = self._clock()
        await _list_in_turn(self.namespaces, self._listing, self._limit, is_new=lambda: self._listed_at >= arrived)
        return self._with.get(namespace, {}).get(source)

    async def namespaces(self) -> frozenset[str]:
        """List the sources of the whole cluster now, and return the namespaces that have sources of their own."""
        asked_at = self._clock()
        versions = await self._list_all()
        if asked_at >= self._listed_at:
            self._with, self._listed_at = versions, asked_at
        return frozenset(versions)

    def _is_answered(self, namespace: str) -> bool:
        """
        Tell whether the last list of sources is new enough to tell whether this namespace has one.

        If the namespace had a source, any list is new enough: the repair that follows reads the namespace's sources
        first. If the namespace had none, the list must be at most 1 s old. While the limit allows no list, such a
        list is new enough for any namespace.
        """
        age = self._clock() - self._listed_at
        if namespace in self._with or (age <= _LIST_SECONDS and namespace in self._without):
            return True
        return self.is_busy and age <= _LIST_SECONDS


async def _list_in_turn(
    list_now: Callable[[], Awaitable[object]], lock: asyncio.Lock, limit: RateLimit, *, is_new: Callable[[], bool]
) -> None:
    """
    List sources for a CloudEvent: one list at a time, each as soon as the limit allows it.

    If the last list `is_new` enough when the turn comes, make none.
    """
    async with lock:
        if not is_new():
            await asyncio.sleep(limit.delay)
            limit.charge(_LIST_PAUSE_SECONDS)
            await list_now()


# Which sources apply?

_CLUSTER_WIDE_SECONDS = 1.0
_NO_CLUSTER_WIDE_SECONDS = 60.0
# For so many seconds, a namespace's labels are good enough to tell whether an Event starts a repair. The repair reads
# the labels again.
_LABELS_SECONDS = 10.0
_KEPT_LABELS = 10_000
# Reads of a namespace's labels: 200 at once, then 50 a second. Beyond that, one list of all labels serves the Events of
# five seconds, or of nine times as long as the list took.
_LABELS_PAUSE_SECONDS = 0.02
_ALL_LABELS_FACTOR = 9
_LABELS_BURST_SECONDS = 4.0
_ALL_LABELS_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSelection:
    """
    A cluster-wide source, whether Saffire can use it, and the names of the namespaces that its selector matches.

    If Saffire cannot use the source, `namespaces` is empty.
    """

    source: Manifest
    is_usable: bool
    namespaces: frozenset[str]

    def covers(self, entry: Manifest) -> bool:
        """
        Tell whether an entry of the source's `status.active` is about one of the namespaces.

        If Saffire cannot use the source, return `True` for every entry.
        """
        return not self.is_usable or text(entry, "target", "namespace") in self.namespaces


class SourceIndex:
    """
    The sources of one cluster.

    The index keeps the last list of the cluster-wide sources. It reads a namespace's own sources from `store`.
    """

    def __init__(self, cluster: Cluster, store: SourceStore) -> None:
        self._cluster = cluster
        self._store = store
        self._cluster_wide: tuple[Manifest, ...] = ()
        self._listed_at = float("-inf")
        self._writes = 0
        self._listing = asyncio.Lock()
        self._labels: TtlCache[str, Manifest] = TtlCache(_KEPT_LABELS, time.monotonic)
        self._checking_version = asyncio.Lock()
        self._list_limit = RateLimit(_LIST_BURST_SECONDS)
        self._label_limit = RateLimit(_LABELS_BURST_SECONDS)
        self._listing_labels = asyncio.Lock()
        self._selected: frozenset[str] = frozenset()
        self._selected_until = float("-inf")
        self._was_refused = False

    async def sources_for(
        self, namespace: str, *, fresh: bool, may_be_stale: bool = False
    ) -> tuple[tuple[Manifest, ...], Manifest | None]:
        """
        Return the sources that apply to a namespace, the namespace's own sources first, and the Namespace object.

        If the Namespace is gone, the second part is `None`. With `fresh`, the status of each source is no older than
        this instance's last write of a status. With `may_be_stale`, a source of the namespace that was created in the
        last 90 s may be missing. If the API server does not list the cluster-wide sources, return the namespace's own
        sources; if the namespace has none, raise the `SaffireError` of the list.
        """
        own, cluster_wide, namespace_manifest = await asyncio.gather(
            self._store.in_namespace(namespace, may_be_stale=may_be_stale),
            self._stored_or_error(fresh=fresh and self._writes != self._store.writes),
            self._cluster.namespace(namespace),
        )
        if isinstance(cluster_wide, SaffireError):
            if not own:
                raise cluster_wide
            logs.failed("Could not list the cluster-wide sources", {"namespace": namespace, "error": str(cluster_wide)})
            cluster_wide = ()
        labels = labels_of(namespace_manifest) if namespace_manifest else {}
        return (*own, *(source for source in cluster_wide if selects(source, labels))), namespace_manifest

    async def has_cluster_wide_source(self, namespace: str) -> bool:
        """Tell whether a cluster-wide source applies to a namespace, by labels of the namespace up to 10 s old."""
        cluster_wide = await self._stored()
        usable = parse_valid(cluster_wide)
        if not usable:
            return False
        if any(source.selector == Selector() for source in usable):
            return True
        labels = self._labels.get(namespace)
        if labels is None:
            if self._label_limit.delay:
                return namespace in await self._selected_namespaces(cluster_wide)
            self._label_limit.charge(_LABELS_PAUSE_SECONDS)
            namespace_manifest = await self._cluster.namespace(namespace)
            labels = labels_of(namespace_manifest) if namespace_manifest else {}
            self._labels.put(namespace, labels, _LABELS_SECONDS)
        return any(selects(source, labels) for source in cluster_wide)

    async def _selected_namespaces(self, sources: Iterable[Manifest]) -> frozenset[str]:
        """
        Return the namespaces that any of these cluster-wide sources selects.

        One list of labels serves all calls of the next five seconds, or longer if the list took long. It does so even
        if the sources change meanwhile.
        """
        async with self._listing_labels:
            began = time.monotonic()
            if began >= self._selected_until:
                labels_in = await self._labels_in()
                self._selected = frozenset().union(*(_selected(source, labels_in) for source in sources))
                ended = time.monotonic()
                self._selected_until = ended + max(_ALL_LABELS_SECONDS, _ALL_LABELS_FACTOR * (ended - began))
            return self._selected

    async def _labels_in(self) -> dict[str, Manifest]:
        """List the labels of every namespace of the cluster."""
        return {name: labels async for name, labels in self._store.namespace_labels() if is_label(name)}

    @property
    def is_busy(self) -> bool:
        """Whether `version_of` has to wait before it can list the cluster-wide sources."""
        return self._list_limit.delay > 0

    async def version_of(self, name: str) -> str | None:
        """
        Return the version of a cluster-wide source; `None` if there is none among the first 32 sources by name.

        The version is that of a list that begins after this call. One list serves all callers that wait for it.
        """
        arrived, list_now = time.monotonic(), functools.partial(self._stored, fresh=True)
        await _list_in_turn(
            list_now, self._checking_version, self._list_limit, is_new=lambda: self._listed_at >= arrived
        )
        return next((version_of(manifest) for manifest in self._cluster_wide if name_of(manifest) == name), None)

    async def cluster_selections(self) -> tuple[ClusterSelection, ...]:
        """
        Return every cluster-wide source as it is now, with the namespaces that it selects.

        The namespaces of the cluster are listed only if at least one of the sources can be used.
        """
        cluster_wide = await self._stored(fresh=True)
        labels_in = await self._labels_in() if parse_valid(cluster_wide) else {}
        return tuple(
            ClusterSelection(source=source, is_usable=bool(source_of(source)), namespaces=_selected(source, labels_in))
            for source in cluster_wide
        )

    async def _stored_or_error(self, *, fresh: bool) -> tuple[Manifest, ...] | SaffireError:
        try:
            return await self._stored(fresh=fresh)
        except SaffireError as error:
            return error

    async def _stored(self, *, fresh: bool = False) -> tuple[Manifest, ...]:
        """
        Return the cluster-wide sources.

        With `fresh`, or if the last list is too old, the sources are listed again. Otherwise they are those of the last
        list.
        """
        arrived = time.monotonic()
        if fresh or self._is_old(arrived):
            async with self._listing:
                if self._listed_at < arrived and (fresh or self._is_old(time.monotonic())):
                    asked_at, writes = time.monotonic(), self._store.writes
                    self._cluster_wide = await self._list(may_be_stale=not fresh)
                    self._listed_at, self._writes = asked_at, writes
        return self._cluster_wide

    def _is_old(self, now: float) -> bool:
        return now - self._listed_at > (_CLUSTER_WIDE_SECONDS if self._cluster_wide else _NO_CLUSTER_WIDE_SECONDS)

    async def _list(self, *, may_be_stale: bool) -> tuple[Manifest, ...]:
        """
        List the cluster-wide sources; return none if RBAC forbids Saffire to list them.

        If an installation is older than the kind ClusterAlternateImageSource, its role does not allow the list, and it
        has no source of that kind.
        """
        try:
            return await self._store.cluster_wide(may_be_stale=may_be_stale)
        except RefusedError as error:
            if not self._was_refused:
                self._was_refused = True
                logs.failed("Could not list the cluster-wide sources", {"error": str(error)})
            return ()


def _selected(source: Manifest, labels_in: Mapping[str, Manifest]) -> frozenset[str]:
    """Return the names of the namespaces that a source's selector matches, by the labels of each namespace."""
    return frozenset(name for name, labels in labels_in.items() if selects(source, labels))
