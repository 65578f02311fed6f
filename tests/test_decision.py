"""Pods are decided about as the plan says; what is found out for that is tested on a control plane."""

from dataclasses import replace

import pytest
from asking import distribution
from kubernetes.aio.client import ApiClient, Configuration
from objects import FAILING, NOW, OPT_OUT, SECOND, Object, annotated, pod, source, waiting

from saffire.alternates import Source
from saffire.apiserver import ApiServer
from saffire.cluster import Cluster
from saffire.decision import Decisions
from saffire.failure import Case, find
from saffire.kinds import Kinds
from saffire.lineage import Lineage
from saffire.plan import Scene, decide
from saffire.registry import Registries
from saffire.settings import Settings
from saffire.survey import Survey, Surveyor

TWO = pod(waiting(message="503 Service Unavailable"), waiting("side", SECOND), web=FAILING, side=SECOND)


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
    cluster = Cluster(ApiServer(ApiClient(Configuration()), Settings()), Kinds())
    scene = Scene(namespace={"metadata": {"name": "shop"}}, pod={}, sources=(declared,))
    async with Registries(distribution()) as registries:
        survey = Survey(surveyor=Surveyor(cluster, registries, budget_seconds=0.5), namespace="shop")
        decisions = Decisions(scene=scene, lineage=Lineage(cluster, "shop"), survey=survey, now=NOW)
        case = Case(pod=made, failures=find(made))
        [verdict] = await decisions.about([case])
    expected = tuple(decide(failure, replace(scene, pod=made), now=NOW) for failure in case.failures)
    assert expected == verdict.plans
    assert expected
    await cluster.close()
