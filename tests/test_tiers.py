"""A tier that cannot run is no secret: it is skipped on a developer's machine and fails under `CI=true`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from playground.cluster.binaries import CONTROL_PLANE, KUBELET

HERE = Path(__file__).parent
SKIPPED = {
    "a test": "import pytest\n\ndef test_it():\n    pytest.skip('no Go here')\n",
    "a module": "import pytest\n\npytest.skip('no Go here', allow_module_level=True)\n",
}


@pytest.mark.parametrize("code", SKIPPED.values(), ids=SKIPPED.keys())
@pytest.mark.parametrize(("environ", "passes"), [({"CI": "true"}, False), ({"CI": ""}, True)], ids=["ci", "elsewhere"])
def test_skipping(code: str, environ: dict[str, str], tmp_path: Path, *, passes: bool) -> None:
    """Skipping is allowed everywhere but where everything has to run, and the reason is shown."""
    (tmp_path / "test_skipped.py").write_text(code)
    (tmp_path / "test_run.py").write_text("def test_it():\n    pass\n")
    shutil.copy(HERE / "conftest.py", tmp_path)
    command = (sys.executable, "-m", "pytest", "-c", HERE.parent / "pyproject.toml", "--rootdir", tmp_path, tmp_path)
    run = subprocess.run(
        command, cwd=HERE.parent, env=os.environ | environ, capture_output=True, text=True, check=False
    )
    assert (passes, True) == (run.returncode == 0, "no Go here" in run.stdout)


@pytest.mark.parametrize(
    ("environ", "status", "why"),
    [({"CI": "true"}, pytest.ExitCode.TESTS_FAILED, "apt-get"), ({"CI": ""}, pytest.ExitCode.OK, "a real node needs")],
    ids=["ci", "elsewhere"],
)
def test_the_node_tier(environ: dict[str, str], status: int, why: str, tmp_path: Path) -> None:
    """It is skipped with the reason where a machine cannot be a node; CI would make it one, and fails if it can't."""
    for name in (*CONTROL_PLANE, KUBELET):
        (tmp_path / name).touch(mode=0o755)
    own = {"KUBEBUILDER_ASSETS": str(tmp_path), "PATH": str(tmp_path)}
    command = (sys.executable, "-m", "pytest", "--maxfail=3", "-p", "no:cacheprovider", HERE / "node")
    run = subprocess.run(
        command, cwd=HERE.parent, env=os.environ | own | environ, capture_output=True, text=True, check=False
    )
    assert (status, True) == (run.returncode, why in run.stdout)
