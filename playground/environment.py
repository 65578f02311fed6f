"""
The environment that Saffire runs in: the manifests of `knative/` on a control plane, and the event sources.

Saffire and its event sources run under their own service accounts, with the permissions of their roles and no others.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import yaml

from eventsource.delivery import SinkConnection
from eventsource.sweep import send_ping
from playground import ROOT
from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.eventsource.apiserversource import ApiServerSource
from playground.eventsource.pingsource import PingSource
from playground.function_process import FunctionProcess

NAMESPACE = "saffire"

_GROUP = "/apis/saffire.fairwinds.com/v1alpha1"
SOURCES = f"{_GROUP}/alternateimagesources"
CLUSTER_SOURCES = f"{_GROUP}/clusteralternateimagesources"

_SERVED_SECONDS = 30
_NOT_SERVED_YET = {HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}
_PAUSE_SECONDS = 0.05


def load(*path: str) -> list[Manifest]:
    """Return the objects of a YAML file of this project."""
    return list(yaml.safe_load_all(ROOT.joinpath(*path).read_text()))


async def install(api: Api) -> None:
    """Apply the manifests of `knative/` that do not need Knative; return when the custom resources are served."""
    (kustomization,) = load("knative", "kustomization.yaml")
    manifests = [manifest for name in kustomization["resources"] for manifest in load("knative", name)]
    await apply(api, (manifest for manifest in manifests if "knative.dev" not in manifest["apiVersion"]))
    for path in (SOURCES, CLUSTER_SOURCES):
        await _until_served(functools.partial(api.get, path))


async def apply(api: Api, manifests: Iterable[Manifest]) -> None:
    """Apply objects in order, each as soon as its kind is served: a new CustomResourceDefinition takes a moment."""
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
                if error.status not in _NOT_SERVED_YET:
                    raise
            else:
                return
            await asyncio.sleep(_PAUSE_SECONDS)


@asynccontextmanager
async def run_saffire(
    plane: ControlPlane, on_log_line: Callable[[dict[str, Any]], None], **environ: str
) -> AsyncIterator[FunctionProcess]:
    """
    Run Saffire with `environ` in its environment, and send it the cluster's events.

    `on_log_line` is called with each line of its log, after the delivery of an event.
    """

    def on_delivery(*_: object) -> None:
        for line in process.new_log_lines():
            on_log_line(line)

    async with (
        FunctionProcess(await plane.kubeconfig_for(NAMESPACE, "saffire"), **environ) as process,
        await plane.api_for(NAMESPACE, "saffire-source") as events,
        ApiServerSource(events, process.url, namespace=NAMESPACE, on_delivery=on_delivery),
        ApiServerSource(events, process.url, path=SOURCES, namespace=NAMESPACE, on_delivery=on_delivery),
        ApiServerSource(events, process.url, path=CLUSTER_SOURCES, namespace=NAMESPACE, on_delivery=on_delivery),
        PingSource(process.url),
    ):
        yield process


async def sweep(process: FunctionProcess) -> None:
    """Have Saffire sweep once, and wait for the end of the sweep; raise `TimeoutError` if Saffire does not answer."""
    connection = SinkConnection(process.url)
    try:
        delivery = await send_ping(connection)
    finally:
        await connection.close()
    if not delivery.accepted:
        raise TimeoutError(f"Saffire did not sweep: {delivery}")


async def follow(api: Api, path: str, kind: str) -> AsyncIterator[tuple[bool, Manifest]]:
    """Yield each object of a collection, then each one that changes; the first value says whether it still exists."""
    listed = await api.get(path)
    for manifest in listed["items"]:
        yield True, {"kind": kind, **manifest}
    async for change, manifest in api.watch(path, resourceVersion=listed["metadata"]["resourceVersion"]):
        if change == "ERROR":
            raise ApiError(manifest["code"], manifest)
        yield change != "DELETED", manifest
