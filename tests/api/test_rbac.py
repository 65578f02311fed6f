"""The function's role is exactly what it needs: no request is forbidden, and every permission is used."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from playground.cluster.api import Manifest
from playground.function_process import FunctionProcess
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import manifest
from testkit.api.custom_kinds import MAKERS, OPERATORS, define
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.workloads import (
    OLD,
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


def used(audit_log: AuditLog, since: int) -> set[tuple[Permission, int]]:
    """Return the permissions that were used, with the statuses of the answers."""
    return {((call.group, call.resource, call.verb), call.status) for call in audit_log.calls(since)}


async def move(namespace: NamespaceFixture, workload: Manifest) -> None:
    """Have a failing workload moved."""
    await namespace.source()
    live = await namespace.apply(workload)
    if live["kind"] == "CronJob":
        await namespace.apply(job_of(live))
    failing, *_ = await namespace.failing()
    await namespace.post(await namespace.event(failing))


async def contend(namespace: NamespaceFixture, second: FunctionProcess, *, wide: bool) -> None:
    """Deliver an Event to two functions at once; one finds a source's status just written by the other."""
    await (namespace.cluster_source() if wide else namespace.source())
    await namespace.apply(deployment())
    await namespace.apply(stateful_set())
    events = [await namespace.event(failing) for failing in await namespace.failing(2)]
    await asyncio.gather(*(namespace.post(event, url=url) for event, url in zip(events, ("", second.url), strict=True)))


async def both(namespace: NamespaceFixture) -> list[Manifest] | None:
    """Return the pods of a namespace once there are two and each has an Event of a failed pull."""
    pods = await namespace.pods()
    reported = {event["involvedObject"]["uid"] for event in await namespace.events(reason="Failed")}
    return pods if len(pods) > 1 and {pod["metadata"]["uid"] for pod in pods} <= reported else None


async def test_the_role_is_what_the_function_needs(
    namespace: NamespaceFixture, audit_log: AuditLog, slow_node: str, kubeconfig: Path, environ: dict[str, str]
) -> None:
    """Repairs of every kind, by Events and by a sweep, use each permission and need no other."""
    await define(namespace.api)
    since = audit_log.mark()
    async with AsyncExitStack() as namespaces:
        for workload in WORKLOADS:
            another = await namespaces.enter_async_context(namespace.another())
            await move(another, workload())
        for make in (*MAKERS.values(), *OPERATORS.values()):
            another = await namespaces.enter_async_context(namespace.another())
            await another.source()
            await make(another)
            failing, *_ = await another.failing()
            await another.post(await another.event(failing))
        crowded = await namespaces.enter_async_context(namespace.another())
        await crowded.source()
        for made in deployments(6):
            await crowded.apply(made)
        failing, *_ = await crowded.failing(6)
        await crowded.post(await crowded.event(failing))
        await namespace.source()
        for made in deployments(2):
            made["spec"]["template"]["spec"] = pod_spec(nodeName=slow_node)
            await namespace.apply(made)
        ahead, _ = await until(functools.partial(both, namespace))
        await namespace.post(await namespace.event(ahead))
        # No list of nodes names the node of this pod.
        joining = await namespace.apply(pod(pod_spec(nodeName="joins-after-the-list"), name="on-a-new-node"))
        await namespace.post(await namespace.write_kubelet_event(joining, "containers", "web", OLD))

        second = await namespaces.enter_async_context(FunctionProcess(kubeconfig, **environ))

        async def contended(kind: str) -> bool:
            others = [await namespaces.enter_async_context(namespace.another()) for _ in range(3)]
            await asyncio.gather(*(contend(other, second, wide=kind.startswith("cluster")) for other in others))
            return f"get {kind}" in {f"{call.verb} {call.resource}" for call in audit_log.calls(since)}

        await namespace.post(await namespace.cluster_source())
        for kind in ("alternateimagesources", "clusteralternateimagesources"):
            await until(functools.partial(contended, kind))
        assert 200 == (await namespace.sweep(url=second.url)).status
    permissions_used = used(audit_log, since)
    assert set() == {permission for permission, status in permissions_used if status == 403}
    assert set(permissions(manifest("function-clusterrole"))) == {permission for permission, _ in permissions_used}
    everywhere = [call for call in audit_log.entries(since) if "namespace" not in call["objectRef"]]
    expected = {
        ("list", "alternateimagesources"),
        ("get", "nodes"),
        ("list", "nodes"),
        ("list", "namespaces"),
        ("list", "clusteralternateimagesources"),
        ("get", "clusteralternateimagesources"),
        ("patch", "clusteralternateimagesources"),
    }
    assert expected == {(entry["verb"], entry["objectRef"]["resource"]) for entry in everywhere}
