"""In calm weather: whether a failover would work today, as a source's status tells, and what it costs to know."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from playground.api import Manifest
from playground.controlplane import ControlPlane
from playground.node import PlayedNode
from playground.served import ServedFunction
from testkit import scripted_registry as shapes
from testkit.api.audit_log import Audit
from testkit.api.namespace_fixture import GROUP, Stage, until
from testkit.api.registry_fixture import PASSWORD, USER_NAME, let_read
from testkit.api.registry_pool import PATH, Market
from testkit.api.workloads import container, pod, pod_spec
from testkit.check_registry import SINGLE, WEB
from testkit.oci_images import index
from testkit.scripted_registry import Registry
from tests.api.test_sweeps import CLUSTER_WIDE, FOREIGN, LOOK, WORKLOADS

BUDGET_SECONDS = 1.5
PATIENCE_SECONDS = 6
DIGEST = f"v1@{WEB.digest}"
PUT_OFF = f"v2@{WEB.digest}"
WHOLE_SWEEP = "swept 1 of 1 namespaces: all is well"
HEAD, GET = (f"{method} /v2/{PATH}/manifests/" for method in ("HEAD", "GET"))


@dataclass(frozen=True)
class Shop:
    """A namespace with the only source of the cluster; its images come from a registry that nobody asks."""

    stage: Stage
    old: str

    def image(self, suffix: str = DIGEST, path: str = PATH) -> str:
        """Return the reference of an image in use."""
        return f"{self.old}/{path}:{suffix}"

    async def offer(self, *domains: str, **spec: Any) -> None:
        """Declare where else the images are, in order of preference."""
        await self.stage.source(f"{self.old}/*", *(f"{domain}/*" for domain in domains), **spec)

    async def run(self, *images: str, name: str = "web", **fields: Any) -> None:
        """Run a pod with these images, and wait until its status tells what they are."""
        containers = (container(f"c{number}", image) for number, image in enumerate(images or [self.image()]))
        live = await self.stage.apply(pod(pod_spec(*containers, **fields), name=name))

        async def runs() -> bool:
            found = await self.stage.read(live)
            return bool(found["status"]["phase"] == "Running")

        await until(runs)

    async def sweep(self, times: int = 1, *, url: str = "") -> None:
        """Sweep, with nothing to do."""
        for _ in range(times):
            answer = await self.stage.sweep(url=url)
            assert (200, WHOLE_SWEEP) == (answer.status, answer.text)

    async def source(self) -> Manifest:
        """Return the source as it is now."""
        return await self.stage.read(
            {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": "shop"}}
        )

    async def counts(self) -> tuple[int, ...]:
        """Return how many images there are, and how many of them are ready, not ready and unknown."""
        found = (await self.stage.status())["readiness"]
        return tuple(found[name] for name in ("images", "ready", "notReady", "unknown"))

    async def worst(self) -> list[tuple[str, str]]:
        """Return of which equivalents of the worst images it is told why."""
        return [(one["equivalent"], one["why"]) for one in (await self.stage.status())["readiness"]["worst"]]

    async def ready(self) -> tuple[str, str, str]:
        """Return status, reason and message of `Ready`."""
        (found,) = [one for one in (await self.stage.status())["conditions"] if one["type"] == "Ready"]
        return found["status"], found["reason"], found["message"]


@pytest.fixture(scope="module")
async def curious(kubeconfig: Path, market: Market) -> AsyncIterator[ServedFunction]:
    """Give a function that may ask as much as there is to ask."""
    environ = {"SAFFIRE_QUESTIONS_PER_MINUTE": "1000", "SAFFIRE_LOG_LEVEL": "DEBUG", **market.environ}
    async with ServedFunction(kubeconfig, **environ) as served:
        yield served


@pytest.fixture
async def shop(
    cluster: ControlPlane, curious: ServedFunction, audit: Audit, node: PlayedNode, market: Market
) -> AsyncIterator[Shop]:
    """Give a shop; no other namespace has a source."""
    async with Stage(cluster.admin, curious.url, audit, node.dead) as stage:

        async def alone() -> bool:
            left = (await stage.api.get(f"/apis/{GROUP}/alternateimagesources"))["items"]
            for namespace in {one["metadata"]["namespace"] for one in left}:
                await stage.api.delete(f"/apis/{GROUP}/namespaces/{namespace}/alternateimagesources")
            return not left

        await until(alone)
        yield Shop(stage, market.nobody())


@pytest.fixture
async def gentle(kubeconfig: Path, market: Market) -> AsyncIterator[ServedFunction]:
    """Give a function that has just started, with as many questions as it has if nobody says."""
    async with ServedFunction(kubeconfig, **market.environ) as served:
        yield served


# What is told


async def test_ready_where_an_equivalent_is_proven(shop: Shop, market: Market) -> None:
    """By HEAD alone, which is no pull; until somebody has asked, it is unknown. The other equivalent is named."""
    first, second = market.empty(), market.filled()
    await shop.offer(first.domain, second.domain)
    await shop.run()
    await shop.stage.post(await shop.source())
    unknown = "1 of 1 images in use have no alternative that is proven: {} ({}/{}:{}: not asked yet)"
    expected = unknown.format(shop.image(), first.domain, PATH, DIGEST)
    assert ("Unknown", "Unverified", expected) == await shop.ready()
    await shop.sweep()
    assert ("True", "Ready", "1 of 1 images in use have a proven alternative") == await shop.ready()
    assert (1, 1, 0, 0) == await shop.counts()
    assert [(f"{first.domain}/{PATH}:{DIGEST}", "not there")] == await shop.worst()
    assert [[f"{HEAD}{WEB.digest}"]] * 2 == [one.requests for one in (first, second)]


def other_build(market: Market) -> Registry:
    """Return a registry that has another build under the same tag."""
    return market.filled(index("linux/amd64", build="2"))


def private(market: Market) -> Registry:
    """Return a registry that lets nobody in."""
    return market.filled(shape=shapes.status(401))


def partial(market: Market) -> Registry:
    """Return a registry that has lost a layer."""
    registry = market.filled()
    registry.lose(SINGLE.parsed["layers"][1]["digest"])
    return registry


@dataclass(frozen=True)
class Row:
    """An only equivalent, and what is told of it."""

    setup: Callable[[Market], Registry]
    ready: tuple[str, str]
    why: str
    suffix: str = DIGEST
    verification: str = "BestEffort"


FAULTS = {
    "not there": Row(Market.empty, ("False", "NotReady"), "not there"),
    "another build": Row(other_build, ("False", "NotReady"), "different digest", "v1"),
    "wrong platform": Row(
        lambda market: market.filled(index("linux/arm64")), ("False", "NotReady"), "wrong platform", "v1"
    ),
    "denied": Row(private, ("Unknown", "Unverified"), "denied"),
    "denied, strictly": Row(private, ("False", "NotReady"), "denied", verification="Strict"),
    "a layer lost": Row(partial, ("True", "Ready"), ""),
    "a layer lost, strictly": Row(partial, ("False", "NotReady"), "incomplete", verification="Strict"),
    "whole, strictly": Row(Market.filled, ("True", "Ready"), "", verification="Strict"),
    "throttled": Row(lambda market: market.filled(shape=shapes.status(429)), ("Unknown", "Unverified"), "throttled"),
    "an error of its own": Row(
        lambda market: market.filled(shape=shapes.status(503)), ("Unknown", "Unverified"), "unreachable"
    ),
}


@pytest.mark.parametrize("row", FAULTS.values(), ids=FAULTS)
async def test_what_would_stop_a_failover_today_is_told(row: Row, shop: Shop, market: Market) -> None:
    """False where it is known that none would do, Unknown where nobody can tell."""
    registry = row.setup(market)
    await shop.offer(registry.domain, verification=row.verification)
    await shop.run(shop.image(row.suffix))
    await shop.sweep()
    status, reason, message = await shop.ready()
    assert row.ready == (status, reason)
    equivalent = f"{registry.domain}/{PATH}:{row.suffix}"
    assert ([(equivalent, row.why)] if row.why else []) == await shop.worst()
    assert (f"{shop.image(row.suffix)} ({equivalent}: {row.why})" in message) is bool(row.why)


async def test_another_build_is_ready_where_it_is_allowed(shop: Shop, market: Market) -> None:
    """It is for the node's platform, so its manifest was read; HEAD tells from then on that it is the same still."""
    registry = other_build(market)
    await shop.offer(registry.domain, allowDifferentDigest=True)
    await shop.run(shop.image("v1"))
    await shop.sweep()
    assert ("True", "Ready") == (await shop.ready())[:2]
    assert [f"{HEAD}v1", f"{GET}v1"] == registry.requests


async def test_the_ten_worst_are_named(shop: Shop, market: Market) -> None:
    """Of twelve images that are nowhere else, and one that is."""
    registry = market.filled()
    await shop.offer(registry.domain)
    await shop.run(shop.image(), *(shop.image(path=f"acme/n{number:02}") for number in range(12)))
    await shop.sweep()
    assert (13, 1, 12, 0) == await shop.counts()
    expected = [(f"{registry.domain}/acme/n{number:02}:{DIGEST}", "not there") for number in range(10)]
    assert expected == await shop.worst()
    assert (await shop.ready())[2].endswith("; and 9 more")


async def test_who_observes_is_told_all_the_same(shop: Shop, market: Market) -> None:
    """One may see whether it would work before one wants it to; who is paused, or trusts, has nobody asked."""
    registry = market.filled()
    await shop.offer(registry.domain, mode="Observe")
    await shop.run()
    await shop.sweep()
    assert ("False", "Observing") == (await shop.ready())[:2]
    assert (1, 1, 0, 0) == await shop.counts()
    for spec, ready in (({"mode": "Paused"}, "False"), ({"verification": "Off"}, "True")):
        await shop.offer(registry.domain, **{"mode": "Enforce", "verification": "BestEffort", **spec})
        await shop.sweep()
        assert (ready, False) == ((await shop.ready())[0], "readiness" in await shop.stage.status())
    assert 1 == len(registry.requests)


@pytest.mark.parametrize("whose", ["the pod's", "the source's"])
async def test_a_private_registry_is_asked_with_a_pull_secret(
    whose: str, shop: Shop, market: Market, cluster: ControlPlane, curious: ServedFunction
) -> None:
    """With the Role of the documentation it is proven, and nothing of the Secret is seen anywhere."""
    registry = market.filled()
    registry.challenge, registry.users = "Basic", {USER_NAME: PASSWORD}
    config = {"auths": {registry.domain: {"username": USER_NAME, "password": PASSWORD}}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(config)},
    }
    await shop.stage.apply(secret)
    await let_read(shop.stage, cluster)
    credentials = [{"registry": registry.domain, "secretName": "pull"}] if whose == "the source's" else []
    await shop.offer(registry.domain, credentials=credentials)
    fields: dict[str, Any] = {"imagePullSecrets": [{"name": "pull"}]} if whose == "the pod's" else {}
    await shop.run(**fields)
    await shop.sweep()
    assert ("True", "Ready") == (await shop.ready())[:2]
    basic = base64.b64encode(f"{USER_NAME}:{PASSWORD}".encode()).decode()
    assert f"Basic {basic}" in registry.authorizations
    seen = [curious.output(), json.dumps(await shop.source()), json.dumps(await shop.stage.events())]
    assert [] == [text for text in seen for word in (USER_NAME, PASSWORD, basic) if word in text]


# What changes


async def test_an_image_that_comes_or_goes_counts_at_once(shop: Shop, market: Market) -> None:
    """New ones are asked about first, and those that are gone are not told of any more."""
    registry = market.filled()
    await shop.offer(registry.domain)
    await shop.run()
    await shop.sweep()
    await shop.run(shop.image(path="acme/new"), name="new")
    await shop.sweep()
    assert (2, 1, 1, 0) == await shop.counts()
    await shop.stage.api.delete(f"/api/v1/namespaces/{shop.stage.namespace}/pods/new")
    await shop.stage.until_gone(pod(name="new"))
    await shop.sweep()
    assert (1, 1, 0, 0) == await shop.counts()
    assert 2 == len(registry.requests)


async def test_what_was_answered_outlives_an_instance(shop: Shop, market: Market, gentle: ServedFunction) -> None:
    """One that has just started writes nothing of its own ignorance, and nothing while it hears the same."""
    registry = market.filled()
    await shop.offer(registry.domain)
    await shop.run(shop.image(), *(shop.image(path=f"acme/n{number:02}") for number in range(12)))
    await shop.sweep()
    before = await shop.source()
    asked = len(registry.requests)
    await shop.sweep(2, url=gentle.url)
    await shop.sweep()
    assert before == await shop.source()
    assert 3 == len(registry.requests) - asked


async def test_two_instances_that_sweep_in_turn_agree(shop: Shop, market: Market, gentle: ServedFunction) -> None:
    """Each writes what it was answered, and neither takes back what the other has found."""
    registries = [market.filled(), market.filled()]
    await shop.offer(registries[0].domain)
    await shop.run(*(shop.image(path=f"acme/n{number:02}") for number in range(5)))
    known = []
    for url in (gentle.url, gentle.url, shop.stage.url, gentle.url, shop.stage.url):
        await shop.sweep(url=url)
        known.append(await shop.counts())
    assert [(5, 0, 3, 2)] * 2 + [(5, 0, 5, 0)] * 3 == known


async def test_nothing_is_asked_in_an_incident(shop: Shop, market: Market) -> None:
    """While something fails there, a namespace's registries have other things to do; what was known stays."""
    registry = market.filled()
    await shop.offer(registry.domain)
    await shop.run()
    await shop.sweep()
    readiness = (await shop.stage.status())["readiness"]
    lost = market.nobody()
    await shop.stage.source(f"{lost}/*", f"{market.nobody()}/*", name="other")
    shop.stage.dead.add(lost)
    await shop.run(shop.image(path="acme/new"), name="new")
    await shop.stage.apply(pod(pod_spec(container("c", f"{lost}/{PATH}:v1")), name="failing"))
    await shop.stage.failing()
    asked = len(registry.requests)
    assert "1 moved" in (await shop.stage.sweep()).text
    assert (readiness, asked) == ((await shop.stage.status())["readiness"], len(registry.requests))


# What it costs


async def test_there_are_a_few_questions_in_a_minute(shop: Shop, market: Market, gentle: ServedFunction) -> None:
    """However often somebody sweeps and however much there is to ask; and half of them at most to one registry."""
    first, second, third = (market.filled() for _ in range(3))
    images = [shop.image(path=f"acme/n{number:02}") for number in range(20)]
    await shop.offer(first.domain)
    await shop.run(*images)
    async with shop.stage.another() as elsewhere:
        other = Shop(elsewhere, market.nobody())
        await other.offer(second.domain, third.domain)
        await other.run(*(other.image(path=f"acme/n{number:02}") for number in range(4)))
        for _ in range(4):
            assert "swept 2 of 2" in (await shop.stage.sweep(url=gentle.url)).text
        asked = [len(one.requests) for one in (first, second, third)]
        assert (6, 3) == (sum(asked), asked[0])


async def test_a_registry_that_throttles_is_left_alone(shop: Shop, market: Market) -> None:
    """Also about images that nobody has asked for yet; others are asked meanwhile."""
    throttling, other = market.filled(shape=shapes.status(429, {"Retry-After": "3600"})), market.filled()
    await shop.offer(throttling.domain, other.domain)
    await shop.run()
    await shop.sweep()
    assert 1 == len(throttling.requests)
    assert [(f"{throttling.domain}/{PATH}:{DIGEST}", "throttled")] == await shop.worst()
    await shop.run(shop.image(PUT_OFF), name="new")
    await shop.sweep(3)
    assert (2, 2, 0, 0) == await shop.counts()
    assert (1, 2) == (len(throttling.requests), len(other.requests))


async def test_a_registry_that_hangs_does_not_make_a_sweep_late(shop: Shop, market: Market) -> None:
    """It costs one budget, however many images it should have, and only once every record is written."""
    hanging = market.filled(shape=shapes.hang)
    await shop.offer(hanging.domain)
    await shop.run(*(shop.image(path=f"acme/n{number:02}") for number in range(20)))
    before = asyncio.get_running_loop().time()
    await shop.sweep()
    assert asyncio.get_running_loop().time() - before < BUDGET_SECONDS + PATIENCE_SECONDS
    assert ("Unknown", "Unverified") == (await shop.ready())[:2]
    assert {"unreachable"} == {why for _, why in await shop.worst()}


async def test_a_calm_sweep_costs_no_more_requests_than_before(shop: Shop, market: Market, audit: Audit) -> None:
    """Once everything is known, nothing is written and nobody is asked, however many pods there are."""
    registry = market.filled()
    await shop.offer(registry.domain)
    await shop.run()
    await shop.sweep()
    for number in range(2):
        asked = len(registry.requests)
        mark = audit.mark()
        await shop.sweep()
        calls = [call for call in audit.calls(mark) if call.group not in FOREIGN]
        expected = sorted(["list alternateimagesources", CLUSTER_WIDE, *LOOK, *WORKLOADS])
        assert expected == sorted(f"{call.verb} {call.resource}" for call in calls)
        assert asked == len(registry.requests)
        await asyncio.gather(*(shop.run(name=f"more-{number}-{one}") for one in range(5)))
