"""Somebody undoes each failover: an operator that makes its pods anew, or a user who undoes the rollout."""

import functools
import json
from datetime import UTC, datetime, timedelta

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from testkit.api.custom_kinds import CLUSTER, WIDGET, CustomKind, define, owned
from testkit.api.namespace_fixture import HISTORY, IGNORE, NamespaceFixture, statuses, until
from testkit.api.workloads import NEW, OLD, deployment, images, pod, pod_spec_of, stateful_set

ROUNDS = 4
UNDO = "kubectl-rollout"


@pytest.fixture(scope="module", autouse=True)
async def defined(cluster: ControlPlane) -> None:
    """Define the custom kinds."""
    await define(cluster.admin)


def logged_details(function: FunctionProcess, namespace: NamespaceFixture, reason: str) -> set[str]:
    """Return the details of the plans with this reason in the function's log, for the pods of the namespace."""
    lines = [line for line in function.log() if str(line.get("pod", "")).startswith(f"{namespace.name}/")]
    return {plan["detail"] for line in lines for plan in line.get("plans", ()) if plan.get("reason") == reason}


async def next_second() -> None:
    """Wait until the next second: the times of failovers are whole seconds, and no operator is faster."""
    start = datetime.now(UTC).replace(microsecond=0)

    async def is_over() -> bool:
        return datetime.now(UTC) - start >= timedelta(seconds=1)

    await until(is_over)


async def make_anew(namespace: NamespaceFixture, owner: Manifest) -> tuple[Manifest, list[tuple[str, str]]]:
    """Have the operator make its pod `web` anew, and deliver the Event about it; return the pod, and the patches."""
    wanted = owned(pod(), owner)
    await namespace.api.delete(await namespace.api.path(await namespace.read(wanted)))
    await namespace.until_gone(wanted)
    await next_second()
    failing, event = await namespace.fail(wanted)
    namespace.mark()
    await namespace.post(event)
    return failing, namespace.patches()


@pytest.mark.parametrize("kind", [CLUSTER, WIDGET], ids=lambda kind: kind.kind)
async def test_an_operator_that_makes_its_pods_anew_is_fought_twice(
    namespace: NamespaceFixture, function: FunctionProcess, kind: CustomKind
) -> None:
    """CloudNativePG deletes a pod whose image differs; the status, an Event and the log name it."""
    await namespace.source(trigger="AnyFailure")
    owner = await namespace.apply(kind.manifest(spec={"imageName": OLD}))
    _, event = await namespace.fail(owned(pod(), owner))
    await namespace.post(event)
    rounds = [namespace.patches()]
    for _ in range(ROUNDS):
        failing, patches = await make_anew(namespace, owner)
        rounds.append(patches)
    moved = [("pods", "web")]
    assert [moved, moved, [], [], []] == rounds
    why = f"Pod/web was made anew with its old image by {kind.kind}/web, twice within an hour"
    assert {why} == logged_details(function, namespace, "RevertedTwice")
    assert [("RevertedTwice", f"left web with {OLD}: RevertedTwice: {why}")] == await namespace.saffire_events(failing)
    status = await namespace.status()
    assert 2 == len(status["switches"])
    assert [("web", OLD, NEW, f"{kind.kind}/web")] * 2 == [
        (entry["pod"], entry["oldImage"], entry["newImage"], entry["by"]) for entry in status["reversions"]
    ]
    assert 1 == (await namespace.columns())["Reverted"]


async def test_pods_of_one_workload_that_fail_one_after_the_other_are_no_fight(namespace: NamespaceFixture) -> None:
    """With strategy Pods each new pod has the old image, and is moved in place."""
    await namespace.source(trigger="AnyFailure", strategy="Pods")
    live = await namespace.apply(deployment(replicas=0))
    seen: set[str] = set()
    for replicas in range(1, 5):
        await namespace.api.patch(await namespace.api.path(live), {"spec": {"replicas": replicas}})
        failing, *_ = await namespace.failing()
        await namespace.post(await namespace.event(failing))
        seen.add(failing["metadata"]["name"])
        await until(functools.partial(runs, namespace))
    assert seen == {name for resource, name in namespace.patches() if resource == "pods"}
    status = await namespace.status()
    assert ([seen], "reversions" in status) == ([set(switch["pods"]) for switch in status["switches"]], False)


async def runs(namespace: NamespaceFixture) -> bool:
    """Say whether all pods run, on the alternative."""
    pods = await namespace.pods()
    states = [status["state"] for pod in pods for status in statuses(pod).values()]
    return bool(pods) and all("running" in state for state in states) and {NEW} == _images(pods)


def _images(pods: list[Manifest]) -> set[str]:
    return {image for pod in pods for image in images(pod["spec"]).values()}


async def undo(namespace: NamespaceFixture) -> None:
    """
    Send what `kubectl rollout undo` sends.

    It puts the template of the older ReplicaSet in the place of the Deployment's, and that ReplicaSet's annotations in
    the place of the Deployment's.
    """
    await next_second()
    path = await namespace.api.path(await namespace.read(deployment()))
    operations = [
        {"op": "replace", "path": "/spec/template", "value": deployment()["spec"]["template"]},
        {"op": "replace", "path": "/metadata/annotations", "value": {}},
    ]
    await namespace.api.patch(path, operations, "json", fieldManager=UNDO)


async def deliver(namespace: NamespaceFixture) -> tuple[Manifest, list[tuple[str, str]], str]:
    """Deliver the Event of a pod with the old image; return the pod, the patches, and the answer."""
    failing, *_ = await namespace.failing()
    event = await namespace.event(failing)
    namespace.mark()
    answer = await namespace.post(event)
    return failing, namespace.patches(), answer.text


async def test_a_rollout_that_is_undone_twice_stays_undone(
    namespace: NamespaceFixture, function: FunctionProcess
) -> None:
    """Each undo takes the history annotation away, but not the status of the source."""
    await namespace.source(trigger="AnyFailure")
    await namespace.apply(deployment())
    for _ in range(2):
        _, patches, _ = await deliver(namespace)
        assert [("deployments", "web")] == patches
        await until(functools.partial(runs, namespace))
        await undo(namespace)
    for _ in range(2):
        failing, patches, answer = await deliver(namespace)
        assert [] == patches
        await namespace.api.delete(await namespace.api.path(failing))
    live = await namespace.read(deployment())
    assert {"web": OLD} == images(pod_spec_of(live))
    why = f"Deployment/web was put back twice within an hour, last by {UNDO}"
    assert f"left web with {OLD}: RevertedTwice: {why}" == answer
    assert [("RevertedTwice", answer)] == await namespace.saffire_events(failing)
    assert {why} == logged_details(function, namespace, "RevertedTwice")
    assert [UNDO, UNDO] == [entry["by"] for entry in (await namespace.status())["reversions"]]
    assert 1 == (await namespace.columns())["Reverted"]


async def test_an_undo_does_not_take_an_opt_out_back(namespace: NamespaceFixture) -> None:
    """A sweep has seen the opt-out, so it counts for an hour more."""
    await namespace.source(trigger="AnyFailure")
    await namespace.apply(deployment())
    _, patches, _ = await deliver(namespace)
    assert [("deployments", "web")] == patches
    await until(functools.partial(runs, namespace))
    await namespace.annotate(await namespace.read(deployment()), IGNORE, "true")
    await namespace.sweep()
    assert [True] == [entry.get("optedOut") for entry in (await namespace.status())["active"]]
    for _ in range(2):
        await undo(namespace)
        _, patches, answer = await deliver(namespace)
        assert [] == patches
        assert answer.endswith(f"OptedOut: Deployment/web had opted out until {UNDO} replaced its annotations")
        await namespace.sweep()
    status = await namespace.status()
    assert ([], [True]) == (status["active"], ["optedOut" in entry for entry in status["reversions"]])


@pytest.mark.parametrize(("has_history", "room"), [(True, 600), (False, 60)])
async def test_annotations_near_their_limit_do_not_hold_a_workload(
    namespace: NamespaceFixture, room: int, *, has_history: bool
) -> None:
    """The API server refuses more than 256 KiB of annotations, so the history is shorter, or is left out."""
    await namespace.source(trigger="AnyFailure")
    wanted = stateful_set()
    past = {"container": "other", "from": "a:1", "to": "b:1", "at": "2026-11-23T02:00:00Z"}
    history = json.dumps({"v": 1, "failovers": [past] * 5}) if has_history else ""
    annotations = {HISTORY: history} if has_history else {}
    others = "x" * (256 * 1024 - room - len("config"))
    wanted["metadata"]["annotations"] = {**annotations, "config": others[len(HISTORY) * has_history :]}
    _, event = await namespace.fail(wanted)
    await namespace.post(event)
    live = await namespace.read(wanted)
    assert {"web": NEW} == images(pod_spec_of(live))
    assert has_history is (NEW in live["metadata"]["annotations"].get(HISTORY, ""))
    assert 1 == len((await namespace.status())["switches"])
