"""Finds the programs of a Kubernetes control plane."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

KUBERNETES = "v1.34.4"
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def find(names: Sequence[str] = CONTROL_PLANE) -> dict[str, Path]:
    """Return the path of each program."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "saffire" / f"kubernetes-{KUBERNETES}-{platform.system().lower()}-amd64"
    return {name: folder / name for name in names}
