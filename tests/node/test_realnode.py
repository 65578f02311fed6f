"""A real node registers with the control plane and runs pods."""

import json

from playground.cluster.binaries import KUBERNETES
from playground.cluster.controlplane import ControlPlane
from playground.node.realnode import RealNode
from testkit.api.workloads import container, job, pod, pod_spec
from testkit.node.namespace_fixture import NamespaceFixture
from testkit.node.registry_fixture import Repositories

MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount/token"


async def test_a_node_is_ready_when_it_is_entered(plane: ControlPlane, node: RealNode) -> None:
    """The control plane has a ready Node with the versions of kubelet and runtime."""
    live = await plane.admin.get(f"/api/v1/nodes/{node.name}")
    assert ["True"] == [
        condition["status"] for condition in live["status"]["conditions"] if condition["type"] == "Ready"
    ]
    assert KUBERNETES == live["status"]["nodeInfo"]["kubeletVersion"]
    assert live["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")


async def test_a_pod_runs(namespace: NamespaceFixture, repositories: Repositories) -> None:
    """The node pulls the image and starts the container, with an address."""
    uid = (await namespace.apply(pod(pod_spec(container(image=repositories.alive())))))["metadata"]["uid"]
    await namespace.until(lambda: "Running" == namespace.pods.get(uid, {}).get("status", {}).get("phase"))
    assert namespace.pods[uid]["status"]["podIP"]


async def test_a_pod_is_its_service_account(namespace: NamespaceFixture, repositories: Repositories) -> None:
    """The token that controllers and API server add to a pod is in its containers."""
    reads = container(image=repositories.alive(), command=["cat", MOUNTED])
    await namespace.apply(job(pod_spec(reads)))
    await namespace.until(lambda: any("Succeeded" == pod["status"].get("phase") for pod in namespace.pods.values()))


async def test_a_static_pod_runs_and_is_mirrored(
    node: RealNode, namespace: NamespaceFixture, repositories: Repositories
) -> None:
    """A manifest on the node's disk becomes a pod, which the API server shows and cannot change."""
    manifest = pod(pod_spec(container(image=repositories.alive())), name="static", namespace=namespace.name)
    file = node.static_pods / "static.json"
    file.write_text(json.dumps(manifest))
    try:
        await namespace.until(lambda: any("Running" == pod["status"].get("phase") for pod in namespace.pods.values()))
        assert [f"static-{node.name}"] == [pod["metadata"]["name"] for pod in namespace.pods.values()]
    finally:
        file.unlink()
    await namespace.until(lambda: not namespace.pods)


async def test_a_node_that_is_left_takes_its_pods_along(
    plane: ControlPlane, namespace: NamespaceFixture, repositories: Repositories
) -> None:
    """After the end of the context, the API server has neither the Node nor a pod of it."""
    async with RealNode(plane, "leaves"):
        selector = {"kubernetes.io/hostname": "leaves"}
        spec = pod_spec(container(image=repositories.alive()), nodeSelector=selector)
        uid = (await namespace.apply(pod(spec)))["metadata"]["uid"]
        await namespace.until(lambda: "Running" == namespace.pods.get(uid, {}).get("status", {}).get("phase"))
    await namespace.until(lambda: uid not in namespace.pods)
    assert "leaves" not in [listed["metadata"]["name"] for listed in (await plane.admin.get("/api/v1/nodes"))["items"]]
