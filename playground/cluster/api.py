"""
The playground's client of the API server: JSON in, JSON out, and watches.

It shares no code with `saffire.kube`, so that a fault there cannot hide itself in the tests that use this client.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Self

import aiohttp

Manifest = dict[str, Any]

PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
"""The collection of the Leases of nodes."""

UNREACHABLE = (aiohttp.ClientError, OSError)
"""What a request raises when no answer comes."""


class ApiError(Exception):
    """The API server answered with an error: `status` is the HTTP status, `body` a Kubernetes `Status` or text."""

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.body = body
        message = body.get("message", body) if isinstance(body, dict) else body
        super().__init__(f"{status}: {message}")


class Api:
    """
    A client of one API server with one identity; use as an async context manager.

    Args:
        server: `https://HOST:PORT`.
        authority: the path of the PEM file with the authority that signs the server's certificate.
        token: a bearer token.
        user: the user to impersonate; the token's owner must be allowed to do so.

    """

    def __init__(self, server: str, authority: str, token: str, user: str | None = None) -> None:
        self.server = server.rstrip("/")
        self.authority = authority
        self.token = token
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "saffire-playground"}
        if user:
            headers["Impersonate-User"] = user
        self._headers = headers
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=self.authority)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), headers=self._headers, read_bufsize=2**21
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        **query: str,
    ) -> Any:
        """Send one request and return the decoded answer; raise `ApiError` for 400 and above."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type, "Accept": accept}
        async with self._session.request(
            method, self.server + path, data=data, params=query, headers=headers
        ) as response:
            text = await response.text()
            answer = json.loads(text) if response.content_type == "application/json" else text
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise ApiError(response.status, answer)
            return answer

    async def get(self, path: str, **query: str) -> Any:
        """GET `path`."""
        return await self.request("GET", path, **query)

    async def table(self, path: str) -> Any:
        """GET the objects at `path` as the `Table` that `kubectl get` prints."""
        return await self.request("GET", path, accept="application/json;as=Table;v=v1;g=meta.k8s.io")

    async def post(self, path: str, body: Manifest) -> Any:
        """POST `body` to `path`."""
        return await self.request("POST", path, body)

    async def put(self, path: str, body: Manifest) -> Any:
        """PUT `body` to `path`."""
        return await self.request("PUT", path, body)

    async def patch(self, path: str, body: Any, kind: str = "merge", **query: str) -> Any:
        """PATCH `path`; `kind` is a key of `PATCH_TYPES`."""
        return await self.request("PATCH", path, body, PATCH_TYPES[kind], **query)

    async def delete(self, path: str, **query: str) -> Any:
        """DELETE `path`."""
        return await self.request("DELETE", path, **query)

    async def delete_node(self, name: str) -> None:
        """Delete a Node and its Lease, if the API server still answers."""
        for path in (f"/api/v1/nodes/{name}", f"{LEASES}/{name}"):
            with contextlib.suppress(ApiError, *UNREACHABLE):
                await self.delete(path)

    async def apply(self, manifest: Manifest, manager: str = "playground") -> Manifest:
        """Create or update one object of any served kind by server-side apply."""
        path = await self.path(manifest)
        applied: Manifest = await self.patch(path, manifest, "apply", fieldManager=manager, force="true")
        return applied

    async def path(self, manifest: Manifest) -> str:
        """Return the URL path of the object that `manifest` names; discovery says what its kind is called there."""
        group_version, kind = manifest["apiVersion"], manifest["kind"]
        plural, namespaced = await self._plural(group_version, kind)
        root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
        metadata = manifest["metadata"]
        scope = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{root}{scope}/{plural}/{metadata['name']}"

    async def _plural(self, group_version: str, kind: str) -> tuple[str, bool]:
        if (group_version, kind) not in self._plurals:
            root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
            for resource in (await self.get(root))["resources"]:
                if "/" not in resource["name"]:
                    self._plurals[group_version, resource["kind"]] = (resource["name"], resource["namespaced"])
        return self._plurals[group_version, kind]

    async def watch(self, path: str, **query: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield `(type, object)` of every change after `resourceVersion`, for as long as the server keeps the watch."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        url = self.server + path
        async with self._session.get(url, params={"watch": "1", **query}, timeout=timeout) as response:
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise ApiError(response.status, await response.text())
            async for line in response.content:
                change = json.loads(line)
                yield change["type"], change["object"]

    async def until_ready(self, deadline_seconds: float | None = 60) -> None:
        """Wait until `/readyz` answers ok; raise `TimeoutError` after the deadline, if there is one."""
        async with asyncio.timeout(deadline_seconds):
            while True:
                try:
                    if await self.get("/readyz") == "ok":
                        return
                except (aiohttp.ClientError, ApiError):
                    pass
                await asyncio.sleep(0.05)
