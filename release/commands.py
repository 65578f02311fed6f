"""Runs a program to its end, and returns what it prints."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_LEFT_OUT = ("PYTHON", "UV_COMPILE")


class BuildError(Exception):
    """Something cannot be built; the message says why, and what a user can do."""


def run(*command: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """
    Run `command` with `environ` added to its environment; return what it prints, or raise `BuildError`.

    Variables of this machine that tell a Python how to run or to compile are not passed on.
    """
    own = {key: value for key, value in os.environ.items() if not key.startswith(_LEFT_OUT)}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env={**own, **(environ or {})},
        )
    except FileNotFoundError as error:
        raise BuildError(
            f"{command[0]} is missing: an image is built with apt, dpkg and gzip, as Debian has them"
        ) from error
    if done.returncode:
        raise BuildError(f"{command[0]} ended with status {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
