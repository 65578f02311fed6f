"""
`deploy/standalone/` on a real node: its pods, and nothing else, bring workloads back when their registry dies.

Three things are not as in a cluster. No proxy of Services leads to the API server, and no DNS knows the registries: the
pods have the names of both in `hostAliases`, at the address of their node, which forwards to loopback. The function may
ask these registries in plain HTTP. And the node's network plugin does not know NetworkPolicies, so that the API server
takes them and nobody enforces them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from playground.cluster.api import Api, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.cluster.polling import until
from playground.environment import apply
from playground.node.images import Images
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from release.commands import BuildError
from release.image import Image
from release.manifests import render
from testkit import ROOT
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import NAMESPACE, USER
from testkit.api.event_source import ACCOUNT, LEASE_PATH
from testkit.api.namespace_fixture import READS
from testkit.api.workloads import container, daemon_set, deployment, images, pod_spec
from testkit.function_image import push_image
from testkit.manifests import source, spec
from testkit.node.namespace_fixture import NamespaceFixture, restarts, works
from testkit.node.pod_gateway import PodGateway

pytestmark = pytest.mark.image

API_SERVER = "kubernetes.default.svc"  # the API server's certificate has this name
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SOURCE_USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
INSTALL_SECONDS = 60


@dataclass(frozen=True)
class Cluster:
    """A cluster with one real node, two registries under names of their own, and Saffire in pods."""

    plane: ControlPlane
    old: Registry
    new: Registry

    @property
    def api(self) -> Api:
        """A client that may do everything."""
        return self.plane.admin

    def names(self) -> dict[str, str]:
        """Return the address of each registry by its domain in image references."""
        by_host = {"old.example": self.old.domain, "new.example": self.new.domain}
        return {f"{host}:{port(address)}": address for host, address in by_host.items()}

    async def pods(self) -> list[Manifest]:
        """Return the pods of Saffire."""
        pods: list[Manifest] = (await self.api.get(PODS))["items"]
        return pods

    async def leader(self) -> str:
        """Return the name of the pod that holds the Lease; `""` if none does."""
        holder: str = (await self.api.get(LEASE_PATH))["spec"].get("holderIdentity", "")
        return holder

    async def until_ready(self) -> None:
        """Wait until the Deployment of Saffire is complete, and one of its pods leads."""

        async def is_ready() -> bool:
            pods = await self.pods()
            return [True, True] == list(map(works, pods)) and await self.leader() in map(name, pods)

        async with asyncio.timeout(INSTALL_SECONDS):
            await until(is_ready)


def port(address: str) -> int:
    """Return the port of an address or URL."""
    return int(address.rpartition(":")[2])


def name(manifest: Manifest) -> str:
    """Return the name of an object."""
    named: str = manifest["metadata"]["name"]
    return named


@pytest.fixture(scope="module")
async def saffire(machine: None, binaries: dict[str, Path], image: Image) -> AsyncIterator[Cluster]:  # noqa: ARG001
    """Give a cluster of its own, with Saffire as `kubectl apply -k deploy/standalone/` installs it."""
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(ControlPlane(binaries))
        cluster = Cluster(plane, *[await stack.enter_async_context(Registry()) for _ in range(2)])
        await push_image(image, cluster.new.domain)
        node = await stack.enter_async_context(RealNode(plane, registries=cluster.names()))
        ports = map(port, (plane.server, cluster.old.domain, cluster.new.domain))
        gateway = await stack.enter_async_context(PodGateway(node.pod_network, ports))
        await apply(plane.admin, installation(cluster, image, str(gateway.address)))
        await cluster.until_ready()
        yield cluster


def installation(cluster: Cluster, image: Image, gateway: str) -> list[Manifest]:
    """Return the objects of deploy/standalone/ with the image, and with the addresses of this cluster."""
    old, new = cluster.names()
    try:
        objects = list(yaml.safe_load_all(render(ROOT / "deploy/standalone", f"{new}/saffire", image.digest)))
    except BuildError as error:
        pytest.skip(str(error))
    (pod,) = [manifest["spec"]["template"]["spec"] for manifest in objects if manifest["kind"] == "Deployment"]
    hosts = [API_SERVER, *(domain.partition(":")[0] for domain in (old, new))]
    pod["hostAliases"] = [{"ip": gateway, "hostnames": hosts}]
    environ = {
        "KUBERNETES_SERVICE_HOST": API_SERVER,
        "KUBERNETES_SERVICE_PORT": str(port(cluster.plane.server)),
        "SAFFIRE_INSECURE_REGISTRIES": f"{old},{new}",
    }
    for own in pod["containers"]:
        own["env"] += [{"name": key, "value": value} for key, value in environ.items()]
    return objects


@pytest.fixture
async def shop(saffire: Cluster) -> AsyncIterator[NamespaceFixture]:
    """Give a namespace for one test."""
    async with NamespaceFixture(saffire.api) as opened:
        yield opened


async def test_its_pods_run_as_confined_as_they_can_be(saffire: Cluster) -> None:
    """Where the strictest pod security holds, both containers of both pods are ready, and none was started twice."""
    labels = (await saffire.api.get(f"/api/v1/namespaces/{NAMESPACE}"))["metadata"]["labels"]
    assert "restricted" == labels["pod-security.kubernetes.io/enforce"]
    pods = await saffire.pods()
    assert [0, 0] == list(map(restarts, pods))
    containers = [own for pod in pods for own in pod["spec"]["containers"]]
    assert ["eventsource", "eventsource", "saffire", "saffire"] == sorted(own["name"] for own in containers)
    assert {True} == {own["securityContext"]["readOnlyRootFilesystem"] for own in containers}
    policies = await saffire.api.get(f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies")
    assert ["saffire"] == list(map(name, policies["items"]))


@pytest.mark.parametrize("build", [deployment, daemon_set])
async def test_a_workload_comes_back(
    build: Callable[[Manifest], Manifest], saffire: Cluster, shop: NamespaceFixture, built: Images
) -> None:
    """A pod is replaced in an outage. One of Saffire's pods moves the workload, and is refused nothing."""
    await comes_back(build, saffire, shop, built)
    assert movers(saffire, shop) <= set(map(name, await saffire.pods()))
    function, events = (AuditLog(saffire.plane.audit, user).calls() for user in (USER, SOURCE_USER))
    assert [] == [call for call in (*function, *events) if call.status == HTTPStatus.FORBIDDEN]
    assert {("patch", "leases")} == {(call.verb, call.resource) for call in events if call.verb not in READS}


async def comes_back(
    build: Callable[[Manifest], Manifest], saffire: Cluster, shop: NamespaceFixture, built: Images
) -> None:
    """Let the registry of a workload die, delete a pod of it, and wait until all of it runs on the alternative."""
    await saffire.old.revive()
    for address in saffire.names().values():
        await built.push("sleeps", f"{address}/{shop.name}/sleeps:v1")
    old, new = (f"{domain}/{shop.name}/sleeps" for domain in saffire.names())
    await saffire.api.apply(source(shop.name, "shop", spec(old, new)))
    await shop.apply(build(pod_spec(container(image=f"{old}:v1", imagePullPolicy="Always"))))
    await shop.until(lambda: runs(shop, f"{old}:v1"))
    await saffire.old.die()
    (running,) = shop.staying()
    await saffire.api.delete(await saffire.api.path({"apiVersion": "v1", **running}))
    await shop.until(lambda: runs(shop, f"{new}:v1"))


def runs(shop: NamespaceFixture, image: str) -> bool:
    """Say whether the workload of a namespace is complete with this image."""
    pods = shop.staying()
    return (
        bool(pods) and shop.settled() and all(works(pod) and {image} == {*images(pod["spec"]).values()} for pod in pods)
    )


def movers(saffire: Cluster, shop: NamespaceFixture) -> set[str]:
    """Return the pods with whose tokens the workload of a namespace was patched, of which there is at least one."""
    entries = AuditLog(saffire.plane.audit, USER).entries(namespace=shop.name)
    patches = [entry for entry in entries if entry["verb"] == "patch" and entry["objectRef"]["name"] == "web"]
    assert patches
    return {pod for entry in patches for pod in entry["user"]["extra"]["authentication.kubernetes.io/pod-name"]}


async def test_a_workload_comes_back_after_the_leader_was_killed(
    saffire: Cluster, shop: NamespaceFixture, built: Images
) -> None:
    """Once the pod that posts is gone, the other one moves a workload, and a new one waits beside it."""
    killed = await saffire.leader()
    await saffire.api.delete(f"{PODS}/{killed}", gracePeriodSeconds="0")
    await comes_back(deployment, saffire, shop, built)
    assert killed not in movers(saffire, shop)
    await saffire.until_ready()
    assert killed not in {await saffire.leader(), *map(name, await saffire.pods())}
