"""Builds from source, with a script in place of Go that records its arguments."""

import io
from pathlib import Path

import pytest

from playground.cluster.gobuild import BuildError, GoBuild

GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.0; exit; fi
{body}
"""


def with_go(folder: Path, body: str) -> GoBuild:
    """Return a `GoBuild` whose Go is new enough, and runs the script `body` for a build."""
    go = folder / "bin" / "go"
    go.parent.mkdir()
    go.write_text(GO.format(body=body))
    go.chmod(0o755)
    environ = {"PATH": str(go.parent), "GOFLAGS": "-x", "FOLDER": str(folder)}
    return GoBuild(kubernetes="v1.34.4", cache=folder / "cache", environ=environ, progress=io.StringIO())


def test_a_build_is_static_and_knows_its_version(tmp_path: Path) -> None:
    """Go gets the package, the version for the program, and the user's own settings."""
    build = with_go(tmp_path, 'echo "$CGO_ENABLED $GOFLAGS $*" > "$FOLDER/asked"')
    build.fetch("kubelet", tmp_path / "kubelet")
    arguments = (tmp_path / "asked").read_text().strip()
    assert arguments.startswith(
        "0 -x build -trimpath -ldflags -s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 "
    )
    assert arguments.endswith(f"-o {tmp_path}/kubelet k8s.io/kubernetes/cmd/kubelet")


def test_etcd_is_another_package(tmp_path: Path) -> None:
    """Etcd is not in the repository of Kubernetes."""
    build = with_go(tmp_path, 'echo "$*" > "$FOLDER/asked"')
    build.fetch("etcd", tmp_path / "etcd")
    assert (tmp_path / "asked").read_text().strip().endswith(f"-o {tmp_path}/etcd go.etcd.io/etcd/server/v3")


def test_a_failed_build_shows_the_end_of_its_output(tmp_path: Path) -> None:
    """The error contains the output of the compiler."""
    build = with_go(tmp_path, "echo no network >&2; exit 1")
    with pytest.raises(BuildError, match=r"(?s)go build .* ended with status 1:\nno network"):
        build.fetch("kubelet", tmp_path / "kubelet")
