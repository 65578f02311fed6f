"""
Reads the AlternateImageSources and ClusterAlternateImageSources that the API server stores, and writes their status.

The module `index` decides which of these sources apply to a namespace. Since Kubernetes 1.31, a list waits until the
API server's cache has caught up (ConsistentListFromCache, KEP-2340). That takes 0.1 s while clients write to the
cluster, which many do in an outage. A read of one object by name takes a millisecond. So if a caller knows the names of
the sources, `SourceStore` reads the objects by these names.

Whoever may create sources may give a namespace 32 sources of 2048 entries. To parse all of them takes half a second. So
the store parses each version of a source once, and lets other tasks run meanwhile. Each manifest that the store returns
is a `SourceManifest`, which has the parsed source. The version is the uid with `metadata.generation`, which the API
server counts up if the spec changes, but not if the status or the metadata does.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection

from saffire import logs
from saffire.concurrency import gather_in_order, in_turns
from saffire.kube.client import METADATA, ApiServer, ResourceReader
from saffire.kube.manifest import Manifest, is_label, items, mapping, name_of, number, text, uid_of
from saffire.sources.spec import (
    API_VERSION,
    CLUSTER_WIDE,
    NAMESPACED,
    Parsed,
    Source,
    SourceManifest,
    is_cluster_wide,
    log_name,
    parse_in_steps,
)
from saffire.ttl_cache import TtlCache

_GROUP = f"/apis/{API_VERSION}"
_CLUSTER_WIDE = f"{_GROUP}/clusteralternateimagesources"
# Saffire uses so many sources of a namespace, and so many cluster-wide ones: the first by name.
_MOST = 32
# If a namespace has more, the log says so once an hour.
_LOG_INTERVAL_SECONDS = 3600.0
# The API server stores objects of at most 1.5 MB, and to decode JSON takes about 4 ms for a megabyte. So few sources
# are read at a time. Hardly any namespace has more.
_PAGE = 4
# More sources than this are cheaper to list than to read by name.
_FEW = 2
_MOST_LOGGED = 10_000
# What a parsed source takes besides its entries, in entries.
_FIXED_SIZE = 8
# For 32 sources of 64 sets of 32 entries, which take 20 MB.
_MOST_ENTRIES = 65_536 + 32 * _FIXED_SIZE


class ParsedSources:
    """
    The newest version of each source, parsed. If there is no room, the sources that were not used for longest go.

    Args:
        most_entries: the most entries of all sources together. An entry takes about 0.3 KB.

    """

    def __init__(self, most_entries: int) -> None:
        self._most_entries = most_entries
        # By uid: the generation, the parsed source, and its size in entries.
        self._by_uid: OrderedDict[str, tuple[int, Parsed, int]] = OrderedDict()
        self._entries = 0

    async def parse(self, manifest: Manifest) -> SourceManifest:
        """Return the manifest of a source with the parsed source; parse the source only if its spec is new."""
        uid, generation = uid_of(manifest), number(manifest, "metadata", "generation")
        kept_generation, parsed, _ = self._by_uid.get(uid, (0, (), 0))
        if not uid or not generation or generation != kept_generation:
            parsed = await in_turns(parse_in_steps(manifest))
            self._drop(uid)
            self._keep(uid, generation, parsed)
        else:
            self._by_uid.move_to_end(uid)
        return SourceManifest(manifest, parsed)

    def _keep(self, uid: str, generation: int, parsed: Parsed) -> None:
        size = _FIXED_SIZE + (sum(map(len, parsed.sets)) if isinstance(parsed, Source) else len(parsed))
        self._by_uid[uid] = generation, parsed, size
        self._entries += size
        while self._entries > self._most_entries:
            self._drop(next(iter(self._by_uid)))

    def _drop(self, uid: str) -> None:
        _, _, size = self._by_uid.pop(uid, (0, (), 0))
        self._entries -= size


class SourceStore(ResourceReader):
    """Reads sources, and writes their status."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server)
        self.written_at = float("-inf")
        """When the last write to the status of a cluster-wide source ended, by the monotonic clock."""
        self._parsed = ParsedSources(_MOST_ENTRIES)
        # By path of a list: that the log has said so within the last hour.
        self._logged: TtlCache[str, bool] = TtlCache(_MOST_LOGGED, time.monotonic)

    async def in_namespace(self, namespace: str, names: Collection[str] = ()) -> tuple[Manifest, ...]:
        """
        Return the first 32 AlternateImageSources of a namespace, by name; none if the kind is not installed.

        If `names` are one or two, and there are sources of all these names, return these sources without a list.
        """
        return await self._read(_namespace_path(namespace), NAMESPACED, names)

    async def cluster_wide(self, names: Collection[str] = ()) -> tuple[Manifest, ...]:
        """Return the first 32 ClusterAlternateImageSources, as `in_namespace` does for the other kind."""
        return await self._read(_CLUSTER_WIDE, CLUSTER_WIDE, names)

    async def versions(self) -> dict[str, dict[str, str]]:
        """Return the version of every AlternateImageSource of the cluster, by namespace and name."""
        versions_in: dict[str, dict[str, str]] = {}
        async for source in self._all(f"{_GROUP}/alternateimagesources", accept=METADATA):
            if is_label(namespace := text(source, "metadata", "namespace")):
                versions_in.setdefault(namespace, {})[name_of(source)] = version_of(source)
        return versions_in

    async def namespace_labels(self) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield the name and the labels of every namespace of the cluster, page by page."""
        async for namespace in self._all("/api/v1/namespaces", accept=METADATA):
            yield name_of(namespace), mapping(namespace, "metadata", "labels")

    async def read_again(self, source: Manifest) -> Manifest | None:
        """Return the source as it is now; `None` if the source is gone."""
        current = await self._get(_path(source))
        return await self._parsed.parse(current) if current else None

    async def write_status(self, source: Manifest, status: Manifest) -> Manifest:
        """
        Replace the status of a source, and return the source as the API server stores it after that.

        Raise `ConflictError` if the source has changed since Saffire read it.
        """
        guard = {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": text(source, "metadata", "resourceVersion"),
        }
        operations = (guard, {"op": "add", "path": "/status", "value": status})
        try:
            return await self._parsed.parse(await self._server.patch(f"{_path(source)}/status", operations))
        finally:
            if is_cluster_wide(source):
                self.written_at = time.monotonic()

    async def _read(self, path: str, kind: str, names: Collection[str]) -> tuple[Manifest, ...]:
        """Return the sources of the given kind below the URL path: by their names if they are few, or listed."""
        if 0 < len(names) <= _FEW:
            sources = await gather_in_order([self._get(f"{path}/{name}") for name in names])
            if all(sources):
                return tuple([await self._parsed.parse(source) for source in sources if source])
        return await self._listed(path, kind)

    async def _listed(self, path: str, kind: str) -> tuple[Manifest, ...]:
        """
        Return the first 32 sources of a list, which is read in pages of 4.

        A list names the API version and the kind only once, so both are added to each source.
        """
        sources: list[Manifest] = []
        async for page in self._pages(f"{path}?limit={_PAGE}"):
            manifests = ({"apiVersion": API_VERSION, "kind": kind, **item} for item in items(page, "items"))
            sources += [await self._parsed.parse(manifest) for manifest in manifests]
            if len(sources) >= _MOST:
                if len(sources) > _MOST or text(page, "metadata", "continue"):
                    self._log_rest(path, last=sources[_MOST - 1])
                break
        return tuple(sources[:_MOST])

    def _log_rest(self, path: str, last: Manifest) -> None:
        """Log that the sources after `last` are not used; do so once an hour for each list."""
        if not self._logged.get(path):
            self._logged.put(path, value=True, seconds=_LOG_INTERVAL_SECONDS)
            logs.failed("Only the first 32 sources by name are used", {"last": log_name(last)})


def version_of(source: Manifest) -> str:
    """Return a text that changes with the spec of a source, and if the source is deleted and created again."""
    return f"{uid_of(source)}/{number(source, 'metadata', 'generation')}"


def _namespace_path(namespace: str) -> str:
    """Return the URL path of the AlternateImageSources of a namespace."""
    return f"{_GROUP}/namespaces/{namespace}/alternateimagesources"


def _path(source: Manifest) -> str:
    """Return the URL path of a source."""
    path = _CLUSTER_WIDE if is_cluster_wide(source) else _namespace_path(text(source, "metadata", "namespace"))
    return f"{path}/{name_of(source)}"
