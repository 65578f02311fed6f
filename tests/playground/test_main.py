"""The playground's command line."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from playground.cluster.binaries import CONTROL_PLANE, KUBELET

PLAYGROUND = (sys.executable, "-m", "playground")


@pytest.mark.api
def test_up_runs_until_ctrl_c(binaries: dict[str, Path]) -> None:
    """The first line can be pasted into a shell. Ctrl-C removes the kubeconfig that it names."""
    environ = {"KUBEBUILDER_ASSETS": str(binaries["etcd"].parent)}
    with subprocess.Popen([*PLAYGROUND, "up"], env=environ, stdout=subprocess.PIPE, text=True) as playground:
        assert playground.stdout
        kubeconfig = Path(playground.stdout.readline().removeprefix("export KUBECONFIG=").strip())
        assert "playground" in kubeconfig.read_text()
        playground.send_signal(signal.SIGINT)
        assert 130 == playground.wait(timeout=60)
    assert not kubeconfig.parent.exists()


def test_missing_binaries_are_a_message_not_a_traceback(tmp_path: Path) -> None:
    """The error is a message for the user."""
    result = subprocess.run(
        [*PLAYGROUND, "binaries"],
        env={"KUBEBUILDER_ASSETS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (1, "") == (result.returncode, result.stdout)
    assert result.stderr.startswith("KUBEBUILDER_ASSETS is set to")


@pytest.mark.parametrize(
    ("environ", "names"), [({}, CONTROL_PLANE), ({"CI": "true"}, (*CONTROL_PLANE, KUBELET))], ids=["elsewhere", "ci"]
)
def test_binaries_prints_where_they_are(environ: dict[str, str], names: tuple[str, ...], tmp_path: Path) -> None:
    """It prints one path per line, the kubelet's only if the machine has a node's packages or CI is true."""
    for name in names:
        (tmp_path / name).touch(mode=0o755)
    own = {"KUBEBUILDER_ASSETS": str(tmp_path), "PATH": str(tmp_path)}
    out = subprocess.check_output([*PLAYGROUND, "binaries"], env=environ | own, text=True)
    assert [str(tmp_path / name) for name in names] == out.splitlines()
