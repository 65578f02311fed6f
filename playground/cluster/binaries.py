"""
Finds the programs of a Kubernetes control plane, in the first of four places that has them.

1. The folder that `KUBEBUILDER_ASSETS` names, as in other projects that test against an API server.
2. The cache: `${XDG_CACHE_HOME:-~/.cache}/saffire/kubernetes-VERSION-OS-ARCH/`.
3. The official releases; their checksums are verified.
4. A build from source.

A download or a build gets its final name in the cache only when it is complete, so several processes may look at once.
"""

import fcntl
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from playground.cluster.gobuild import BuildError, GoBuild
from playground.cluster.progress import step
from playground.cluster.releases import DownloadError, Releases

KUBERNETES = "v1.34.4"
ETCD = "v3.6.4"

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""The programs that `playground.cluster.controlplane` runs."""

KUBELET = "kubelet"
"""The program that a real node needs as well; fetched only on request."""


class UnavailableError(Exception):
    """A program is neither present nor can be fetched; the message says why, and what a user can do."""


class Origin(Protocol):
    """Where a program can be fetched from."""

    def fetch(self, name: str, target: Path) -> None:
        """Write program `name` to `target`, or raise `DownloadError` or `BuildError`."""


def find_binaries(
    names: Sequence[str] = CONTROL_PLANE,
    *,
    environ: Mapping[str, str] = os.environ,
    progress: TextIO = sys.stderr,
    origins: Sequence[Origin] | None = None,
) -> dict[str, Path]:
    """
    Return the path of each program. Programs that are missing are fetched first, which may take minutes.

    Args:
        names: some of `CONTROL_PLANE` and `KUBELET`.
        environ: the environment: `KUBEBUILDER_ASSETS`, where the cache is, and Go's settings.
        progress: where steps that take long are reported.
        origins: tried in order for each missing program; if not given, the releases, then a build.

    """
    if assets := environ.get("KUBEBUILDER_ASSETS"):
        return _in_assets(names, Path(assets).absolute())
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "saffire"
    folder = cache / f"kubernetes-{KUBERNETES}-{'-'.join(_platform())}"
    paths = {name: folder / name for name in names}
    if _missing(paths):
        if origins is None:
            releases = Releases(kubernetes=KUBERNETES, etcd=ETCD, platform=_platform(), progress=progress)
            origins = (releases, GoBuild(kubernetes=KUBERNETES, cache=cache, environ=environ, progress=progress))
        with _locked(folder, progress):
            for name in _missing(paths):
                _fetch(name, paths[name], origins)
    return paths


def _in_assets(names: Sequence[str], folder: Path) -> dict[str, Path]:
    paths = {name: folder / name for name in names}
    if missing := _missing(paths):
        raise UnavailableError(
            f"KUBEBUILDER_ASSETS is set to {folder}, which lacks {', '.join(missing)}. "
            f"Add them (Kubernetes {KUBERNETES}, etcd {ETCD}), or unset it."
        )
    return paths


def _missing(paths: Mapping[str, Path]) -> list[str]:
    return [name for name, path in paths.items() if not os.access(path, os.X_OK)]


def _fetch(name: str, path: Path, origins: Sequence[Origin]) -> None:
    part = path.with_name(f".{name}.part")
    reasons = []
    for origin in origins:
        try:
            origin.fetch(name, part)
        except (DownloadError, BuildError) as error:
            reasons.append(str(error))
        else:
            part.chmod(0o755)
            part.replace(path)
            return
        finally:
            part.unlink(missing_ok=True)
    raise UnavailableError(_advice(name, path.parent, reasons))


def _advice(name: str, folder: Path, reasons: Sequence[str]) -> str:
    failures = "\n".join(f"- {reason}" for reason in reasons)
    return (
        f"{name} cannot be fetched:\n{failures}\n"
        "Do one of these:\n"
        f"- set KUBEBUILDER_ASSETS to a folder that holds {', '.join(CONTROL_PLANE)}\n"
        "- run this again with a network that reaches dl.k8s.io and github.com, or Go's module proxy\n"
        f"- copy {folder} from a machine that has it"
    )


def _platform() -> tuple[str, str]:
    """Return the operating system and the processor, as Go names them."""
    machine = platform.machine().lower()
    return platform.system().lower(), {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@contextmanager
def _locked(folder: Path, progress: TextIO) -> Iterator[None]:
    """Keep other processes from fetching into `folder` at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"Waiting for another process that fetches into {folder}", progress):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
