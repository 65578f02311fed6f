"""The command line of the release."""

import subprocess
import sys
from pathlib import Path

from release import ROOT
from release.__main__ import checksums


def test_the_checksums_can_be_checked(tmp_path: Path) -> None:
    """`sha256sum --check` accepts them, and finds what was changed."""
    for name in ("image.tar", "install.yaml"):
        (tmp_path / name).write_text(name)
    (tmp_path / "SHA256SUMS").write_text(checksums(tmp_path, ["image.tar", "install.yaml"]))
    command = ("sha256sum", "--check", "--quiet", "SHA256SUMS")
    assert 0 == subprocess.run(command, cwd=tmp_path, check=False).returncode
    (tmp_path / "install.yaml").write_text("changed")
    assert 1 == subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode


def test_a_fault_is_told_in_a_line(tmp_path: Path) -> None:
    """Who lacks apt reads that, and no traceback."""
    command = (sys.executable, "-m", "release", "image", "--into", tmp_path)
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (1, 1) == (done.returncode, len(done.stderr.splitlines())), done.stderr
    assert "apt-get is missing" in done.stderr
