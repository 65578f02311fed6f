"""Readiness while nothing fails: the source's status says whether a failover would work, and what it costs to know."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.nodes import SimulatedNode
from testkit import scripted_registry as shapes
from testkit.api.audit_log import AuditLog
from testkit.api.namespace_fixture import GROUP, NamespaceFixture, until
from testkit.api.registry_fixture import PASSWORD, USER_NAME, let_read
from testkit.api.registry_pool import PATH, RegistryPool
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
class RegistryFixture:
    """A namespace with the only source of the cluster. Its images come from a registry that is not checked."""

    namespace: NamespaceFixture
    old: str

    def image(self, suffix: str = DIGEST, path: str = PATH) -> str:
        """Return the reference of an image in use."""
        return f"{self.old}/{path}:{suffix}"

    async def offer(self, *domains: str, **spec: Any) -> None:
        """Create a source that names where else the images are, in order of preference."""
        await self.namespace.source(f"{self.old}/*", *(f"{domain}/*" for domain in domains), **spec)

    async def run(self, *images: str, name: str = "web", **fields: Any) -> None:
        """Run a pod with these images, and wait until its status names their digests."""
        containers = (container(f"c{number}", image) for number, image in enumerate(images or [self.image()]))
        live = await self.namespace.apply(pod(pod_spec(*containers, **fields), name=name))

        async def runs() -> bool:
            pod = await self.namespace.read(live)
            return bool(pod["status"]["phase"] == "Running")

        await until(runs)

    async def sweep(self, times: int = 1, *, url: str = "") -> None:
        """Have the function sweep; assert that nothing fails."""
        for _ in range(times):
            answer = await self.namespace.sweep(url=url)
            assert (200, WHOLE_SWEEP) == (answer.status, answer.text)

    async def source(self) -> Manifest:
        """Return the current source."""
        return await self.namespace.read(
            {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": "shop"}}
        )

    async def counts(self) -> tuple[int, ...]:
        """Return how many images there are, and how many of them are ready, not ready and unknown."""
        totals = (await self.namespace.status())["readiness"]
        return tuple(totals[name] for name in ("images", "ready", "notReady", "unknown"))

    async def worst(self) -> list[tuple[str, str]]:
        """Return the equivalents of the images that are listed as worst, with the reasons."""
        return [(entry["equivalent"], entry["why"]) for entry in (await self.namespace.status())["readiness"]["worst"]]

    async def ready(self) -> tuple[str, str, str]:
        """Return status, reason and message of the condition `Ready`."""
        (condition,) = [entry for entry in (await self.namespace.status())["conditions"] if entry["type"] == "Ready"]
        return condition["status"], condition["reason"], condition["message"]


@pytest.fixture(scope="module")
async def probing_function(kubeconfig: Path, pool: RegistryPool) -> AsyncIterator[FunctionProcess]:
    """Give a function that may send as many probes as it likes."""
    environ = {"SAFFIRE_PROBES_PER_MINUTE": "1000", "SAFFIRE_LOG_LEVEL": "DEBUG", **pool.environ}
    async with FunctionProcess(kubeconfig, **environ) as served:
        yield served


@pytest.fixture
async def registry_fixture(
    cluster: ControlPlane,
    probing_function: FunctionProcess,
    audit_log: AuditLog,
    node: SimulatedNode,
    pool: RegistryPool,
) -> AsyncIterator[RegistryFixture]:
    """Give a namespace with the only source of the cluster."""
    async with NamespaceFixture(cluster.admin, probing_function.url, audit_log, node.dead) as namespace:

        async def no_other_source() -> bool:
            left = (await namespace.api.get(f"/apis/{GROUP}/alternateimagesources"))["items"]
            for other in {source["metadata"]["namespace"] for source in left}:
                await namespace.api.delete(f"/apis/{GROUP}/namespaces/{other}/alternateimagesources")
            return not left

        await until(no_other_source)
        yield RegistryFixture(namespace, pool.failing().domain)


@pytest.fixture
async def fresh_function(kubeconfig: Path, pool: RegistryPool) -> AsyncIterator[FunctionProcess]:
    """Give a function that has just started, with the default number of probes per minute."""
    async with FunctionProcess(kubeconfig, **pool.environ) as served:
        yield served


# What the status says


async def test_ready_where_an_equivalent_is_proven(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """HEAD is enough, which is no pull. Until the first probe the image is unknown; the proven equivalent is named."""
    first, second = pool.empty(), pool.filled()
    await registry_fixture.offer(first.domain, second.domain)
    await registry_fixture.run()
    await registry_fixture.namespace.post(await registry_fixture.source())
    unknown = "1 of 1 images in use have no alternative that is proven: {} ({}/{}:{}: not asked yet)"
    expected = unknown.format(registry_fixture.image(), first.domain, PATH, DIGEST)
    assert ("Unknown", "Unverified", expected) == await registry_fixture.ready()
    await registry_fixture.sweep()
    assert ("True", "Ready", "1 of 1 images in use have a proven alternative") == await registry_fixture.ready()
    assert (1, 1, 0, 0) == await registry_fixture.counts()
    assert [(f"{first.domain}/{PATH}:{DIGEST}", "not there")] == await registry_fixture.worst()
    assert [[f"{HEAD}{WEB.digest}"]] * 2 == [registry.requests for registry in (first, second)]


def other_build(pool: RegistryPool) -> Registry:
    """Return a registry that has another build under the same tag."""
    return pool.filled(index("linux/amd64", build="2"))


def private(pool: RegistryPool) -> Registry:
    """Return a registry that accepts no credentials."""
    return pool.filled(shape=shapes.status(401))


def partial(pool: RegistryPool) -> Registry:
    """Return a registry that has lost a layer."""
    registry = pool.filled()
    registry.lose(SINGLE.parsed["layers"][1]["digest"])
    return registry


@dataclass(frozen=True)
class Row:
    """The only equivalent, and what the status says about it."""

    setup: Callable[[RegistryPool], Registry]
    ready: tuple[str, str]
    why: str
    suffix: str = DIGEST
    verification: str = "BestEffort"


FAULTS = {
    "not there": Row(RegistryPool.empty, ("False", "NotReady"), "not there"),
    "another build": Row(other_build, ("False", "NotReady"), "different digest", "v1"),
    "wrong platform": Row(
        lambda pool: pool.filled(index("linux/arm64")), ("False", "NotReady"), "wrong platform", "v1"
    ),
    "withheld": Row(lambda pool: pool.filled(shape=shapes.status(451)), ("False", "NotReady"), "withheld"),
    "denied": Row(private, ("Unknown", "Unverified"), "denied"),
    "denied, strictly": Row(private, ("False", "NotReady"), "denied", verification="Strict"),
    "a layer lost": Row(partial, ("True", "Ready"), ""),
    "a layer lost, strictly": Row(partial, ("False", "NotReady"), "incomplete", verification="Strict"),
    "whole, strictly": Row(RegistryPool.filled, ("True", "Ready"), "", verification="Strict"),
    "throttled": Row(lambda pool: pool.filled(shape=shapes.status(429)), ("Unknown", "Unverified"), "throttled"),
    "an error of its own": Row(
        lambda pool: pool.filled(shape=shapes.status(503)), ("Unknown", "Unverified"), "unreachable"
    ),
}


@pytest.mark.parametrize("row", FAULTS.values(), ids=FAULTS)
async def test_what_would_stop_a_failover_today_is_told(
    row: Row, registry_fixture: RegistryFixture, pool: RegistryPool
) -> None:
    """`Ready` is False if no equivalent would be taken, and Unknown if that cannot be known."""
    registry = row.setup(pool)
    await registry_fixture.offer(registry.domain, verification=row.verification)
    await registry_fixture.run(registry_fixture.image(row.suffix))
    await registry_fixture.sweep()
    status, reason, message = await registry_fixture.ready()
    assert row.ready == (status, reason)
    equivalent = f"{registry.domain}/{PATH}:{row.suffix}"
    assert ([(equivalent, row.why)] if row.why else []) == await registry_fixture.worst()
    assert (f"{registry_fixture.image(row.suffix)} ({equivalent}: {row.why})" in message) is bool(row.why)


async def test_another_build_is_ready_where_it_is_allowed(
    registry_fixture: RegistryFixture, pool: RegistryPool
) -> None:
    """The manifest was read once, for the node's platform; later probes compare the digest by HEAD."""
    registry = other_build(pool)
    await registry_fixture.offer(registry.domain, allowDifferentDigest=True)
    await registry_fixture.run(registry_fixture.image("v1"))
    await registry_fixture.sweep()
    assert ("True", "Ready") == (await registry_fixture.ready())[:2]
    assert [f"{HEAD}v1", f"{GET}v1"] == registry.requests


async def test_the_ten_worst_are_named(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """There are thirteen images, of which twelve are nowhere else."""
    registry = pool.filled()
    await registry_fixture.offer(registry.domain)
    await registry_fixture.run(
        registry_fixture.image(), *(registry_fixture.image(path=f"acme/n{number:02}") for number in range(12))
    )
    await registry_fixture.sweep()
    assert (13, 1, 12, 0) == await registry_fixture.counts()
    expected = [(f"{registry.domain}/acme/n{number:02}:{DIGEST}", "not there") for number in range(10)]
    assert expected == await registry_fixture.worst()
    assert (await registry_fixture.ready())[2].endswith("; and 9 more")


async def test_who_observes_is_told_all_the_same(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """In mode Observe readiness is probed, so that it can be seen beforehand; with Paused or `"Off"` it is not."""
    registry = pool.filled()
    await registry_fixture.offer(registry.domain, mode="Observe")
    await registry_fixture.run()
    await registry_fixture.sweep()
    assert ("False", "Observing") == (await registry_fixture.ready())[:2]
    assert (1, 1, 0, 0) == await registry_fixture.counts()
    for spec, ready in (({"mode": "Paused"}, "False"), ({"verification": "Off"}, "True")):
        await registry_fixture.offer(registry.domain, **{"mode": "Enforce", "verification": "BestEffort", **spec})
        await registry_fixture.sweep()
        assert (ready, False) == (
            (await registry_fixture.ready())[0],
            "readiness" in await registry_fixture.namespace.status(),
        )
    assert 1 == len(registry.requests)


@pytest.mark.parametrize("whose", ["the pod's", "the source's"])
async def test_a_private_registry_is_asked_with_a_pull_secret(
    whose: str,
    registry_fixture: RegistryFixture,
    pool: RegistryPool,
    cluster: ControlPlane,
    probing_function: FunctionProcess,
) -> None:
    """With the Role of the documentation the image is proven, and nothing of the Secret appears anywhere."""
    registry = pool.filled()
    registry.challenge, registry.users = "Basic", {USER_NAME: PASSWORD}
    config = {"auths": {registry.domain: {"username": USER_NAME, "password": PASSWORD}}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(config)},
    }
    await registry_fixture.namespace.apply(secret)
    await let_read(registry_fixture.namespace, cluster)
    credentials = [{"registry": registry.domain, "secretName": "pull"}] if whose == "the source's" else []
    await registry_fixture.offer(registry.domain, credentials=credentials)
    fields: dict[str, Any] = {"imagePullSecrets": [{"name": "pull"}]} if whose == "the pod's" else {}
    await registry_fixture.run(**fields)
    await registry_fixture.sweep()
    assert ("True", "Ready") == (await registry_fixture.ready())[:2]
    basic = base64.b64encode(f"{USER_NAME}:{PASSWORD}".encode()).decode()
    assert f"Basic {basic}" in registry.authorizations
    seen = [
        probing_function.output(),
        json.dumps(await registry_fixture.source()),
        json.dumps(await registry_fixture.namespace.events()),
    ]
    assert [] == [text for text in seen for word in (USER_NAME, PASSWORD, basic) if word in text]


# What changes


async def test_an_image_that_comes_or_goes_counts_at_once(
    registry_fixture: RegistryFixture, pool: RegistryPool
) -> None:
    """New images are probed first, and removed images are no longer counted."""
    registry = pool.filled()
    await registry_fixture.offer(registry.domain)
    await registry_fixture.run()
    await registry_fixture.sweep()
    await registry_fixture.run(registry_fixture.image(path="acme/new"), name="new")
    await registry_fixture.sweep()
    assert (2, 1, 1, 0) == await registry_fixture.counts()
    await registry_fixture.namespace.api.delete(f"/api/v1/namespaces/{registry_fixture.namespace.name}/pods/new")
    await registry_fixture.namespace.until_gone(pod(name="new"))
    await registry_fixture.sweep()
    assert (1, 1, 0, 0) == await registry_fixture.counts()
    assert 2 == len(registry.requests)


async def test_what_was_answered_outlives_an_instance(
    registry_fixture: RegistryFixture, pool: RegistryPool, fresh_function: FunctionProcess
) -> None:
    """A new instance overwrites nothing that the status knows, and writes nothing while answers stay the same."""
    registry = pool.filled()
    await registry_fixture.offer(registry.domain)
    await registry_fixture.run(
        registry_fixture.image(), *(registry_fixture.image(path=f"acme/n{number:02}") for number in range(12))
    )
    await registry_fixture.sweep(2)  # the second one writes that the registries have answered
    before = await registry_fixture.source()
    requests = len(registry.requests)
    await registry_fixture.sweep(2, url=fresh_function.url)
    await registry_fixture.sweep()
    assert before == await registry_fixture.source()
    assert 3 == len(registry.requests) - requests


async def test_two_instances_that_sweep_in_turn_agree(
    registry_fixture: RegistryFixture, pool: RegistryPool, fresh_function: FunctionProcess
) -> None:
    """Each instance writes the answers it got, and neither removes those of the other."""
    registries = [pool.filled(), pool.filled()]
    await registry_fixture.offer(registries[0].domain)
    await registry_fixture.run(*(registry_fixture.image(path=f"acme/n{number:02}") for number in range(5)))
    known = []
    for url in (
        fresh_function.url,
        fresh_function.url,
        registry_fixture.namespace.url,
        fresh_function.url,
        registry_fixture.namespace.url,
    ):
        await registry_fixture.sweep(url=url)
        known.append(await registry_fixture.counts())
    assert [(5, 0, 3, 2)] * 2 + [(5, 0, 5, 0)] * 3 == known


async def test_nothing_is_asked_in_an_incident(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """While a pod fails in a namespace, its registries are not probed, and what was known stays."""
    registry = pool.filled()
    await registry_fixture.offer(registry.domain)
    await registry_fixture.run()
    await registry_fixture.sweep()
    readiness = (await registry_fixture.namespace.status())["readiness"]
    lost = pool.refusing_address()
    await registry_fixture.namespace.source(f"{lost}/*", f"{pool.refusing_address()}/*", name="other")
    registry_fixture.namespace.dead.add(lost)
    await registry_fixture.run(registry_fixture.image(path="acme/new"), name="new")
    await registry_fixture.namespace.apply(pod(pod_spec(container("c", f"{lost}/{PATH}:v1")), name="failing"))
    await registry_fixture.namespace.failing()
    requests = len(registry.requests)
    assert "1 moved" in (await registry_fixture.namespace.sweep()).text
    assert (readiness, requests) == (
        (await registry_fixture.namespace.status())["readiness"],
        len(registry.requests),
    )


# What it costs


async def test_there_are_a_few_questions_in_a_minute(
    registry_fixture: RegistryFixture, pool: RegistryPool, fresh_function: FunctionProcess
) -> None:
    """
    Probes per minute are limited, however many sweeps and images there are. Half of them may go to one registry.

    A question whether the registry of images in use answers counts as a probe.
    """
    originals = pool.failing(), pool.failing()
    first, second, third = (pool.filled() for _ in range(3))
    registry_fixture = RegistryFixture(registry_fixture.namespace, originals[0].domain)
    images = [registry_fixture.image(path=f"acme/n{number:02}") for number in range(20)]
    await registry_fixture.offer(first.domain)
    await registry_fixture.run(*images)
    async with registry_fixture.namespace.another() as elsewhere:
        other = RegistryFixture(elsewhere, originals[1].domain)
        await other.offer(second.domain, third.domain)
        await other.run(*(other.image(path=f"acme/n{number:02}") for number in range(4)))
        for _ in range(4):
            assert "swept 2 of 2" in (await registry_fixture.namespace.sweep(url=fresh_function.url)).text
        requests = [len(registry.requests) for registry in (*originals, first, second, third)]
        assert 6 == sum(requests)
        assert [1, 1, 2] == requests[:3]


async def test_a_registry_that_throttles_is_left_alone(registry_fixture: RegistryFixture, pool: RegistryPool) -> None:
    """A registry that throttles gets no probes about other images either; other registries are probed meanwhile."""
    throttling, other = pool.filled(shape=shapes.status(429, {"Retry-After": "3600"})), pool.filled()
    await registry_fixture.offer(throttling.domain, other.domain)
    await registry_fixture.run()
    await registry_fixture.sweep()
    assert 1 == len(throttling.requests)
    assert [(f"{throttling.domain}/{PATH}:{DIGEST}", "throttled")] == await registry_fixture.worst()
    await registry_fixture.run(registry_fixture.image(PUT_OFF), name="new")
    await registry_fixture.sweep(3)
    assert (2, 2, 0, 0) == await registry_fixture.counts()
    assert (1, 2) == (len(throttling.requests), len(other.requests))


async def test_a_registry_that_hangs_does_not_make_a_sweep_late(
    registry_fixture: RegistryFixture, pool: RegistryPool
) -> None:
    """It costs one budget, however many images it should have, and only after all records are written."""
    hanging = pool.filled(shape=shapes.hang)
    await registry_fixture.offer(hanging.domain)
    await registry_fixture.run(*(registry_fixture.image(path=f"acme/n{number:02}") for number in range(20)))
    before = asyncio.get_running_loop().time()
    await registry_fixture.sweep()
    assert asyncio.get_running_loop().time() - before < BUDGET_SECONDS + PATIENCE_SECONDS
    assert ("Unknown", "Unverified") == (await registry_fixture.ready())[:2]
    assert {"unreachable"} == {why for _, why in await registry_fixture.worst()}


async def test_a_calm_sweep_costs_no_more_requests_than_before(
    registry_fixture: RegistryFixture, pool: RegistryPool, audit_log: AuditLog
) -> None:
    """Once all is known, a sweep writes nothing and sends no probe, however many pods there are."""
    registry = pool.filled()
    await registry_fixture.offer(registry.domain)
    await registry_fixture.run()
    await registry_fixture.sweep(2)  # the second one writes that the registries have answered
    for number in range(2):
        requests = len(registry.requests)
        mark = audit_log.mark()
        await registry_fixture.sweep()
        calls = [call for call in audit_log.calls(mark) if call.group not in FOREIGN]
        expected = sorted(["list alternateimagesources", CLUSTER_WIDE, *LOOK, *WORKLOADS])
        assert expected == sorted(f"{call.verb} {call.resource}" for call in calls)
        assert requests == len(registry.requests)
        await asyncio.gather(*(registry_fixture.run(name=f"more-{number}-{index}") for index in range(5)))
