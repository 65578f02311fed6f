"""Fixtures of the tests of manifests: Knative's own code, and an API server that has the objects of knative/."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from playground.cluster.binaries import KUBERNETES
from playground.cluster.controlplane import ControlPlane
from playground.cluster.gobuild import BuildError, GoBuild
from testkit.manifests import load

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saffire"

Check = Callable[..., subprocess.CompletedProcess[str]]

RESOURCES: list[str] = load("kustomization.yaml")["resources"]
# The kinds that an API server has without Knative, in the order of the kustomization.
BUILT_IN = [name for name in RESOURCES if "knative.dev" not in load(name)["apiVersion"]]


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Give the program of this folder, which renders kustomizations and validates files by Knative's own code."""
    program = tmp_path_factory.mktemp("knative") / "check"
    environ = {**os.environ, "CGO_ENABLED": "0"}
    try:
        go = GoBuild(kubernetes=KUBERNETES, cache=CACHE, environ=environ, progress=sys.stderr).go()
        subprocess.run([go, "mod", "download"], cwd=HERE, env=environ, check=True)
    except (BuildError, subprocess.CalledProcessError) as error:
        if environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    subprocess.run([go, "build", "-trimpath", "-ldflags=-s -w", "-o", program, "."], cwd=HERE, env=environ, check=True)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
async def applied(plane: ControlPlane) -> ControlPlane:
    """Give the control plane with everything of knative/ that needs no Knative."""
    for name in BUILT_IN:
        await plane.admin.apply(load(name))
    return plane
