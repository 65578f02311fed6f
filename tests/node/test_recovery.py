"""A registry is dead, and every kind of workload recovers on a real node, on the alternative, within seconds."""

import asyncio
import json
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.cluster.polling import until
from playground.environment import install, run_saffire
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import USER
from testkit.api.namespace_fixture import HISTORY, READS
from testkit.api.workloads import images, pod_spec_of
from testkit.node.namespace_fixture import NamespaceFixture, restarts, works
from testkit.node.recovery_rows import JOBS, ROWS
from testkit.node.recovery_run import RecoveryRun, run_row
from testkit.node.registry_fixture import Repositories

WRITTEN_BY_CONTROLLERS = {"deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation"}
RECORD_SECONDS = 10


@pytest.fixture(scope="module")
async def dying(machine: None) -> AsyncIterator[Registry]:  # noqa: ARG001
    """Give a registry that works until a test makes it fail."""
    async with Registry() as registry:
        yield registry


@pytest.fixture(scope="module", autouse=True)
async def saffire_log(
    plane: ControlPlane, dead: Registry, another: Registry, alive: Registry, dying: Registry
) -> AsyncIterator[list[dict[str, Any]]]:
    """Run Saffire under its own role, deliver the cluster's Events to it, and give its log. It may ask registries."""
    lines: list[dict[str, Any]] = []
    await install(plane.admin)
    asked = ",".join(registry.domain for registry in (dead, another, alive, dying))
    async with run_saffire(plane, lines.append, SAFFIRE_INSECURE_REGISTRIES=asked):
        yield lines


@pytest.fixture
def audit_log(plane: ControlPlane) -> AuditLog:
    """Give the requests of Saffire."""
    return AuditLog(plane.audit, USER)


@pytest.mark.parametrize("name", ROWS)
async def test_a_workload_settles(
    name: str, audit_log: AuditLog, namespace: NamespaceFixture, repositories: Repositories, dying: Registry
) -> None:
    """
    The workload settles on the alternative, with one failover recorded, and is otherwise unchanged.

    No pod is made twice, and no container restarts.
    """
    row = ROWS[name]
    run = await run_row(row, namespace, repositories, dying)
    await run.until_settled()
    assert row.made >= namespace.made
    assert [0] * len(namespace.staying()) == [restarts(pod) for pod in namespace.staying()]
    workload = await namespace.api.get(await namespace.api.path(run.live))
    assert expected(run) == kept(workload)
    assert sorted(run.failing) == sorted(recorded(workload)) or "template" not in row.steps
    assert sorted((workload["metadata"]["uid"], name) for name in run.failing) == await recorded_failovers(run)
    assert writes(audit_log, namespace) <= {"patch", "create events"}


def expected(run: RecoveryRun) -> Manifest:
    """Return what has to stay of the workload: everything but the images that could not be pulled."""
    live = deepcopy(run.live)
    if "template" in run.row.steps or live["kind"] == "Pod":
        spec = pod_spec_of(live)
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            container["image"] = run.repositories.moved(container["image"])
    return kept(live)


def kept(manifest: Manifest) -> Manifest:
    """Return an object without its status, and without what Saffire, the API server and controllers write."""
    metadata = deepcopy(manifest["metadata"])
    for field in ("resourceVersion", "generation", "managedFields"):
        metadata.pop(field, None)
    annotations = metadata.pop("annotations", {})
    own = {key: value for key, value in annotations.items() if key not in WRITTEN_BY_CONTROLLERS | {HISTORY}}
    spec = {key: value for key, value in manifest["spec"].items() if key != "nodeName"}
    return {"metadata": metadata, "annotations": own, "spec": spec}


def recorded(manifest: Manifest) -> list[str]:
    """Return the container of each failover in an object's own history."""
    history = json.loads(manifest["metadata"].get("annotations", {}).get(HISTORY, "{}"))
    return [entry["container"] for entry in history.get("failovers", ())]


async def recorded_failovers(run: RecoveryRun) -> list[tuple[str, str]]:
    """Wait until the source's status names every container; return uid and container of each of its entries."""
    recorded: list[tuple[str, str]] = []

    async def look() -> bool:
        path = await run.namespace.api.path(with_namespace(run.repositories.source(), run.namespace))
        switches = (await run.namespace.api.get(path)).get("status", {}).get("switches", ())
        recorded[:] = [(switch["target"]["uid"], switch["target"]["container"]) for switch in switches]
        return len(recorded) >= len(run.failing)

    async with asyncio.timeout(RECORD_SECONDS):
        await until(look)
    return sorted(recorded)


def with_namespace(manifest: Manifest, namespace: NamespaceFixture) -> Manifest:
    """Return the object with the namespace of the fixture."""
    return manifest | {"metadata": {**manifest["metadata"], "namespace": namespace.name}}


def writes(audit_log: AuditLog, namespace: NamespaceFixture) -> set[str]:
    """Return what Saffire did in the namespace besides reading."""
    calls = (call for call in audit_log.calls(namespace=namespace.name) if call.verb not in READS)
    return {call.verb if call.verb == "patch" else f"{call.verb} {call.resource}" for call in calls}


async def test_a_rollout_keeps_what_runs(
    namespace: NamespaceFixture, repositories: Repositories, dying: Registry
) -> None:
    """While a failing rollout moves, no fewer pods are ready than the rollout allows."""
    run = await run_row(ROWS["Deployment, in a rollout"], namespace, repositories, dying)
    fewest = 3

    def is_back() -> bool:
        nonlocal fewest
        fewest = min(fewest, sum(map(works, namespace.staying())))
        return run.is_back and namespace.settled()

    await namespace.until(is_back)
    assert 3 == fewest


async def test_a_node_that_joins_meanwhile_needs_no_further_hand(
    plane: ControlPlane, audit_log: AuditLog, namespace: NamespaceFixture, repositories: Repositories, dying: Registry
) -> None:
    """While the registry is dead, the pod of the moved DaemonSet starts on a new node with its first pull."""
    run = await run_row(ROWS["DaemonSet, init container"], namespace, repositories, dying)
    await namespace.until(lambda: run.is_back and namespace.settled())
    before, mark = set(namespace.pods), audit_log.mark()
    async with RealNode(plane, "joins"):
        await namespace.until(lambda: 2 == run.moved)
        (uid,) = set(namespace.pods) - before
        assert "joins" == namespace.pods[uid]["spec"]["nodeName"]
    assert [] == [event["message"] for event in namespace.events(uid) if event["reason"] == "Failed"]
    assert [] == [
        call
        for call in audit_log.calls(mark, namespace.name)
        if call.resource in {"daemonsets", "pods"} and call.verb not in READS
    ]


async def test_strategy_pods_rolls_nothing(
    namespace: NamespaceFixture, repositories: Repositories, dying: Registry
) -> None:
    """The pods that ran when the registry died are the same afterwards, and no container restarted."""
    run = await run_row(ROWS["strategy: Pods, 5 of 55"], namespace, repositories, dying)
    before = {uid for uid, pod in namespace.pods.items() if works(pod)}
    await run.until_back()
    assert 50 == len(before)
    assert before < set(namespace.pods)
    assert 55 == len(namespace.pods)


@pytest.mark.parametrize(
    ("name", "kept"), [("Deployment, Recreate, running when its registry dies", 2), ("StatefulSet", 0)]
)
async def test_no_healthy_pod_ends_for_a_stuck_one(
    name: str, kept: int, namespace: NamespaceFixture, repositories: Repositories, dying: Registry
) -> None:
    """A rollout with `Recreate` would end healthy pods, and that of a StatefulSet would end the pod that was freed."""
    run = await run_row(ROWS[name], namespace, repositories, dying)
    before = {uid for uid, pod in namespace.pods.items() if works(pod)}
    await run.until_settled()
    assert kept == len(before)
    ended = [pod for at, pod in namespace.seen if pod["kind"] == "Pod" and "deletionTimestamp" in pod["metadata"]]
    assert [] == ended


async def test_a_cron_job_that_forbids_concurrency_goes_on(
    namespace: NamespaceFixture, repositories: Repositories, dying: Registry
) -> None:
    """Once its stuck Job has moved and completed, a later Job has the alternative from the start."""
    run = await run_row(JOBS["CronJob, Forbid"], namespace, repositories, dying)
    await run.until_back()
    path = await namespace.api.path(run.live)
    assert {"web": repositories.alive("ends")} == images(pod_spec_of(await namespace.api.get(path)))
