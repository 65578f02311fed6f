"""What a real node needs: what is missing is named, and can be installed."""

from pathlib import Path

import pytest

from playground.node.packages import install, missing_packages, unmet_requirement

PROGRAMS = ("containerd", "runc", "docker-registry", "skopeo", "umoci")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the only folder of programs, which is empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add(programs: Path, name: str, script: str = "") -> None:
    """Add a program."""
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


@pytest.mark.usefixtures("programs")
def test_missing_programs_are_told_by_their_packages() -> None:
    """A machine without the programs lacks their packages."""
    assert set(PROGRAMS) <= set(missing_packages())
    assert unmet_requirement()


def test_a_program_from_elsewhere_will_do(programs: Path) -> None:
    """Whoever brought a program, its package is not missing."""
    add(programs, "skopeo")
    assert "skopeo" not in missing_packages()


def test_only_what_is_missing_is_installed(programs: Path, tmp_path: Path) -> None:
    """The lists of packages are fetched first, then what is missing is installed and nothing that goes with it."""
    for name in PROGRAMS[1:]:
        add(programs, name)
    add(programs, "apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {tmp_path}/asked')
    missing = missing_packages()
    assert "containerd" in missing
    install()
    asked = (tmp_path / "asked").read_text().splitlines()
    wanted = f"noninteractive install --yes --no-install-recommends {' '.join(missing)}"
    assert ["noninteractive update", wanted] == asked
