"""A registry is dead, and Saffire brings every kind of workload back on a real node, on the alternative, in seconds."""

import asyncio
import json
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import pytest

from playground.api import Manifest
from playground.controlplane import ControlPlane
from playground.images import Images
from playground.polling import until
from playground.realnode import RealNode
from playground.stage import install, saffire
from testkit.api.audit_log import Audit
from testkit.api.clusters import USER
from testkit.api.namespace_fixture import HISTORY, READS
from testkit.api.workloads import images, pod_spec_of
from testkit.node.namespace_fixture import Stage, restarts, works
from testkit.node.recovery_rows import JOBS, ROWS
from testkit.node.recovery_run import Play, played
from testkit.node.registry_fixture import Shop

WRITTEN_BY_CONTROLLERS = {"deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation"}
RECORD_SECONDS = 10


@pytest.fixture(scope="module", autouse=True)
async def log(plane: ControlPlane) -> AsyncIterator[list[dict[str, Any]]]:
    """Serve Saffire under its own role, forward the cluster's Events to it, and give what it logs."""
    lines: list[dict[str, Any]] = []
    await install(plane.admin)
    async with saffire(plane, lines.append):
        yield lines


@pytest.fixture
def saw(plane: ControlPlane) -> Audit:
    """Give the log of what Saffire asked."""
    return Audit(plane.audit, USER)


@pytest.mark.parametrize("name", ROWS)
async def test_a_workload_is_back(name: str, saw: Audit, stage: Stage, shop: Shop, built: Images) -> None:
    """It runs, or completes, on the alternative, with one failover on record, and nothing else of it has changed."""
    row = ROWS[name]
    async with played(row, stage, shop, built) as play:
        await play.until_back()
        await stage.until(lambda: play.is_back and stage.settled())
        assert [0] * len(stage.staying()) == [restarts(each) for each in stage.staying()]
        workload = await stage.api.get(await stage.api.path(play.live))
        assert expected(play) == kept(workload)
        assert sorted(play.failing) == sorted(recorded(workload)) or "template" not in row.steps
        assert sorted((workload["metadata"]["uid"], name) for name in play.failing) == await told(play)
        assert writes(saw, stage) <= {"patch", "create events"}


def expected(play: Play) -> Manifest:
    """Return what is to be kept of the workload: all of it, but the images that could not be pulled."""
    live = deepcopy(play.live)
    if "template" in play.row.steps or live["kind"] == "Pod":
        spec = pod_spec_of(live)
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            container["image"] = play.shop.moved(container["image"])
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


async def told(play: Play) -> list[tuple[str, str]]:
    """Wait until the source's status tells of every container, and return uid and container of each of its entries."""
    found: list[tuple[str, str]] = []

    async def look() -> bool:
        path = await play.stage.api.path(with_namespace(play.shop.source(), play.stage))
        switches = (await play.stage.api.get(path)).get("status", {}).get("switches", ())
        found[:] = [(each["target"]["uid"], each["target"]["container"]) for each in switches]
        return len(found) >= len(play.failing)

    async with asyncio.timeout(RECORD_SECONDS):
        await until(look)
    return sorted(found)


def with_namespace(manifest: Manifest, stage: Stage) -> Manifest:
    """Return an object as one of the stage's namespace."""
    return manifest | {"metadata": {**manifest["metadata"], "namespace": stage.namespace}}


def writes(saw: Audit, stage: Stage) -> set[str]:
    """Return what Saffire did in the stage's namespace besides reading."""
    calls = (call for call in saw.calls(namespace=stage.namespace) if call.verb not in READS)
    return {call.verb if call.verb == "patch" else f"{call.verb} {call.resource}" for call in calls}


async def test_a_rollout_keeps_what_runs(stage: Stage, shop: Shop, built: Images) -> None:
    """While a failing rollout moves, never fewer pods are ready than the rollout itself allows."""
    async with played(ROWS["Deployment, in a rollout"], stage, shop, built) as play:
        fewest = 3

        def is_back() -> bool:
            nonlocal fewest
            fewest = min(fewest, sum(map(works, stage.staying())))
            return play.is_back and stage.settled()

        await stage.until(is_back)
        assert 3 == fewest


async def test_a_node_that_joins_meanwhile_needs_no_further_hand(
    plane: ControlPlane, saw: Audit, stage: Stage, shop: Shop, built: Images
) -> None:
    """The registry is still dead, and the pod of the moved DaemonSet comes up on the new node with its first pull."""
    async with played(ROWS["DaemonSet, init container"], stage, shop, built) as play:
        await stage.until(lambda: play.is_back and stage.settled())
        before, mark = set(stage.pods), saw.mark()
        async with RealNode(plane, "joins"):
            await stage.until(lambda: 2 == play.moved)
            (uid,) = set(stage.pods) - before
            assert "joins" == stage.pods[uid]["spec"]["nodeName"]
        assert [] == [each["message"] for each in stage.events(uid) if each["reason"] == "Failed"]
        assert [] == [
            call
            for call in saw.calls(mark, stage.namespace)
            if call.resource in {"daemonsets", "pods"} and call.verb not in READS
        ]


async def test_strategy_pods_rolls_nothing(stage: Stage, shop: Shop, built: Images) -> None:
    """The pods that ran when the registry died are the same afterwards, and none of their containers restarted."""
    async with played(ROWS["strategy: Pods, 5 of 55"], stage, shop, built) as play:
        before = {uid for uid, each in stage.pods.items() if works(each)}
        await play.until_back()
        assert 50 == len(before)
        assert before < set(stage.pods)
        assert 55 == len(stage.pods)


async def test_a_cron_job_that_forbids_concurrency_goes_on(stage: Stage, shop: Shop, built: Images) -> None:
    """Once its stuck Job is freed, a later run has the other image from the start."""
    async with played(JOBS["CronJob, Forbid"], stage, shop, built) as play:
        await play.until_back()
        path = await stage.api.path(play.live)
        assert {"web": shop.alive("ends")} == images(pod_spec_of(await stage.api.get(path)))
