"""If a registry is down, pods that wait for it move before each of their pulls has failed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.simulated.events import rfc3339
from testkit import scripted_registry as shapes
from testkit.api.namespace_fixture import GROUP, NamespaceFixture, until, waiting
from testkit.api.registry_pool import RegistryPool
from testkit.api.workloads import container, deployment, images, pod, pod_spec, pod_spec_of
from testkit.check_registry import WEB

AGO = timedelta(seconds=30)
"""For how long pods have been at their pull: more than the ten seconds in which most pulls are over."""


@dataclass(frozen=True)
class Outage:
    """
    A namespace whose pods are on a node that reports them as being created for an hour, and registries.

    Args:
        namespace: the namespace.
        node: the name of that node.
        down: a registry that fails for Saffire too, unless a test says otherwise.
        other: another registry.
        good: a registry that has all images.

    """

    namespace: NamespaceFixture
    node: str
    down: str
    other: str
    good: str

    async def create(self, name: str, image: str, *, ago: timedelta = AGO) -> Manifest:
        """Create a pod, and return it once its pull has taken that long."""
        live = await self.namespace.apply(pod(pod_spec(container(image=image), nodeName=self.node), name=name))

        async def look() -> bool:
            return waiting(await self.namespace.read(live)) == {"ContainerCreating"}

        await until(look)
        await self.pull_since(live, ago)
        return live

    async def pull_since(self, pod: Manifest, ago: timedelta = AGO) -> None:
        """Write into the status of a pod that its pull has taken that long."""
        status = {"startTime": rfc3339(datetime.now(UTC) - ago)}
        await self.namespace.api.patch(f"{await self.namespace.api.path(pod)}/status", {"status": status})

    async def run(self, name: str, image: str) -> Manifest:
        """Create a pod, and return it with a running container."""
        live = await self.create(name, image)
        state = {"running": {"startedAt": rfc3339(datetime.now(UTC))}}
        ran = {"name": "web", "image": image, "imageID": image, "ready": True, "restartCount": 0, "state": state}
        status = {"phase": "Running", "containerStatuses": [ran]}
        patched: Manifest = await self.namespace.api.patch(
            f"{await self.namespace.api.path(live)}/status", {"status": status}
        )
        return patched

    async def fail(self, image: str) -> Manifest:
        """Return the Event of a new pod whose pull was just refused."""
        live = await self.create("told", image, ago=timedelta(0))
        return await self.namespace.write_kubelet_event(live, "containers", "web", image)

    async def moved(self) -> dict[str, tuple[str, str]]:
        """Return the image that each workload was moved to, and the reason, from the source's status."""
        switches = (await self.namespace.status()).get("switches", ())
        return {switch["target"]["name"]: (switch["newImage"], switch["reason"]) for switch in switches}


@pytest.fixture
async def outage(checking_namespace: NamespaceFixture, pool: RegistryPool, slow_node: str) -> Outage:
    """Give a namespace with three registries declared equivalent, two of which are down."""
    outage = Outage(checking_namespace, slow_node, pool.failing().domain, pool.failing().domain, good(pool))
    await declare(outage)
    return outage


def good(pool: RegistryPool) -> str:
    """Take a registry that has all images, and return its domain."""
    registry = pool.empty()
    for name in ("api", "web"):
        registry.push(f"acme/{name}:v1", WEB)
    return registry.domain


async def declare(outage: Outage, **spec: Any) -> None:
    """Create the source that names the equivalents of the two registries."""
    sets = [[f"{domain}/acme/*", f"{outage.good}/acme/*"] for domain in (outage.down, outage.other)]
    replacements = [{"equivalentRepositories": repositories} for repositories in sets]
    await outage.namespace.source(imageSourceReplacements=replacements, **spec)


async def test_what_waits_for_a_dead_registry_is_anticipated(outage: Outage) -> None:
    """
    One refused pull moves all pods that have waited long for that registry.

    Pods that run, that have just begun, or that pull from elsewhere stay.
    """
    down, other, there = outage.down, outage.other, outage.good
    await outage.create("same", f"{down}/acme/api:v1")
    await outage.create("same-again", f"{down}/acme/web:v1")
    left = [
        await outage.create("elsewhere", f"{other}/acme/api:v1"),
        await outage.create("just-begun", f"{down}/acme/late:v1", ago=timedelta(seconds=-60)),
        await outage.run("runs", f"{down}/acme/runs:v1"),
    ]
    event = await outage.fail(f"{down}/acme/web:v1")
    answer = await outage.namespace.post(event)
    assert (200, f"moved web of Pod/told to {there}/acme/web:v1") == (answer.status, answer.text)
    expected = {
        "told": (f"{there}/acme/web:v1", "ErrImagePull"),
        "same": (f"{there}/acme/api:v1", "anticipated"),
        "same-again": (f"{there}/acme/web:v1", "anticipated"),
    }
    assert expected == await outage.moved()
    assert sorted(("pods", name) for name in expected) == sorted(outage.namespace.patches())
    for workload in left:
        assert images(workload["spec"]) == images((await outage.namespace.read(workload))["spec"])
    ((reason, message),) = await outage.namespace.saffire_events(await outage.namespace.read(pod(name="same")))
    assert ("Failover", True) == (
        reason,
        f": {down} refused the connection, so this pull will fail as another did; " in message,
    )


async def test_a_template_moves_for_a_pull_that_is_anticipated(outage: Outage) -> None:
    """A Deployment whose pods wait moves by one patch of its template; Saffire deletes no pod."""
    spec = pod_spec(container(image=f"{outage.down}/acme/api:v1"), nodeName=outage.node)
    await outage.namespace.apply(deployment(spec, replicas=2))

    async def look() -> list[Manifest] | None:
        creating = [pod for pod in await outage.namespace.pods() if waiting(pod) == {"ContainerCreating"}]
        return creating if len(creating) == 2 else None

    for stuck in await until(look):
        await outage.pull_since(stuck)
    await outage.namespace.post(await outage.fail(f"{outage.down}/acme/web:v1"))
    assert [("deployments", "web"), ("pods", "told")] == sorted(outage.namespace.patches())
    assert {"web": f"{outage.good}/acme/api:v1"} == images(pod_spec_of(await outage.namespace.read(deployment())))
    assert (f"{outage.good}/acme/api:v1", "anticipated") == (await outage.moved())["web"]
    assert {"patch", "create"} == {call.verb for call in outage.namespace.writes()}


async def test_nothing_is_anticipated_of_a_registry_that_answers_us(
    checking_namespace: NamespaceFixture, pool: RegistryPool, slow_node: str
) -> None:
    """If the registry answers Saffire, even with 404, a refused pull on one node does not count for the others."""
    talks = pool.empty()
    outage = Outage(checking_namespace, slow_node, talks.domain, pool.failing().domain, good(pool))
    await declare(outage, trigger="AnyFailure")
    await outage.create("same", f"{outage.down}/acme/api:v1")
    await outage.namespace.post(await outage.fail(f"{outage.down}/acme/web:v1"))
    assert {"told": (f"{outage.good}/acme/web:v1", "ErrImagePull")} == await outage.moved()
    assert ["HEAD /v2/acme/web/manifests/v1"] == talks.requests


@pytest.fixture
async def only_namespace(checking_namespace: NamespaceFixture) -> NamespaceFixture:
    """Give a namespace in a cluster without the sources of earlier tests, whose namespaces are deleted later."""

    async def look() -> bool:
        left = (await checking_namespace.api.get(f"/apis/{GROUP}/alternateimagesources"))["items"]
        for namespace in {source["metadata"]["namespace"] for source in left}:
            await checking_namespace.api.delete(f"/apis/{GROUP}/namespaces/{namespace}/alternateimagesources")
        return not left

    await until(look)
    return checking_namespace


async def test_what_hangs_without_an_event_is_found_by_the_sweep(
    only_namespace: NamespaceFixture, pool: RegistryPool, slow_node: str
) -> None:
    """A runtime may wait for a registry that never answers, without an Event: a sweep finds what takes too long."""
    hangs, talks = pool.filled(shape=shapes.hang), pool.empty()
    outage = Outage(only_namespace, slow_node, hangs.domain, talks.domain, good(pool))
    await declare(outage)
    await only_namespace.write_answered(hangs.domain)
    await outage.create("hangs", f"{hangs.domain}/acme/web:v1")
    await outage.create("is-large", f"{talks.domain}/acme/web:v1")
    await outage.run("runs", f"{hangs.domain}/acme/web:v1")
    answer = await only_namespace.sweep()
    assert (200, "swept 1 of 1 namespaces: 1 moved") == (answer.status, answer.text)
    assert {"hangs": (f"{outage.good}/acme/web:v1", "stalled")} == await outage.moved()
    ((reason, message),) = await only_namespace.saffire_events(await only_namespace.read(pod(name="hangs")))
    assert ("Failover", True) == (
        reason,
        f": {hangs.domain} does not answer in time, and the pull has stalled; " in message,
    )
    assert [("pods", "hangs")] == only_namespace.patches()


async def test_what_may_wait_for_a_volume_has_not_stalled(
    only_namespace: NamespaceFixture, pool: RegistryPool, slow_node: str
) -> None:
    """If no Event says that the pod pulls, it may wait for a volume, a Secret or its network, however long."""
    hangs = pool.filled(shape=shapes.hang)
    outage = Outage(only_namespace, slow_node, hangs.domain, pool.failing().domain, good(pool))
    await declare(outage)
    await only_namespace.write_answered(hangs.domain)
    live = await outage.create("hangs", f"{hangs.domain}/acme/web:v1")
    (event,) = await only_namespace.events(live["metadata"]["uid"], reason="Pulling")
    await only_namespace.api.delete(await only_namespace.api.path(event))
    answer = await only_namespace.sweep()
    assert (200, "swept 1 of 1 namespaces: all is well") == (answer.status, answer.text)
    assert [] == only_namespace.patches()


async def test_what_may_wait_for_a_volume_is_not_anticipated(outage: Outage) -> None:
    """Its image may be on its node, so that it starts as soon as the volume is there."""
    live = await outage.create("waits", f"{outage.down}/acme/api:v1")
    (event,) = await outage.namespace.events(live["metadata"]["uid"], reason="Pulling")
    await outage.namespace.api.delete(await outage.namespace.api.path(event))
    await outage.namespace.post(await outage.fail(f"{outage.down}/acme/web:v1"))
    assert [("pods", "told")] == outage.namespace.patches()


async def test_what_has_not_hung_for_long_is_left_to_the_kubelet(
    only_namespace: NamespaceFixture, pool: RegistryPool, slow_node: str
) -> None:
    """Until a pull has taken too long it may still succeed, even from a registry that does not answer Saffire."""
    hangs = pool.filled(shape=shapes.hang)
    outage = Outage(only_namespace, slow_node, hangs.domain, pool.failing().domain, good(pool))
    await declare(outage)
    await only_namespace.write_answered(hangs.domain)
    await outage.create("hangs", f"{hangs.domain}/acme/web:v1", ago=timedelta(seconds=-60))
    answer = await only_namespace.sweep()
    assert (200, "swept 1 of 1 namespaces: all is well") == (answer.status, answer.text)
    assert [] == only_namespace.patches()
