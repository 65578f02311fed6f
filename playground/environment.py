"""
Where the demo plays: a control plane with what `knative/` brings, Saffire, and the source of its events.

Saffire and the source run under their own service accounts, with no right that their roles do not give.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import yaml

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.eventsource.apiserversource import ApiServerSource
from playground.eventsource.pingsource import PingSource
from playground.function_process import ROOT, FunctionProcess

NAMESPACE = "saffire"

_GROUP = "/apis/saffire.fairwinds.com/v1alpha1"
SOURCES = f"{_GROUP}/alternateimagesources"
CLUSTER_SOURCES = f"{_GROUP}/clusteralternateimagesources"

_SERVED_SECONDS = 30
_NOT_YET = {HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}
_PAUSE_SECONDS = 0.05


def load(*path: str) -> list[Manifest]:
    """Return the objects of one file of this project."""
    return list(yaml.safe_load_all(ROOT.joinpath(*path).read_text()))


async def install(api: Api) -> None:
    """Apply everything of `knative/` that a cluster without Knative takes; return when it is in force."""
    (kustomization,) = load("knative", "kustomization.yaml")
    manifests = [manifest for name in kustomization["resources"] for manifest in load("knative", name)]
    await apply(api, (one for one in manifests if "knative.dev" not in one["apiVersion"]))
    for path in (SOURCES, CLUSTER_SOURCES):
        await _until_served(functools.partial(api.get, path))


async def apply(api: Api, manifests: Iterable[Manifest]) -> None:
    """Apply objects in order, each as soon as its kind is served: that of a new definition is not at once."""
    for manifest in manifests:
        await _until_served(functools.partial(api.apply, manifest))


async def _until_served(request: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(_SERVED_SECONDS):
        while True:
            try:
                await request()
            except KeyError:
                pass
            except ApiError as error:
                if error.status not in _NOT_YET:
                    raise
            else:
                return
            await asyncio.sleep(_PAUSE_SECONDS)


@asynccontextmanager
async def run_saffire(
    plane: ControlPlane, hear: Callable[[dict[str, Any]], None], **environ: str
) -> AsyncIterator[FunctionProcess]:
    """
    Serve Saffire, with `environ` in its environment, and send it the cluster's events.

    `hear` gets each line of its log about one that it answered.
    """

    def on_delivery(*_: object) -> None:
        for line in served.news():
            hear(line)

    async with (
        FunctionProcess(await plane.kubeconfig_for(NAMESPACE, "saffire"), **environ) as served,
        await plane.api_for(NAMESPACE, "saffire-source") as events,
        ApiServerSource(events, served.url, namespace=NAMESPACE, on_delivery=on_delivery),
        ApiServerSource(events, served.url, path=SOURCES, namespace=NAMESPACE, on_delivery=on_delivery),
        ApiServerSource(events, served.url, path=CLUSTER_SOURCES, namespace=NAMESPACE, on_delivery=on_delivery),
        PingSource(served.url),
    ):
        yield served


async def follow(api: Api, path: str, kind: str) -> AsyncIterator[tuple[bool, Manifest]]:
    """Yield every object of a collection and every change of one from then on, and whether it is still there."""
    listed = await api.get(path)
    for manifest in listed["items"]:
        yield True, {"kind": kind, **manifest}
    async for change, manifest in api.watch(path, resourceVersion=listed["metadata"]["resourceVersion"]):
        if change == "ERROR":
            raise ApiError(manifest["code"], manifest)
        yield change != "DELETED", manifest
