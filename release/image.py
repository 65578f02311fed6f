"""The image of the function: for each architecture, three layers and the configuration that a runtime reads."""

import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from release import ROOT
from release.commands import BuildError, run
from release.debian import Package, fetch, mirror
from release.layout import CONFIG, INDEX, MANIFEST, Blob, Layer, Layout
from release.rootfs import (
    APP,
    PROGRAM,
    USER,
    ImagePython,
    copy_function,
    install_wheels,
    this_architecture,
    unpack_base,
)

_SOURCES = (
    "main.py",
    "saffire",
    "eventsource",
    "LICENSE",
    "requirements.txt",
    "Procfile",
    "pyproject.toml",
    "release",
)
"""The files that an image is made of. If one is not as in the commit, the image names no revision."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "saffire"
"""Where downloads are kept."""

_LAYERS = ("Debian packages", "requirements.txt", "Saffire")


@dataclass(frozen=True, kw_only=True, slots=True)
class Roots:
    """The folders of the layers, the lowest first; each stands for `/`."""

    base: Path
    wheels: Path
    function: Path

    @property
    def folders(self) -> tuple[Path, Path, Path]:
        """The three folders, that of the lowest layer first."""
        return self.base, self.wheels, self.function


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The annotations of the image, and when it was created, which are the same for the same commit."""

    version: str
    created: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image that was built."""

    layout: Layout
    digest: str
    """The digest of the index: a node that pulls it gets the image for its own architecture."""
    labels: Labels
    packages: Sequence[Package]
    roots: Mapping[str, Roots]
    """By architecture."""
    layers: Mapping[str, Sequence[Layer]]
    """By architecture, the lowest first."""


def build(architectures: Sequence[str], packages: Sequence[Package], folder: Path, work: Path) -> Image:
    """
    Build the image for each architecture, and write the layout `folder`.

    Args:
        architectures: some of `debian.ARCHITECTURES`.
        packages: those of the lock.
        folder: the folder of the layout; it must not exist yet.
        work: an empty folder; the root file systems remain in it.

    """
    roots = make_roots(architectures, packages, work)
    labels = read_labels()
    layout = Layout(folder)
    written = {root: layout.add_layer(root) for root in {root for of in roots.values() for root in of.folders}}
    layers = {architecture: [written[root] for root in of.folders] for architecture, of in roots.items()}
    manifests = [
        _add_image(layout, architecture, layers[architecture], labels).descriptor(
            platform={"os": "linux", "architecture": architecture}
        )
        for architecture in architectures
    ]
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": labels.annotations}
    index = layout.add(INDEX, content)
    layout.name(index, labels.version)
    return Image(layout=layout, digest=index.digest, labels=labels, packages=packages, roots=roots, layers=layers)


def make_roots(architectures: Sequence[str], packages: Sequence[Package], work: Path) -> dict[str, Roots]:
    """
    Make the root file systems below `work`, and return them by architecture.

    Byte code is the same for every architecture, so the Python of this machine's architecture writes all of it.
    """
    own, address = this_architecture(), mirror()
    bases = {name: work / f"base-{name}" for name in {own, *architectures}}
    for architecture, base in bases.items():
        wanted = [package for package in packages if package.is_for(architecture)]
        unpack_base(fetch(wanted, CACHE / "debian", address), base)
    python = ImagePython(bases[own])
    function = work / "function"
    copy_function(ROOT, function)
    python.compile(function)
    roots = {}
    for architecture in architectures:
        of = Roots(base=bases[architecture], wheels=work / f"wheels-{architecture}", function=function)
        install_wheels(ROOT / "requirements.txt", architecture, of.wheels)
        python.compile(of.base)
        python.compile(of.wheels)
        roots[architecture] = of
    return roots


def read_labels(checkout: Path = ROOT, environ: Mapping[str, str] = os.environ) -> Labels:
    """
    Return the labels for a checkout.

    The image was created when its commit was, or at `SOURCE_DATE_EPOCH`, as https://reproducible-builds.org defines it.
    A checkout that is not as its commit has it names no revision.
    """
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    revision, committed = _commit(checkout)
    seconds = int(environ.get("SOURCE_DATE_EPOCH") or committed)
    created = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
        "version": project["version"],
        "created": created,
        "revision": revision,
    }
    annotations = {f"org.opencontainers.image.{key}": value for key, value in said.items() if value}
    return Labels(version=project["version"], created=created, annotations=annotations)


def command(program: str = PROGRAM) -> list[str]:
    """Return the command of the Procfile, run by a Python of this path."""
    framework, *arguments = shlex.split((ROOT / "Procfile").read_text().removeprefix("web:"))
    return [program, "-m", framework.replace("-", "_"), *arguments]


def process() -> dict[str, Any]:
    """Return what a container of the image runs: the property `config` of image-spec, config.md."""
    return {
        "User": f"{USER}:{USER}",
        "ExposedPorts": {"8080/tcp": {}},
        # Python writes each log line at once, and looks for no place to keep byte code.
        "Env": ["PATH=/usr/bin", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"],
        "Entrypoint": command(),
        "WorkingDir": f"/{APP}",
    }


def _add_image(layout: Layout, architecture: str, layers: Sequence[Layer], labels: Labels) -> Blob:
    config = {
        "created": labels.created,
        "architecture": architecture,
        "os": "linux",
        "config": {**process(), "Labels": labels.annotations},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": labels.created, "created_by": name} for name in _LAYERS],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.add(CONFIG, config).descriptor(),
        "layers": [layer.blob.descriptor() for layer in layers],
        "annotations": labels.annotations,
    }
    return layout.add(MANIFEST, manifest)


def _commit(checkout: Path) -> tuple[str, int]:
    """Return the commit of a checkout, `""` if its files differ from it, and the commit's time: seconds since 1970."""
    git = ("git", "-C", checkout)
    try:
        commit, seconds = run(*git, "log", "-1", "--format=%H %ct").split()
        changed = run(*git, "status", "--porcelain", "--", *_SOURCES)
    except BuildError:
        return "", 0  # a copy without its history
    return "" if changed else commit, int(seconds)
