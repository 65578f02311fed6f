"""The function's image, built for this machine's architecture as `make image` builds it."""

from pathlib import Path

from playground.cluster.commands import run
from release.debian import LOCK, ReplacedError, mirror, read_lock, renew
from release.image import Image, build
from release.rootfs import this_architecture


def build_image(folder: Path) -> Image:
    """
    Build the image below `folder`, which exists and is empty.

    If Debian has replaced packages of the lock, those that replaced them are taken: the tests of an old commit pass.
    """
    text = LOCK.read_text()
    try:
        return _build(folder / "locked", text)
    except ReplacedError:
        return _build(folder / "renewed", renew(mirror()))


async def push_image(image: Image, registry: str) -> None:
    """Push the image to a registry of this machine, by its `HOST:PORT`, as `saffire`."""
    options = ("--quiet", "--insecure-policy", "--all", "--dest-tls-verify=false")
    await run("skopeo", "copy", *options, f"oci:{image.layout.folder}", f"docker://{registry}/saffire:test")


def _build(folder: Path, lock: str) -> Image:
    work = folder / "work"
    work.mkdir(parents=True)
    return build([this_architecture()], read_lock(lock), folder / "layout", work)
