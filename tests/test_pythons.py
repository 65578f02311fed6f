"""On which other Python the tests run too."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from testkit.pythons import NEWEST, OLDEST, Version, another, ask, candidates

ROOT = Path(__file__).parent.parent
A, B, C, D = ((3, minor) for minor in (10, 11, 13, 14))


@pytest.mark.parametrize(
    ("versions", "own", "expected"),
    [
        pytest.param([A, B, C, D], B, D, id="the newest"),
        pytest.param([B, C], C, B, id="the oldest, if nothing is newer"),
        pytest.param([B], B, None, id="no other"),
        pytest.param([A, B], B, None, id="none that is supported"),
        pytest.param([B, (3, 15)], B, None, id="none that packages support"),
        pytest.param([None, C], B, C, id="what does not run is skipped"),
    ],
)
def test_the_choice(versions: list[Version | None], own: Version, expected: Version | None) -> None:
    """The tests run on the oldest and on the newest Python of a machine."""
    answers = [(version, "/python") if version else None for version in versions]
    assert ((expected, "/python") if expected else None) == another(answers, own=own)


def test_a_python_is_asked() -> None:
    """What a program is called proves nothing: it has to run, and to make virtual environments."""
    assert (sys.version_info[:2], sys.executable) == ask(sys.executable)


@pytest.mark.parametrize("script", [None, "exit 127", "exit 0"], ids=["absent", "broken", "silent"])
def test_what_is_no_python_is_skipped(script: str | None, tmp_path: Path) -> None:
    """A `python3.13` of pyenv is on the path also where it would run none."""
    program = tmp_path / "python3.13"
    if script:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    assert ask(str(program)) is None


def test_pythons_of_pyenv_are_candidates(tmp_path: Path) -> None:
    """The path leads only to those that pyenv was told to use."""
    program = tmp_path / ".pyenv/versions/3.13.0/bin/python"
    program.parent.mkdir(parents=True)
    program.touch()
    assert ["python3.14", "python3.13", "python3.12", "python3.11", str(program)] == candidates(tmp_path)


def test_the_oldest_is_what_the_project_requires() -> None:
    """`requires-python` says it to package managers. Every pinned package has a wheel for the newest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ">={}.{}".format(*OLDEST) == project["requires-python"]
    tags = ("none-any", "py3-none-", "-abi3-", "-cp{}{}-".format(*NEWEST))
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    lacking = {
        package["name"]
        for package in packages
        if "wheels" in package and not any(tag in wheel["url"] for wheel in package["wheels"] for tag in tags)
    }
    # Some packages are for one older Python only.
    pins = (ROOT / "requirements-dev.txt").read_text()
    older = re.findall(r"^(\S+)==\S+ ; python_full_version == '(3\.\d+)", pins, re.MULTILINE)
    assert set() == lacking - {name for name, version in older if version != "{}.{}".format(*NEWEST)}
