"""When a registry is down, what waits for it moves before each of its pulls has failed by itself."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from playground.api import Manifest
from playground.kubelet_events import rfc3339
from testkit import scripted_registry as shapes
from testkit.api.namespace_fixture import GROUP, Stage, until, waiting
from testkit.api.registry_pool import Market
from testkit.api.workloads import container, deployment, images, pod, pod_spec, pod_spec_of

AGO = timedelta(seconds=30)
"""For how long pods have been at their pull: more than the ten seconds in which most pulls are over."""


@dataclass(frozen=True)
class Outage:
    """
    A stage, whose pods are on a node that says of each for an hour that it is being created, and registries.

    Args:
        stage: the namespace.
        node: the name of that node.
        down: a registry that does not answer us.
        other: another one that does not.
        good: one that has all images.

    """

    stage: Stage
    node: str
    down: str
    other: str
    good: str

    async def create(self, name: str, image: str, *, ago: timedelta = AGO) -> Manifest:
        """Create a pod, and return it once it has been at its pull for so long."""
        live = await self.stage.apply(pod(pod_spec(container(image=image), nodeName=self.node), name=name))

        async def look() -> bool:
            return waiting(await self.stage.read(live)) == {"ContainerCreating"}

        await until(look)
        status = {"startTime": rfc3339(datetime.now(UTC) - ago)}
        await self.stage.api.patch(f"{await self.stage.api.path(live)}/status", {"status": status})
        return live

    async def run(self, name: str, image: str) -> Manifest:
        """Create a pod, and return it as one whose container runs."""
        live = await self.create(name, image)
        state = {"running": {"startedAt": rfc3339(datetime.now(UTC))}}
        ran = {"name": "web", "image": image, "imageID": image, "ready": True, "restartCount": 0, "state": state}
        status = {"phase": "Running", "containerStatuses": [ran]}
        patched: Manifest = await self.stage.api.patch(f"{await self.stage.api.path(live)}/status", {"status": status})
        return patched

    async def fail(self, image: str) -> Manifest:
        """Return the Event of a new pod whose pull was refused a moment ago."""
        live = await self.create("told", image, ago=timedelta(0))
        return await self.stage.tell(live, "containers", "web", image)

    async def moved(self) -> dict[str, tuple[str, str]]:
        """Return to which image each workload was moved, and for which reason, as the source's status tells."""
        switches = (await self.stage.status()).get("switches", ())
        return {one["target"]["name"]: (one["newImage"], one["reason"]) for one in switches}


@pytest.fixture
async def outage(asked: Stage, market: Market, slow_node: str) -> Outage:
    """Give a namespace that declares three registries equivalent, of which two are down."""
    good = market.empty()
    outage = Outage(asked, slow_node, market.nobody(), market.nobody(), good.domain)
    await declare(outage)
    return outage


async def declare(outage: Outage) -> None:
    """Declare where else the images of the two registries are; whether they are there is not the question."""
    sets = [[f"{one}/acme/*", f"{outage.good}/acme/*"] for one in (outage.down, outage.other)]
    replacements = [{"equivalentRepositories": one} for one in sets]
    await outage.stage.source(imageSourceReplacements=replacements, verification="Off")


async def test_what_waits_for_a_dead_registry_is_anticipated(outage: Outage) -> None:
    """One refused pull moves what is at a pull from there; not what pulls from elsewhere, has just begun, or runs."""
    down, other, good = outage.down, outage.other, outage.good
    await outage.create("same", f"{down}/acme/api:v1")
    await outage.create("same-again", f"{down}/acme/web:v1")
    left = [
        await outage.create("elsewhere", f"{other}/acme/api:v1"),
        await outage.create("just-begun", f"{down}/acme/late:v1", ago=timedelta(seconds=-60)),
        await outage.run("runs", f"{down}/acme/runs:v1"),
    ]
    event = await outage.fail(f"{down}/acme/web:v1")
    answer = await outage.stage.post(event)
    assert (200, f"moved web of Pod/told to {good}/acme/web:v1") == (answer.status, answer.text)
    expected = {
        "told": (f"{good}/acme/web:v1", "ErrImagePull"),
        "same": (f"{good}/acme/api:v1", "anticipated"),
        "same-again": (f"{good}/acme/web:v1", "anticipated"),
    }
    assert expected == await outage.moved()
    assert sorted(("pods", name) for name in expected) == sorted(outage.stage.patches())
    for one in left:
        assert images(one["spec"]) == images((await outage.stage.read(one))["spec"])
    ((reason, message),) = await outage.stage.told(await outage.stage.read(pod(name="same")))
    assert ("Failover", True) == (reason, "(anticipated: refused; " in message)


async def test_a_template_moves_for_a_pull_that_is_anticipated(outage: Outage) -> None:
    """A Deployment whose pods wait moves as a whole, by one patch, and no pod is deleted by us."""
    spec = pod_spec(container(image=f"{outage.down}/acme/api:v1"), nodeName=outage.node)
    await outage.stage.apply(deployment(spec, replicas=2))

    async def look() -> list[Manifest] | None:
        found = [one for one in await outage.stage.pods() if waiting(one) == {"ContainerCreating"}]
        return found if len(found) == 2 else None

    for one in await until(look):
        status = {"startTime": rfc3339(datetime.now(UTC) - AGO)}
        await outage.stage.api.patch(f"{await outage.stage.api.path(one)}/status", {"status": status})
    await outage.stage.post(await outage.fail(f"{outage.down}/acme/web:v1"))
    assert [("deployments", "web"), ("pods", "told")] == sorted(outage.stage.patches())
    assert {"web": f"{outage.good}/acme/api:v1"} == images(pod_spec_of(await outage.stage.read(deployment())))
    assert (f"{outage.good}/acme/api:v1", "anticipated") == (await outage.moved())["web"]
    assert {"patch", "create"} == {call.verb for call in outage.stage.writes()}


async def test_nothing_is_anticipated_of_a_registry_that_answers_us(
    asked: Stage, market: Market, slow_node: str
) -> None:
    """A pull that was refused on one node says nothing of the others, whatever the registry answers."""
    talks = market.empty()
    outage = Outage(asked, slow_node, talks.domain, market.nobody(), market.empty().domain)
    await declare(outage)
    await outage.create("same", f"{outage.down}/acme/api:v1")
    await outage.stage.post(await outage.fail(f"{outage.down}/acme/web:v1"))
    assert {"told": (f"{outage.good}/acme/web:v1", "ErrImagePull")} == await outage.moved()
    assert ["HEAD /v2/acme/web/manifests/v1"] == talks.requests


@pytest.fixture
async def alone(asked: Stage) -> Stage:
    """Give a stage on a cluster without the sources of earlier tests, whose namespaces would go in their own time."""

    async def look() -> bool:
        left = (await asked.api.get(f"/apis/{GROUP}/alternateimagesources"))["items"]
        for namespace in {one["metadata"]["namespace"] for one in left}:
            await asked.api.delete(f"/apis/{GROUP}/namespaces/{namespace}/alternateimagesources")
        return not left

    await until(look)
    return asked


async def test_what_hangs_without_an_event_is_found_by_the_sweep(alone: Stage, market: Market, slow_node: str) -> None:
    """A registry that takes connections and never answers makes no Event: what pulls from it for long has stalled."""
    hangs, talks, good = market.filled(shape=shapes.hang), market.empty(), market.empty()
    outage = Outage(alone, slow_node, hangs.domain, talks.domain, good.domain)
    await declare(outage)
    await outage.create("hangs", f"{hangs.domain}/acme/web:v1")
    await outage.create("is-large", f"{talks.domain}/acme/web:v1")
    await outage.run("runs", f"{hangs.domain}/acme/web:v1")
    answer = await alone.sweep()
    assert (200, "swept 1 of 1 namespaces: 1 moved") == (answer.status, answer.text)
    assert {"hangs": (f"{good.domain}/acme/web:v1", "stalled")} == await outage.moved()
    ((reason, message),) = await alone.told(await alone.read(pod(name="hangs")))
    assert ("Failover", True) == (reason, "(stalled: timeout; " in message)
    assert [("pods", "hangs")] == alone.patches()


async def test_what_has_not_hung_for_long_is_left_to_the_kubelet(alone: Stage, market: Market, slow_node: str) -> None:
    """Before its time is over a pull may still succeed, even from a registry that does not answer us."""
    hangs = market.filled(shape=shapes.hang)
    outage = Outage(alone, slow_node, hangs.domain, market.nobody(), market.empty().domain)
    await declare(outage)
    await outage.create("hangs", f"{hangs.domain}/acme/web:v1", ago=timedelta(seconds=-60))
    answer = await alone.sweep()
    assert (200, "swept 1 of 1 namespaces: all is well") == (answer.status, answer.text)
    assert [] == hangs.requests
