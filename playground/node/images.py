"""Images of two megabytes, made on the spot: one container sleeps, the other one ends."""

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
"""One program without libraries that is every command below."""

_COMMANDS = ("cat", "echo", "false", "sh", "sleep", "true")

_SLEEPS = "trap 'exit 0' TERM; sleep 1000000 & wait"
"""Until it is told to end: then at once, where a plain `sleep` would have to be killed after its grace."""


class Images:
    """The images, in a folder of their own; use as an async context manager."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-images-")))
            self._layout = folder / "oci"
            await stack.enter_async_context(ProcessGroup(folder))  # whose guard removes the folder if nobody else can
            await self._build(_root(folder / "root"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def push(self, name: ImageName, reference: str, *, credentials: str = "") -> None:
        """Copy the image to `reference`, in a registry of this machine that may want `user:password`."""
        who = (f"--dest-creds={credentials}",) if credentials else ()
        await self._copy(name, "--dest-tls-verify=false", *who, f"docker://{reference}")

    async def save(self, name: ImageName, archive: Path, reference: str) -> None:
        """Write the image to the file `archive`, under the name `reference`."""
        await self._copy(name, f"oci-archive:{archive}:{reference}")

    def digest(self, name: ImageName) -> str:
        """Return the digest by which any registry knows the image."""
        index = json.loads((self._layout / "index.json").read_text())
        named = {each["annotations"]["org.opencontainers.image.ref.name"]: each for each in index["manifests"]}
        return str(named[name]["digest"])

    async def _copy(self, name: ImageName, *options: str) -> None:
        # As root, skopeo would keep a cache in /var; this is how it knows that it isn't to.
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
    """Return `folder`, made the root of a file system."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    shutil.copy(BUSYBOX, programs / "busybox")
    for command in _COMMANDS:
        (programs / command).symlink_to("busybox")
    return folder
