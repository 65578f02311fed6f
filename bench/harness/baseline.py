"""
A program: the baseline of what Saffire does to a workload, an asyncio script that knows beforehand what to do.

It uses one aiohttp session, and does no checks, no retries and no record. It sends the reads and the patch that Saffire
sends, concurrently where Saffire does.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bench.harness.child_process import answer, orders

_SOURCE = "/apis/saffire.fairwinds.com/v1alpha1/namespaces/{}/alternateimagesources/shop"
_HISTORY = "saffire.fairwinds.com/history"
_HISTORY_PATH = "/metadata/annotations/" + _HISTORY.replace("/", "~1")
_JSON_PATCH = "application/json-patch+json"


class Baseline:
    """The script."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def move(self, namespace: str, pod: str, before: str, after: str) -> None:
        """Read what Saffire reads for a failing pod of a Deployment, and patch the Deployment."""
        read_pod, _, _ = await asyncio.gather(
            self._get(f"/api/v1/namespaces/{namespace}/pods/{pod}"),
            self._get(f"/api/v1/namespaces/{namespace}"),
            self._get(_SOURCE.format(namespace)),
        )
        replica_set = read_pod["metadata"]["ownerReferences"][0]["name"]
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{replica_set.rpartition('-')[0]}"
        _, deployment = await asyncio.gather(
            self._get(f"/apis/apps/v1/namespaces/{namespace}/replicasets/{replica_set}"), self._get(path)
        )
        await self._patch(path, operations(deployment, before, after))

    async def patch_all(self, patches: list[dict[str, Any]], at_once: int) -> None:
        """Send patches, at most `at_once` of them in flight."""
        waiting = iter(patches)

        async def work() -> None:
            for patch in waiting:
                await self._patch(patch["path"], patch["operations"])

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def _get(self, path: str) -> Any:
        async with self._session.get(self._server + path) as response:
            response.raise_for_status()
            return json.loads(await response.read())

    async def _patch(self, path: str, body: list[Any]) -> None:
        headers = {"Content-Type": _JSON_PATCH}
        data = json.dumps(body)
        url = f"{self._server}{path}?fieldManager=saffire"
        async with self._session.patch(url, data=data, headers=headers) as response:
            response.raise_for_status()
            json.loads(await response.read())


def operations(deployment: Any, before: str, after: str) -> list[dict[str, Any]]:
    """Return the patch of a Deployment with one container, with the guards and the record of Saffire's patch."""
    container = "/spec/template/spec/containers/0"
    record = json.dumps({"v": 1, "entries": [{"container": "web", "from": before, "to": after}]})
    annotations = deployment["metadata"].get("annotations", {})
    return [
        {"op": "test", "path": "/metadata/uid", "value": deployment["metadata"]["uid"]},
        {"op": "test", "path": f"{container}/name", "value": "web"},
        {"op": "test", "path": f"{container}/image", "value": before},
        {"op": "replace", "path": f"{container}/image", "value": after},
        {"op": "test", "path": _HISTORY_PATH, "value": annotations.get(_HISTORY)},
        {"op": "add", "path": _HISTORY_PATH, "value": record},
    ]


@asynccontextmanager
async def _connected(server: str, authority: str, token: str) -> AsyncIterator[Baseline]:
    context = ssl.create_default_context(cafile=authority)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield Baseline(session, server)


async def main() -> None:
    """Carry out the orders of the owner."""
    given = orders()
    async for order in given:
        async with _connected(**order["api"]) as baseline:
            answer()
            async for further in given:
                do = further.pop("do")
                await (baseline.move(**further) if do == "move" else baseline.patch_all(**further))
                answer()


if __name__ == "__main__":
    asyncio.run(main())
