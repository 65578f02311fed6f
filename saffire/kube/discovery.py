"""Discovery: which kinds the API server serves, and their names in URLs."""

import asyncio

from saffire.errors import RefusedError
from saffire.kube.client import AbsentError, ApiServer
from saffire.kube.kinds import Kind
from saffire.kube.manifest import Manifest, items, text

# The API groups change when an operator installs something, which happens less than every minute.
_GROUPS_SECONDS = 600


class UnfollowedError(RefusedError):
    """
    Saffire cannot read the object that a reference names.

    Its kind is not one of `Kinds`, the API server does not serve its kind, or the reference is malformed.
    """


class Discovery:
    """
    The kinds that one API server serves.

    Saffire asks the API server when it needs a kind. It keeps names of kinds, and keeps the API groups for 10 minutes.
    """

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._plurals: dict[tuple[str, str], str] = {}
        self._groups: dict[str, str] = {}
        self._groups_read_at = float("-inf")

    async def plural(self, root: str, kind: Kind) -> str:
        """
        Return the name that a namespaced kind has in URLs, its plural (`APIResourceList` of meta/v1).

        `root` is the URL path of the kind's API group and version. Raise `UnfollowedError` if the API server does not
        serve the kind in namespaces.
        """
        if (root, kind.name) not in self._plurals:
            for resource in items(await self._get(root), "resources"):
                if resource.get("namespaced") is True and "/" not in text(resource, "name"):
                    self._plurals[root, text(resource, "kind")] = text(resource, "name")
        try:
            return self._plurals[root, kind.name]
        except KeyError as error:
            raise UnfollowedError(f"{kind.name}: not served in namespaces") from error

    async def groups(self) -> dict[str, str]:
        """Return the preferred version of each API group that the API server serves (`APIGroupList` of meta/v1)."""
        now = asyncio.get_running_loop().time()
        if now - self._groups_read_at > _GROUPS_SECONDS:
            groups = items(await self._get("/apis"), "groups")
            self._groups = {text(group, "name"): text(group, "preferredVersion", "version") for group in groups}
            self._groups_read_at = now
        return self._groups

    async def _get(self, path: str) -> Manifest:
        """Return the object at the URL path; an empty object if there is none."""
        try:
            return await self._server.get(path)
        except AbsentError:
            return {}
