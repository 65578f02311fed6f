"""Fixtures of all tiers."""

import os
import signal
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import hypothesis
import pytest

from playground.cluster.binaries import UnavailableError, find_binaries
from playground.cluster.controlplane import ControlPlane
from release.commands import BuildError
from release.image import Image

pytest.register_assert_rewrite("testkit")

# How long an example takes depends on the machine; `make bench` measures time.
hypothesis.settings.register_profile("saffire", deadline=None)
# A mutation run repeats a property for each of thousands of changes.
hypothesis.settings.register_profile("mutation", deadline=None, max_examples=20, derandomize=True, database=None)
hypothesis.settings.load_profile("saffire")

# A shell starts background jobs with Ctrl-C ignored, in them and all they start; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report: pytest.TestReport | pytest.CollectReport) -> Generator[None]:
    """Turn a skipped test into a failed one under `CI=true`: there, every tier has to run."""
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI=true allows no skipped test, and this was: {report.longrepr}"
    yield


pytest_collectreport = pytest_runtest_logreport


@pytest.fixture(scope="session")
def binaries() -> dict[str, Path]:
    """Give the programs of a control plane. If they cannot be had, skip the test, or fail it under `CI=true`."""
    try:
        return find_binaries()
    except UnavailableError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Give the function's image. If it cannot be built here, skip the test, or fail it under `CI=true`."""
    from testkit.function_image import build_image  # noqa: PLC0415 -- after its assertions are registered

    try:
        return build_image(tmp_path_factory.mktemp("image"))
    except BuildError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
async def plane(binaries: dict[str, Path]) -> AsyncIterator[ControlPlane]:
    """Give a control plane for the whole session; each test keeps to namespaces of its own."""
    async with ControlPlane(binaries) as running:
        yield running
