"""
The declared: the sources that are stored in the cluster, of both kinds, and the status that is kept of each.

Which of them speak for a namespace is told by `sources`; nothing here has an opinion.
"""

from collections.abc import AsyncIterator

from saffire.errors import TransientError
from saffire.manifest import Manifest, is_label, mapping, name_of, text
from saffire.reader import Reader
from saffire.scope import API_VERSION, CLUSTER_WIDE, NAMESPACED, is_cluster_wide

_GROUP = f"/apis/{API_VERSION}"
_CLUSTER_WIDE = f"{_GROUP}/clusteralternateimagesources"
# Of a namespace, and of the cluster-wide ones: so many are used, the first by their names.
_MOST = 32


class Declared(Reader):
    """Reads sources, and writes their status; `writes` counts those of cluster-wide ones."""

    writes = 0

    async def of(self, namespace: str) -> tuple[Manifest, ...]:
        """Return the first 32 AlternateImageSources of a namespace; none where the kind itself is not installed."""
        return await self._first(_of(namespace), NAMESPACED)

    async def cluster_wide(self) -> tuple[Manifest, ...]:
        """Return the first 32 ClusterAlternateImageSources; none where the kind itself is not installed."""
        return await self._first(_CLUSTER_WIDE, CLUSTER_WIDE)

    async def namespaces(self) -> tuple[str, ...]:
        """Return the namespaces that have an AlternateImageSource, in no order."""
        found = [text(source, "metadata", "namespace") async for source in self._all(f"{_GROUP}/alternateimagesources")]
        return tuple(dict.fromkeys(filter(is_label, found)))

    async def labels(self) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield name and labels of every namespace of the cluster, page by page."""
        async for namespace in self._all("/api/v1/namespaces"):
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

    async def _first(self, path: str, kind: str) -> tuple[Manifest, ...]:
        """Return the first sources of a list, which says once for all what they are."""
        found = await self._get(f"{path}?limit={_MOST}")
        if found is None:
            return ()
        if not isinstance(found.get("items"), list):
            raise TransientError("the API server did not answer with a list")
        return tuple({"apiVersion": API_VERSION, "kind": kind, **item} for item in found["items"])


def _of(namespace: str) -> str:
    return f"{_GROUP}/namespaces/{namespace}/alternateimagesources"


def _path(source: Manifest) -> str:
    """Return the URL path of a source."""
    path = _CLUSTER_WIDE if is_cluster_wide(source) else _of(text(source, "metadata", "namespace"))
    return f"{path}/{name_of(source)}"
