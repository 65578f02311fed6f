"""What the builder's own Python leaves in the layers: nothing."""

import sys
from pathlib import Path

import pytest

from release.commands import run
from release.rootfs import remove_programs


def test_no_record_tells_where_it_was_built(tmp_path: Path) -> None:
    """Scripts name the builder's Python. Neither they nor their hashes are in the layer."""
    for name in ("bin/ff", "functions_framework/__init__.py", "functions_framework-3.dist-info/RECORD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("bin/ff,sha256=a,317\nfunctions_framework/bin/x.py,sha256=b,1\n")
    remove_programs(tmp_path)
    assert not (tmp_path / "bin").exists()
    record = tmp_path / "functions_framework-3.dist-info" / "RECORD"
    assert "functions_framework/bin/x.py,sha256=b,1\n" == record.read_text()


def test_how_the_builder_runs_python_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """With PYTHONOPTIMIZE, the image's modules would be compiled into files that its Python does not read."""
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    monkeypatch.setenv("OTHER", "kept")
    program = "import os, sys; print(sys.flags.optimize, os.environ.get('UV_COMPILE_BYTECODE'), os.environ['OTHER'])"
    assert "0 None kept\n" == run(sys.executable, "-c", program)
    assert "2 None kept\n" == run(sys.executable, "-c", program, environ={"PYTHONOPTIMIZE": "2"})
