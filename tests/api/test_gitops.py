"""Other tools apply manifests to the same objects: kubectl, Helm, Argo CD, Flux, and a controller that reverts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest

from playground.cluster.api import ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.eventsource.apiserversource import ApiServerSource
from playground.function_process import FunctionProcess
from testkit.api import workloads
from testkit.api.custom_kinds import CLONE_SET, define, owned
from testkit.api.namespace_fixture import HISTORY, PULL_REASONS, NamespaceFixture, statuses, until, waiting
from testkit.api.workloads import NEW, OLD, deployment, images, pod_spec_of

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = "kubectl-client-side-apply"
ARGO = "argocd-controller"


@dataclass(frozen=True, kw_only=True)
class Applier:
    """A tool that applies a manifest. `manager` is its field manager; `apply` creates the object or restores it."""

    manager: str
    apply: Callable[[NamespaceFixture], Awaitable[object]]


async def apply_by_client(namespace: NamespaceFixture) -> None:
    """
    Send what `kubectl apply` sends.

    It creates the object with the manifest in an annotation. Later it compares annotation, manifest and live object,
    and sends a strategic merge patch of the differences: here, the image.
    """
    wanted = deployment()
    path = f"/apis/apps/v1/namespaces/{namespace.name}/deployments"
    query = {"fieldManager": KUBECTL, "fieldValidation": "Strict"}
    try:
        live = await namespace.read(wanted)
    except ApiError as error:
        assert HTTPStatus.NOT_FOUND == error.status  # noqa: PT017 - the conflict is not what is tested
        wanted["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(wanted) + "\n"}
        await namespace.api.request("POST", path, wanted, **query)
        return
    assert wanted == json.loads(live["metadata"]["annotations"][LAST_APPLIED])
    (container,) = pod_spec_of(wanted)["containers"]
    spec = {"$setElementOrder/containers": [{"name": container["name"]}], "containers": [container]}
    patch = {"spec": {"template": {"spec": spec}}}
    await namespace.api.patch(f"{path}/{wanted['metadata']['name']}", patch, "strategic", **query)


async def apply_by_server(namespace: NamespaceFixture, force: str = "true") -> Manifest:
    """Send what `kubectl apply --server-side --force-conflicts`, Helm 4, Argo CD and Flux send."""
    wanted = deployment()
    path = f"/apis/apps/v1/namespaces/{namespace.name}/deployments/{wanted['metadata']['name']}"
    applied: Manifest = await namespace.api.patch(path, wanted, "apply", fieldManager=ARGO, force=force)
    return applied


APPLIERS = {
    "kubectl apply": Applier(manager=KUBECTL, apply=apply_by_client),
    "server-side apply": Applier(manager=ARGO, apply=apply_by_server),
}


async def template(namespace: NamespaceFixture) -> dict[str, str]:
    """Return the images of the Deployment's template."""
    return images(pod_spec_of(await namespace.read(deployment())))


async def deliver_until_patched(namespace: NamespaceFixture) -> list[tuple[str, str]]:
    """Deliver the Events of failing pods, some of which may be under deletion, until something is patched."""

    async def patched() -> list[tuple[str, str]]:
        for pod in await namespace.failing():
            await namespace.post(await namespace.event(pod))
        return namespace.patches()

    namespace.mark()
    return await until(patched)


def note(manager: str) -> str:
    """Return the note about a template that a field manager restored twice."""
    return f"Deployment/web was put back twice, last by {manager}, so its template is left alone"


def logged(function: FunctionProcess, namespace: NamespaceFixture) -> list[str]:
    """Return the notes of the plans in the function's log, for the pods of the namespace, in order."""
    lines: list[dict[str, Any]] = [
        line for line in function.log() if str(line.get("pod", "")).startswith(f"{namespace.name}/")
    ]
    return [plan["note"] for line in lines for plan in line.get("plans", ()) if "note" in plan]


async def runs(namespace: NamespaceFixture, count: int) -> bool:
    """Say whether so many pods run, all of them on the alternative."""
    pods = await namespace.pods()
    running = [
        pod for pod in pods if ["running"] == [key for entry in statuses(pod).values() for key in entry["state"]]
    ]
    return count == len(running) == len(pods) and all({"web": NEW} == images(pod["spec"]) for pod in running)


@pytest.mark.parametrize("applier", APPLIERS.values(), ids=APPLIERS)
async def test_who_puts_the_image_back_twice_keeps_the_template_and_is_named(
    namespace: NamespaceFixture, function: FunctionProcess, applier: Applier
) -> None:
    """The third failover moves pods in place; log, pod Event, source Event and status name the tool."""
    await namespace.source()
    await applier.apply(namespace)
    for _ in range(2):
        assert ("deployments", "web") in await deliver_until_patched(namespace)
        assert {"web": NEW} == await template(namespace)
        await applier.apply(namespace)
        assert {"web": OLD} == await template(namespace)
    assert "note" not in (await namespace.status())["switches"][-1]
    before = await namespace.read(deployment())
    (patched,) = await deliver_until_patched(namespace)
    assert "pods" == patched[0]
    assert before["spec"] == (await namespace.read(deployment()))["spec"]
    messages = [
        event["message"]
        for event in await namespace.events(source="saffire")
        if event["message"].endswith("left alone")
    ]
    assert 2 == len(messages)
    assert all(message.endswith(f"; {note(applier.manager)}") for message in messages)
    status = await namespace.status()
    assert [None, None, note(applier.manager)] == [switch.get("note") for switch in status["switches"]]
    assert {note(applier.manager)} == set(logged(function, namespace))


async def test_an_applier_that_does_not_force_learns_who_has_the_image(namespace: NamespaceFixture) -> None:
    """The API server answers with a conflict that names Saffire and the field, and the failover stays."""
    await namespace.source()
    await apply_by_server(namespace)
    await deliver_until_patched(namespace)
    with pytest.raises(ApiError) as conflict:
        await apply_by_server(namespace, force="false")
    assert HTTPStatus.CONFLICT == conflict.value.status
    assert 'conflict with "saffire" using apps/v1: .spec.template.spec.containers[name="web"].image' in str(
        conflict.value
    )
    assert {"web": NEW} == await template(namespace)


async def test_kubectl_leaves_the_record_when_it_puts_the_image_back(namespace: NamespaceFixture) -> None:
    """The history annotation is not in kubectl's manifest and stays; otherwise the reversions could not be counted."""
    await namespace.source()
    await apply_by_client(namespace)
    await deliver_until_patched(namespace)
    failed_over = await namespace.read(deployment())
    await apply_by_client(namespace)
    after = await namespace.read(deployment())
    assert {"web": OLD} == images(pod_spec_of(after))
    assert history(failed_over) == history(after)


def history(manifest: Manifest) -> str:
    """Return the history of an object."""
    written: str = manifest["metadata"]["annotations"][HISTORY]
    return written


async def test_a_foreign_kind_that_is_put_back_twice_is_left_alone_too(
    namespace: NamespaceFixture, cluster: ControlPlane
) -> None:
    """`kubectl apply` sends a custom resource's list whole, so its containers are one field with one manager."""
    await define(cluster.admin)
    await namespace.source()
    clones = await namespace.apply(CLONE_SET.manifest(spec={"template": workloads.template()}))
    path, put_back = await namespace.api.path(clones), {"spec": {"template": workloads.template()}}
    patched = []
    for name in ("first", "second", "third"):
        failing = await namespace.apply(owned(workloads.pod(name=name), clones))
        await until(lambda failing=failing: is_stuck(namespace, failing))  # type: ignore[misc]  # mypy sees no default
        namespace.mark()
        await namespace.post(await namespace.event(failing))
        patched.append(namespace.patches())
        await namespace.api.patch(path, put_back, "merge", fieldManager=KUBECTL)
    moved = [[("clonesets", "web"), ("pods", name)] for name in ("first", "second")]
    assert [*moved, [("pods", "third")]] == patched
    expected_note = f"CloneSet/web was put back twice, last by {KUBECTL}, so its template is left alone"
    assert expected_note == (await namespace.status())["switches"][-1]["note"]


async def is_stuck(namespace: NamespaceFixture, pod: Manifest) -> bool:
    """Say whether a pod has a failed pull in its status."""
    return bool(waiting(await namespace.read(pod)) & PULL_REASONS)


@contextlib.asynccontextmanager
async def reverting(namespace: NamespaceFixture) -> AsyncIterator[list[str]]:
    """Have a controller restore the Deployment whenever its image changes; give the images that it saw."""
    live = await apply_by_server(namespace)
    query = {
        "resourceVersion": live["metadata"]["resourceVersion"],
        "fieldSelector": f"metadata.name={live['metadata']['name']}",
    }
    seen: list[str] = []
    generations = set()

    async def revert() -> None:
        path = f"/apis/apps/v1/namespaces/{namespace.name}/deployments"
        async for _, changed in namespace.api.watch(path, **query):
            (image,) = images(pod_spec_of(changed)).values()
            if image != OLD and changed["metadata"]["generation"] not in generations:
                generations.add(changed["metadata"]["generation"])  # its status changes too
                seen.append(image)
                await apply_by_server(namespace)

    task = asyncio.create_task(revert())
    try:
        yield seen
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_controller_that_reverts_at_once_is_fought_twice_and_no_more(
    namespace: NamespaceFixture, function: FunctionProcess, cluster: ControlPlane
) -> None:
    """After two reversions Saffire leaves the template; every later pod moves in place."""
    await namespace.source()
    async with ApiServerSource(cluster.admin, namespace.url), reverting(namespace) as seen:
        await until(lambda: runs(namespace, 1))
        path = await namespace.api.path(await namespace.read(deployment()))
        await namespace.api.patch(path, {"spec": {"replicas": 3}})
        await until(lambda: runs(namespace, 3))
        assert {"web": OLD} == await template(namespace)
        assert [NEW, NEW] == seen
    patched = [resource for resource, _ in namespace.patches()]
    assert 2 == patched.count("deployments")
    assert patched.count("pods") >= 3
    status = await namespace.status()
    assert [None, None, note(ARGO)] == [switch.get("note") for switch in status["switches"]]
    assert {note(ARGO)} == set(logged(function, namespace))
