"""What no Event reported: the sweep of namespaces with a source, and the repair of one whose source changed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from playground.cluster.api import Manifest
from playground.function_process import FunctionProcess
from saffire.kube.kinds import Kinds
from testkit.api.audit_log import AuditLog
from testkit.api.function_client import FunctionClient
from testkit.api.namespace_fixture import GROUP, NamespaceFixture, until
from testkit.api.workloads import (
    ALIVE,
    NEW,
    OLD,
    container,
    cron_job,
    deployment,
    images,
    job_of,
    pod,
    pod_spec,
    pod_spec_of,
    replica_set,
    stateful_set,
)

LOOK = ["get namespaces", "list alternateimagesources", "list pods"]
CLUSTER_WIDE = "list clusteralternateimagesources"
"""At every sweep, and by others once in a minute."""
WORKLOADS = ["list cronjobs", "list daemonsets", "list deployments", "list statefulsets"]
FOREIGN = frozenset(kind.group for kind in Kinds().supported if kind.is_foreign)
"""Installed or not, by the tests that came before."""
HEALTHY = pod_spec(container("web", f"{ALIVE}/acme/web:v1"))
PAGE = 250
SOURCE = {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": {"name": "shop"}}


def spent(namespace: NamespaceFixture) -> list[str]:
    """Return the function's requests about this namespace, sorted."""
    return sorted(f"{call.verb} {call.resource}" for call in namespace.calls())


async def live_source(namespace: NamespaceFixture) -> Manifest:
    """Return the namespace's source as its events carry it."""
    return await namespace.read(SOURCE)


@pytest.fixture
async def namespaces(only_namespace: NamespaceFixture) -> AsyncIterator[list[NamespaceFixture]]:
    """Give three namespaces, the only ones with a source."""
    async with AsyncExitStack() as stack:
        made = [only_namespace, *[await stack.enter_async_context(only_namespace.another()) for _ in range(2)]]
        for other in made:
            await other.source()
        yield made


@pytest.fixture
async def function_without_probes(kubeconfig: Path, environ: dict[str, str]) -> AsyncIterator[FunctionProcess]:
    """Give a function without readiness probes; `test_readiness.py` tests their costs."""
    async with FunctionProcess(kubeconfig, SAFFIRE_PROBES_PER_MINUTE="0", **environ) as served:
        yield served


# The sweep.


async def test_a_sweep_moves_what_no_event_told_of(namespaces: list[NamespaceFixture]) -> None:
    """In every namespace with a source, each workload of each kind moves once, with all its pods, and is recorded."""
    first, second, third = namespaces
    await first.apply(deployment(replicas=3))
    await first.apply(deployment(name="api"))
    await second.apply(stateful_set())
    await second.apply(replica_set())
    await third.apply(pod())
    await third.apply(job_of(await third.apply(cron_job())))
    failing = [await other.failing(count) for other, count in zip(namespaces, (4, 3, 2), strict=True)]
    for other in namespaces:
        other.mark()
    answer = await first.sweep()
    assert (200, "swept 3 of 3 namespaces: 9 moved") == (answer.status, answer.text)
    stuck = [[("pods", pod["metadata"]["name"]) for pod in pods] for pods in failing]
    expected = [
        [("deployments", "api"), ("deployments", "web")],
        sorted([("replicasets", "web"), ("statefulsets", "web"), *stuck[1]]),
        sorted([("cronjobs", "web"), *stuck[2]]),
    ]
    assert expected == [sorted(other.patches()) for other in namespaces]
    assert [2, 2, 2] == [len((await other.status())["switches"]) for other in namespaces]
    again = await first.sweep()
    assert 200 == again.status
    assert expected == [sorted(other.patches()) for other in namespaces]


async def test_a_namespace_without_a_source_costs_nothing(only_namespace: NamespaceFixture) -> None:
    """A sweep sends no request about a namespace without a source, however many pods fail there."""
    await only_namespace.fail(deployment(replicas=3))
    only_namespace.mark()
    answer = await only_namespace.sweep()
    assert (200, "swept 0 of 0 namespaces: all is well") == (answer.status, answer.text)
    assert [] == only_namespace.calls()


async def test_a_sweep_in_calm_weather_costs_by_namespaces_with_sources(
    namespaces: list[NamespaceFixture], audit_log: AuditLog, function_without_probes: FunctionProcess
) -> None:
    """A sweep sends a list per kind of source and seven requests per namespace with one, however many pods run."""
    for other in namespaces:
        await other.apply(deployment(HEALTHY, replicas=2))
    await namespaces[0].sweep(url=function_without_probes.url)  # the first sweep writes the conditions of new sources
    expected = sorted(["list alternateimagesources", CLUSTER_WIDE, *[*LOOK, *WORKLOADS] * len(namespaces)])
    for replicas in (2, 12):
        async with namespaces[0].another() as elsewhere:
            await elsewhere.apply(deployment(HEALTHY, replicas=replicas))
            await namespaces[1].apply(deployment(HEALTHY, replicas=replicas))

            async def running(
                wanted: int = replicas, where: tuple[NamespaceFixture, ...] = (elsewhere, namespaces[1])
            ) -> bool:
                phases = [[pod["status"]["phase"] for pod in await namespace.pods()] for namespace in where]
                return phases == [["Running"] * wanted] * 2

            await until(running)
            mark = audit_log.mark()
            answer = await namespaces[0].sweep(url=function_without_probes.url)
            assert (200, "swept 3 of 3 namespaces: all is well") == (answer.status, answer.text)
            calls = [call for call in audit_log.calls(mark) if call.group not in FOREIGN]
            assert expected == sorted(f"{call.verb} {call.resource}" for call in calls)


async def test_a_long_list_is_read_page_by_page(only_namespace: NamespaceFixture) -> None:
    """A failing pod on the last page of a long list is found."""
    await only_namespace.source()
    waiting = pod_spec(schedulerName="nobody")
    names = [f"a-{number}" for number in range(PAGE)]
    await asyncio.gather(*(only_namespace.apply(pod(waiting, name=name)) for name in names))
    await only_namespace.apply(pod(name="zz"))
    await only_namespace.failing()
    only_namespace.mark()
    answer = await only_namespace.sweep()
    assert (200, "swept 1 of 1 namespaces: 1 moved") == (answer.status, answer.text)
    assert [("pods", "zz")] == only_namespace.patches()
    assert 2 == spent(only_namespace).count("list pods")


async def test_what_a_sweep_has_no_time_for_comes_first_the_next_time(
    only_namespace: NamespaceFixture, kubeconfig: Path, environ: dict[str, str]
) -> None:
    """When its time is over a sweep ends, and the next sweep begins with the namespaces that were left."""
    async with AsyncExitStack() as stack:
        namespaces = [await stack.enter_async_context(only_namespace.another()) for _ in range(10)]
        for other in namespaces:
            await other.source()
        short = await stack.enter_async_context(FunctionProcess(kubeconfig, SAFFIRE_SWEEP_SECONDS="0.005", **environ))
        unseen = {other.name for other in namespaces}
        sweeps = 0
        while unseen:
            for other in namespaces:
                other.mark()
            answer = await only_namespace.sweep(url=short.url)
            seen = {other.name for other in namespaces if other.calls()}
            left = f"; {10 - len(seen)} left for the next sweep"
            assert (200, f"swept {len(seen)} of 10 namespaces: all is well{left}") == (answer.status, answer.text)
            assert seen <= unseen or unseen <= seen
            unseen -= seen
            sweeps += 1
        assert 1 < sweeps <= 10


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"", "application/json", id="nothing-in-json"),
        pytest.param(b"{}", "application/json", id="an-empty-object"),
        pytest.param(b'{"message":"sweep"}', "application/json", id="an-object"),
        pytest.param(b"sweep", "text/plain", id="text"),
        pytest.param(b"\x00\xff", "", id="bytes"),
    ],
)
async def test_a_ping_may_carry_anything(only_namespace: NamespaceFixture, body: bytes, content_type: str) -> None:
    """A ping makes a sweep, whatever data the PingSource sends."""
    async with FunctionClient(only_namespace.url) as client:
        answer = await client.ping(body, content_type)
    assert (200, "swept 0 of 0 namespaces: all is well") == (answer.status, answer.text)


# The source.


async def test_a_source_that_is_created_in_an_outage_frees_what_hangs(
    namespace: NamespaceFixture, function: FunctionProcess, audit_log: AuditLog
) -> None:
    """The source's own event starts a repair of its namespace; the status written by it starts no second one."""
    _, event = await namespace.fail(deployment())
    assert "NoSource: the namespace has no AlternateImageSource" == (await namespace.post(event)).text
    created = await namespace.source()
    namespace.mark()
    answer = await namespace.post(created)
    assert (200, f"looked at {namespace.name}: 1 moved") == (answer.status, answer.text)
    assert [("deployments", "web")] == namespace.patches()
    assert {"web": NEW} == images(pod_spec_of(await namespace.read(deployment())))
    repaired, answered = function.log()[-2:]
    assert ("Repaired a workload", namespace.name) == (repaired["message"], repaired["namespace"])
    assert [("Failover", "Deployment/web")] == [(plan["plan"], plan["workload"]) for plan in repaired["plans"]]
    assert ("Answered an event", f"{namespace.name}/shop") == (answered["message"], answered["source"])
    written = await live_source(namespace)
    assert [(OLD, NEW)] == [(switch["oldImage"], switch["newImage"]) for switch in written["status"]["switches"]]
    mark = audit_log.mark()
    answer = await namespace.post(written, "update")
    assert (200, "ignored: the spec of the AlternateImageSource is known") == (answer.status, answer.text)
    assert [] == audit_log.calls(mark)


async def test_a_source_is_reported_on_before_anything_fails(namespace: NamespaceFixture, audit_log: AuditLog) -> None:
    """A new source gets its conditions at once; only a change of its spec starts another repair."""
    for generation, spec in enumerate(({}, {"mode": "Paused"}, {"mode": "Enforce"}), 1):
        changed = await namespace.source(**spec)
        mark = audit_log.mark()
        answer = await namespace.post(changed, "update" if spec else "add")
        assert (200, f"looked at {namespace.name}: all is well") == (answer.status, answer.text)
        calls = [f"{call.verb} {call.resource}" for call in audit_log.calls(mark)]
        listed = "list alternateimagesources"  # of the whole cluster: has the source changed?
        assert sorted([listed, *LOOK, "patch alternateimagesources/status"]) == sorted(
            call for call in calls if call != CLUSTER_WIDE
        )
        assert generation == (await namespace.status())["observedGeneration"]
    path = await namespace.api.path(changed)
    labelled = await namespace.api.patch(path, {"metadata": {"labels": {"team": "shop"}}})
    mark = audit_log.mark()
    assert "ignored: the spec of the AlternateImageSource is known" == (await namespace.post(labelled, "update")).text
    assert [] == audit_log.calls(mark)


async def test_a_source_that_is_gone_again_is_no_fault(namespace: NamespaceFixture) -> None:
    """A late event about a deleted source has no effect."""
    created = await namespace.source()
    await namespace.api.delete(await namespace.api.path(created))
    await namespace.until_gone(created)
    answer = await namespace.post(created)
    assert (200, "NoSource: the source is gone") == (answer.status, answer.text)


# Several at once.


async def test_two_instances_that_sweep_at_once_move_each_workload_once(
    only_namespace: NamespaceFixture, kubeconfig: Path, environ: dict[str, str]
) -> None:
    """Two revisions that sweep at the same time make one failover and one status entry for each workload."""
    await only_namespace.source()
    names = [f"web-{number}" for number in range(6)]
    for name in names:
        await only_namespace.apply(deployment(name=name))
    await only_namespace.failing(len(names))
    async with FunctionProcess(kubeconfig, **environ) as second:
        only_namespace.mark()
        urls = [only_namespace.url, second.url] * 2
        answers = await asyncio.gather(*(only_namespace.sweep(url=url) for url in urls))
    assert [200] * 4 == [answer.status for answer in answers]
    assert [("deployments", name) for name in names] == sorted(only_namespace.patches())
    status = await only_namespace.status()
    assert names == sorted(switch["target"]["name"] for switch in status["switches"])
    assert len(names) == status["activeCount"]


async def test_a_storm_and_a_sweep_through_two_instances_are_one_failover(
    only_namespace: NamespaceFixture, kubeconfig: Path, environ: dict[str, str]
) -> None:
    """Two instances get the Events of fifty pods while both sweep: one patch of their Deployment, one entry."""
    await only_namespace.source()
    await only_namespace.apply(deployment(replicas=50))
    events = await asyncio.gather(*(only_namespace.event(failing) for failing in await only_namespace.failing(50)))
    async with FunctionProcess(kubeconfig, **environ) as second:
        only_namespace.mark()
        urls = [only_namespace.url, second.url]
        sweeps = [only_namespace.sweep(url=url) for url in urls]
        posts = [only_namespace.post(event, url=url) for event in events for url in urls]
        answers = await asyncio.gather(*posts[:50], *sweeps, *posts[50:])
    assert {200: 102} == Counter(answer.status for answer in answers)
    assert [("deployments", "web")] == only_namespace.patches()
    status = await only_namespace.status()
    assert ([(OLD, NEW)], 1) == ([(s["oldImage"], s["newImage"]) for s in status["switches"]], status["activeCount"])
