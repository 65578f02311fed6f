"""The command line of the benchmarks, and rules for all of their modules."""

import doctest
import importlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bench
from bench.figures.recovery import results
from bench.harness.recovery_trial import Trial
from bench.report.latest import FILE, Latest, Run, write

BENCH = (sys.executable, "-m", "bench")
FOLDER = Path(bench.__path__[0])
MODULES = sorted(FOLDER.rglob("*.py"))
EXAMPLES = [".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in MODULES if ">>> " in path.read_text()]


def test_pages_are_written_again_from_what_was_measured(tmp_path: Path) -> None:
    """With `--pages` nothing is measured, and the numbers stay the same."""
    trials = [Trial(ready=2.0, settled=2.0, patched=0.05, made=1)]
    measured = results("Pod", {True: trials, False: trials})
    run = Run(machine={}, versions={"saffire": "x"}, now=datetime(2026, 1, 1, tzinfo=UTC))
    write(Latest().merged(measured, run), tmp_path)
    before = json.loads((tmp_path / FILE).read_text())
    subprocess.run([*BENCH, "--pages", "--into", tmp_path], check=True)
    assert "| Pod | 2.00 s | 2.00 s | 1.00 |" in (tmp_path / "recovery.md").read_text()
    assert (tmp_path / "recovery.svg").read_text().startswith("<svg")
    assert before == json.loads((tmp_path / FILE).read_text())


@pytest.mark.parametrize("options", [("--only", "nothing"), ("--runs", "0"), ("--runs", "many")])
def test_a_wrong_option_is_a_message(options: tuple[str, ...]) -> None:
    """The message is for a person, and comes before anything is measured."""
    done = subprocess.run([*BENCH, *options], capture_output=True, text=True, check=False)
    assert (2, "") == (done.returncode, done.stdout)
    assert f"argument {options[0]}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_module_fits_into_a_head(path: Path) -> None:
    """A module of more than 250 lines should be split."""
    assert len(path.read_text().splitlines()) <= 250


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    """Every example in a docstring holds."""
    result = doctest.testmod(importlib.import_module(f"bench.{module}"))
    assert (0, True) == (result.failed, result.attempted > 0)
