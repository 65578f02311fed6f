"""Concurrent changes: between Saffire's read of an object and its patch, another client changes the object."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Manifest
from saffire.errors import TransientError
from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.queue import ReadsUnderWay, Run
from saffire.reconcile.recent_reads import RecentReads
from saffire.reconcile.repair import Repair
from saffire.reconcile.request import PodFailed, WorkItem
from saffire.record.outcome import RepairOutcome
from saffire.record.writer import RecordWriter
from saffire.registry.check import ImageChecker
from saffire.registry.transport import RegistryTransport
from saffire.sources.index import SourceIndex
from saffire.sources.store import SourceStore
from saffire.triage import triage
from testkit.api.namespace_fixture import IGNORE, NamespaceFixture, until
from testkit.api.workloads import (
    ALIVE,
    NEW,
    OLD,
    container,
    deployment,
    images,
    pod_spec,
    pod_spec_of,
    replica_set,
    stateful_set,
)

HEALTHY = f"{ALIVE}/acme/healthy:v1"
OTHER = f"{ALIVE}/acme/other:v1"
SECONDS = 25


class RacingPatcher(Cluster):
    """The function's client of the API server; before each patch, the next of the listed changes is made."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server, Kinds())
        self.store = SourceStore(server)
        self.others: list[Callable[[], Awaitable[object]]] = []

    async def apply(self, target: Mapping[str, Any], operations: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
        """Make the next of the other client's changes, then apply the patch."""
        if self.others:
            await self.others.pop(0)()
        return await super().apply(target, operations)


@pytest.fixture
async def racing_patcher(kubeconfig: Path) -> AsyncIterator[RacingPatcher]:
    """Give such a client under the function's own role."""
    server = await ApiServer.connect(str(kubeconfig), timeout_seconds=5)
    yield RacingPatcher(server)
    await server.close()


async def repair_pod(cluster: RacingPatcher, event: Manifest) -> RepairOutcome:
    """Repair the pod that an Event is about."""
    pod_failed = triage("dev.knative.apiserver.resource.add", event)
    assert isinstance(pod_failed, PodFailed)
    item, now = WorkItem(namespace=pod_failed.namespace, failed_pods=(pod_failed,)), datetime.now(UTC)
    async with ImageChecker(RegistryTransport()) as registries:
        lookup = Lookup(cache=LookupCache(cluster, registries, budget_seconds=1.5), namespace=pod_failed.namespace)
        sources = SourceIndex(cluster, cluster.store)
        repair = Repair(
            cluster=cluster,
            index=sources,
            recent=RecentReads(),
            reads=ReadsUnderWay(),
            lookup=lookup,
            item=item,
            now=now,
            seconds=SECONDS,
        )
        outcome = await repair.perform(Run())
    await RecordWriter(cluster, cluster.store).write(outcome, now=now)
    return outcome.about(pod_failed.pod_uid)


@pytest.fixture
async def failing(namespace: NamespaceFixture) -> tuple[str, Manifest]:
    """Give the path of a Deployment with two containers, the second of which fails, and the Event about it."""
    await namespace.source()
    _, event = await namespace.fail(deployment(pod_spec(container("healthy", HEALTHY), container("web", OLD))))
    return await namespace.api.path(await namespace.read(deployment())), event


def containers(*wanted: Manifest) -> Manifest:
    """Return the patch that gives a Deployment these containers."""
    return {"spec": {"template": {"spec": {"containers": list(wanted)}}}}


async def test_the_right_container_moves_when_another_is_put_before_it(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher, failing: tuple[str, Manifest]
) -> None:
    """A container at a new position is found by its name, and the one at its old position is not changed."""
    path, event = failing
    wanted = containers(container("first", OTHER), container("healthy", HEALTHY), container("web", OLD))
    racing_patcher.others = [lambda: namespace.api.patch(path, wanted)]
    outcome = await repair_pod(racing_patcher, event)
    assert f"moved web of Deployment/web to {NEW}" == str(outcome)
    expected = {"first": OTHER, "healthy": HEALTHY, "web": NEW}
    assert expected == images(pod_spec_of(await namespace.read(deployment())))
    assert [("deployments", "web")] == namespace.patches()


CHANGES: dict[str, Manifest] = {
    "gave it another image": containers(container("healthy", HEALTHY), container("web", OTHER)),
    "removed the container": containers(container("healthy", HEALTHY)),
    "moved it and opted out": {
        "metadata": {"annotations": {IGNORE: "true"}},
        **containers(container("web", OLD), container("healthy", HEALTHY)),
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_nothing_is_done_when_somebody(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher, failing: tuple[str, Manifest], change: Manifest
) -> None:
    """If another client changes what the decision depends on, the workload stays as that client left it."""
    path, event = failing
    left: list[Manifest] = []

    async def meanwhile() -> None:
        left.append(await namespace.api.patch(path, change))

    racing_patcher.others = [meanwhile]
    outcome = await repair_pod(racing_patcher, event)
    assert f"left web with {OLD}: AlreadyMoved: Deployment/web" == str(outcome)
    assert left[0]["spec"] == (await namespace.read(deployment()))["spec"]
    assert ([], {}) == (namespace.patches(), (await namespace.status()).get("active", {}))


async def test_a_workload_of_the_same_name_is_another_one(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher, failing: tuple[str, Manifest]
) -> None:
    """A workload that was deleted and created again is not patched because of the old one's pod."""
    path, event = failing
    again = await namespace.read(deployment())

    async def replace() -> None:
        await namespace.api.delete(path, propagationPolicy="Orphan")
        await namespace.until_gone(again)
        await namespace.apply(deployment(pod_spec(container("healthy", HEALTHY), container("web", OLD))))

    racing_patcher.others = [replace]
    assert f"left web with {OLD}: AlreadyMoved: Deployment/web" == str(await repair_pod(racing_patcher, event))
    assert {"healthy": HEALTHY, "web": OLD} == images(pod_spec_of(await namespace.read(deployment())))


async def test_a_workload_that_is_gone_is_no_fault(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher, failing: tuple[str, Manifest]
) -> None:
    """If the workload was deleted in the meantime, nothing is done."""
    path, event = failing

    async def remove() -> None:
        await namespace.api.delete(path, propagationPolicy="Orphan")
        await namespace.until_gone(deployment())

    racing_patcher.others = [remove]
    assert f"left web with {OLD}: AlreadyMoved: Deployment/web" == str(await repair_pod(racing_patcher, event))


async def test_an_annotation_of_somebody_else_is_kept(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher, failing: tuple[str, Manifest]
) -> None:
    """Annotations that another client adds in the meantime stay, and the history is added beside them."""
    path, event = failing
    racing_patcher.others = [lambda: namespace.api.patch(path, {"metadata": {"annotations": {"team": "shop"}}})]
    await repair_pod(racing_patcher, event)
    after = await namespace.read(deployment())
    assert {"healthy": HEALTHY, "web": NEW} == images(pod_spec_of(after))
    assert "shop" == after["metadata"]["annotations"]["team"]


async def test_an_object_that_moves_twice_is_left_to_another_delivery(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher, failing: tuple[str, Manifest]
) -> None:
    """If the object has changed at the second attempt too, the answer asks for another delivery of the Event."""
    path, event = failing
    shifted = containers(container("first", OTHER), container("healthy", HEALTHY), container("web", OLD))
    back = containers(container("web", OLD), container("healthy", HEALTHY))
    racing_patcher.others = [lambda: namespace.api.patch(path, shifted), lambda: namespace.api.patch(path, back)]
    outcome = await repair_pod(racing_patcher, event)
    assert 503 == outcome.http_status
    assert str(outcome).startswith("could not move web of Deployment/web")
    assert [] == namespace.patches()
    assert "switches" not in await namespace.status()


async def test_a_template_that_is_put_back_twice_is_left_alone(namespace: NamespaceFixture) -> None:
    """After two reversions the template is left. Stuck pods still move in place, and the Event says so."""
    await namespace.source()
    await namespace.apply(deployment())

    path = await namespace.api.path(await namespace.read(deployment()))
    old = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": OLD}]

    async def patched() -> list[tuple[str, str]]:
        """Deliver the Events of stuck pods, some of which are under deletion; return what was patched."""
        await namespace.failing()
        await namespace.sweep()
        return namespace.patches()

    for _ in range(2):
        namespace.mark()
        assert ("deployments", "web") in await until(patched)
        await namespace.api.patch(path, old, "json", fieldManager="gitops")
    namespace.mark()
    resource, name = (await until(patched))[0]
    assert "pods" == resource
    assert {"web": OLD} == images(pod_spec_of(await namespace.read(deployment())))
    (event,) = await namespace.events(reason="Failover", **{"involvedObject.name": name})
    assert event["message"].endswith("Deployment/web was put back twice, last by gitops, so its template is left alone")


async def test_a_failover_that_broke_off_is_completed_by_the_next_delivery(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher
) -> None:
    """If the API server fails between template and pod, the first patch is recorded, and the second is sent later."""
    await namespace.source()
    failing, event = await namespace.fail(stateful_set())

    async def no_race() -> None:
        """Let the template be patched."""

    async def outage() -> None:
        """Let no request through."""
        raise TransientError("the API server did not answer")

    racing_patcher.others = [no_race, *[outage] * 5]
    outcome = await repair_pod(racing_patcher, event)
    assert f"moved web of StatefulSet/web to {NEW}; the API server did not answer" == str(outcome)
    assert [("statefulsets", "web")] == namespace.patches()
    assert 200 == (await namespace.post(event)).status
    assert [("statefulsets", "web"), ("pods", failing["metadata"]["name"])] == namespace.patches()
    status = await namespace.status()
    assert (1, 1) == (len(status["switches"]), status["activeCount"])


async def test_deliveries_that_cross_are_one_failover(
    namespace: NamespaceFixture, racing_patcher: RacingPatcher
) -> None:
    """A pod that moves while another delivery repairs its workload is not recorded as a second failover."""
    await namespace.source()
    _, event = await namespace.fail(replica_set())
    other = next(
        pod for pod in await namespace.failing(2) if pod["metadata"]["name"] != event["involvedObject"]["name"]
    )

    async def no_race() -> None:
        """Let the template be patched."""

    other_event = await namespace.event(other)
    racing_patcher.others = [no_race, lambda: namespace.post(other_event)]
    await repair_pod(racing_patcher, event)
    assert [("pods", other["metadata"]["name"]), ("pods", event["involvedObject"]["name"])] == namespace.patches()[1:]
    status = await namespace.status()
    assert (1, 1) == (len(status["switches"]), status["activeCount"])
