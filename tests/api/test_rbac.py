"""The function's role is what it needs: no request is forbidden, and no permission goes unused."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from playground.api import Manifest
from playground.served import ServedFunction
from testkit.api.audit_log import Audit
from testkit.api.clusters import manifest
from testkit.api.custom_kinds import MADE, define
from testkit.api.namespace_fixture import Stage, until
from testkit.api.workloads import (
    cron_job,
    daemon_set,
    deployment,
    deployments,
    job,
    job_of,
    pod,
    pod_spec,
    replica_set,
    replication_controller,
    stateful_set,
)

Permission = tuple[str, str, str]

WORKLOADS: tuple[Callable[..., Manifest], ...] = (
    deployment,
    stateful_set,
    daemon_set,
    replica_set,
    replication_controller,
    cron_job,
    job,
    pod,
)


def permissions(role: Manifest) -> Iterator[Permission]:
    """Yield API group, resource and verb of everything that a role allows."""
    for rule in role["rules"]:
        assert rule.keys() == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from ((group, resource, verb) for verb in rule["verbs"])


def used(audit: Audit, since: int) -> set[tuple[Permission, int]]:
    """Return which permissions were made use of, and how that was answered."""
    return {((call.group, call.resource, call.verb), call.status) for call in audit.calls(since)}


async def move(stage: Stage, workload: Manifest) -> None:
    """Have a failing workload moved."""
    await stage.source()
    live = await stage.apply(workload)
    if live["kind"] == "CronJob":
        await stage.apply(job_of(live))
    failing, *_ = await stage.failing()
    await stage.post(await stage.event(failing))


async def contend(stage: Stage, second: ServedFunction, *, wide: bool) -> None:
    """Have two functions hear of a namespace at the same time, so that one finds the source's status just written."""
    await (stage.cluster_source() if wide else stage.source())
    await stage.apply(deployment())
    await stage.apply(stateful_set())
    events = [await stage.event(failing) for failing in await stage.failing(2)]
    await asyncio.gather(*(stage.post(event, url=url) for event, url in zip(events, ("", second.url), strict=True)))


async def both(stage: Stage) -> list[Manifest] | None:
    """Return the pods of a stage once there are two and each has an Event of a failed pull, whatever their status."""
    found = await stage.pods()
    told = {event["involvedObject"]["uid"] for event in await stage.events(reason="Failed")}
    return found if len(found) > 1 and {pod["metadata"]["uid"] for pod in found} <= told else None


async def test_the_role_is_what_the_function_needs(
    stage: Stage, audit: Audit, slow_node: str, kubeconfig: Path
) -> None:
    """Moving every kind, by Events and by a sweep, uses each permission and needs no other."""
    await define(stage.api)
    since = audit.mark()
    async with AsyncExitStack() as stages:
        for workload in WORKLOADS:
            another = await stages.enter_async_context(stage.another())
            await move(another, workload())
        for make in MADE.values():
            another = await stages.enter_async_context(stage.another())
            await another.source()
            await make(another)
            failing, *_ = await another.failing()
            await another.post(await another.event(failing))
        crowded = await stages.enter_async_context(stage.another())
        await crowded.source()
        for one in deployments(6):
            await crowded.apply(one)
        failing, *_ = await crowded.failing(6)
        await crowded.post(await crowded.event(failing))
        await stage.source()
        for one in deployments(2):
            one["spec"]["template"]["spec"] = pod_spec(nodeName=slow_node)
            await stage.apply(one)
        ahead, _ = await until(functools.partial(both, stage))
        await stage.post(await stage.event(ahead))

        second = await stages.enter_async_context(ServedFunction(kubeconfig))

        async def contended(kind: str) -> bool:
            others = [await stages.enter_async_context(stage.another()) for _ in range(3)]
            await asyncio.gather(*(contend(each, second, wide=kind.startswith("cluster")) for each in others))
            return f"get {kind}" in {f"{call.verb} {call.resource}" for call in audit.calls(since)}

        await stage.post(await stage.cluster_source())
        for kind in ("alternateimagesources", "clusteralternateimagesources"):
            await until(functools.partial(contended, kind))
        assert 200 == (await stage.sweep(url=second.url)).status
    found = used(audit, since)
    assert set() == {permission for permission, status in found if status == 403}
    assert set(permissions(manifest("function-clusterrole"))) == {permission for permission, _ in found}
    everywhere = [call for call in audit.entries(since) if "namespace" not in call["objectRef"]]
    expected = {
        ("list", "alternateimagesources"),
        ("get", "nodes"),
        ("list", "namespaces"),
        ("list", "clusteralternateimagesources"),
        ("get", "clusteralternateimagesources"),
        ("patch", "clusteralternateimagesources"),
    }
    assert expected == {(one["verb"], one["objectRef"]["resource"]) for one in everywhere}
