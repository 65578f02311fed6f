"""
Names another Python of this machine, on which the tests run too: the newest, or else the oldest that Saffire supports.

`python -m testkit.pythons` prints its version and its path, or nothing if there is no other. A Python changes more than
syntax: from 3.13 on, it verifies certificates strictly. The image has the Python of its distribution, and contributors
have theirs.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

OLDEST = (3, 11)
"""As `requires-python` in pyproject.toml says."""
NEWEST = (3, 14)
"""The newest for which every pinned package has a wheel."""
_QUESTION = "import sys, ensurepip, venv; print(*sys.version_info[:2]); print(sys.executable)"
_ANSWER_SECONDS = 20

Version = tuple[int, int]


def candidates(home: Path) -> list[str]:
    """Return what may be a Python: names on the path, and what pyenv keeps where the path does not lead."""
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    return [*names, *map(str, sorted(home.glob(".pyenv/versions/3.*/bin/python")))]


def ask(candidate: str) -> tuple[Version, str] | None:
    """Return version and path of a Python; `None` if it does not run, or cannot make a virtual environment."""
    try:
        command = (candidate, "-I", "-c", _QUESTION)
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_ANSWER_SECONDS)
        version, path = answer.stdout.splitlines()
        major, minor = map(int, version.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return (major, minor), path


def another(answers: Iterable[tuple[Version, str] | None], *, own: Version) -> tuple[Version, str] | None:
    """Return the newest Python of the answers, or the oldest if `own` is newer; `None` if no supported one is left."""
    supported = sorted(answer for answer in answers if answer and OLDEST <= answer[0] <= NEWEST and answer[0] != own)
    if not supported:
        return None
    return supported[-1] if supported[-1][0] > own else supported[0]


if __name__ == "__main__":
    if python := another(map(ask, candidates(Path.home())), own=sys.version_info[:2]):
        (major, minor), path = python
        sys.stdout.write(f"{major}.{minor} {path}\n")
