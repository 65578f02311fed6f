"""Measures how much processor time the function takes until it answers, in the root file system of its image."""

import resource
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from release.commands import BuildError
from release.image import Roots, command
from release.rootfs import APP, PACKAGES, ImagePython

_DEADLINE_SECONDS = 60
_POLL_SECONDS = 0.01


def measure(roots: Roots) -> float:
    """
    Start the function once, stop it when it answers; return the processor time of all its processes, in seconds.

    It runs in place, by the image's own Python, libraries and byte code, without root and without a container.
    """
    python = ImagePython(roots.base)
    _, *arguments = command()
    before = _children_seconds()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        own = {"HOST": "127.0.0.1", "PORT": port, "XDG_RUNTIME_DIR": folder, "PYTHONPATH": str(roots.wheels / PACKAGES)}
        log = Path(folder, "log")
        with log.open("wb") as out:
            function = subprocess.Popen(
                python.command(*arguments),
                cwd=roots.function / APP,
                env=python.environ | own,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            _wait(function, f"http://127.0.0.1:{port}/healthz", log)
        finally:
            function.terminate()
            function.wait()
    return _children_seconds() - before


def _wait(function: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while function.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=_DEADLINE_SECONDS):  # noqa: S310 -- a constant scheme
                return
        except OSError:
            time.sleep(_POLL_SECONDS)
    raise BuildError(f"the function of the image does not answer:\n{log.read_text()}")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
