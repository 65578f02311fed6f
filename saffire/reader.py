"""The reader: objects and lists by their URL path, where what is absent is no error."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from saffire.apiserver import JSON, AbsentError, ApiServer
from saffire.manifest import Manifest, items, text

# Lists in that form have the metadata of their objects alone (Kubernetes API Concepts, "Metadata-only fetches").
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# Objects of one page of a list: some megabytes of pods.
_PAGE = 250


class Reader:
    """Reads what `server` has."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def _all(self, path: str, selector: str = "", *, accept: str = JSON) -> AsyncIterator[dict[str, Any]]:
        """Yield what a list holds, page by page, in the form `accept`; nothing where its kind is not served."""
        query = f"{path}?limit={_PAGE}{selector}"
        more = ""
        while True:
            page = await self._get(query + (f"&continue={quote(more, safe='')}" if more else ""), accept=accept)
            if page is None:
                return
            for item in items(page, "items"):
                yield dict(item)
            more = text(page, "metadata", "continue")
            if not more:
                return

    async def _page(self, path: str, query: str = "") -> tuple[Manifest, ...]:
        """Return the first page of a list; nothing where its kind is not served."""
        return items(await self._get(f"{path}?limit={_PAGE}{query}") or {}, "items")

    async def _get(self, path: str, *, accept: str = JSON) -> dict[str, Any] | None:
        """Return the object at `path`; `None` where there is none."""
        try:
            return await self._server.get(path, accept=accept)
        except AbsentError:
            return None
