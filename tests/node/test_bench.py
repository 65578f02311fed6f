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
    whats = ["settled, p50", "settled, p95", "most pods made", "first ready, p50", "ready pods lost, p50"]
    names = [f"recovery: Pod, sidecar, {what}" for what in (*whats, "first patch, p50")]
    assert names == [figure["figure"] for figure in figures]
    assert names == [line.partition("  ")[0] for line in table[1:]]
    numbers = {figure["figure"]: (figure["value"], figure["baseline"]) for figure in figures}
    assert (0, 0) == numbers.pop(names[4])
    assert (1, 1) == numbers[names[2]]
    assert all(0 < number < SECONDS / 2 for both in numbers.values() for number in both)
    assert "Pod, sidecar" in (tmp_path / "recovery.svg").read_text()
