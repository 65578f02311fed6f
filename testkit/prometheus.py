"""The programs of Prometheus: those on `PATH`, or of the Debian package `prometheus`, unpacked into the cache."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saffire"


class UnavailableError(Exception):
    """The machine has no such program, and apt does not bring it."""


def find_program(name: str) -> Path:
    """
    Return the path of `prometheus` or `promtool`; raise `UnavailableError` if there is none.

    The package is unpacked and not installed: its scripts would start a server.
    """
    own = shutil.which(name)
    program = CACHE / "prometheus" / "usr" / "bin" / name
    if not own and not program.exists():
        try:
            _unpack(CACHE / "prometheus")
        except (OSError, subprocess.CalledProcessError) as error:
            raise UnavailableError(f"{name} is not on PATH, and apt does not bring it: {error}") from error
    return Path(own) if own else program


def _unpack(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            _run("apt-get", "download", "prometheus", folder=folder)
        except subprocess.CalledProcessError:  # its lists may be missing, or old
            if os.environ.get("CI") != "true":
                raise
            _run("apt-get", "update", folder=folder)
            _run("apt-get", "download", "prometheus", folder=folder)
        (package,) = Path(folder).glob("prometheus_*.deb")
        _run("dpkg-deb", "--extract", package, "files", folder=folder)
        shutil.rmtree(target, ignore_errors=True)
        (Path(folder) / "files").rename(target)


def _run(*command: str | Path, folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
