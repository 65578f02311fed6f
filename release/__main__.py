"""Builds the image and what belongs to it: `python -m release --help`."""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release import ROOT, chart
from release.commands import BuildError
from release.debian import ARCHITECTURES, LOCK, mirror, read_lock, renew
from release.image import Image, build, make_roots
from release.layout import Layer
from release.manifests import render
from release.rootfs import this_architecture
from release.sbom import bill_of_materials
from release.startup import measure

MEGA = 10**6
INSTALLS = {"install.yaml": "knative", "install-standalone.yaml": "standalone"}
"""The files that install a release, and which of `chart.WAYS` each takes."""

CHART = "saffire-chart.tgz"
"""The Helm chart, packaged."""


def main() -> None:
    """Run the command that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m release", description="Build what a release consists of.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    image = commands.add_parser("image", help="build the image; print its digest, its size and the cost of its start")
    image.add_argument("--into", type=Path, default=ROOT / "dist", metavar="FOLDER", help="dist/, if not given")
    image.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    image.set_defaults(run=lambda chosen: _image(chosen.into, chosen.architectures))
    everything = commands.add_parser(
        "all", help="build the image, manifests that install it, what it consists of, checksums"
    )
    everything.add_argument("--into", type=Path, default=ROOT / "dist", metavar="FOLDER", help="dist/, if not given")
    everything.add_argument("--image", required=True, metavar="NAME", help="where the image will be pushed to")
    everything.set_defaults(run=lambda chosen: _all(chosen.into, chosen.image))
    root = commands.add_parser(
        "root", help="write the image's root file system for this machine, as the Dockerfile does"
    )
    root.add_argument("--into", type=Path, required=True, metavar="FOLDER")
    root.set_defaults(run=lambda chosen: _root(chosen.into))
    base = commands.add_parser("base", help="pin the newest Debian packages")
    base.set_defaults(run=lambda _: LOCK.write_text(renew(mirror())))
    chosen = parser.parse_args()
    try:
        chosen.run(chosen)
    except BuildError as error:
        sys.exit(str(error))


def _image(into: Path, architectures: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="saffire-image-") as work:
        _build(into, architectures, Path(work))


def _build(into: Path, architectures: Sequence[str], work: Path) -> Image:
    folder = into / "image"
    shutil.rmtree(folder, ignore_errors=True)
    image = build(architectures, read_lock(LOCK.read_text()), folder, work)
    image.layout.archive(into / "image.tar")
    print(f"{folder} is an OCI image layout, and {folder}.tar the same as one file: {image.digest}")
    for architecture, layers in image.layers.items():
        print(f"linux/{architecture}: {_sizes(layers)}")
    if (own := this_architecture()) in image.roots:
        print(f"The function answers after {measure(image.roots[own]):.2f} s of processor time, on linux/{own}.")
    return image


def _all(into: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="saffire-image-") as work:
        image = _build(into, ARCHITECTURES, Path(work))
        bill = bill_of_materials(image)
    (into / "sbom.cdx.json").write_text(json.dumps(bill, indent=1))
    ways = {way: render(ROOT / folder, name, image.digest) for way, folder in chart.WAYS.items()}
    for file, way in INSTALLS.items():
        (into / file).write_text(ways[way])
    (into / CHART).write_bytes(chart.package(chart.files(ways, f"{name}@{image.digest}")))
    files = ["image.tar", "sbom.cdx.json", *INSTALLS, CHART]
    (into / "SHA256SUMS").write_text(checksums(into, files))
    print(f"{into} also has {', '.join([*files[1:], 'SHA256SUMS'])}.")


def checksums(folder: Path, files: Sequence[str]) -> str:
    """Return the SHA-256 of files in a folder, as `sha256sum` writes and checks them."""
    return "".join(f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()}  {file}\n" for file in files)


def _root(into: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="saffire-image-") as work:
        own = this_architecture()
        roots = make_roots([own], read_lock(LOCK.read_text()), Path(work))
        for folder in roots[own].folders:
            shutil.copytree(folder, into, symlinks=True, dirs_exist_ok=True)


def _sizes(layers: Sequence[Layer]) -> str:
    """Return what a node pulls and stores, in megabytes."""
    pulled = [layer.blob.size / MEGA for layer in layers]
    stored = sum(layer.unpacked_size for layer in layers) / MEGA
    parts = " + ".join(f"{size:.1f}" for size in pulled)
    return f"{sum(pulled):.1f} MB to pull ({parts}), {stored:.0f} MB unpacked"


if __name__ == "__main__":
    main()
