"""
The sources of both kinds as the API server stores them, and their status.

Which of them apply to a namespace is decided in `index`. Since Kubernetes 1.31 a list waits until the API server's
cache has caught up (ConsistentListFromCache, KEP-2340). That takes 0.1 s while anything in the cluster is written, and
in an outage everything is. An object that is read by name arrives in a millisecond. So `SourceStore` keeps the names of
a list for a while. If a caller accepts a stale list of names, the store reads the objects by these names.
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
# So many sources of a namespace are used, and so many cluster-wide ones: the first by name.
_MOST = 32
# A sweep lists anew before the names expire. Without sweeps, `index.NamespaceIndex` does. A new source has its own
# event.
_NAMES_SECONDS = 90.0
# More sources than this are cheaper to list than to read by name.
_FEW = 2
_ROOM = 10_000


class SourceStore(ResourceReader):
    """Reads sources, and writes their status; `writes` counts the writes to cluster-wide sources."""

    writes = 0

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server)
        self._names: TtlCache[str, tuple[float, tuple[str, ...]]] = TtlCache(_ROOM, time.monotonic)

    async def in_namespace(self, namespace: str, *, may_be_stale: bool = False) -> tuple[Manifest, ...]:
        """
        Return the first 32 AlternateImageSources of a namespace; none if the kind is not installed.

        With `may_be_stale` a source that was created in the last 90 s may be missing. The sources returned are always
        as they are now.
        """
        return await (self._by_names if may_be_stale else self._listed)(_namespace_path(namespace), NAMESPACED)

    async def cluster_wide(self, *, may_be_stale: bool = False) -> tuple[Manifest, ...]:
        """Return the first 32 ClusterAlternateImageSources, with `may_be_stale` as in `in_namespace`."""
        return await (self._by_names if may_be_stale else self._listed)(_CLUSTER_WIDE, CLUSTER_WIDE)

    async def namespaces(self) -> tuple[str, ...]:
        """Return the namespaces that have an AlternateImageSource, in no order."""
        names_in: dict[str, list[str]] = {}
        asked_at = time.monotonic()
        async for source in self._all(f"{_GROUP}/alternateimagesources", accept=METADATA):
            if is_label(namespace := text(source, "metadata", "namespace")):
                names_in.setdefault(namespace, []).append(name_of(source))
        for namespace, names in names_in.items():
            self._keep(_namespace_path(namespace), names, asked_at)
        return tuple(names_in)

    async def namespace_labels(self) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield name and labels of every namespace of the cluster, page by page."""
        async for namespace in self._all("/api/v1/namespaces", accept=METADATA):
            yield name_of(namespace), mapping(namespace, "metadata", "labels")

    async def read_again(self, source: Manifest) -> Manifest | None:
        """Return the source as it is now; `None` if it is gone."""
        return await self._get(_path(source))

    async def write_status(self, source: Manifest, status: Manifest) -> Manifest:
        """
        Replace the status of a source, and return the source as the API server then has it.

        Raise `ConflictError` if the source changed since it was read.
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
        """Read the sources by the names of the last list; list them if the names expired, or if a source is gone."""
        _, names = self._names.get(path) or (0.0, ())
        if 0 < len(names) <= _FEW:
            sources = await gather_in_order([self._get(f"{path}/{name}") for name in names])
            if all(sources):
                return tuple(source for source in sources if source)
        return await self._listed(path, kind)

    async def _listed(self, path: str, kind: str) -> tuple[Manifest, ...]:
        """Return the first sources of a list. A list names version and kind once, so each source is given both."""
        asked_at = time.monotonic()
        page = await self._get(f"{path}?limit={_MOST}")
        if page is None:
            return ()
        if not isinstance(page.get("items"), list):
            raise TransientError("the API server did not answer with a list")
        sources = tuple({"apiVersion": API_VERSION, "kind": kind, **item} for item in page["items"])
        self._keep(path, list(map(name_of, sources)), asked_at)
        return sources

    def _keep(self, path: str, names: list[str], asked_at: float) -> None:
        """Keep the names of a list that was requested at `asked_at`, unless the kept list was requested later."""
        kept_since, _ = self._names.get(path) or (asked_at, ())
        if asked_at >= kept_since:
            self._names.put(path, (asked_at, tuple(names[: _FEW + 1])), _NAMES_SECONDS)


def _namespace_path(namespace: str) -> str:
    """Return the URL path of the AlternateImageSources of a namespace."""
    return f"{_GROUP}/namespaces/{namespace}/alternateimagesources"


def _path(source: Manifest) -> str:
    """Return the URL path of a source."""
    path = _CLUSTER_WIDE if is_cluster_wide(source) else _namespace_path(text(source, "metadata", "namespace"))
    return f"{path}/{name_of(source)}"
