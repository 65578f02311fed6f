"""The packages of a real node: missing ones are named, and can be installed."""

from pathlib import Path

import pytest

from playground.node.packages import install, missing_packages, unmet_requirement

PROGRAMS = ("containerd", "runc", "docker-registry", "skopeo", "umoci")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder, which is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add(programs: Path, name: str, script: str = "") -> None:
    """Add a program."""
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


@pytest.mark.usefixtures("programs")
def test_missing_programs_are_named_by_their_packages() -> None:
    """If the programs are missing, their packages are."""
    assert set(PROGRAMS) <= set(missing_packages())
    assert unmet_requirement()


def test_a_program_from_elsewhere_is_enough(programs: Path) -> None:
    """If a program is there, its package is not missing, wherever the program comes from."""
    add(programs, "skopeo")
    assert "skopeo" not in missing_packages()


def test_only_missing_packages_are_installed(programs: Path, tmp_path: Path) -> None:
    """apt-get first updates its lists, then installs the missing packages without recommended ones."""
    for name in PROGRAMS[1:]:
        add(programs, name)
    add(programs, "apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {tmp_path}/asked')
    missing = missing_packages()
    assert "containerd" in missing
    install()
    calls = (tmp_path / "asked").read_text().splitlines()
    expected = f"noninteractive install --yes --no-install-recommends {' '.join(missing)}"
    assert ["noninteractive update", expected] == calls
