"""Pods are decided about as the plan says; what is found out for that is tested on a control plane."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from kubernetes.aio.client import ApiClient, Configuration

from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.owners import OwnerLookup
from saffire.kube.resources import Cluster
from saffire.policy.decide import Gathered, decide
from saffire.policy.plan import Failover, Leave
from saffire.pulls.failure import FailingPod, find_pull_failures
from saffire.reconcile.decisions import Decisions
from saffire.reconcile.lookup import Lookup, LookupCache
from saffire.registry.check import ImageChecker
from saffire.sources.spec import Source
from testkit.builders import FAILING, NOW, OPT_OUT, SECOND, Object, annotated, pod, source, waiting
from testkit.check_registry import transport

TWO = pod(waiting(message="503 Service Unavailable"), waiting("side", SECOND), web=FAILING, side=SECOND)


@asynccontextmanager
async def decisions(declared: Source) -> AsyncIterator[Decisions]:
    """Yield what decides about pods for which no request is needed."""
    server = ApiServer(ApiClient(Configuration()), timeout_seconds=5)
    cluster = Cluster(server, Kinds())
    scene = Gathered(namespace={"metadata": {"name": "shop"}}, pod={}, sources=(declared,))
    async with ImageChecker(transport()) as registries:
        survey = Lookup(cache=LookupCache(cluster, registries, budget_seconds=0.5), namespace="shop")
        yield Decisions(gathered=scene, owners=OwnerLookup(cluster, "shop"), lookup=survey, now=NOW)
    await server.close()


@pytest.mark.parametrize(
    ("made", "declared"),
    [
        pytest.param(pod(waiting()), source(verification="Off"), id="moved"),
        pytest.param(TWO, source(verification="Off"), id="two-containers"),
        pytest.param(pod(waiting()), source(verification="Off", mode="Observe"), id="observed"),
        pytest.param(pod(waiting()), source(verification="Off", mode="Paused"), id="paused"),
        pytest.param(pod(waiting()), source(["a.example/x", "b.example/x"], verification="Off"), id="not-listed"),
        pytest.param(annotated(pod(waiting()), OPT_OUT), source(verification="Off"), id="opted-out"),
    ],
)
async def test_the_plan_decides(made: Object, declared: Source) -> None:
    """Whatever has to be found out in between, the rungs are those of `decide`; a bare pod needs no request."""
    async with decisions(declared) as deciding:
        case = FailingPod(pod=made, failures=find_pull_failures(made))
        [verdict] = await deciding.decide([case])
        scene = deciding.gathered
    expected = tuple(decide(failure, replace(scene, pod=made), now=NOW) for failure in case.failures)
    assert expected == verdict.plans
    assert expected


def owned(name: str, message: str, image: str = "elsewhere.example/web:1", **annotations: str) -> Object:
    """Return a pod of a controller that nobody can follow, which waits for an image."""
    made = annotated(pod(waiting(message=message, image=image), web=image), annotations)
    owner = {"apiVersion": "example.com/v1", "kind": "Fleet", "name": "web", "uid": "web-uid", "controller": True}
    return {**made, "metadata": {**made["metadata"], "name": name, "uid": name, "ownerReferences": [owner]}}


async def test_pods_that_are_alike_have_the_plans_that_each_would_have_had() -> None:
    """Each verdict is about its own pod, and quotes what its own node said."""
    refused = "dial tcp 10.0.0.1:{}: connect: connection refused"
    made = [
        owned("web-1", refused.format(443)),
        owned("web-2", refused.format(5000)),
        owned("web-3", refused.format(443), FAILING),
        owned("web-4", refused.format(443), FAILING),
        owned("web-5", refused.format(443), FAILING, **OPT_OUT),
        owned("web-6", refused.format(443), FAILING, **OPT_OUT),
    ]
    async with decisions(source(verification="Off")) as deciding:
        cases = [FailingPod(pod=one, failures=find_pull_failures(one)) for one in made]
        verdicts = await deciding.decide(cases)
        alone = [await deciding.decide([case]) for case in cases]
    assert tuple(verdict for each in alone for verdict in each) == verdicts
    assert [(one, find_pull_failures(one)) for one in made] == [
        (verdict.pod, tuple(plan.failure for plan in verdict.plans)) for verdict in verdicts
    ]
    assert [Leave, Leave, Failover, Failover, Leave, Leave] == [type(verdict.plans[0]) for verdict in verdicts]
