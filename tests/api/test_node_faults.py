"""A fault of one node, or one that passes, moves no healthy pod; a proven outage moves the workload."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.nodes import SimulatedNode
from testkit import scripted_registry as shapes
from testkit.api.clusters import PACE
from testkit.api.namespace_fixture import NamespaceFixture, is_of, until
from testkit.api.registry_pool import PATH, RegistryPool
from testkit.api.workloads import container, deployment, images, pod_spec, pod_spec_of, stateful_set
from testkit.oci_images import index
from testkit.scripted_registry import Registry

LABEL = {"saffire-tests/own-nodes": "yes"}
HEALTHY = 5


@dataclass(frozen=True)
class TwoNodes:
    """Two nodes for the pods of one test: `calm` reaches every registry, `broken` none of those in its `dead`."""

    namespace: NamespaceFixture
    calm: SimulatedNode
    broken: SimulatedNode

    async def offer(self, *registries: Registry) -> Manifest:
        """Create a source for these registries; what simulated nodes report as a digest is none of theirs."""
        equivalents = (f"{registry.domain}/acme/*" for registry in registries)
        return await self.namespace.source(*equivalents, allowDifferentDigest=True)

    async def cordon(self, calm: bool, broken: bool) -> None:  # noqa: FBT001 - one for each node
        """Say which of the nodes take no further pods."""
        for node, unschedulable in ((self.calm, calm), (self.broken, broken)):
            await self.namespace.api.patch(f"/api/v1/nodes/{node.names[0]}", {"spec": {"unschedulable": unschedulable}})

    def deployment(self, image: str, replicas: int = HEALTHY) -> Manifest:
        """Return a Deployment whose pods run on these two nodes only."""
        own = container(image=image, imagePullPolicy="Always")
        spec = pod_spec(own, nodeSelector=LABEL, tolerations=[{"key": "own-nodes", "operator": "Exists"}])
        return deployment(spec, replicas=replicas)

    async def run(self, image: str) -> list[str]:
        """Run a Deployment on the calm node; return the uids of its pods once all are ready."""
        await self.cordon(calm=False, broken=True)
        live = await self.namespace.apply(self.deployment(image))

        async def look() -> list[str] | None:
            ready = (await self.namespace.read(live)).get("status", {}).get("readyReplicas", 0)
            pods = await self.namespace.pods()
            return [pod["metadata"]["uid"] for pod in pods] if ready == HEALTHY == len(pods) else None

        return await until(look)

    async def add_pod_to_broken_node(self) -> Manifest:
        """Scale the Deployment by one, so that the new pod fails on the broken node; return the pod."""
        await self.cordon(calm=True, broken=False)
        await self.scale(HEALTHY + 1)
        [pod] = await self.namespace.failing(of="web")
        return pod

    async def scale(self, replicas: int) -> None:
        """Set how many pods the Deployment has."""
        path = f"/apis/apps/v1/namespaces/{self.namespace.name}/deployments/web"
        await self.namespace.api.patch(path, {"spec": {"replicas": replicas}})

    async def until_all_run(self, image: str, replicas: int) -> None:
        """Wait until so many pods of the Deployment run, and all have this image."""

        async def run() -> bool:
            status = (await self.namespace.read(deployment()))["status"]
            counts = {status.get("readyReplicas"), status.get("replicas")}
            return counts == {replicas} and set((await self.pods()).values()) == {image}

        await until(run)

    async def deliver_until(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Deliver each Event about a failed pull, as the event source would, until `look` returns true."""
        delivered: set[tuple[str, int]] = set()

        async def deliver() -> bool:
            for event in await self.namespace.events(reason="Failed"):
                key = event["metadata"]["uid"], event.get("count", 1)
                if key not in delivered and event["message"].startswith("Failed to pull"):
                    delivered.add(key)
                    await self.namespace.post(event)
            return await look()

        await until(deliver)

    async def template_image(self) -> str:
        """Return the image that the Deployment's template names."""
        live = await self.namespace.read(deployment())
        return images(pod_spec_of(live))["web"]

    async def pods(self) -> dict[str, str]:
        """Return the image of each pod of the Deployment, by uid."""
        pods = [pod for pod in await self.namespace.pods() if is_of(pod, "web")]
        return {pod["metadata"]["uid"]: images(pod["spec"])["web"] for pod in pods}


@pytest.fixture
async def two_nodes(cluster: ControlPlane, checking_namespace: NamespaceFixture) -> AsyncIterator[TwoNodes]:
    """Give two nodes of one test's own; all other pods keep away from them."""
    async with (
        SimulatedNode(cluster.admin, "calm", dead=set(), pace=PACE) as calm,
        SimulatedNode(cluster.admin, "broken", dead=set(), pace=PACE) as broken,
    ):
        for node in (calm, broken):
            taints = [{"key": "own-nodes", "effect": "NoSchedule"}]
            path = f"/api/v1/nodes/{node.names[0]}"
            await cluster.admin.patch(path, {"metadata": {"labels": LABEL}, "spec": {"taints": taints}})
        yield TwoNodes(checking_namespace, calm, broken)


async def test_a_node_that_cannot_pull_has_its_stuck_pod_freed_in_place(
    two_nodes: TwoNodes, pool: RegistryPool
) -> None:
    """Both registries answer: the template stays, no healthy pod is replaced, and the record says why."""
    old, new = pool.filled(), pool.filled()
    await two_nodes.offer(old, new)
    image, alternative = f"{old.domain}/{PATH}:v1", f"{new.domain}/{PATH}:v1"
    healthy = await two_nodes.run(image)
    two_nodes.broken.dead.add(old.domain)
    stuck = await two_nodes.add_pod_to_broken_node()

    async def is_freed() -> bool:
        return (await two_nodes.pods()).get(stuck["metadata"]["uid"]) == alternative

    await two_nodes.deliver_until(is_freed)
    assert image == await two_nodes.template_image()
    assert dict.fromkeys(healthy, image) | {stuck["metadata"]["uid"]: alternative} == await two_nodes.pods()
    [switch] = (await two_nodes.namespace.status())["switches"]
    assert f"its template stays, since {old.domain} answers Saffire" in switch["note"]


async def test_a_registry_that_is_slow_is_not_down(two_nodes: TwoNodes, pool: RegistryPool) -> None:
    """It has answered before, and takes longer than Saffire waits first: no healthy pod of the workload is replaced."""
    old, new = pool.filled(), pool.filled()
    await two_nodes.offer(old, new)
    await two_nodes.namespace.write_answered(old.domain)
    image = f"{old.domain}/{PATH}:v1"
    healthy = await two_nodes.run(image)
    old.shape = shapes.after(2)
    two_nodes.broken.dead.add(old.domain)
    stuck = await two_nodes.add_pod_to_broken_node()

    async def is_freed() -> bool:
        return (await two_nodes.pods()).get(stuck["metadata"]["uid"]) == f"{new.domain}/{PATH}:v1"

    await two_nodes.deliver_until(is_freed)
    assert image == await two_nodes.template_image()
    assert dict.fromkeys(healthy, image).items() <= (await two_nodes.pods()).items()


async def test_a_node_that_reaches_no_registry_is_named_and_nothing_else_moves(
    two_nodes: TwoNodes, pool: RegistryPool
) -> None:
    """The pod is moved once, fails on the alternative too, and then both Event and status name the node."""
    old, new = pool.filled(), pool.filled()
    source = await two_nodes.offer(old, new)
    image = f"{old.domain}/{PATH}:v1"
    healthy = await two_nodes.run(image)
    two_nodes.broken.dead.update({old.domain, new.domain})
    stuck = await two_nodes.add_pod_to_broken_node()

    async def is_named() -> bool:
        return "NodeCannotPull" in dict(await two_nodes.namespace.saffire_events(stuck))

    await two_nodes.deliver_until(is_named)
    assert "node broken cannot pull from" in dict(await two_nodes.namespace.saffire_events(stuck))["NodeCannotPull"]
    assert "node broken cannot pull from" in dict(await two_nodes.namespace.saffire_events(source))["NodeCannotPull"]
    assert image == await two_nodes.template_image()
    pods = await two_nodes.pods()
    assert dict.fromkeys(healthy, image) == {uid: pods[uid] for uid in healthy}
    assert HEALTHY + 1 == len(pods)


async def test_a_node_that_loses_the_alternative_after_an_outage_has_its_stuck_pod_moved_on(
    two_nodes: TwoNodes, pool: RegistryPool
) -> None:
    """The outage says nothing of the node, so its pod goes to the third registry, in place; the template stays."""
    old, new, third = pool.filled(), pool.filled(), pool.filled()
    await two_nodes.offer(old, new, third)
    await two_nodes.run(f"{old.domain}/{PATH}:v1")
    old.shape = shapes.status(503)
    two_nodes.broken.dead.add(old.domain)
    stuck = await two_nodes.add_pod_to_broken_node()
    await two_nodes.namespace.post(await two_nodes.namespace.event(stuck))
    alternative = f"{new.domain}/{PATH}:v1"
    await two_nodes.until_all_run(alternative, HEALTHY + 1)
    await two_nodes.cordon(calm=False, broken=True)
    await two_nodes.scale(HEALTHY + 2)
    await two_nodes.until_all_run(alternative, HEALTHY + 2)
    healthy = await two_nodes.pods()
    two_nodes.broken.dead.add(new.domain)
    await two_nodes.cordon(calm=True, broken=False)
    await two_nodes.scale(HEALTHY + 3)
    [lonely] = await two_nodes.namespace.failing(of="web")

    async def has_moved_on() -> bool:
        return (await two_nodes.pods()).get(lonely["metadata"]["uid"]) == f"{third.domain}/{PATH}:v1"

    await two_nodes.deliver_until(has_moved_on)
    assert alternative == await two_nodes.template_image()
    assert healthy | {lonely["metadata"]["uid"]: f"{third.domain}/{PATH}:v1"} == await two_nodes.pods()
    switch = (await two_nodes.namespace.status())["switches"][-1]
    assert f"its template stays, since {new.domain} answers Saffire" in switch["note"]


async def test_a_fault_that_passes_moves_nothing(two_nodes: TwoNodes, pool: RegistryPool) -> None:
    """The kubelet's own next try pulls the image."""
    old, new = pool.filled(), pool.filled()
    await two_nodes.offer(old, new)
    image = f"{old.domain}/{PATH}:v1"
    healthy = await two_nodes.run(image)
    two_nodes.broken.dead.add(old.domain)
    stuck = await two_nodes.add_pod_to_broken_node()
    two_nodes.broken.dead.clear()
    answer = await two_nodes.namespace.post(await two_nodes.namespace.event(stuck))
    assert "AwaitingNextTry" in answer.text

    async def runs() -> bool:
        return bool("Running" == (await two_nodes.namespace.read(stuck))["status"]["phase"])

    await until(runs)
    await two_nodes.namespace.sweep()
    assert [] == two_nodes.namespace.patches()
    assert dict.fromkeys([*healthy, stuck["metadata"]["uid"]], image) == await two_nodes.pods()


async def test_a_proven_outage_moves_the_workload_at_once(two_nodes: TwoNodes, pool: RegistryPool) -> None:
    """The registry answers Saffire with an error of its own: the first Event moves the template."""
    old, new = pool.filled(), pool.filled()
    await two_nodes.offer(old, new)
    await two_nodes.run(f"{old.domain}/{PATH}:v1")
    old.shape = shapes.status(503)
    two_nodes.broken.dead.add(old.domain)
    stuck = await two_nodes.add_pod_to_broken_node()
    await two_nodes.namespace.post(await two_nodes.namespace.event(stuck))
    assert f"{new.domain}/{PATH}:v1" == await two_nodes.template_image()


async def test_while_every_registry_is_down_no_template_moves_to_another_dead_one(
    two_nodes: TwoNodes, pool: RegistryPool
) -> None:
    """Pods are ready, and a rollout would end some of them for pods that cannot start either."""
    old, new = pool.filled(), pool.filled()
    await two_nodes.offer(old, new)
    image = f"{old.domain}/{PATH}:v1"
    await two_nodes.run(image)
    old.shape = new.shape = shapes.status(503)
    two_nodes.broken.dead.update({old.domain, new.domain})
    stuck = await two_nodes.add_pod_to_broken_node()
    await two_nodes.namespace.post(await two_nodes.namespace.event(stuck))
    assert image == await two_nodes.template_image()
    assert HEALTHY == list((await two_nodes.pods()).values()).count(image)


async def test_a_parallel_stateful_set_loses_no_ready_pod_for_a_stuck_one(
    two_nodes: TwoNodes, pool: RegistryPool
) -> None:
    """The stuck pod moves in place at once; once all pods are ready, a sweep moves the template."""
    old, new = pool.filled(), pool.filled()
    await two_nodes.offer(old, new)
    image, alternative = f"{old.domain}/{PATH}:v1", f"{new.domain}/{PATH}:v1"
    own = container(image=image, imagePullPolicy="Always")
    spec = pod_spec(own, nodeSelector=LABEL, tolerations=[{"key": "own-nodes", "operator": "Exists"}])
    manifest = stateful_set(spec)
    manifest["spec"] |= {"replicas": 3, "podManagementPolicy": "Parallel"}
    live = await two_nodes.namespace.apply(manifest)

    async def all_ready() -> bool:
        return bool(3 == (await two_nodes.namespace.read(live)).get("status", {}).get("readyReplicas", 0))

    async def template() -> str:
        return images(pod_spec_of(await two_nodes.namespace.read(live)))["web"]

    await until(all_ready)
    old.shape = shapes.status(503)
    for node in (two_nodes.calm, two_nodes.broken):
        node.dead.add(old.domain)
    [first] = [pod for pod in await two_nodes.namespace.pods() if pod["metadata"]["name"] == "web-0"]
    healthy = {pod["metadata"]["uid"] for pod in await two_nodes.namespace.pods()} - {first["metadata"]["uid"]}
    await two_nodes.namespace.api.delete(await two_nodes.namespace.api.path(first))
    [stuck] = await two_nodes.namespace.failing(of="web")
    await two_nodes.namespace.post(await two_nodes.namespace.event(stuck))
    assert alternative == images((await two_nodes.namespace.read(stuck))["spec"])["web"]
    assert image == await template()
    await until(all_ready)
    assert healthy <= {pod["metadata"]["uid"] for pod in await two_nodes.namespace.pods()}
    await two_nodes.namespace.sweep()
    assert alternative == await template()


async def test_an_event_that_somebody_made_up_moves_nothing(
    checking_namespace: NamespaceFixture, pool: RegistryPool, slow_node: str
) -> None:
    """The pod's status shows no failure, and the registry answers: nothing goes to the other one, which is dead."""
    old, dead = pool.filled(), pool.refusing_address()
    await checking_namespace.source(f"{old.domain}/acme/*", f"{dead}/acme/*")
    image = f"{old.domain}/{PATH}:v1"
    await checking_namespace.apply(deployment(pod_spec(container(image=image), nodeName=slow_node)))
    [pod] = await until(checking_namespace.pods)
    event = await checking_namespace.write_kubelet_event(pod, "containers", "web", image, count=9)
    answer = await checking_namespace.post(event)
    assert "AwaitingNextTry" in answer.text
    assert [] == checking_namespace.patches()


async def test_a_template_takes_an_image_for_the_platforms_of_all_its_nodes(
    two_nodes: TwoNodes, pool: RegistryPool, kubeconfig: Path
) -> None:
    """
    The first alternative has no build for arm64, where pods of the Deployment may run too.

    The function is a new one: it knows a node that joins a minute later at the latest.
    """
    old, amd64, both = pool.filled(shape=shapes.status(503)), pool.filled(index("linux/amd64")), pool.filled()
    await two_nodes.offer(old, amd64, both)
    for node, architecture in ((two_nodes.calm, "arm64"), (two_nodes.broken, "amd64")):
        labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": architecture}
        await two_nodes.namespace.api.patch(f"/api/v1/nodes/{node.names[0]}", {"metadata": {"labels": labels}})
    for node in (two_nodes.calm, two_nodes.broken):
        node.dead.add(old.domain)
    _, event = await two_nodes.namespace.fail(two_nodes.deployment(f"{old.domain}/{PATH}:v1", replicas=1))
    async with FunctionProcess(kubeconfig, **pool.environ) as served:
        await two_nodes.namespace.post(event, url=served.url)
    assert f"{both.domain}/{PATH}:v1" == await two_nodes.template_image()
