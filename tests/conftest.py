"""What tests of every tier share."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from playground.binaries import UnavailableError, find
from playground.controlplane import ControlPlane


@pytest.fixture(scope="session")
def binaries() -> dict[str, Path]:
    """Give the programs of a control plane; where they cannot be had, skip the test, or fail it under `CI=true`."""
    try:
        return find()
    except UnavailableError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
async def plane(binaries: dict[str, Path]) -> AsyncIterator[ControlPlane]:
    """Give a running control plane, one for the whole session: tests keep to namespaces of their own."""
    async with ControlPlane(binaries) as running:
        yield running
