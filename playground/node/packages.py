"""What a real node needs of the machine: root, and a few of Debian's packages."""

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
"""An executable names the loader of its libraries, if it has any, that near to its start."""


def _is_static() -> bool:
    return BUSYBOX.exists() and b"/ld-" not in BUSYBOX.read_bytes()[:_HEAD]


def _runs(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


_PRESENT: dict[str, Callable[[], bool]] = {
    "containerd": _runs("containerd"),
    "runc": _runs("runc"),
    "containernetworking-plugins": (NETWORK_PLUGINS / "ptp").exists,
    "docker-registry": _runs("docker-registry"),
    "skopeo": _runs("skopeo"),
    "umoci": _runs("umoci"),
    "busybox-static": _is_static,
}


def missing_packages() -> list[str]:
    """Return the packages that would have to be installed."""
    return [package for package, is_present in _PRESENT.items() if not is_present()]


def unmet_requirement() -> str:
    """Return why this machine cannot be a node; `""` if it can."""
    if sys.platform != "linux":
        return "a real node needs Linux"
    if os.geteuid():
        return "a real node needs root"
    if missing := missing_packages():
        return f"a real node needs {' '.join(missing)}; `.venv/bin/python -m playground.node.packages` installs them"
    if lack := sandbox.unmet_requirement():
        return f"a real node needs namespaces, mounts and cgroups of its own: {lack.splitlines()[-1]}"
    return ""


def install() -> None:
    """Install what is missing, where packages are Debian's; raise `CalledProcessError` where that fails."""
    if missing := missing_packages():
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (("update",), ("install", "--yes", "--no-install-recommends", *missing)):
            subprocess.run(("apt-get", *command), env=environ, check=True)  # noqa: S607 -- root's PATH knows best


if __name__ == "__main__":
    install()
