"""Discovery: which kinds the API server has, and what it calls them."""

import asyncio

from saffire.errors import RefusedError
from saffire.kube.client import AbsentError, ApiServer
from saffire.kube.kinds import Kind
from saffire.kube.manifest import Manifest, items, text

# Kinds come and go with what is installed, which is not every minute.
_GOOD_SECONDS = 600


class UnfollowedError(RefusedError):
    """A reference to an object, or the name of a kind, leads nowhere that we know."""


class Discovery:
    """What one API server serves, asked when it matters and then kept for a while."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._plurals: dict[tuple[str, str], str] = {}
        self._groups: dict[str, str] = {}
        self._asked_at = float("-inf")

    async def plural(self, root: str, kind: Kind) -> str:
        """Return what URLs below `root` call a kind of namespaced objects (`APIResourceList` of meta/v1)."""
        if (root, kind.name) not in self._plurals:
            for one in items(await self._get(root), "resources"):
                if one.get("namespaced") is True and "/" not in text(one, "name"):
                    self._plurals[root, text(one, "kind")] = text(one, "name")
        try:
            return self._plurals[root, kind.name]
        except KeyError as error:
            raise UnfollowedError(f"{kind.name}: not served in namespaces") from error

    async def groups(self) -> dict[str, str]:
        """Return the API groups that are served, each with its preferred version (`APIGroupList` of meta/v1)."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at > _GOOD_SECONDS:
            groups = items(await self._get("/apis"), "groups")
            self._groups = {text(one, "name"): text(one, "preferredVersion", "version") for one in groups}
            self._asked_at = now
        return self._groups

    async def _get(self, path: str) -> Manifest:
        """Return the object at `path`; an empty one where there is none."""
        try:
            return await self._server.get(path)
        except AbsentError:
            return {}
