"""A node can have registries on loopback in place of public ones, and then contacts no others."""

import re
from collections.abc import AsyncIterator

import pytest

from playground.cluster.controlplane import ControlPlane
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from testkit.api.workloads import container, pod, pod_spec
from testkit.node.namespace_fixture import NamespaceFixture
from testkit.node.registry_fixture import Repositories

NAME = "loopback"


@pytest.fixture(scope="module")
async def node_with_mirrors(plane: ControlPlane, alive: Registry, dead: Registry) -> AsyncIterator[RealNode]:
    """Give a node with mirrors for two public registries; one of the mirrors has failed."""
    async with RealNode(plane, NAME, registries={"quay.io": alive.domain, "ghcr.io": dead.domain}) as joined:
        yield joined


def runs(image: str) -> dict[str, object]:
    """Return a pod for that node."""
    return pod(pod_spec(container(image=image), nodeSelector={"kubernetes.io/hostname": NAME}))


@pytest.mark.usefixtures("node_with_mirrors")
async def test_a_public_name_is_pulled_from_loopback(
    namespace: NamespaceFixture, repositories: Repositories, alive: Registry
) -> None:
    """The pod has an image of quay.io and runs, and the registry on loopback has served it."""
    repository = repositories.alive().partition("/")[2].removesuffix(":v1")
    await namespace.apply(runs(f"quay.io/{repository}:v1"))
    await namespace.until(lambda: any("Running" == pod["status"].get("phase") for pod in namespace.pods.values()))
    assert f"/v2/{repository}/manifests/v1?ns=quay.io" in alive.log()


@pytest.mark.usefixtures("node_with_mirrors")
@pytest.mark.parametrize(
    "image", ["ghcr.io/acme/web:v1", "docker.io/library/busybox:1", "busybox", "registry.k8s.io/pause:3.9"]
)
async def test_a_registry_that_is_dead_or_unknown_refuses_connections(image: str, namespace: NamespaceFixture) -> None:
    """Whether this machine has a network or not, such an image is pulled from loopback and nowhere else."""
    await namespace.apply(runs(image))
    await namespace.until(lambda: bool(failures(namespace)))
    assert re.search(r"dial tcp 127\.0\.0\.1:\d+: connect: connection refused", failures(namespace)[0])


def failures(namespace: NamespaceFixture) -> list[str]:
    """Return the messages about failed pulls."""
    messages = (manifest.get("message", "") for _, manifest in namespace.seen)
    return [message for message in messages if message.startswith("Failed to pull")]
