"""Two real nodes, one of them behind a packet filter towards a registry that works: no healthy pod is touched."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.cluster.processes import ProcessError
from playground.environment import install, run_saffire
from playground.node.images import Images
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from playground.registry_gateway import RegistryGateway
from testkit.api.workloads import container, deployment, images, pod_spec, pod_spec_of
from testkit.node.measurements import Measurements
from testkit.node.namespace_fixture import NamespaceFixture, works
from testkit.node.packet_filter import PacketFilter

OLD, NEW = "old.example:5000", "new.example:5000"
HEALTHY = 3


@dataclass(frozen=True)
class Obstacle:
    """What is between a node and a registry, and the words of the node's runtime about it."""

    name: str
    words: str


@dataclass(frozen=True)
class Cluster:
    """
    Two nodes, and two registries that have `image` and `alternative`.

    The first registry has a `door` of its own for the node `filtered`: an address that nobody else connects to.
    """

    namespace: NamespaceFixture
    healthy: RealNode
    filtered: RealNode
    door: Registry

    @property
    def image(self) -> str:
        """The image of the Deployment."""
        return f"{OLD}/{self.namespace.name}/sleeps:v1"

    @property
    def alternative(self) -> str:
        """The same image in the second registry."""
        return f"{NEW}/{self.namespace.name}/sleeps:v1"

    async def cordon(self, node: RealNode, *, unschedulable: bool = True) -> None:
        """Say whether a node takes further pods."""
        await self.namespace.api.patch(f"/api/v1/nodes/{node.name}", {"spec": {"unschedulable": unschedulable}})

    def pods(self) -> list[Manifest]:
        """Return the pods that are not being deleted."""
        return list(self.namespace.staying())

    def all_work(self, wanted: int) -> bool:
        """Say whether there are so many pods, and all of them are ready."""
        return [True] * wanted == [works(pod) for pod in self.pods()]

    @asynccontextmanager
    async def packet_filter(self) -> AsyncIterator[Obstacle]:
        """
        Keep the node `filtered` from the first registry, and return how.

        On a machine without a packet filter, the registry's door refuses connections instead.
        """
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(PacketFilter(self.door.domain))
            except ProcessError as error:
                await self.door.die()
                yield Obstacle(f"a closed door, for want of a packet filter ({error})", "connect: connection refused")
            else:
                yield Obstacle("a packet filter", "connect: no route to host")


@pytest.fixture
async def two_nodes(plane: ControlPlane, namespace: NamespaceFixture, built: Images) -> AsyncIterator[Cluster]:
    """Give the nodes and registries, and Saffire, which reaches both registries."""
    async with AsyncExitStack() as stack:
        old, new, door = [await stack.enter_async_context(Registry()) for _ in range(3)]
        for registry in (old, new, door):
            await built.push("sleeps", f"{registry.domain}/{namespace.name}/sleeps:v1")
        addresses = {OLD: old.domain, NEW: new.domain}
        gateway = await stack.enter_async_context(RegistryGateway(lambda domain: addresses.get(domain, "")))
        await install(plane.admin)
        await stack.enter_async_context(run_saffire(plane, lambda _: None, **gateway.environ))
        healthy = await stack.enter_async_context(RealNode(plane, "healthy", registries=addresses))
        by_door = {**addresses, OLD: door.domain}
        filtered = await stack.enter_async_context(RealNode(plane, "filtered", registries=by_door))
        for node in (healthy, filtered):
            await plane.admin.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"labels": {"own": namespace.name}}})
        yield Cluster(namespace, healthy, filtered, door)


async def test_a_node_that_does_not_reach_a_registry_has_its_pod_freed_and_no_other_touched(
    two_nodes: Cluster, measurements: Measurements
) -> None:
    """The template stays, no pod of either node is replaced or restarted, and the stuck pod runs in place."""
    namespace = two_nodes.namespace
    equivalent = [f"{domain}/{namespace.name}/*" for domain in (OLD, NEW)]
    await namespace.apply(
        {
            "apiVersion": "saffire.fairwinds.com/v1alpha1",
            "kind": "AlternateImageSource",
            "metadata": {"name": "shop"},
            "spec": {"imageSourceReplacements": [{"equivalentRepositories": equivalent}]},
        }
    )
    await two_nodes.cordon(two_nodes.filtered)
    own = container(image=two_nodes.image, imagePullPolicy="Always")
    made = deployment(pod_spec(own, nodeSelector={"own": namespace.name}), replicas=HEALTHY)
    live = await namespace.apply(made)
    await namespace.until(lambda: two_nodes.all_work(HEALTHY))
    await two_nodes.cordon(two_nodes.filtered, unschedulable=False)
    await two_nodes.cordon(two_nodes.healthy)
    await namespace.api.patch(await namespace.api.path(live), {"spec": {"replicas": HEALTHY + 1}})
    await namespace.until(lambda: two_nodes.all_work(HEALTHY + 1))
    before = {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in two_nodes.pods()}
    assert [two_nodes.filtered.name, *[two_nodes.healthy.name] * HEALTHY] == sorted(before.values())

    async with two_nodes.packet_filter() as obstacle:
        await namespace.api.patch(await namespace.api.path(live), {"spec": {"replicas": HEALTHY + 2}})
        free = await namespace.until(lambda: two_nodes.all_work(HEALTHY + 2))

    measurements.add(f"a node behind {obstacle.name}", free=free - namespace.first_failure())
    now = {pod["metadata"]["uid"]: pod for pod in two_nodes.pods()}
    assert before.keys() <= now.keys()
    restarts = {uid: status["restartCount"] for uid in before for status in now[uid]["status"]["containerStatuses"]}
    assert dict.fromkeys(before, 0) == restarts
    [freed] = [pod for uid, pod in now.items() if uid not in before]
    assert {"web": two_nodes.alternative} == images(freed["spec"])
    assert any(obstacle.words in event["message"] for event in namespace.events(freed["metadata"]["uid"]))
    template = await namespace.api.get(await namespace.api.path(live))
    assert {"web": two_nodes.image} == images(pod_spec_of(template))
