"""
The sources as the API server stores them, of both kinds, and their status.

Which of them apply to a namespace is `index`'s question. Since Kubernetes 1.31 a list waits until the API server's
cache has caught up (ConsistentListFromCache, KEP-2340): 0.1 s while anything in the cluster is written, and in an
outage everything is. An object that is read by name arrives in a millisecond. So the names of a list are kept for a
while, and a caller that accepts a stale list of names gets the objects read by them.
"""

import time
from collections.abc import AsyncIterator

from saffire.concurrency import gather_in_order
from saffire.errors import TransientError
from saffire.kube.client import METADATA, ApiServer, ResourceReader
from saffire.kube.manifest import Manifest, is_label, mapping, name_of, text
from saffire.sources.spec import API_VERSION, CLUSTER_WIDE, NAMESPACED, is_cluster_wide
from saffire.ttl_cache import TtlCache

_GROUP = f"/apis/{API_VERSION}"
_CLUSTER_WIDE = f"{_GROUP}/clusteralternateimagesources"
# Of a namespace, and of the cluster-wide ones: so many are used, the first by their names.
_MOST = 32
# From one sweep, which lists anew, to the next; without sweeps the directory does. A new source has its own event.
_NAMES_SECONDS = 90.0
# More are cheaper to list.
_FEW = 2
_ROOM = 10_000


class SourceStore(ResourceReader):
    """Reads sources, and writes their status; `writes` counts those of cluster-wide ones."""

    writes = 0

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server)
        self._names: TtlCache[str, tuple[float, tuple[str, ...]]] = TtlCache(_ROOM, time.monotonic)

    async def in_namespace(self, namespace: str, *, may_be_stale: bool = False) -> tuple[Manifest, ...]:
        """
        Return the first 32 AlternateImageSources of a namespace; none where the kind itself is not installed.

        `in_haste` one that was created in the last 90 s may be missing; those returned are as they are now.
        """
        return await (self._by_names if may_be_stale else self._listed)(_of(namespace), NAMESPACED)

    async def cluster_wide(self, *, may_be_stale: bool = False) -> tuple[Manifest, ...]:
        """Return the first 32 ClusterAlternateImageSources, likewise."""
        return await (self._by_names if may_be_stale else self._listed)(_CLUSTER_WIDE, CLUSTER_WIDE)

    async def namespaces(self) -> tuple[str, ...]:
        """Return the namespaces that have an AlternateImageSource, in no order."""
        names: dict[str, list[str]] = {}
        asked_at = time.monotonic()
        async for source in self._all(f"{_GROUP}/alternateimagesources", accept=METADATA):
            if is_label(namespace := text(source, "metadata", "namespace")):
                names.setdefault(namespace, []).append(name_of(source))
        for namespace, found in names.items():
            self._keep(_of(namespace), found, asked_at)
        return tuple(names)

    async def namespace_labels(self) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield name and labels of every namespace of the cluster, page by page."""
        async for namespace in self._all("/api/v1/namespaces", accept=METADATA):
            yield name_of(namespace), mapping(namespace, "metadata", "labels")

    async def read_again(self, source: Manifest) -> Manifest | None:
        """Return the source as it is now; `None` where it is gone."""
        return await self._get(_path(source))

    async def write_status(self, source: Manifest, status: Manifest) -> Manifest:
        """
        Replace the status of a source, and return that.

        Raise `ConflictError` if it changed since it was read.
        """
        guard = {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": text(source, "metadata", "resourceVersion"),
        }
        operations = (guard, {"op": "add", "path": "/status", "value": status})
        try:
            return await self._server.patch(f"{_path(source)}/status", operations)
        finally:
            self.writes += is_cluster_wide(source)

    async def _by_names(self, path: str, kind: str) -> tuple[Manifest, ...]:
        """Return what a list has, read by the names that it had; listed if they are not known, or one is gone."""
        _, names = self._names.get(path) or (0.0, ())
        if 0 < len(names) <= _FEW:
            found = await gather_in_order([self._get(f"{path}/{name}") for name in names])
            if all(found):
                return tuple(one for one in found if one)
        return await self._listed(path, kind)

    async def _listed(self, path: str, kind: str) -> tuple[Manifest, ...]:
        """Return the first sources of a list, which says once for all what they are."""
        asked_at = time.monotonic()
        found = await self._get(f"{path}?limit={_MOST}")
        if found is None:
            return ()
        if not isinstance(found.get("items"), list):
            raise TransientError("the API server did not answer with a list")
        listed = tuple({"apiVersion": API_VERSION, "kind": kind, **item} for item in found["items"])
        self._keep(path, list(map(name_of, listed)), asked_at)
        return listed

    def _keep(self, path: str, names: list[str], asked_at: float) -> None:
        """Keep the names that a list had, unless one that was asked for later has told of others."""
        known_at, _ = self._names.get(path) or (asked_at, ())
        if asked_at >= known_at:
            self._names.put(path, (asked_at, tuple(names[: _FEW + 1])), _NAMES_SECONDS)


def _of(namespace: str) -> str:
    return f"{_GROUP}/namespaces/{namespace}/alternateimagesources"


def _path(source: Manifest) -> str:
    """Return the URL path of a source."""
    path = _CLUSTER_WIDE if is_cluster_wide(source) else _of(text(source, "metadata", "namespace"))
    return f"{path}/{name_of(source)}"
