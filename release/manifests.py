"""
Manifests that install a release with one command, rendered by kustomize.

kustomize is built from source, at the version that `kustomize/go.mod` pins, so that every machine renders the same.
"""

import os
import sys
import tempfile
from pathlib import Path

import yaml

from playground.cluster import gobuild
from playground.cluster.binaries import KUBERNETES
from release import ROOT
from release.commands import BuildError, run
from release.image import CACHE

_MODULE = Path(__file__).with_name("kustomize")


def render(folder: Path, image: str, digest: str) -> str:
    """Return the objects of the kustomization in `folder`, with the image of this name and digest, as YAML."""
    base = yaml.safe_load((ROOT / "knative/kustomization.yaml").read_text())
    (named,) = base["images"]
    with tempfile.TemporaryDirectory() as overlay:
        wanted = {
            "apiVersion": base["apiVersion"],
            "kind": base["kind"],
            "resources": [os.path.relpath(folder.resolve(), Path(overlay).resolve())],
            "images": [{"name": named["newName"], "newName": image, "digest": digest}],
        }
        Path(overlay, "kustomization.yaml").write_text(yaml.safe_dump(wanted))
        return run(go(), "tool", "kustomize", "build", overlay, cwd=_MODULE)


def go() -> Path:
    """Return a Go that is new enough; if there is none, it is installed into the cache."""
    try:
        return gobuild.GoBuild(kubernetes=KUBERNETES, cache=CACHE, environ=os.environ, progress=sys.stderr).go()
    except gobuild.BuildError as error:
        raise BuildError(str(error)) from error
