"""
Whatever happens to one request of a repair, the result is the same.

Every fault is done to every request of a repair in turn, for a workload of each order of patches. Then the event source
delivers the Event again, if it would, and the sweep of the next minute follows.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.simulated.nodes import SimulatedNodes
from saffire.settings import Settings
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import ACCOUNT, NAMESPACE, PACE, USER, install, manifest
from testkit.api.fault_cases import Case, CaseRunner, Kind, final, run_all
from testkit.api.fault_proxy import RETRY_AFTER_SECONDS, Fault, FaultProxy, Harm
from testkit.api.fault_report import FaultReport
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.workloads import NEW, daemon_set, deployment, images, pod, pod_spec_of, stateful_set

RUNNERS = 5
# No API server says what makes no sense, and to none of it can there be the same end. To the cluster, a worker that is
# killed is a function that is killed: a test of its own shows that the server starts another.
HARMS = [harm for harm in Harm if harm not in {Harm.NONSENSE, Harm.OUT_OF_MEMORY}]
BATCH = 60
NODES = ("one", "two")
FINALIZER = "example.com/cleans-up"
# Longer than a repair takes, however busy the machine.
PATIENCE_SECONDS = 8

READS = (
    "LIST alternateimagesources everywhere",
    "GET alternateimagesources",
    "GET namespaces",
    "GET pods",
    "LIST pods",
    "LIST pods #2",
)
ONCE = ("GET nodes", "LIST nodes", "LIST clusteralternateimagesources")
RECORD = ("PATCH alternateimagesources/status", "POST events about AlternateImageSource")
# How often a StatefulSet is read until its controller has made the revision depends on the controller.
REPEATED = tuple(f"GET statefulsets #{number}" for number in range(3, 9))


def daemon_set_on_delete() -> Manifest:
    """Return a DaemonSet whose pods are patched before its template, since no rollout replaces them."""
    manifest = daemon_set()
    return {**manifest, "spec": {**manifest["spec"], "updateStrategy": {"type": "OnDelete"}}}


KINDS = [
    Kind(
        workload=deployment,
        pods=1,
        requests=(
            *READS,
            "GET replicasets",
            "GET deployments",
            "PATCH deployments",
            *RECORD,
            "POST events about Deployment",
        ),
    ),
    Kind(
        workload=stateful_set,
        pods=1,
        requests=(
            *READS,
            "GET statefulsets",
            "PATCH statefulsets",
            "GET statefulsets #2",
            "GET controllerrevisions",
            "GET controllerrevisions #2",
            "PATCH pods",
            *RECORD,
            "POST events about StatefulSet",
        ),
    ),
    Kind(
        workload=daemon_set_on_delete,
        pods=len(NODES),
        requests=(
            *READS,
            "GET daemonsets",
            "PATCH pods",
            "PATCH pods #2",
            "PATCH daemonsets",
            *RECORD,
            "POST events about DaemonSet",
        ),
    ),
]


class FaultCluster:
    """A cluster of this module alone, so that its sweeps see nothing else, and case runners on it."""

    def __init__(self, plane: ControlPlane, dead: set[str], runner: Callable[[int], CaseRunner]) -> None:
        self.new_runner = runner
        """Returns a runner that is not entered yet, whose function waits so many seconds for the API server."""
        self.runners = [runner(2) for _ in range(RUNNERS)]
        self.api = plane.admin
        self._plane = plane
        self._dead = dead

    def namespace(self) -> NamespaceFixture:
        """Return a namespace fixture that is not open yet."""
        return NamespaceFixture(self._plane.admin, "", AuditLog(self._plane.audit, USER), self._dead)


@pytest.fixture(scope="module")
async def fault_cluster(
    binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, dead: set[str], environ: dict[str, str]
) -> AsyncIterator[FaultCluster]:
    """Give the cluster, with a node for each pod of a DaemonSet."""
    folder = tmp_path_factory.mktemp("runners")
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(ControlPlane(binaries))
        await install(plane, manifest("crd"))
        nodes = await stack.enter_async_context(SimulatedNodes(plane.admin, NODES, dead=dead, pace=PACE))
        kubeconfig = await plane.kubeconfig_for(NAMESPACE, ACCOUNT)

        def runner(seconds: int) -> CaseRunner:
            return CaseRunner(plane, kubeconfig, folder, SAFFIRE_REQUEST_TIMEOUT_SECONDS=str(seconds), **environ)

        made = FaultCluster(plane, nodes.dead, runner)
        await asyncio.gather(*map(stack.enter_async_context, made.runners))
        yield made


def enumerated(kind: Kind) -> Iterator[Case]:
    """
    Yield every case of a kind.

    The event source gives up after three seconds, in which neither an API server nor a function may be back: then the
    Event is lost. For the cluster, to be killed before a request is the same as to be killed after the request before.
    So each of these moments is followed once by a delivery, and once by the sweep alone.
    """
    for request, harm in itertools.product(kind.requests, HARMS):
        fault = Fault(harm, request)
        yield Case(kind=kind, fault=fault, is_redelivered=harm is not Harm.KILLED_AFTER)
        if harm is Harm.REFUSED:
            yield Case(kind=kind, fault=fault, is_redelivered=False)


def differences(case: Case, state: dict[str, Any]) -> dict[str, Any]:
    """Return how the state differs from that after a repair without a fault, and what the case did not show."""
    wrong = {key: state[key] for key, value in final(case.kind).items() if value != state[key]}
    if case.fault and not case.was_harmed:
        wrong["the fault"] = "did not come"
    # A function that is terminated finishes what it accepted.
    if case.fault and case.fault.harm is Harm.TERMINATED and None in case.answers:
        wrong["what was accepted"] = "got no answer"
    return wrong


async def settle(fault_cluster: FaultCluster, cases: list[Case], number: int) -> list[str]:
    """Run cases, and sweep; return the cases with a wrong result."""
    runner, another = fault_cluster.runners[number % RUNNERS], fault_cluster.runners[(number + 1) % RUNNERS]
    await run_all(fault_cluster.runners, cases, fault_cluster.namespace)
    swept = {seen.namespace for seen in await runner.sweep() if seen.is_write}
    states = await asyncio.gather(*(case.state() for case in cases))
    again = [seen for seen in await another.sweep() if seen.is_write]
    wrong_cases = []
    for case, state in zip(cases, states, strict=True):
        case.was_swept = case.namespace.name in swept
        late = [seen.name for seen in again if seen.namespace == case.namespace.name]
        wrong = differences(case, state) | ({"another sweep": late} if late else {})
        if wrong:
            wrong_cases.append(f"{case}, answered {case.answers}{', swept' if case.was_swept else ''}: {wrong}")
    await asyncio.gather(*(case.clear() for case in cases))
    return wrong_cases


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_repair_asks_what_is_enumerated(fault_cluster: FaultCluster, kind: Kind) -> None:
    """
    The faults below cover all requests of a repair, and without a fault the result is the same.

    Requests that a function sends once are left out: for the platforms of nodes, and for cluster-wide sources. Without
    the first, less is proven; without the second, a namespace's own source is enough. Repeated reads of a StatefulSet
    are left out too.
    """
    case = Case(kind=kind, fault=None)
    assert [] == await settle(fault_cluster, [case], 0)
    assert [200] == case.answers
    asked = (seen.name for seen in case.requests if not seen.name.startswith((*ONCE, *REPEATED)))
    assert sorted(kind.requests) == sorted(asked)
    assert not case.was_swept


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_every_fault_of_every_request_leads_to_the_same_end(
    fault_cluster: FaultCluster, kind: Kind, fault_report: FaultReport
) -> None:
    """There is one failover, recorded once: at once, after redelivery, or after a sweep."""
    cases, wrong_cases, began = list(enumerated(kind)), [], time.monotonic()
    for number, start in enumerate(range(0, len(cases), BATCH)):
        wrong_cases += await settle(fault_cluster, cases[start : start + BATCH], number)
    fault_report.add(kind.name, cases, seconds=time.monotonic() - began)
    assert [] == wrong_cases


@pytest.mark.parametrize("request_", ["PATCH deployments", "PATCH alternateimagesources/status"])
async def test_a_worker_that_is_killed_at_the_memory_limit_is_replaced(
    fault_cluster: FaultCluster, request_: str
) -> None:
    """
    The next worker finishes and records what was moved, and patches no workload again.

    The kernel kills with SIGKILL. It kills either the largest process of a container, or all of them (cgroup v2,
    `memory.oom.group`, which the kubelet sets by default from Kubernetes 1.28 on): that is the harm `killed` above.
    """
    case = Case(kind=KINDS[0], fault=Fault(Harm.OUT_OF_MEMORY, request_))
    assert [] == await settle(fault_cluster, [case], 0)
    assert [None, 200] == [case.answers[0], case.answers[-1]]
    assert ["PATCH deployments"] == [seen.name for seen in case.requests if seen.name.startswith("PATCH deployments")]


async def test_a_throttled_patch_is_sent_again_when_the_api_server_says(fault_cluster: FaultCluster) -> None:
    """The repair itself waits as long as Retry-After says: the event source would not wait that long."""
    case = Case(kind=KINDS[0], fault=Fault(Harm.THROTTLED, "PATCH deployments"))
    assert [] == await settle(fault_cluster, [case], 0)
    sent = {seen.name: seen.at for seen in case.requests}
    assert RETRY_AFTER_SECONDS <= sent["PATCH deployments #2"] - sent["PATCH deployments"]
    assert [200] == case.answers


@pytest.mark.parametrize(
    ("harm", "lists"),
    [
        pytest.param(Harm.THROTTLED, ["LIST pods", "LIST pods #2"], id="it is busy"),
        pytest.param(Harm.EXPIRED, ["LIST pods", "LIST pods #2", "LIST pods #3"], id="that is too long ago"),
    ],
)
async def test_siblings_as_they_were_are_asked_for_once(
    fault_cluster: FaultCluster, harm: Harm, lists: list[str]
) -> None:
    """
    If the API server does not answer a list at an old version, less is proven.

    Only an expired version is listed anew.
    """
    case = Case(kind=KINDS[0], fault=Fault(harm, "LIST pods"))
    assert [] == await settle(fault_cluster, [case], 0)
    assert lists == [seen.name for seen in case.requests if seen.name.startswith("LIST pods")]
    assert [200] == case.answers


async def test_what_is_done_is_recorded_whatever_comes_after_it(fault_cluster: FaultCluster) -> None:
    """A malformed answer ends the repair of the rest of the namespace; what was moved before is recorded."""
    async with fault_cluster.new_runner(PATIENCE_SECONDS) as runner, fault_cluster.namespace() as namespace:
        await namespace.source(verification="Off")
        _, event = await namespace.fail(deployment())
        runner.proxy.arm(Fault(Harm.NONSENSE, "LIST pods"), namespace.name)
        answer = await namespace.post(event, url=runner.function.url, waits=False)
        assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)

        async def recorded() -> list[tuple[str, str]]:
            return await moved(namespace) if "switches" in await namespace.status() else []

        assert [("Deployment", NEW)] == await until(recorded)
        assert runner.proxy.has_harmed


async def test_a_hang_in_one_namespace_holds_up_no_other(fault_cluster: FaultCluster) -> None:
    """While a request for one namespace hangs, another namespace is repaired and answered."""
    slow, quick = Case(kind=KINDS[0], fault=Fault(Harm.HANG, "PATCH deployments")), Case(kind=KINDS[0], fault=None)
    await asyncio.gather(*(case.prepare(fault_cluster.namespace()) for case in (slow, quick)))
    await asyncio.gather(*(case.namespace.source() for case in (slow, quick)))
    async with fault_cluster.new_runner(PATIENCE_SECONDS) as runner:

        async def hangs() -> bool:
            return runner.proxy.has_harmed

        runner.proxy.arm(slow.fault, slow.namespace.name)
        waiting = asyncio.create_task(slow.namespace.post(slow.event, url=runner.function.url))
        await until(hangs)
        answer = await quick.namespace.post(quick.event, url=runner.function.url)
        assert (200, False) == (answer.status, waiting.done())
        assert 200 == (await waiting).status
    for case in (slow, quick):
        assert final(case.kind) == await case.state()
        await case.clear()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_slow_api_server_is_waited_for(fault_cluster: FaultCluster, kind: Kind) -> None:
    """If each request takes a second, the workload is moved and recorded all the same, and the Event is answered."""
    case = Case(kind=kind, fault=None)
    await case.prepare(fault_cluster.namespace())
    await case.namespace.source()
    async with fault_cluster.new_runner(round(Settings().request_timeout_seconds)) as runner:
        runner.proxy.delay_seconds = 1
        answer = await case.namespace.post(case.event, url=runner.function.url)
    assert 200 == answer.status
    assert final(kind) == await case.state()
    await case.clear()


async def test_a_namespace_that_is_being_deleted_is_left_alone(fault_cluster: FaultCluster) -> None:
    """Its pods may stay for long, if something else has to clean up after them; nobody needs them to run."""
    namespace = fault_cluster.namespace()
    await namespace.open()
    async with fault_cluster.new_runner(PATIENCE_SECONDS) as runner:
        await namespace.source()
        kept = pod(name="kept", finalizers=[FINALIZER])
        failing, event = await namespace.fail(kept)
        path = await namespace.api.path(failing)
        await namespace.api.delete(f"/api/v1/namespaces/{namespace.name}")

        async def is_terminating() -> bool:
            return "deletionTimestamp" in (await namespace.read(kept))["metadata"]

        await until(is_terminating)
        answer = await namespace.post(event, url=runner.function.url)
        seen_in_sweep = await runner.sweep()
        after = await namespace.read(kept)
        await namespace.api.patch(path, {"metadata": {"finalizers": None}})
    writes = {seen.name for seen in seen_in_sweep if seen.is_write and seen.namespace == namespace.name}
    assert (200, set()) == (answer.status, writes - {"PATCH alternateimagesources/status"})
    assert images(failing["spec"]) == images(after["spec"])


async def test_what_is_behind_an_answer_and_never_done_is_left_to_the_sweep(fault_cluster: FaultCluster) -> None:
    """
    An Event is answered once its own workload is moved; if the function dies then, the sweep does the rest.

    Events that are older than a read of their namespace under way do not wait for its end.
    """
    async with fault_cluster.new_runner(60) as runner, fault_cluster.namespace() as namespace:
        namespace.url = runner.function.url
        await namespace.source(verification="Off")
        _, event = await namespace.fail(deployment())
        await namespace.apply(stateful_set())
        events = [await namespace.event(pod) for pod in await namespace.failing(2)]
        (other,) = (candidate for candidate in events if candidate["metadata"]["uid"] != event["metadata"]["uid"])
        await until(lambda: is_old(other))
        runner.proxy.arm(Fault(Harm.HANG, "LIST pods"), namespace.name)
        answer = await namespace.post(event, waits=False)
        assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
        assert [("deployments", "web")] == namespace.patches()
        await until(lambda: has_come(runner.proxy))
        answer = await namespace.post(other, waits=False)
        assert (200, "ignored: its namespace is being looked at") == (answer.status, answer.text)
        runner.interrupt(Harm.KILLED)
        await runner.restart()
        await runner.sweep()
        assert {"web": NEW} == images(pod_spec_of(await namespace.read(stateful_set())))
        # The sweep records both, in any order.
        assert [("Deployment", NEW), ("StatefulSet", NEW)] == sorted(await moved(namespace))
        assert 1 == namespace.patches().count(("deployments", "web"))


async def is_old(event: Manifest) -> bool:
    """Say whether an Event is so old that the pod's status must show what it says."""
    return datetime.now(UTC) - datetime.fromisoformat(event["lastTimestamp"]) > timedelta(seconds=4)


async def has_come(proxy: FaultProxy) -> bool:
    """Say whether the request to be harmed has arrived."""
    return proxy.has_harmed


async def moved(namespace: NamespaceFixture) -> list[tuple[str, str]]:
    """Return which workloads were moved where, in the order of the source's status."""
    return [(switch["target"]["type"]["kind"], switch["newImage"]) for switch in (await namespace.status())["switches"]]


async def test_an_older_crd_costs_no_patch_at_every_sweep(fault_cluster: FaultCluster) -> None:
    """
    The API server drops the fields of the status that the CRD does not have, and would do so again.

    This test is the last one of the module, since others count on the whole CRD.
    """
    async with fault_cluster.new_runner(PATIENCE_SECONDS) as runner, fault_cluster.namespace() as namespace:
        source = await namespace.source()
        path = f"{await namespace.api.path(source)}/status"
        older = manifest("crd")
        (version,) = older["spec"]["versions"]
        del version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["observedGeneration"]
        await fault_cluster.api.apply(older)

        async def is_dropped() -> bool:
            patched = await namespace.api.patch(path, {"status": {"observedGeneration": 1}})
            return "observedGeneration" not in patched.get("status", {})

        await until(is_dropped)
        writes = [
            [seen.name for seen in await runner.sweep() if seen.is_write and seen.namespace == namespace.name]
            for _ in range(3)
        ]
        assert [["PATCH alternateimagesources/status"], [], []] == writes
        assert ["True"] == [
            condition["status"]
            for condition in (await namespace.status())["conditions"]
            if condition["type"] == "Accepted"
        ]
        assert 1 == runner.function.output().count("The CRD is older than Saffire")
        await fault_cluster.api.apply(manifest("crd"))
