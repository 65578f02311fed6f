"""A registry is dead, and Saffire brings every kind of workload back on a real node, on the alternative, in seconds."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api.workloads import cron_job, images, pod_spec_of

from node.measures import Measures
from node.shop import JOBS, SERVICES, Case, Shop
from node.stage import Stage, restarts, succeeded, works
from playground.api import Manifest
from playground.controlplane import ControlPlane
from playground.stage import install, saffire


@pytest.fixture(scope="module", autouse=True)
async def log(plane: ControlPlane) -> AsyncIterator[list[dict[str, Any]]]:
    """Serve Saffire under its own role, forward the cluster's Events to it, and give what it logs."""
    lines: list[dict[str, Any]] = []
    await install(plane.admin)
    async with saffire(plane, lines.append):
        yield lines


@pytest.fixture(autouse=True)
async def source(stage: Stage, shop: Shop) -> Manifest:
    """Declare the repositories of the shop equivalent."""
    equivalent = {"equivalentRepositories": [f"{shop.old}/*", f"{shop.new}/*"]}
    manifest = {"apiVersion": "saffire.fairwinds.com/v1alpha1", "kind": "AlternateImageSource"}
    spec = {"imageSourceReplacements": [equivalent]}
    return await stage.apply(manifest | {"metadata": {"name": "shop"}, "spec": spec})


@pytest.mark.parametrize("case", SERVICES.values(), ids=SERVICES)
async def test_a_workload_runs_again(
    case: Case, stage: Stage, shop: Shop, measures: Measures, request: pytest.FixtureRequest
) -> None:
    """All pods that the workload wants are ready, none has a dead image, and no container of them had to restart."""
    await stage.apply(case.build(shop))

    def is_back() -> bool:
        pods = stage.staying()
        return len(pods) == case.pods and all(works(each) and shop.owns(each) for each in pods)

    back = await stage.until(is_back)
    measures.add(f"{request.node.callspec.id}: first Failed Event to all pods ready", back - stage.first_failure())
    assert [0] * case.pods == [restarts(each) for each in stage.staying()]


@pytest.mark.parametrize("case", JOBS.values(), ids=JOBS)
async def test_a_job_completes(
    case: Case, stage: Stage, shop: Shop, measures: Measures, request: pytest.FixtureRequest
) -> None:
    """A Job, whose template cannot change, does its work with the pods that it makes, and no more of them."""
    await stage.apply(case.build(shop))
    back = await stage.until(lambda: stage.completed("web"))
    measures.add(f"{request.node.callspec.id}: first Failed Event to complete", back - stage.first_failure())
    assert [True] * case.pods == [succeeded(each) and shop.owns(each) for each in stage.staying()]


async def test_a_cron_job_that_forbids_concurrency_goes_on(stage: Stage, shop: Shop, measures: Measures) -> None:
    """The stuck Job, which keeps all later ones from starting, completes, and later ones have the other image."""
    manifest = cron_job(shop.spec("ends"))
    manifest["spec"] |= {"schedule": "* * * * *", "concurrencyPolicy": "Forbid"}
    path = await stage.api.path(await stage.apply(manifest))
    missed = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await stage.api.patch(f"{path}/status", {"status": {"lastScheduleTime": missed}})
    back = await stage.until(lambda: stage.completed("web"))
    measures.add("CronJob: first Failed Event to its Job complete", back - stage.first_failure())
    assert {"web": shop.alive("ends")} == images(pod_spec_of(await stage.api.get(path)))
