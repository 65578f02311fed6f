"""The manifests of knative/, and an API server that has the custom resources."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import yaml

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit import ROOT

FOLDER = ROOT / "knative"
GROUP = "saffire.fairwinds.com"
DEADLINE_SECONDS = 30


def load(name: str) -> Manifest:
    """Return the object in a file of knative/ that has only one object."""
    manifest: Manifest = yaml.safe_load((FOLDER / name).read_text())
    return manifest


def spec(*repositories: str, **fields: Any) -> Manifest:
    """Return the spec of a source with one set of equivalent repositories, and with these further fields."""
    return {"imageSourceReplacements": [{"equivalentRepositories": list(repositories)}], **fields}


CRDS = ("crd.yaml", "cluster-crd.yaml")
CLUSTER_WIDE = f"/apis/{GROUP}/v1alpha1/clusteralternateimagesources"
VALID = spec("quay.io/acme/web", "ghcr.io/acme/web")


def source(namespace: str, name: str, wanted: Manifest, group: str = GROUP) -> Manifest:
    """Return an AlternateImageSource with `wanted` as its spec."""
    return {
        "apiVersion": f"{group}/v1alpha1",
        "kind": "AlternateImageSource",
        "metadata": {"name": name, "namespace": namespace},
        "spec": wanted,
    }


def cluster_source(name: str, wanted: Manifest) -> Manifest:
    """Return a ClusterAlternateImageSource with `wanted` as its spec."""
    kind = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "ClusterAlternateImageSource"}
    return {**kind, "metadata": {"name": name}, "spec": wanted}


def path(namespace: str, name: str = "", group: str = GROUP) -> str:
    """Return the URL path of the AlternateImageSource `name`; without a name, of all of them in the namespace."""
    return f"/apis/{group}/v1alpha1/namespaces/{namespace}/alternateimagesources/{name}".rstrip("/")


def fields(schema: Manifest, at: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each field of a schema, with its description; `at` is the path of the schema itself."""
    children = {f"{at}.{name}": child for name, child in schema.get("properties", {}).items()}
    if "items" in schema:
        children[f"{at}[]"] = schema["items"]
    for name, child in children.items():
        yield name, child.get("description", "")
        yield from fields(child, name)


async def serve(plane: ControlPlane, namespace: str) -> Api:
    """Create the custom resources and the namespace in a control plane; return a client of its API server."""
    await create_namespace(plane.admin, namespace)
    for name in CRDS:
        await plane.admin.apply(load(name))
    await until_refused(plane.admin, namespace, {})
    await _until(lambda: _is_refused(plane.admin, CLUSTER_WIDE, cluster_source("bad", {})))
    return plane.admin


async def create_namespace(api: Api, name: str) -> None:
    """Create the namespace `name`, if it does not exist."""
    await api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


async def until_refused(api: Api, namespace: str, bad: Manifest, group: str = GROUP) -> None:
    """Wait until the API server refuses `bad` as the spec of a source: then it applies the schema of the CRD."""
    await _until(lambda: _is_refused(api, path(namespace, group=group), source(namespace, "bad", bad, group)))


async def _is_refused(api: Api, where: str, manifest: Manifest) -> bool:
    try:
        await api.request("POST", where, manifest, dryRun="All")
    except ApiError as error:
        return error.status == 422
    return False


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - the API server has no notification for it
            await asyncio.sleep(0.05)
