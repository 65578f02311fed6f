"""Somebody else is a moment faster: between the look at an object and the patch of it, it becomes another."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from playground.api import Manifest
from saffire.apiserver import ApiServer
from saffire.cluster import Cluster
from saffire.declared import Declared
from saffire.distribution import Distribution
from saffire.errors import TransientError
from saffire.kinds import Kinds
from saffire.memory import Memory
from saffire.outcome import Outcome
from saffire.recorder import Recorder
from saffire.registry import Registries
from saffire.repair import Repair
from saffire.runs import Order
from saffire.sources import Sources
from saffire.survey import Survey, Surveyor
from saffire.triage import Hint, triage
from testkit.api.namespace_fixture import IGNORE, Stage, until
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


class Overtaken(Cluster):
    """The function's own way to the API server, where somebody else acts before each patch, as often as listed."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server, Kinds())
        self.declared = Declared(server)
        self.others: list[Callable[[], Awaitable[object]]] = []

    async def apply(self, target: Mapping[str, Any], operations: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
        """Let the next of the others act, then apply the patch."""
        if self.others:
            await self.others.pop(0)()
        return await super().apply(target, operations)


@pytest.fixture
async def overtaken(kubeconfig: Path) -> AsyncIterator[Overtaken]:
    """Give a way to the API server under the function's own role."""
    server = await ApiServer.connect(str(kubeconfig), timeout_seconds=5)
    yield Overtaken(server)
    await server.close()


async def repair(cluster: Overtaken, event: Manifest) -> Outcome:
    """Repair what an Event tells of."""
    hint = triage("dev.knative.apiserver.resource.add", event)
    assert isinstance(hint, Hint)
    order, now = Order(namespace=hint.namespace, hints=(hint,)), datetime.now(UTC)
    async with Registries(Distribution()) as registries:
        survey = Survey(surveyor=Surveyor(cluster, registries, budget_seconds=1.5), namespace=hint.namespace)
        sources = Sources(cluster, cluster.declared)
        begun = Repair(
            cluster=cluster, sources=sources, memory=Memory(), survey=survey, order=order, now=now, seconds=SECONDS
        )
        outcome = await begun.begin()
        if begun.goes_on:
            outcome = await begun.go_on()
    await Recorder(cluster, cluster.declared).record(outcome, now=now)
    return outcome.about(hint.pod_uid)


@pytest.fixture
async def failing(stage: Stage) -> tuple[str, Manifest]:
    """Give the path of a Deployment with two containers, of which the second fails, and the Event that tells of it."""
    await stage.source()
    _, event = await stage.fail(deployment(pod_spec(container("healthy", HEALTHY), container("web", OLD))))
    return await stage.api.path(await stage.read(deployment())), event


def containers(*wanted: Manifest) -> Manifest:
    """Return the patch that gives a Deployment these containers."""
    return {"spec": {"template": {"spec": {"containers": list(wanted)}}}}


async def test_the_right_container_moves_when_another_is_put_before_it(
    stage: Stage, overtaken: Overtaken, failing: tuple[str, Manifest]
) -> None:
    """A container that has another place by now is found by its name, and the one in its place is not touched."""
    path, event = failing
    wanted = containers(container("first", OTHER), container("healthy", HEALTHY), container("web", OLD))
    overtaken.others = [lambda: stage.api.patch(path, wanted)]
    outcome = await repair(overtaken, event)
    assert f"moved web of Deployment/web to {NEW}" == str(outcome)
    expected = {"first": OTHER, "healthy": HEALTHY, "web": NEW}
    assert expected == images(pod_spec_of(await stage.read(deployment())))
    assert [("deployments", "web")] == stage.patches()


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
    stage: Stage, overtaken: Overtaken, failing: tuple[str, Manifest], change: Manifest
) -> None:
    """Whoever changes what the decision was about wins: the workload stays as they left it."""
    path, event = failing
    left: list[Manifest] = []

    async def meanwhile() -> None:
        left.append(await stage.api.patch(path, change))

    overtaken.others = [meanwhile]
    outcome = await repair(overtaken, event)
    assert "AlreadyMoved: Deployment/web" == str(outcome)
    assert left[0]["spec"] == (await stage.read(deployment()))["spec"]
    assert ([], {}) == (stage.patches(), (await stage.status()).get("active", {}))


async def test_a_workload_of_the_same_name_is_another_one(
    stage: Stage, overtaken: Overtaken, failing: tuple[str, Manifest]
) -> None:
    """A workload that was deleted and made again in the meantime is not patched on the word of the old one's pod."""
    path, event = failing
    again = await stage.read(deployment())

    async def replace() -> None:
        await stage.api.delete(path, propagationPolicy="Orphan")
        await stage.until_gone(again)
        await stage.apply(deployment(pod_spec(container("healthy", HEALTHY), container("web", OLD))))

    overtaken.others = [replace]
    assert "AlreadyMoved: Deployment/web" == str(await repair(overtaken, event))
    assert {"healthy": HEALTHY, "web": OLD} == images(pod_spec_of(await stage.read(deployment())))


async def test_a_workload_that_is_gone_is_no_fault(
    stage: Stage, overtaken: Overtaken, failing: tuple[str, Manifest]
) -> None:
    """Nothing is left to do for a workload that was deleted in the meantime."""
    path, event = failing

    async def remove() -> None:
        await stage.api.delete(path, propagationPolicy="Orphan")
        await stage.until_gone(deployment())

    overtaken.others = [remove]
    assert "AlreadyMoved: Deployment/web" == str(await repair(overtaken, event))


async def test_an_annotation_of_somebody_else_is_kept(
    stage: Stage, overtaken: Overtaken, failing: tuple[str, Manifest]
) -> None:
    """Annotations that appear in the meantime are kept, and the history is written beside them."""
    path, event = failing
    overtaken.others = [lambda: stage.api.patch(path, {"metadata": {"annotations": {"team": "shop"}}})]
    await repair(overtaken, event)
    after = await stage.read(deployment())
    assert {"healthy": HEALTHY, "web": NEW} == images(pod_spec_of(after))
    assert "shop" == after["metadata"]["annotations"]["team"]


async def test_an_object_that_moves_twice_is_left_to_another_delivery(
    stage: Stage, overtaken: Overtaken, failing: tuple[str, Manifest]
) -> None:
    """When the second look is outdated too, the answer asks for the Event once more rather than to go on for ever."""
    path, event = failing
    shifted = containers(container("first", OTHER), container("healthy", HEALTHY), container("web", OLD))
    back = containers(container("web", OLD), container("healthy", HEALTHY))
    overtaken.others = [lambda: stage.api.patch(path, shifted), lambda: stage.api.patch(path, back)]
    outcome = await repair(overtaken, event)
    assert 503 == outcome.http_status
    assert str(outcome).startswith("could not move web of Deployment/web")
    assert [] == stage.patches()
    assert "switches" not in await stage.status()


async def test_a_template_that_is_put_back_twice_is_left_alone(stage: Stage) -> None:
    """Whoever keeps restoring the old image wins the template; stuck pods are still freed, and the Event says so."""
    await stage.source()
    await stage.apply(deployment())

    path = await stage.api.path(await stage.read(deployment()))
    old = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": OLD}]

    async def patched() -> list[tuple[str, str]]:
        """Have the stuck pods looked at, of which some are on their way out; return what was patched."""
        await stage.failing()
        await stage.sweep()
        return stage.patches()

    for _ in range(2):
        stage.mark()
        assert ("deployments", "web") in await until(patched)
        await stage.api.patch(path, old, "json", fieldManager="gitops")
    stage.mark()
    resource, name = (await until(patched))[0]
    assert "pods" == resource
    assert {"web": OLD} == images(pod_spec_of(await stage.read(deployment())))
    (told,) = await stage.events(reason="Failover", **{"involvedObject.name": name})
    assert told["message"].endswith("Deployment/web was put back twice, last by gitops, so its template is left alone")


async def test_a_failover_that_broke_off_is_completed_by_the_next_delivery(stage: Stage, overtaken: Overtaken) -> None:
    """When the API server is lost between template and pod, what is done is recorded, and the rest is done later."""
    await stage.source()
    failing, event = await stage.fail(stateful_set())

    async def nobody() -> None:
        """Let the template be patched."""

    async def outage() -> None:
        """Let nothing through."""
        raise TransientError("the API server did not answer")

    overtaken.others = [nobody, *[outage] * 5]
    outcome = await repair(overtaken, event)
    assert f"moved web of StatefulSet/web to {NEW}; the API server did not answer" == str(outcome)
    assert [("statefulsets", "web")] == stage.patches()
    assert 200 == (await stage.post(event)).status
    assert [("statefulsets", "web"), ("pods", failing["metadata"]["name"])] == stage.patches()
    status = await stage.status()
    assert (1, 1) == (len(status["switches"]), status["activeCount"])


async def test_deliveries_that_cross_are_one_failover(stage: Stage, overtaken: Overtaken) -> None:
    """A pod freed while another delivery still works on the same workload is no failover of its own in the record."""
    await stage.source()
    _, event = await stage.fail(replica_set())
    other = next(pod for pod in await stage.failing(2) if pod["metadata"]["name"] != event["involvedObject"]["name"])

    async def nobody() -> None:
        """Let the template be patched."""

    other_event = await stage.event(other)
    overtaken.others = [nobody, lambda: stage.post(other_event)]
    await repair(overtaken, event)
    assert [("pods", other["metadata"]["name"]), ("pods", event["involvedObject"]["name"])] == stage.patches()[1:]
    status = await stage.status()
    assert (1, 1) == (len(status["switches"]), status["activeCount"])
