"""What the tests of the api tier share: the function under its own role, nodes, and a stage for each test."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from api.audit import Audit
from api.stage import GROUP, Stage, until
from api.workloads import DEAD
from playground.api import Api, ApiError, Manifest
from playground.controlplane import ControlPlane
from playground.kubelet_pod import Pace
from playground.node import PlayedNode
from playground.served import ServedFunction

KNATIVE = Path(__file__).parents[2] / "knative"
ROLE = ("function-serviceaccount", "function-clusterrole", "function-clusterrolebinding")
NAMESPACE = ACCOUNT = "saffire"
SLOW = "slow"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
PACE = Pace().divided(20)


def manifest(name: str) -> Manifest:
    """Return one of the manifests that users apply."""
    found: Manifest = yaml.safe_load((KNATIVE / f"{name}.yaml").read_text())
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: all need the control plane."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.api)


async def install(plane: ControlPlane, crd: Manifest) -> None:
    """Install what the function needs on a cluster, and wait until it may do what its role says."""
    for name in ("namespace", *ROLE):
        await plane.admin.apply(manifest(name))
    await plane.admin.apply(crd)
    async with Api(plane.server, str(plane.authority), plane.admin.token, user=USER) as api:
        await until(lambda: _may_list_sources(api))


async def _may_list_sources(api: Api) -> bool:
    try:
        await api.get(f"/apis/{GROUP}/namespaces/default/alternateimagesources")
    except ApiError as error:
        if error.status not in {403, 404, 429}:  # forbidden yet, unknown yet, and known but not ready
            raise
        return False
    return True


@pytest.fixture(scope="session")
async def cluster(plane: ControlPlane) -> ControlPlane:
    """Give the control plane with everything of knative/ that does not need Knative."""
    await install(plane, manifest("crd"))
    return plane


@pytest.fixture(scope="session")
async def kubeconfig(cluster: ControlPlane) -> Path:
    """Give the kubeconfig of the function's service account."""
    return await cluster.kubeconfig_for(NAMESPACE, ACCOUNT)


@pytest.fixture(scope="session")
async def function(kubeconfig: Path) -> AsyncIterator[ServedFunction]:
    """Give the function, served once for all tests under exactly its role."""
    async with ServedFunction(kubeconfig) as served:
        yield served


@pytest.fixture(scope="session")
def audit(cluster: ControlPlane) -> Audit:
    """Give the audit log of the function's service account."""
    return Audit(cluster.audit, USER)


@pytest.fixture(scope="package")
async def node(cluster: ControlPlane) -> AsyncIterator[PlayedNode]:
    """Give a node for the pods of this tier; the registry `DEAD` is dead, and tests may kill others."""
    async with PlayedNode(cluster.admin, "api", dead={DEAD}, pace=PACE) as played:
        yield played


@pytest.fixture(scope="package")
async def slow_node(cluster: ControlPlane) -> AsyncIterator[str]:
    """
    Give the name of a node that writes Events at once and the status of its pods an hour later.

    It takes no pods but those that name it.
    """
    pace = Pace(status_lag=timedelta(hours=1))
    async with PlayedNode(cluster.admin, SLOW, dead={DEAD}, pace=pace):
        taint = {"spec": {"taints": [{"key": "slow", "effect": "NoSchedule"}]}}
        await cluster.admin.patch(f"/api/v1/nodes/{SLOW}", taint)
        yield SLOW


@pytest.fixture
async def stage(
    cluster: ControlPlane, function: ServedFunction, audit: Audit, node: PlayedNode
) -> AsyncIterator[Stage]:
    """Give a stage of the test's own; its pods run on `node`."""
    opened = Stage(cluster.admin, function.url, audit, node.dead)
    await opened.open()
    yield opened
    await opened.close()
