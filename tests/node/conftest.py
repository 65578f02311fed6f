"""Fixtures of the node tier: a cluster of its own, with a real node, and registries that really fail."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from playground.cluster.binaries import KUBELET, UnavailableError, find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.node.images import Images
from playground.node.packages import install, unmet_requirement
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from testkit.node.measurements import Measurements
from testkit.node.namespace_fixture import NamespaceFixture
from testkit.node.registry_fixture import Repositories

MEASUREMENTS = pytest.StashKey[Measurements]()


def pytest_configure(config: pytest.Config) -> None:
    """Prepare to keep measurements."""
    config.stash[MEASUREMENTS] = Measurements()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the measurements."""
    if config.stash[MEASUREMENTS].taken:
        terminalreporter.section("after the first Event of a failed pull, on a real node")
        for line in config.stash[MEASUREMENTS].lines():
            terminalreporter.line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that it can be deselected."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="session", autouse=True)
def machine(binaries: dict[str, Path]) -> None:  # noqa: ARG001 -- without a control plane, there is nothing to join
    """Make sure that this machine can be a node: under `CI=true` install what it needs, otherwise skip the test."""
    if os.environ.get("CI") == "true":
        install()
    if lack := unmet_requirement():
        pytest.skip(lack)
    try:
        find_binaries([KUBELET])
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="package")
async def plane(machine: None, binaries: dict[str, Path]) -> AsyncIterator[ControlPlane]:  # noqa: ARG001
    """Give a control plane for this tier alone, so that no other tier's pods come to its node."""
    async with ControlPlane(binaries) as running:
        yield running


@pytest.fixture(scope="package")
async def node(plane: ControlPlane) -> AsyncIterator[RealNode]:
    """Give a real node."""
    async with RealNode(plane) as joined:
        yield joined


@pytest.fixture(scope="package")
async def built(machine: None) -> AsyncIterator[Images]:  # noqa: ARG001
    """Give images to run."""
    async with Images() as images:
        yield images


@pytest.fixture(scope="package")
async def dead(machine: None) -> AsyncIterator[Registry]:  # noqa: ARG001
    """Give a registry that has failed."""
    async with Registry() as registry:
        await registry.die()
        yield registry


@pytest.fixture(scope="package")
async def another(machine: None) -> AsyncIterator[Registry]:  # noqa: ARG001
    """Give a second registry that has failed."""
    async with Registry() as registry:
        await registry.die()
        yield registry


@pytest.fixture(scope="package")
async def alive(machine: None) -> AsyncIterator[Registry]:  # noqa: ARG001
    """Give a registry that works."""
    async with Registry() as registry:
        yield registry


@pytest.fixture
async def namespace(plane: ControlPlane, node: RealNode) -> AsyncIterator[NamespaceFixture]:  # noqa: ARG001 -- where its pods run
    """Give a namespace for one test."""
    async with NamespaceFixture(plane.admin) as opened:
        yield opened


@pytest.fixture
async def repositories(
    namespace: NamespaceFixture, built: Images, dead: Registry, another: Registry, alive: Registry
) -> Repositories:
    """Give repositories for one test, with images that no node has."""
    return await Repositories.opened(namespace.name, built, dead, another, alive)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder for all temporary files. Its path is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="saffire-test-") as name:
        yield Path(name)


@pytest.fixture
def measurements(pytestconfig: pytest.Config) -> Measurements:
    """Give the measurements of this run."""
    return pytestconfig.stash[MEASUREMENTS]
