"""The demo, as people see it: what it shows, and what it says in the end."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.timeline import WIDTH
from playground.verdict import WORKLOADS

pytestmark = pytest.mark.api

NAMES = [f"{kind}/{name}" for kind, name in WORKLOADS]
LINES = 70


class Play:
    """A demo that runs."""

    def __init__(self, binaries: dict[str, Path], *options: str) -> None:
        self.process = subprocess.Popen(
            (sys.executable, "-m", "playground", "demo", *options),
            env={"KUBEBUILDER_ASSETS": str(binaries["etcd"].parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit status and all that it printed."""
        out, _ = self.process.communicate(timeout=180)
        return self.process.returncode, out


@pytest.fixture(scope="module")
def plays(binaries: dict[str, Path]) -> Iterator[tuple[Play, Play]]:
    """Give one demo with Saffire and one without, which run at the same time."""
    both = Play(binaries), Play(binaries, "--without-saffire")
    yield both
    for play in both:
        play.process.kill()
        play.process.wait()


def test_every_workload_is_back(plays: tuple[Play, Play]) -> None:
    """The registry dies, and each workload fails, is moved, and runs again: exit status 0."""
    status, out = plays[0].end()
    assert 0 == status, out
    for name in NAMES:
        assert re.search(rf"decided +{name} +→", out), out
        assert re.search(rf"^  {name} .*( +\d+\.\d s){{3}} +\S", out, re.MULTILINE), out
    assert {"fails", "decided", "patched", "runs"} <= set(re.findall(r"^ +\+\d+\.\d s  . (\w+)", out, re.MULTILINE))
    assert re.search(r"NAMESPACE +NAME +MODE +READY +ACTIVE", out), out


def test_without_saffire_nothing_is(plays: tuple[Play, Play]) -> None:
    """The same day without Saffire: each workload is named with what it lacks, and the exit status is 1."""
    status, out = plays[1].end()
    assert 1 == status, out
    for name in NAMES:
        assert re.search(rf"^✗ {name}: .*hangs in", out, re.MULTILINE), out
    assert "Init:ImagePullBackOff" in out
    assert "decided" not in out


@pytest.mark.parametrize("play", [0, 1])
def test_it_fits_a_terminal(plays: tuple[Play, Play], play: int) -> None:
    """It is not wide, not long, and without colour where nobody looks."""
    lines = plays[play].end()[1].splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= LINES
    assert not any("\x1b" in line for line in lines)


def test_keep_goes_on_until_ctrl_c(binaries: dict[str, Path]) -> None:
    """The cluster stays for a look, its kubeconfig is printed, and Ctrl-C removes both."""
    play = Play(binaries, "--keep")
    assert play.process.stdout
    kubeconfig = next(line for line in play.process.stdout if "export KUBECONFIG=" in line)
    folder = Path(kubeconfig.strip().removeprefix("export KUBECONFIG=")).parent
    assert folder.exists()
    play.process.send_signal(signal.SIGINT)
    status, out = play.end()
    assert (130, False) == (status, folder.exists())
    assert "Traceback" not in out
