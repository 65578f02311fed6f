"""Beside GitOps, Helm and kubectl: what becomes of a failover when something else owns the image."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import pytest

from api.stage import Stage, until
from api.workloads import NEW, OLD, deployment, images, pod_spec_of
from playground.api import ApiError, Manifest
from playground.served import ServedFunction

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
BACK = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": OLD}]
NOTE = "Deployment/web was put back twice, last by reverter, so its template is left alone"


async def image(stage: Stage) -> str:
    """Return the image that the Deployment's template names."""
    return images(pod_spec_of(await stage.read(deployment())))["web"]


async def moved(stage: Stage) -> str:
    """Have the Deployment moved; return its path."""
    await stage.source()
    _, event = await stage.fail(deployment())
    await stage.post(event)
    assert NEW == await image(stage)
    return await stage.api.path(await stage.read(deployment()))


async def tell(stage: Stage) -> None:
    """Deliver the newest Event of each pod that cannot pull its image."""
    for pod in await stage.failing():
        await stage.post(await stage.event(pod))


def client_side() -> Manifest:
    """Return the patch of a client-side `kubectl apply`: what the live object lacks, and the manifest itself."""
    metadata = {"annotations": {LAST_APPLIED: json.dumps(deployment())}}
    return {"metadata": metadata, "spec": {"template": {"spec": {"containers": [{"name": "web", "image": OLD}]}}}}


async def server_side(stage: Stage, **query: str) -> None:
    """Apply the original manifest on the server's side, as Helm 4 and Flux do."""
    path = await stage.api.path(await stage.read(deployment()))
    await stage.api.patch(path, deployment(), "apply", fieldManager="helm", **query)


async def test_a_client_side_apply_puts_the_image_back_and_the_next_failure_moves_it_again(stage: Stage) -> None:
    """The manifest's owner is obeyed until a pull fails again; both failovers are on record."""
    path = await moved(stage)
    await stage.api.patch(path, client_side(), "strategic", fieldManager="kubectl-client-side-apply")
    assert OLD == await image(stage)

    async def again() -> bool:
        await tell(stage)
        return NEW == await image(stage)

    await until(again)
    assert [NEW, NEW] == [switch["newImage"] for switch in (await stage.status())["switches"]]


async def test_a_server_side_apply_is_told_of_saffire(stage: Stage) -> None:
    """It stops with a conflict that names who owns the image now, and changes nothing; by force it has its way."""
    await moved(stage)
    with pytest.raises(ApiError) as refused:
        await server_side(stage)
    assert HTTPStatus.CONFLICT == refused.value.status
    assert 'conflict with "saffire"' in str(refused.value)
    assert NEW == await image(stage)
    await server_side(stage, force="true")
    assert OLD == await image(stage)


@asynccontextmanager
async def reverting(stage: Stage, path: str) -> AsyncIterator[None]:
    """Have a controller put the old image back as soon as the Deployment names another, as Argo CD's self-heal does."""

    async def revert() -> None:
        collection, _, name = path.rpartition("/")
        version = (await stage.api.get(path))["metadata"]["resourceVersion"]
        async for _, live in stage.api.watch(
            collection, resourceVersion=version, fieldSelector=f"metadata.name={name}"
        ):
            if {"web": NEW} == images(pod_spec_of(live)):
                await stage.api.patch(path, BACK, "json", fieldManager="reverter")

    task = asyncio.create_task(revert())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_controller_that_reverts_at_once_wins_the_template_and_pods_are_freed(
    stage: Stage, function: ServedFunction
) -> None:
    """After its second reversion the template is left alone, pods run all the same, and it is told who did it."""
    await stage.source()
    _, event = await stage.fail(deployment(replicas=2))
    path = await stage.api.path(await stage.read(deployment()))
    async with reverting(stage, path):
        await stage.post(event)

        async def all_run() -> bool:
            await asyncio.gather(*[stage.post(await stage.event(pod)) for pod in await waiting_pods(stage)])
            pods = await stage.pods()
            return 2 <= sum({"web": NEW} == images(pod["spec"]) for pod in pods)

        await until(all_run)
    assert OLD == await image(stage)
    templates = [name for resource, name in stage.patches() if resource == "deployments"]
    assert ["web", "web"] == templates
    assert NOTE in [switch.get("note") for switch in (await stage.status())["switches"]]
    assert any(event["message"].endswith(NOTE) for event in await stage.events(reason="Failover"))
    assert any(NOTE in json.dumps(line.get("plans", ())) for line in function.log())


async def waiting_pods(stage: Stage) -> list[Manifest]:
    """Return the pods that still name the old image."""
    return [pod for pod in await stage.pods() if {"web": OLD} == images(pod["spec"])]


async def test_a_quota_that_leaves_no_room_for_a_new_pod_is_seen_at_the_workload(stage: Stage) -> None:
    """The template is moved, and Kubernetes tells at its ReplicaSet why no new pod starts beside the stuck one."""
    await stage.source()
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    await stage.apply(quota)
    _, event = await stage.fail(deployment())
    answer = await stage.post(event)
    assert (200, NEW) == (answer.status, await image(stage))

    async def told() -> list[Manifest]:
        return [one for one in await stage.events(reason="FailedCreate") if "exceeded quota" in one["message"]]

    assert await until(told)
