"""Fixtures of the api tier: the function under its own role, nodes, and a namespace for each test."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.nodes import SimulatedNode
from playground.simulated.pod import Pace
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import ACCOUNT, CRDS, NAMESPACE, PACE, USER, SpareCluster, install, manifest, restrict
from testkit.api.fault_report import FaultReport
from testkit.api.named_registries import named_registries
from testkit.api.namespace_fixture import GROUP, NamespaceFixture, until
from testkit.api.registry_fixture import RegistryFixture
from testkit.api.registry_pool import RegistryPool
from testkit.api.workloads import DEAD

SLOW = "slow"
FAULT_REPORT = pytest.StashKey[FaultReport]()


def pytest_configure(config: pytest.Config) -> None:
    """Create the report on fault cases."""
    config.stash[FAULT_REPORT] = FaultReport()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the report on fault cases."""
    if config.stash[FAULT_REPORT].total:
        terminalreporter.section("faults of single requests, and how a repair came to its end after each")
        for line in config.stash[FAULT_REPORT].lines():
            terminalreporter.line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder: all need the control plane."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.api)


@pytest.fixture(scope="session")
async def cluster(plane: ControlPlane) -> ControlPlane:
    """Give the control plane with everything of knative/ that does not need Knative."""
    await install(plane, *map(manifest, CRDS))
    return plane


@pytest.fixture(scope="session")
async def kubeconfig(cluster: ControlPlane) -> Path:
    """Give the kubeconfig of the function's service account."""
    return await cluster.kubeconfig_for(NAMESPACE, ACCOUNT)


@pytest.fixture(scope="session")
def dead() -> set[str]:
    """Give the registries that are dead, for the nodes and for the function: `DEAD`; tests may add others."""
    return {DEAD}


@pytest.fixture(scope="session")
async def environ(dead: set[str]) -> AsyncIterator[dict[str, str]]:
    """Give what every function needs in its environment. It asks registries on loopback by the names of real ones."""
    async with named_registries(dead) as variables:
        yield variables


@pytest.fixture(scope="session")
async def function(kubeconfig: Path, environ: dict[str, str]) -> AsyncIterator[FunctionProcess]:
    """Give one function for all tests, under exactly its role."""
    async with FunctionProcess(kubeconfig, **environ) as served:
        yield served


@pytest.fixture(scope="session")
def audit_log(cluster: ControlPlane) -> AuditLog:
    """Give the requests of the function's service account, from the audit log."""
    return AuditLog(cluster.audit, USER)


@pytest.fixture(scope="package")
async def node(cluster: ControlPlane, dead: set[str]) -> AsyncIterator[SimulatedNode]:
    """Give a node for the pods of this tier."""
    async with SimulatedNode(cluster.admin, "api", dead=dead, pace=PACE) as simulated_node:
        yield simulated_node


@pytest.fixture(scope="package")
async def slow_node(cluster: ControlPlane, dead: set[str]) -> AsyncIterator[str]:
    """
    Give the name of a node that writes Events at once and the status of its pods an hour later.

    It takes only pods that name it.
    """
    pace = Pace(status_lag=timedelta(hours=1))
    async with SimulatedNode(cluster.admin, SLOW, dead=dead, pace=pace):
        taint = {"spec": {"taints": [{"key": "slow", "effect": "NoSchedule"}]}}
        await cluster.admin.patch(f"/api/v1/nodes/{SLOW}", taint)
        yield SLOW


@pytest.fixture(scope="package")
async def spare_cluster(
    binaries: dict[str, Path], dead: set[str], environ: dict[str, str]
) -> AsyncIterator[SpareCluster]:
    """Give a cluster that a test may break."""
    async with SpareCluster(binaries, dead, environ) as running:
        yield running


@pytest.fixture
async def namespace(
    cluster: ControlPlane, function: FunctionProcess, audit_log: AuditLog, node: SimulatedNode
) -> AsyncIterator[NamespaceFixture]:
    """Give a namespace for one test; its pods run on `node`."""
    async with NamespaceFixture(cluster.admin, function.url, audit_log, node.dead) as opened:
        yield opened


@pytest.fixture
async def only_namespace(namespace: NamespaceFixture) -> NamespaceFixture:
    """Give a namespace in a cluster without the sources of earlier tests, whose namespaces are deleted later."""

    async def look() -> bool:
        left = (await namespace.api.get(f"/apis/{GROUP}/alternateimagesources"))["items"]
        for other in {source["metadata"]["namespace"] for source in left}:
            await namespace.api.delete(f"/apis/{GROUP}/namespaces/{other}/alternateimagesources")
        return not left

    await until(look)
    return namespace


@pytest.fixture(scope="package")
async def limited_function(cluster: ControlPlane, environ: dict[str, str]) -> AsyncIterator[tuple[str, AuditLog]]:
    """Give the URL of a function whose role lacks permissions that it needs, and the log of its requests."""
    user, kubeconfig = await restrict(cluster)
    async with FunctionProcess(kubeconfig, **environ) as served:
        yield served.url, AuditLog(cluster.audit, user)


@pytest.fixture
async def limited_namespace(
    cluster: ControlPlane, limited_function: tuple[str, AuditLog], node: SimulatedNode
) -> AsyncIterator[NamespaceFixture]:
    """Give a namespace whose function cannot read Deployments and may not change StatefulSets."""
    async with NamespaceFixture(cluster.admin, *limited_function, node.dead) as opened:
        yield opened


@pytest.fixture
def fault_report(pytestconfig: pytest.Config) -> FaultReport:
    """Give the report on fault cases."""
    return pytestconfig.stash[FAULT_REPORT]


@pytest.fixture(scope="package")
async def pool(environ: dict[str, str]) -> AsyncIterator[RegistryPool]:
    """Give a pool of registries on loopback."""
    async with RegistryPool(environ) as opened:
        yield opened


@pytest.fixture(scope="package")
async def checking_function(kubeconfig: Path, pool: RegistryPool) -> AsyncIterator[FunctionProcess]:
    """Give a function that may check the registries of the pool; for it a pull of one second has stalled."""
    async with FunctionProcess(kubeconfig, SAFFIRE_STALLED_SECONDS="1", **pool.environ) as served:
        yield served


@pytest.fixture
async def checking_namespace(
    cluster: ControlPlane, checking_function: FunctionProcess, audit_log: AuditLog, node: SimulatedNode
) -> AsyncIterator[NamespaceFixture]:
    """Give a namespace whose function checks registries."""
    async with NamespaceFixture(cluster.admin, checking_function.url, audit_log, node.dead) as opened:
        yield opened


@pytest.fixture
async def registry_fixture(checking_namespace: NamespaceFixture, pool: RegistryPool) -> AsyncIterator[RegistryFixture]:
    """Give a namespace whose registry works on the node until a test makes it fail. To Saffire, it answers 503."""
    old = pool.failing().domain
    yield RegistryFixture(checking_namespace, old)
    checking_namespace.dead.discard(old)
