"""
Sources: who speaks for a namespace, which are its own sources and behind them the cluster-wide ones that select it.

Cluster-wide sources are few and change seldom. What is read of them serves every repair of a second; that there are
none is good for a minute, since a new one has an event of its own, and a sweep sees it. Which labels a namespace has is
read with the namespace, where that matters; only a sweep wants those of all.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from saffire import telemetry
from saffire.alternates import Source
from saffire.cache import Cache
from saffire.cluster import Cluster
from saffire.declared import Declared
from saffire.errors import RefusedError, SaffireError
from saffire.manifest import Manifest, is_label, text
from saffire.precedence import Known, labels_of, parsed, reaching, takes
from saffire.selector import Selector

_GOOD_SECONDS = 1.0
_NONE_SECONDS = 60.0
# For so long labels are good enough to tell whether an Event is worth a repair, which reads them again.
_LABELS_SECONDS = 10.0
_ROOM = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Territory:
    """A cluster-wide source, whether it can be used, and the namespaces that its selector takes; else none."""

    source: Manifest
    is_usable: bool
    namespaces: frozenset[str]

    def holds(self, entry: Manifest) -> bool:
        """Tell whether an entry of its `status.active` is about one of the namespaces, as far as these are known."""
        return not self.is_usable or text(entry, "target", "namespace") in self.namespaces


class Sources:
    """The sources of one cluster, as far as they have to be known."""

    def __init__(self, cluster: Cluster, declared: Declared) -> None:
        self._cluster = cluster
        self._declared = declared
        self._wide: tuple[Known, ...] = ()
        self._listed_at = float("-inf")
        self._writes = 0
        self._listing = asyncio.Lock()
        self._labels: Cache[str, Manifest] = Cache(_ROOM, time.monotonic)
        self._was_refused = False

    async def of(
        self, namespace: str, *, anew: bool, in_haste: bool = False
    ) -> tuple[tuple[Manifest, ...], Manifest | None]:
        """
        Return the sources that speak for a namespace, its own first, and the Namespace; `None` where that is gone.

        With `anew` their status is not older than what this instance last wrote; `in_haste` one that was created in
        the last 90 s may be missing. A namespace with sources of its own does without the others while the API server
        does not tell of those.
        """
        own, wide, found = await asyncio.gather(
            self._declared.of(namespace, in_haste=in_haste),
            self._known_or_fault(anew=anew and self._writes != self._declared.writes),
            self._cluster.namespace(namespace),
        )
        if isinstance(wide, SaffireError):
            if not own:
                raise wide
            telemetry.failed("Could not list the cluster-wide sources", {"namespace": namespace, "error": str(wide)})
            wide = ()
        return ((*own, *reaching(wide, found)) if found else own), found

    async def select(self, namespace: str) -> bool:
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
            self._labels.keep(namespace, labels, _LABELS_SECONDS)
        return any(takes(source, labels) for source in wide)

    async def territories(self) -> tuple[Territory, ...]:
        """Return every cluster-wide source as it is now, with its namespaces; those are listed if it takes any."""
        wide = await self._known(anew=True)
        labels: dict[str, Manifest] = {}
        if any(source for _, source in wide):
            labels = {name: found async for name, found in self._declared.labels() if is_label(name)}
        return tuple(
            Territory(source=manifest, is_usable=source is not None, namespaces=_taken(source, labels))
            for manifest, source in wide
        )

    async def _known_or_fault(self, *, anew: bool) -> tuple[Known, ...] | SaffireError:
        try:
            return await self._known(anew=anew)
        except SaffireError as error:
            return error

    async def _known(self, *, anew: bool = False) -> tuple[Known, ...]:
        """Return the cluster-wide sources, listed no longer ago than is good enough, or `anew` from now on."""
        arrived = time.monotonic()
        if anew or self._is_old(arrived):
            async with self._listing:
                if self._listed_at < arrived and (anew or self._is_old(time.monotonic())):
                    asked_at, writes = time.monotonic(), self._declared.writes
                    self._wide = tuple((manifest, parsed(manifest)) for manifest in await self._list(in_haste=not anew))
                    self._listed_at, self._writes = asked_at, writes
        return self._wide

    def _is_old(self, now: float) -> bool:
        return now - self._listed_at > (_GOOD_SECONDS if self._wide else _NONE_SECONDS)

    async def _list(self, *, in_haste: bool) -> tuple[Manifest, ...]:
        """List them; whoever was installed before there were any may not do that, and has none."""
        try:
            return await self._declared.cluster_wide(in_haste=in_haste)
        except RefusedError as error:
            if not self._was_refused:
                self._was_refused = True
                telemetry.failed("Could not list the cluster-wide sources", {"error": str(error)})
            return ()


def _taken(source: Source | None, labels: Mapping[str, Manifest]) -> frozenset[str]:
    """Return those of the namespaces that a source's selector takes."""
    return frozenset(name for name, found in labels.items() if source and takes(source, found))
