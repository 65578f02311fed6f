"""Builds two images of two megabytes: a container of the first sleeps, a container of the second ends."""

import json
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, Self

from playground.cluster.commands import run
from playground.cluster.processes import ProcessGroup

ImageName = Literal["sleeps", "ends"]

BUSYBOX = Path("/bin/busybox")
"""A statically linked program that contains all commands below."""

_COMMANDS = ("cat", "echo", "false", "sh", "sleep", "true")

_SLEEPS = "trap 'exit 0' TERM; sleep 1000000 & wait"
"""Sleeps until SIGTERM and then ends at once; a plain `sleep` would be killed after its grace period."""


class Images:
    """The two images, in a folder of their own; use as an async context manager."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-images-")))
            self._layout = folder / "oci"
            await stack.enter_async_context(
                ProcessGroup(folder)
            )  # its watchdog removes the folder if this process is killed
            await self._build(_root(folder / "root"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def push(self, name: ImageName, reference: str, *, credentials: str = "") -> None:
        """Push the image to `reference` in a registry of this machine; `credentials` are `user:password`."""
        login = (f"--dest-creds={credentials}",) if credentials else ()
        await self._copy(name, "--dest-tls-verify=false", *login, f"docker://{reference}")

    async def save(self, name: ImageName, archive: Path, reference: str) -> None:
        """Write the image to the file `archive`, under the name `reference`."""
        await self._copy(name, f"oci-archive:{archive}:{reference}")

    def digest(self, name: ImageName) -> str:
        """Return the digest of the image, which is the same in every registry."""
        index = json.loads((self._layout / "index.json").read_text())
        digests = {
            entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in index["manifests"]
        }
        return str(digests[name])

    async def _copy(self, name: ImageName, *options: str) -> None:
        # As root, skopeo would write a cache to /var. These variables prevent that.
        own = {"_CONTAINERS_ROOTLESS_UID": "1", "XDG_DATA_HOME": str(self._layout.parent)}
        await run("skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{self._layout}:{name}", *options, **own)

    async def _build(self, root: Path) -> None:
        sleeps = f"{self._layout}:sleeps"
        await run("umoci", "init", f"--layout={self._layout}")
        await run("umoci", "new", f"--image={sleeps}")
        await run("umoci", "insert", f"--image={sleeps}", root, "/")
        command = ("--config.cmd=/bin/sh", "--config.cmd=-c", f"--config.cmd={_SLEEPS}")
        await run("umoci", "config", f"--image={sleeps}", "--config.env=PATH=/bin", *command)
        await run("umoci", "config", f"--image={sleeps}", "--tag=ends", "--config.cmd=/bin/true")


def _root(folder: Path) -> Path:
    """Create the root file system of the images in `folder`, and return it."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    shutil.copy(BUSYBOX, programs / "busybox")
    for command in _COMMANDS:
        (programs / command).symlink_to("busybox")
    return folder
