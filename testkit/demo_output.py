"""The demo of the playground as a user sees it: what the demo prints, and its exit status."""

import os
import re
import subprocess
import sys
from pathlib import Path

from playground.demo.result import WORKLOADS

NAMES = [f"{kind}/{name}" for kind, name in WORKLOADS]
LINES = 70
WIDTH = 80  # of an output that is no terminal
DEADLINE_SECONDS = 180


class DemoRun:
    """A running demo. The environment of its process has `PATH`, `KUBEBUILDER_ASSETS`, `environ`, and nothing else."""

    def __init__(self, binaries: dict[str, Path], *options: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            (sys.executable, "-m", "playground", "demo", *options),
            env={"PATH": os.environ["PATH"], "KUBEBUILDER_ASSETS": str(binaries["etcd"].parent), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, words: str) -> str:
        """Wait until the demo prints a line that contains `words`, and return that line."""
        assert self.process.stdout
        return next(line for line in self.process.stdout if words in line)

    def end(self) -> tuple[int, str]:
        """Wait for the end of the demo; return its exit status, and the output that no test has read yet."""
        out, _ = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, out

    def kill(self) -> None:
        """End the demo, if it still runs."""
        self.process.kill()
        self.process.communicate()


def assert_all_moved(status: int, out: str) -> None:
    """
    Assert that by the output `out` each workload failed, was moved and runs again, and that the exit status is 0.

    Every alternative has to be proven, whatever registries the machine reaches.
    """
    assert 0 == status, out
    for name in NAMES:
        assert re.search(rf"decided +{name} +→", out), out
        assert re.search(rf"^  {name} .*( +\d+\.\d s){{3}} +\S", out, re.MULTILINE), out
    assert {"fails", "decided", "patched", "runs"} <= set(re.findall(r"^ +\+\d+\.\d s  . (\w+)", out, re.MULTILINE))
    # No other pod had the images of web 2.0 and of the report, so only their presence can be proven.
    assert "PROOF of the alternative: equal digest (flannel, db); present (web, report)" in out, out
    assert re.search(r"NAMESPACE +NAME +MODE +ACTIVE", out), out


def assert_nothing_moved(status: int, out: str) -> None:
    """Assert that the output `out` says of each workload why it hangs, and that the exit status is 1."""
    assert 1 == status, out
    for name in NAMES:
        assert re.search(rf"^✗ {name}: .*hangs in", out, re.MULTILINE), out
    assert "Init:ImagePullBackOff" in out
    assert "decided" not in out


def assert_it_fits_a_terminal(out: str) -> None:
    """Assert that the output fits 80 columns and 70 lines, and has no colour, since it does not go to a terminal."""
    lines = out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= LINES
    assert not any("\x1b" in line for line in lines)
