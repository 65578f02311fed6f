"""Two real nodes, one of which does not reach a registry that works: no healthy pod is touched."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.environment import install, run_saffire
from playground.node.images import Images
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from playground.registry_gateway import RegistryGateway
from testkit.api.workloads import container, deployment, images, pod_spec, pod_spec_of
from testkit.node.namespace_fixture import NamespaceFixture, works

OLD, NEW = "old.example:5000", "new.example:5000"
HEALTHY = 3


@dataclass(frozen=True)
class Cluster:
    """Two nodes, and two registries that have `image` and `alternative`; `filtered` does not reach the first."""

    namespace: NamespaceFixture
    healthy: RealNode
    filtered: RealNode

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


@pytest.fixture
async def two_nodes(plane: ControlPlane, namespace: NamespaceFixture, built: Images) -> AsyncIterator[Cluster]:
    """Give the nodes and registries, and Saffire, which reaches both registries."""
    async with AsyncExitStack() as stack:
        old, new, gone = [await stack.enter_async_context(Registry()) for _ in range(3)]
        await gone.die()
        for registry in (old, new):
            await built.push("sleeps", f"{registry.domain}/{namespace.name}/sleeps:v1")
        addresses = {OLD: old.domain, NEW: new.domain}
        gateway = await stack.enter_async_context(RegistryGateway(lambda domain: addresses.get(domain, "")))
        await install(plane.admin)
        await stack.enter_async_context(run_saffire(plane, lambda _: None, **gateway.environ))
        healthy = await stack.enter_async_context(RealNode(plane, "healthy", registries=addresses))
        behind = {**addresses, OLD: gone.domain}
        filtered = await stack.enter_async_context(RealNode(plane, "filtered", registries=behind))
        for node in (healthy, filtered):
            await plane.admin.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"labels": {"own": namespace.name}}})
        yield Cluster(namespace, healthy, filtered)


async def test_a_node_that_does_not_reach_a_registry_has_its_pod_freed_and_no_other_touched(two_nodes: Cluster) -> None:
    """The template stays, no pod of the healthy node is replaced or restarted, and the stuck pod runs in place."""
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
    await namespace.until(lambda: [True] * HEALTHY == [works(pod) for pod in two_nodes.pods()])
    before = {pod["metadata"]["uid"] for pod in two_nodes.pods()}

    await two_nodes.cordon(two_nodes.filtered, unschedulable=False)
    await two_nodes.cordon(two_nodes.healthy)
    await namespace.api.patch(await namespace.api.path(live), {"spec": {"replicas": HEALTHY + 1}})
    await namespace.until(lambda: [True] * (HEALTHY + 1) == [works(pod) for pod in two_nodes.pods()])

    now = {pod["metadata"]["uid"]: pod for pod in two_nodes.pods()}
    assert before <= now.keys()
    restarts = {uid: status["restartCount"] for uid in before for status in now[uid]["status"]["containerStatuses"]}
    assert dict.fromkeys(before, 0) == restarts
    [freed] = [pod for uid, pod in now.items() if uid not in before]
    assert {"web": two_nodes.alternative} == images(freed["spec"])
    template = await namespace.api.get(await namespace.api.path(live))
    assert {"web": two_nodes.image} == images(pod_spec_of(template))
