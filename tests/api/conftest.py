"""What the tests of the api tier share: the function under its own role, nodes, and a stage for each test."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from playground.controlplane import ControlPlane
from playground.kubelet_pod import Pace
from playground.node import PlayedNode
from playground.served import ServedFunction
from testkit.api.audit_log import Audit
from testkit.api.clusters import ACCOUNT, CRDS, NAMESPACE, PACE, USER, Spare, install, manifest, restrict
from testkit.api.fault_report import Faults
from testkit.api.namespace_fixture import Stage
from testkit.api.registry_fixture import Shop
from testkit.api.registry_pool import Market
from testkit.api.workloads import DEAD

SLOW = "slow"
FAULTS = pytest.StashKey[Faults]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare to count the cases of the enumeration of faults."""
    config.stash[FAULTS] = Faults()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show how many there were."""
    if config.stash[FAULTS].total:
        terminalreporter.section("faults of single requests, and how a repair came to its end after each")
        for line in config.stash[FAULTS].lines():
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


@pytest.fixture(scope="package")
async def spare(binaries: dict[str, Path]) -> AsyncIterator[Spare]:
    """Give a cluster that may be broken."""
    async with Spare(binaries) as running:
        yield running


@pytest.fixture
async def stage(
    cluster: ControlPlane, function: ServedFunction, audit: Audit, node: PlayedNode
) -> AsyncIterator[Stage]:
    """Give a stage of the test's own; its pods run on `node`."""
    async with Stage(cluster.admin, function.url, audit, node.dead) as opened:
        yield opened


@pytest.fixture(scope="package")
async def limited_function(cluster: ControlPlane) -> AsyncIterator[tuple[str, Audit]]:
    """Give the URL of a function that may do less than it needs, and the log of what it asked."""
    user, kubeconfig = await restrict(cluster)
    async with ServedFunction(kubeconfig) as served:
        yield served.url, Audit(cluster.audit, user)


@pytest.fixture
async def limited(cluster: ControlPlane, limited_function: tuple[str, Audit], node: PlayedNode) -> AsyncIterator[Stage]:
    """Give a stage whose function sees no Deployments and may not change StatefulSets."""
    async with Stage(cluster.admin, *limited_function, node.dead) as opened:
        yield opened


@pytest.fixture
def faults(pytestconfig: pytest.Config) -> Faults:
    """Give what counts the cases of the enumeration of faults."""
    return pytestconfig.stash[FAULTS]


@pytest.fixture(scope="package")
async def market() -> AsyncIterator[Market]:
    """Give registries on loopback."""
    async with Market() as opened:
        yield opened


@pytest.fixture(scope="package")
async def asker(kubeconfig: Path, market: Market) -> AsyncIterator[ServedFunction]:
    """Give a function that may ask the registries of the market, and takes a pull of a second for one that stalls."""
    async with ServedFunction(kubeconfig, SAFFIRE_STALLED_SECONDS="1", **market.environ) as served:
        yield served


@pytest.fixture
async def asked(cluster: ControlPlane, asker: ServedFunction, audit: Audit, node: PlayedNode) -> AsyncIterator[Stage]:
    """Give a stage whose function asks registries."""
    async with Stage(cluster.admin, asker.url, audit, node.dead) as opened:
        yield opened


@pytest.fixture
async def shop(asked: Stage, market: Market) -> AsyncIterator[Shop]:
    """Give a shop whose registry is alive on the node until something is made to fail."""
    old = market.nobody()
    yield Shop(asked, old)
    asked.dead.discard(old)
