"""Decisions about pods are those of `policy.decide`; what is gathered for them is tested on a control plane."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.owners import OwnerLookup
from saffire.kube.resources import Cluster
from saffire.policy.decide import Gathered
from saffire.policy.plan import Failover, Leave, Step
from saffire.pulls.failure import FailingPod, find_pull_failures
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.reconcile.gather import Decisions
from saffire.registry.check import ImageChecker
from saffire.sources.spec import Source
from testkit.builders import FAILING, NOW, OPT_OUT, SECOND, Object, annotated, pod, source, waiting, workload
from testkit.check_registry import transport
from testkit.decisions import decide
from testkit.scripted_api import scripted_api

TWO = pod(waiting(message="503 Service Unavailable"), waiting("side", SECOND), web=FAILING, side=SECOND)


@asynccontextmanager
async def decisions(applied_source: Source) -> AsyncIterator[Decisions]:
    """Yield decisions about pods for which no request is needed."""
    server = ApiServer(Configuration(), timeout_seconds=5)
    async with decisions_at(server, applied_source) as deciding:
        yield deciding
    await server.close()


@asynccontextmanager
async def decisions_at(server: ApiServer, applied_source: Source) -> AsyncIterator[Decisions]:
    """Yield decisions that read from this API server."""
    cluster = Cluster(server, Kinds())
    gathered = Gathered(namespace={"metadata": {"name": "shop"}}, pod={}, sources=(applied_source,))
    async with ImageChecker(transport()) as registries:
        lookup = Lookup(cache=LookupCache(cluster, registries, budget_seconds=0.5), namespace="shop")
        faults = FaultLookup(lookup=lookup, answered_at={}, now=NOW)
        owners = OwnerLookup(cluster, "shop")
        yield Decisions(gathered=gathered, owners=owners, lookup=lookup, faults=faults, now=NOW)


@pytest.mark.parametrize(
    ("failing", "applied_source"),
    [
        pytest.param(pod(waiting()), source(verification="Off"), id="moved"),
        pytest.param(TWO, source(verification="Off"), id="two-containers"),
        pytest.param(pod(waiting()), source(verification="Off", mode="Observe"), id="observed"),
        pytest.param(pod(waiting()), source(verification="Off", mode="Paused"), id="paused"),
        pytest.param(pod(waiting()), source(["a.example/x", "b.example/x"], verification="Off"), id="not-listed"),
        pytest.param(annotated(pod(waiting()), OPT_OUT), source(verification="Off"), id="opted-out"),
    ],
)
async def test_policy_decides(failing: Object, applied_source: Source) -> None:
    """The plans are those of `decide`, whatever is gathered in between; a bare pod needs no request."""
    async with decisions(applied_source) as deciding:
        failing_pod = FailingPod(pod=failing, failures=find_pull_failures(failing))
        [outcome] = await deciding.decide([failing_pod])
        gathered = deciding.gathered
    expected = tuple(decide(failure, replace(gathered, pod=failing), now=NOW) for failure in failing_pod.failures)
    assert expected == outcome.plans
    assert expected


def owned(name: str, message: str, image: str = "elsewhere.example/web:1", **annotations: str) -> Object:
    """Return a pod that waits for an image, and whose controller is of a kind that Saffire cannot read."""
    made = annotated(pod(waiting(message=message, image=image), web=image), annotations)
    owner = {"apiVersion": "example.com/v1", "kind": "Fleet", "name": "web", "uid": "web-uid", "controller": True}
    return {**made, "metadata": {**made["metadata"], "name": name, "uid": name, "ownerReferences": [owner]}}


async def test_pods_with_the_same_traits_have_the_plans_that_they_would_have_alone() -> None:
    """Each outcome is of its own pod, and quotes the error of its own node."""
    refused = "dial tcp 10.0.0.1:{}: connect: connection refused"
    pods = [
        owned("web-1", refused.format(443)),
        owned("web-2", refused.format(5000)),
        owned("web-3", refused.format(443), FAILING),
        owned("web-4", refused.format(443), FAILING),
        owned("web-5", refused.format(443), FAILING, **OPT_OUT),
        owned("web-6", refused.format(443), FAILING, **OPT_OUT),
    ]
    async with decisions(source(verification="Off")) as deciding:
        failing_pods = [FailingPod(pod=failing, failures=find_pull_failures(failing)) for failing in pods]
        outcomes = await deciding.decide(failing_pods)
        alone = [await deciding.decide([failing_pod]) for failing_pod in failing_pods]
    assert tuple(outcome for [outcome] in alone) == outcomes
    assert [(failing, find_pull_failures(failing)) for failing in pods] == [
        (outcome.pod, tuple(plan.failure for plan in outcome.plans)) for outcome in outcomes
    ]
    assert [Leave, Leave, Failover, Failover, Leave, Leave] == [type(outcome.plans[0]) for outcome in outcomes]


CORDONED = "node.kubernetes.io/unschedulable"


@pytest.mark.parametrize(
    ("tolerations", "step"),
    [
        pytest.param([{"key": CORDONED, "operator": "Exists", "effect": "NoSchedule"}], Step.PODS, id="tolerated"),
        pytest.param([], Step.TEMPLATE, id="not tolerated"),
    ],
)
async def test_a_daemon_set_runs_on_a_cordoned_node_too(tmp_path: Path, tolerations: list[Object], step: Step) -> None:
    """Its controller gives its pods tolerations that the template lacks. So the failing node is not the only one."""
    owner = {**workload("DaemonSet"), "status": {"numberReady": 1, "updatedNumberScheduled": 1}}
    metadata = owner["metadata"]
    reference = {key: owner[key] for key in ("apiVersion", "kind")} | {key: metadata[key] for key in ("name", "uid")}
    failing = pod(waiting())
    failing["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
    failing["spec"] |= {"nodeName": "node-1", "tolerations": tolerations}
    failing["status"]["startTime"] = "2026-11-23T01:00:00Z"
    cordoned = {"taints": [{"key": CORDONED, "effect": "NoSchedule"}]}
    answers: dict[str, list[tuple[int, Object]]] = {
        f"GET /apis/apps/v1/namespaces/shop/daemonsets/{metadata['name']}": [(200, owner)],
        "GET /api/v1/nodes": [(200, {"items": [{"metadata": {"name": f"node-{number}"}} for number in (1, 2)]})],
        "GET /api/v1/nodes/node-1": [(200, {"metadata": {"name": "node-1"}})],
        "GET /api/v1/nodes/node-2": [(200, {"metadata": {"name": "node-2"}, "spec": cordoned})],
        "GET /api/v1/namespaces/shop/events": [(200, {"items": []})],
    }
    async with scripted_api(tmp_path, answers) as server, decisions_at(server, source(verification="Off")) as deciding:
        [outcome] = await deciding.decide([FailingPod(pod=failing, failures=find_pull_failures(failing))])
    [plan] = outcome.plans
    assert isinstance(plan, Failover)
    assert (step,) == plan.steps
