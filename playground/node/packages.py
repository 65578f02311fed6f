"""Checks whether this machine can run a real node, and installs the Debian packages that it needs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from playground.node import sandbox
from playground.node.images import BUSYBOX

NETWORK_PLUGINS = Path("/usr/lib/cni")

_HEAD = 4096
"""How many bytes of an executable to read: if it needs a dynamic loader, the loader's path is in there."""


def _is_static() -> bool:
    return BUSYBOX.exists() and b"/ld-" not in BUSYBOX.read_bytes()[:_HEAD]


def _on_path(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


_PRESENT: dict[str, Callable[[], bool]] = {
    "containerd": _on_path("containerd"),
    "runc": _on_path("runc"),
    "containernetworking-plugins": (NETWORK_PLUGINS / "ptp").exists,
    "docker-registry": _on_path("docker-registry"),
    "skopeo": _on_path("skopeo"),
    "umoci": _on_path("umoci"),
    "busybox-static": _is_static,
}


def missing_packages() -> list[str]:
    """Return the packages that this machine lacks."""
    return [package for package, is_present in _PRESENT.items() if not is_present()]


def unmet_requirement() -> str:
    """Return what a real node needs and this machine lacks; `""` if it lacks nothing."""
    if sys.platform != "linux":
        return "a real node needs Linux"
    if os.geteuid():
        return "a real node needs root"
    if missing := missing_packages():
        return f"a real node needs {' '.join(missing)}; `.venv/bin/python -m playground.node.packages` installs them"
    if error := sandbox.unmet_requirement():
        return f"a real node needs namespaces, mounts and cgroups of its own: {error.splitlines()[-1]}"
    return ""


def install() -> None:
    """Install the missing packages with apt-get; raise `CalledProcessError` if that fails."""
    if missing := missing_packages():
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (("update",), ("install", "--yes", "--no-install-recommends", *missing)):
            subprocess.run(("apt-get", *command), env=environ, check=True)  # noqa: S607 -- root's PATH is trusted


if __name__ == "__main__":
    install()
