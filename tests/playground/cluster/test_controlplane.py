"""The control plane starts, does what any cluster does, and leaves nothing behind."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import kubernetes
import pytest

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from playground.cluster.processes import ProcessError

pytestmark = pytest.mark.api

LABELS = {"app": "web"}
POD_SPEC = {
    "containers": [{"name": "web", "image": "quay.io/acme/web"}],
    "nodeSelector": LABELS,
    "tolerations": [{"operator": "Exists"}],
}
POD = {"metadata": {"labels": LABELS}, "spec": POD_SPEC}
SELECTED = {"selector": {"matchLabels": LABELS}, "template": POD}
RUNS_ONCE = {"metadata": {"labels": LABELS}, "spec": POD_SPEC | {"restartPolicy": "Never"}}


@pytest.fixture
async def namespace(plane: ControlPlane) -> AsyncIterator[str]:
    """Give a namespace of the test's own."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "controlplane-"}}
    name: str = (await plane.admin.post("/api/v1/namespaces", manifest))["metadata"]["name"]
    yield name
    await plane.admin.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
async def node(plane: ControlPlane) -> AsyncIterator[str]:
    """Give the name of a node with the status Ready, only for the pods of this module."""
    spec = {"taints": [{"key": "controlplane", "effect": "NoSchedule"}]}
    manifest = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "controlplane", "labels": LABELS},
        "spec": spec,
    }
    status = {
        "allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    }
    await plane.admin.post("/api/v1/nodes", manifest)
    await plane.admin.patch("/api/v1/nodes/controlplane/status", {"status": status})
    yield "controlplane"
    await plane.admin.delete("/api/v1/nodes/controlplane")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition is true that a controller brings about."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 -- nothing notifies
            await asyncio.sleep(0.05)


async def pods(api: Api, namespace: str) -> list[Manifest]:
    """Return the pods of a namespace."""
    items: list[Manifest] = (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
    return items


def gone(pid: int) -> bool:
    """Return whether there is no process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_it_ends_without_a_trace(binaries: dict[str, Path]) -> None:
    """When the block ends, the four processes have ended and their folder is removed."""
    async with ControlPlane(binaries) as plane:
        pids = plane.pids()
        assert binaries.keys() == pids.keys()
        assert "ok" == await plane.admin.get("/readyz")
    assert all(gone(pid) for pid in pids.values())
    assert not plane.folder.exists()


async def test_a_broken_component_is_named_with_the_end_of_its_log(binaries: dict[str, Path], tmp_path: Path) -> None:
    """If a component ends during the start, the error names it and shows its log; nothing is left behind."""
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho unknown flag >&2\nexit 3\n")
    broken.chmod(0o755)
    plane = ControlPlane(binaries | {"kube-apiserver": broken})
    with pytest.raises(ProcessError, match=r"(?s)kube-apiserver ended with status 3.*unknown flag"):
        await plane.__aenter__()
    assert all(gone(pid) for pid in plane.pids().values())
    assert not plane.folder.exists()


async def test_a_component_that_is_late_is_named(binaries: dict[str, Path]) -> None:
    """If the start takes too long, the error names the component that is not ready; nothing is left behind."""
    plane = ControlPlane(binaries, start_seconds=0.2)
    with pytest.raises(ProcessError, match=r"kube-apiserver is not ready after 0\.2 s; the end of its log:"):
        await plane.__aenter__()
    assert all(gone(pid) for pid in plane.pids().values())
    assert not plane.folder.exists()


@pytest.mark.parametrize(
    "workload",
    [
        {"apiVersion": "apps/v1", "kind": "Deployment", "spec": SELECTED},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "spec": SELECTED},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": SELECTED},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": SELECTED},
        {"apiVersion": "v1", "kind": "ReplicationController", "spec": {"selector": LABELS, "template": POD}},
        {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": RUNS_ONCE}},
    ],
    ids=lambda workload: workload["kind"],
)
async def test_each_kind_of_workload_gets_a_pod_on_a_node(
    plane: ControlPlane, namespace: str, node: str, workload: Manifest
) -> None:
    """The controllers create pods from templates, and the scheduler binds them to a node."""
    await plane.admin.apply(workload | {"metadata": {"name": "web", "namespace": namespace}})

    async def scheduled() -> bool:
        return [node] == [pod["spec"].get("nodeName") for pod in await pods(plane.admin, namespace)]

    await until(scheduled)


async def test_a_cronjob_runs(plane: ControlPlane, namespace: str) -> None:
    """If a run was missed, the CronJob gets a Job and a pod at once."""
    cronjob = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": RUNS_ONCE}}},
    }
    await plane.admin.apply(cronjob)
    before = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = await plane.admin.path(cronjob)
    await plane.admin.patch(f"{path}/status", {"status": {"lastScheduleTime": before}})

    async def has_pods() -> bool:
        return bool(await pods(plane.admin, namespace))

    await until(has_pods)


async def test_the_pods_of_a_deleted_workload_are_deleted(plane: ControlPlane, namespace: str) -> None:
    """The garbage collector deletes objects whose owner is gone."""
    metadata = {"name": "web", "namespace": namespace}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": SELECTED}
    await plane.admin.apply(manifest)

    async def has_pods() -> bool:
        return bool(await pods(plane.admin, namespace))

    async def has_no_pods() -> bool:
        return not await has_pods()

    await until(has_pods)
    await plane.admin.delete(await plane.admin.path(manifest))
    await until(has_no_pods)


async def test_a_deleted_namespace_vanishes(plane: ControlPlane) -> None:
    """The namespace controller deletes the objects of the namespace, then the namespace."""
    await plane.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doomed"}})
    await plane.admin.post("/api/v1/namespaces/doomed/pods", {"metadata": {"name": "web"}, "spec": POD_SPEC})
    await plane.admin.delete("/api/v1/namespaces/doomed")

    async def vanished() -> bool:
        names = [item["metadata"]["name"] for item in (await plane.admin.get("/api/v1/namespaces"))["items"]]
        return "doomed" not in names

    await until(vanished)


async def test_a_pod_can_be_created_right_after_its_namespace(plane: ControlPlane, namespace: str) -> None:
    """Admission waits for the default service account instead of refusing the pod, and mounts its token."""
    pod = await plane.admin.post(
        f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": "web"}, "spec": POD_SPEC}
    )
    assert "default" == pod["spec"]["serviceAccountName"]
    assert pod["spec"]["containers"][0]["volumeMounts"]


async def test_a_service_account_may_do_what_its_role_says(plane: ControlPlane, namespace: str) -> None:
    """RBAC refuses a request until a RoleBinding allows it."""
    async with await plane.api_for(namespace, "default") as api:
        with pytest.raises(ApiError, match="cannot list resource") as error:
            await pods(api, namespace)
        assert 403 == error.value.status
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "view", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
        }
        await plane.admin.apply(binding)

        async def allowed() -> bool:
            try:
                return [] == await pods(api, namespace)
            except ApiError:
                return False

        await until(allowed)


async def test_a_kubeconfig_serves_the_kubernetes_client(plane: ControlPlane, namespace: str) -> None:
    """The official client accepts the kubeconfig and authenticates as the service account."""
    kubeconfig = await plane.kubeconfig_for(namespace, "default")
    assert 0o600 == stat.S_IMODE(kubeconfig.stat().st_mode)

    def current_user() -> str:
        with kubernetes.config.new_client_from_config(str(kubeconfig)) as client:
            review = kubernetes.client.AuthenticationV1Api(client).create_self_subject_review({})
            user: str = review.status.user_info.username
            return user

    assert f"system:serviceaccount:{namespace}:default" == await asyncio.to_thread(current_user)


async def test_the_audit_log_has_a_line_per_request(plane: ControlPlane, namespace: str) -> None:
    """When a request is answered, it is in the log, with its user."""
    user = f"system:serviceaccount:{namespace}:default"
    async with await plane.api_for(namespace, "default") as api:
        for _ in range(3):
            await api.get("/version")
    entries = [json.loads(line) for line in plane.audit.read_text().splitlines()]
    assert ["/version"] * 3 == [entry["requestURI"] for entry in entries if entry["user"]["username"] == user]
