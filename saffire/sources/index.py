"""
Which sources apply to a namespace: the namespace's own sources, then cluster-wide sources that select the namespace.

A namespace's own source is an AlternateImageSource. A *cluster-wide* source is a ClusterAlternateImageSource, and it
applies to every namespace whose labels its selector matches.

Most namespaces have no source, and in an outage their pods fail like all others. So most Events are answered without a
request to the API server. One list of all AlternateImageSources of the cluster is good for all Events of one second. If
the first Event of a namespace arrives, Saffire makes a list for it. A sweep makes a list too. If no sweep reaches this
instance, an Event starts a list and does not wait for it. A repair reads the sources of its namespace by the names that
the last list has. If a CloudEvent says that a source has changed, a list shows whether it has.

Cluster-wide sources are few and seldom change. One read of them is good for all repairs of one second. If there are
none, Saffire makes no new list for a minute: the event source sends an event for a new one, and a sweep makes a list
anyway. If the labels of a namespace matter, its Namespace is read. A sweep lists the labels of all namespaces. If
Events are about many namespaces, one list of all labels replaces the single reads.

Anybody can post CloudEvents about namespaces and sources that do not exist. So the lists that CloudEvents ask for are
limited: after the first few, they have pauses between them. Then an Event of a new namespace is answered from the last
list, and a change of a source waits for the next one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

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

T = TypeVar("T")

# Ages, in seconds since the API server was asked.

# A list shows for so long that a namespace still has no source. Cluster-wide sources are read again after it.
_NEW_SECONDS = 1.0
# That there are no cluster-wide sources.
_NO_CLUSTER_WIDE_SECONDS = 60.0
# The names that a list has. The event source sends an event for a new source.
_NAMES_SECONDS = 90.0
# A sweep makes a list every minute. Without sweeps, an Event starts one before the names are too old. If that fails, a
# later Event starts the next one.
_RENEWED_SECONDS = 75.0
_AGAIN_SECONDS = 5.0
# The labels of a namespace that tell whether an Event starts a repair. The repair reads them again.
_LABELS_SECONDS = 10.0
# The labels of all namespaces, since their list ended; or nine times as long as the list took.
_ALL_LABELS_SECONDS = 5.0
_ALL_LABELS_FACTOR = 9

# Limits. Lists of sources of one kind that CloudEvents ask for: 20 at once, then one in a quarter of a second.
_LIST_PAUSE_SECONDS = 0.25
_LIST_BURST_SECONDS = 5.0
# Reads of a namespace's labels: 200 at once, then 50 a second. Beyond that, the labels of all namespaces are listed.
_LABELS_PAUSE_SECONDS = 0.02
_LABELS_BURST_SECONDS = 4.0

_MOST_WITHOUT = 10_000
_MOST_LABELS = 10_000
_NEVER = float("-inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSelection:
    """A cluster-wide source, and the namespaces that its selector matches; none if Saffire cannot use the source."""

    source: Manifest
    namespaces: frozenset[str]

    def covers(self, entry: Manifest) -> bool:
        """
        Tell whether an entry of a list in the source's status is about one of the namespaces.

        If Saffire cannot use the source, return `True` for every entry.
        """
        return source_of(self.source) is None or text(entry, "target", "namespace") in self.namespaces


class SourceIndex:
    """
    The sources of one cluster, as far as this instance has read them.

    One list of a kind is made at a time. So callers share it, and no late answer replaces a newer one.

    Args:
        cluster: reads Namespaces.
        store: reads sources.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, cluster: Cluster, store: SourceStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock

        # The versions of the namespaces' own sources, by namespace and name.
        self._own: Mapping[str, Mapping[str, str]] = {}
        self._own_listed_at = _NEVER
        self._own_lock = asyncio.Lock()
        self._own_limit = RateLimit(_LIST_BURST_SECONDS, clock)
        # Namespaces without a source of their own, about which an Event has come.
        self._without: set[str] = set()
        self._renewed_at = _NEVER
        self._renewal: asyncio.Task[None] | None = None

        self._cluster_wide: tuple[Manifest, ...] = ()
        self._cluster_wide_listed_at = _NEVER
        # When they were listed, or read by the names of the last list.
        self._cluster_wide_read_at = _NEVER
        self._cluster_wide_lock = asyncio.Lock()
        self._cluster_wide_limit = RateLimit(_LIST_BURST_SECONDS, clock)
        self._was_refused = False

        self._labels: TtlCache[str, Manifest] = TtlCache(_MOST_LABELS, clock)
        self._labels_limit = RateLimit(_LABELS_BURST_SECONDS, clock)
        # The namespaces that cluster-wide sources select, by a list of the labels of all namespaces.
        self._selected: frozenset[str] = frozenset()
        self._selected_until = _NEVER
        self._selected_lock = asyncio.Lock()

    # Does any source apply?

    async def has_source(self, namespace: str) -> bool:
        """Tell whether any source applies to a namespace; raise `SaffireError` if the API server does not tell."""
        self._renew()
        if namespace in self._own:
            return True
        try:
            if await self._is_selected(namespace):
                return True
        except SaffireError:
            if await self._has_own(namespace):
                return True
            raise
        return await self._has_own(namespace)

    def _renew(self) -> None:
        """If there are sources, and their names will soon be too old to be used, list them. No Event waits for that."""
        now = self._clock()
        is_old = now - self._own_listed_at > _RENEWED_SECONDS and now - self._renewed_at > _AGAIN_SECONDS
        if self._own and is_old:
            self._renewed_at = now
            self._renewal = asyncio.create_task(self._list_again())

    async def _list_again(self) -> None:
        with suppress(SaffireError):
            await self.namespaces_with_own()

    async def _has_own(self, namespace: str) -> bool:
        """Tell whether a namespace has a source of its own, by a list that is new enough to tell that."""
        arrived = self._clock()

        def is_answered() -> bool:
            # If the namespace had a source, any list is new enough: the repair that follows reads its sources first.
            if namespace in self._own or self._own_listed_at >= arrived:
                return True
            # While the limit allows no list, a list that is good for a known namespace is good for any.
            is_new = self._clock() - self._own_listed_at <= _NEW_SECONDS
            return is_new and (namespace in self._without or self.is_busy(namespace))

        await _read_unless(is_answered, self._list_own, self._own_lock, self._own_limit)
        if namespace in self._own:
            return True
        if len(self._without) >= _MOST_WITHOUT:
            self._without.clear()
        self._without.add(namespace)
        return False

    async def _is_selected(self, namespace: str) -> bool:
        """Tell whether a cluster-wide source applies to a namespace, by labels of the namespace up to 10 s old."""
        sources = await self._cluster_wide_since(self._recent)
        usable = parse_valid(sources)
        if not usable:
            return False
        if any(source.selector == Selector() for source in usable):
            return True
        labels = self._labels.get(namespace)
        if labels is None:
            if self._labels_limit.delay:
                return namespace in await self._selected_namespaces()
            self._labels_limit.charge(_LABELS_PAUSE_SECONDS)
            namespace_manifest = await self._cluster.namespace(namespace)
            labels = labels_of(namespace_manifest) if namespace_manifest else {}
            self._labels.put(namespace, labels, _LABELS_SECONDS)
        return any(selects(source, labels) for source in sources)

    async def _selected_namespaces(self) -> frozenset[str]:
        """
        Return the namespaces that any cluster-wide source selects.

        One list of labels serves all calls of the next five seconds, or longer if the list took long. It does so even
        if the sources change meanwhile.
        """

        async def select() -> None:
            began = self._clock()
            labels_in = await self._labels_in()
            self._selected = frozenset().union(*(_selected(source, labels_in) for source in self._cluster_wide))
            ended = self._clock()
            self._selected_until = ended + max(_ALL_LABELS_SECONDS, _ALL_LABELS_FACTOR * (ended - began))

        await _read_unless(lambda: self._clock() < self._selected_until, select, self._selected_lock)
        return self._selected

    # Has a source changed?

    def is_busy(self, namespace: str) -> bool:
        """Tell whether `version_of` has to wait before it can list sources; `""` stands for cluster-wide sources."""
        return self._limit(namespace).delay > 0

    def _limit(self, namespace: str) -> RateLimit:
        return self._own_limit if namespace else self._cluster_wide_limit

    async def version_of(self, namespace: str, source: str) -> str | None:
        """
        Return the version of a source; `None` if there is no such source. A cluster-wide source has the namespace `""`.

        The version is that of a list that begins after this call. One list serves all callers that wait for it. Of the
        cluster-wide sources, only the first 32 by name count.
        """
        arrived, limit = self._clock(), self._limit(namespace)
        await asyncio.sleep(limit.delay)
        if namespace:
            await _read_unless(lambda: self._own_listed_at >= arrived, self._list_own, self._own_lock, limit)
            return self._own.get(namespace, {}).get(source)
        sources = await self._cluster_wide_since(arrived, listed=True, limit=limit)
        return next((version_of(manifest) for manifest in sources if name_of(manifest) == source), None)

    # Which sources apply?

    async def sources_for(self, namespace: str, *, fresh: bool) -> tuple[tuple[Manifest, ...], Manifest | None]:
        """
        Return the sources that apply to a namespace, the namespace's own sources first, and the Namespace object.

        If the Namespace is gone, the second part is `None`. With `fresh`, the status of each source is no older than
        this instance's last write of a status. Without it, a source of the namespace that was created in the last 90 s
        may be missing. If the API server does not list the cluster-wide sources, return the namespace's own sources; if
        the namespace has none, raise the `SaffireError` of the list.
        """
        is_named = not fresh and self._clock() - self._own_listed_at <= _NAMES_SECONDS
        moment = max(self._recent, self._store.written_at) if fresh else self._recent
        own, cluster_wide, namespace_manifest = await asyncio.gather(
            self._store.in_namespace(namespace, self._own.get(namespace, ()) if is_named else ()),
            _or_error(self._cluster_wide_since(moment)),
            self._cluster.namespace(namespace),
        )
        if isinstance(cluster_wide, SaffireError):
            if not own:
                raise cluster_wide
            logs.failed("Could not list the cluster-wide sources", {"namespace": namespace, "error": str(cluster_wide)})
            cluster_wide = ()
        labels = labels_of(namespace_manifest) if namespace_manifest else {}
        return (*own, *(source for source in cluster_wide if selects(source, labels))), namespace_manifest

    async def namespaces_with_own(self) -> frozenset[str]:
        """List the sources of the whole cluster now, and return the namespaces that have sources of their own."""
        arrived = self._clock()
        await _read_unless(lambda: self._own_listed_at >= arrived, self._list_own, self._own_lock)
        return frozenset(self._own)

    async def cluster_selections(self) -> tuple[ClusterSelection, ...]:
        """
        Return every cluster-wide source as it is now, with the namespaces that it selects.

        The namespaces of the cluster are listed only if at least one of the sources can be used.
        """
        sources = await self._cluster_wide_since(self._clock(), listed=True)
        labels_in = await self._labels_in() if parse_valid(sources) else {}
        return tuple(ClusterSelection(source=source, namespaces=_selected(source, labels_in)) for source in sources)

    # What the API server says

    async def _list_own(self) -> None:
        asked_at = self._clock()
        self._own = await self._store.versions()
        self._own_listed_at = asked_at

    @property
    def _recent(self) -> float:
        """Since when the cluster-wide sources must have been read, so that they are new enough for an Event."""
        # An API server that has just started may refuse what it allows a second later.
        may_change = self._cluster_wide or self._was_refused
        return self._clock() - (_NEW_SECONDS if may_change else _NO_CLUSTER_WIDE_SECONDS)

    async def _cluster_wide_since(
        self, moment: float, *, listed: bool = False, limit: RateLimit | None = None
    ) -> tuple[Manifest, ...]:
        """
        Return the cluster-wide sources as they were at `moment` or later; none if RBAC forbids Saffire to list them.

        Without `listed`, one that was created in the last 90 s may be missing. If an installation is older than the
        kind ClusterAlternateImageSource, its role does not allow the list, and it has no source of that kind.
        """

        async def read() -> None:
            asked_at = self._clock()
            is_list = listed or asked_at - self._cluster_wide_listed_at > _NAMES_SECONDS
            try:
                names = () if is_list else tuple(map(name_of, self._cluster_wide))
                self._cluster_wide = await self._store.cluster_wide(names)
                self._was_refused = False
            except RefusedError as error:
                self._cluster_wide = ()
                if not self._was_refused:
                    self._was_refused = True
                    logs.failed("Could not list the cluster-wide sources", {"error": str(error)})
            self._cluster_wide_read_at = asked_at
            if is_list:
                self._cluster_wide_listed_at = asked_at

        def is_new() -> bool:
            return (self._cluster_wide_listed_at if listed else self._cluster_wide_read_at) >= moment

        await _read_unless(is_new, read, self._cluster_wide_lock, limit)
        return self._cluster_wide

    async def _labels_in(self) -> dict[str, Manifest]:
        """List the labels of every namespace of the cluster."""
        return {name: labels async for name, labels in self._store.namespace_labels() if is_label(name)}


async def _read_unless(
    is_enough: Callable[[], bool],
    read: Callable[[], Awaitable[None]],
    lock: asyncio.Lock,
    limit: RateLimit | None = None,
) -> None:
    """
    Read, unless what is known `is_enough`. If another caller reads, wait for the end of that first.

    If a `limit` is given, charge it with a list.
    """
    if not is_enough():
        async with lock:
            if not is_enough():
                if limit:
                    limit.charge(_LIST_PAUSE_SECONDS)
                await read()


async def _or_error(result: Awaitable[T]) -> T | SaffireError:
    try:
        return await result
    except SaffireError as error:
        return error


def _selected(source: Manifest, labels_in: Mapping[str, Manifest]) -> frozenset[str]:
    """Return the names of the namespaces that a source's selector matches, by the labels of each namespace."""
    return frozenset(name for name, labels in labels_in.items() if selects(source, labels))
