"""One run of the recovery benchmark, to see that it measures at all."""

import json
import subprocess
import sys
from pathlib import Path

SECONDS = 120


def test_a_row_is_measured_beside_its_floor(tmp_path: Path) -> None:
    """Both sides recover, the table shows it, and results and plot are written."""
    command = (sys.executable, "-m", "bench", "--only=recovery", "--match=Pod, sidecar", "--runs=1", "--into", tmp_path)
    table = subprocess.check_output(command, text=True, timeout=SECONDS).splitlines()
    figures = json.loads((tmp_path / "latest.json").read_text())["figures"]
    names = ["recovery: Pod, sidecar, p50", "recovery: Pod, sidecar, p95", "recovery: Pod, sidecar, first patch, p50"]
    assert names == [figure["figure"] for figure in figures]
    assert names == [line.partition("  ")[0] for line in table[1:]]
    assert all(0 < figure[field] < SECONDS / 2 for figure in figures for field in ("value", "baseline"))
    assert "Pod, sidecar" in (tmp_path / "recovery.svg").read_text()
