"""A registry is dead, and Saffire brings every kind of workload back on a real node, on the alternative, in seconds."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api.workloads import container, cron_job, deployment, images, pod_spec, pod_spec_of

from node.measures import Measures
from node.shop import JOBS, SERVICES, Case, Shop
from node.stage import Stage, restarts, succeeded, works
from playground.controlplane import ControlPlane
from playground.images import Images
from playground.registries import Registry
from playground.stage import install, saffire


@pytest.fixture(scope="module", autouse=True)
async def log(plane: ControlPlane) -> AsyncIterator[list[dict[str, Any]]]:
    """Serve Saffire under its own role, forward the cluster's Events to it, and give what it logs."""
    lines: list[dict[str, Any]] = []
    await install(plane.admin)
    async with saffire(plane, lines.append):
        yield lines


@pytest.fixture(autouse=True)
async def source(stage: Stage, shop: Shop) -> None:
    """Declare the repositories of the shop equivalent."""
    await declare(stage, shop)


async def declare(stage: Stage, shop: Shop, name: str = "shop") -> None:
    """Declare the repositories of a shop equivalent."""
    manifest = {"apiVersion": "saffire.fairwinds.com/v1alpha1", "kind": "AlternateImageSource"}
    spec = {"imageSourceReplacements": [{"equivalentRepositories": [f"{shop.old}/*", f"{shop.new}/*"]}]}
    await stage.apply({**manifest, "metadata": {"name": name}, "spec": spec})


@pytest.mark.parametrize("case", SERVICES.values(), ids=SERVICES)
async def test_a_workload_runs_again(
    case: Case, stage: Stage, shop: Shop, measures: Measures, request: pytest.FixtureRequest
) -> None:
    """All pods that the workload wants are ready, none has a dead image, and no container has to restart for that."""
    await stage.apply(case.build(shop))

    def is_back() -> bool:
        pods = stage.staying()
        return len(pods) == case.pods and all(works(each) and shop.owns(each) for each in pods)

    back = await stage.until(is_back)
    settled = await stage.until(lambda: is_back() and stage.settled())
    failed = stage.first_failure()
    measures.add(request.node.callspec.id, ready=back - failed, settled=settled - failed)
    assert [0] * case.pods == [restarts(each) for each in stage.staying()]


async def test_a_workload_that_runs_survives_the_death_of_its_registry(
    stage: Stage, built: Images, shop: Shop, measures: Measures
) -> None:
    """When one more pod cannot be pulled, all of them move, and never fewer are ready than there were."""
    async with Registry() as doomed:
        dying = replace(shop, old=f"{doomed.domain}/{stage.namespace}")
        await built.push("sleeps", dying.dead())
        await declare(stage, dying, "dying")
        always = pod_spec(container(image=dying.dead(), imagePullPolicy="Always"))
        path = await stage.api.path(await stage.apply(deployment(always, replicas=2)))
        await stage.until(lambda: [True] * 2 == [works(each) for each in stage.staying()])
        await doomed.die()
        await stage.api.patch(path, {"spec": {"replicas": 3}})
        fewest = 3

        def is_back() -> bool:
            nonlocal fewest
            pods = stage.staying()
            fewest = min(fewest, sum(map(works, pods)))
            return [True] * 3 == [works(each) and dying.owns(each) for each in pods]

        back = await stage.until(is_back)
        measures.add("Deployment that runs when its registry dies", ready=back - stage.first_failure())
        assert 2 == fewest


@pytest.mark.parametrize("case", JOBS.values(), ids=JOBS)
async def test_a_job_completes(
    case: Case, stage: Stage, shop: Shop, measures: Measures, request: pytest.FixtureRequest
) -> None:
    """A Job, whose template cannot change, does its work with the pods that it makes, and no more of them."""
    await stage.apply(case.build(shop))
    back = await stage.until(lambda: stage.completed("web"))
    measures.add(request.node.callspec.id, complete=back - stage.first_failure())
    assert [True] * case.pods == [succeeded(each) and shop.owns(each) for each in stage.staying()]


async def test_a_cron_job_that_forbids_concurrency_goes_on(stage: Stage, shop: Shop, measures: Measures) -> None:
    """The stuck Job, which keeps all later ones from starting, completes, and later ones have the other image."""
    manifest = cron_job(shop.spec("ends"))
    manifest["spec"] |= {"schedule": "* * * * *", "concurrencyPolicy": "Forbid"}
    path = await stage.api.path(await stage.apply(manifest))
    missed = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await stage.api.patch(f"{path}/status", {"status": {"lastScheduleTime": missed}})
    back = await stage.until(lambda: stage.completed("web"))
    measures.add("CronJob that forbids concurrency", complete=back - stage.first_failure())
    assert {"web": shop.alive("ends")} == images(pod_spec_of(await stage.api.get(path)))
