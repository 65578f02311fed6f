"""What a node could leave behind on a machine."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from playground.cluster.polling import until
from playground.node.network import routes
from playground.node.sandbox_init import CGROUPS, KERNEL

FOLDERS = ("/run", "/var/lib", "/var/log", "/opt", "/etc")
DEPTH = 3
DEADLINE_SECONDS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineState:
    """The state of the machine, as far as a node changes it."""

    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]
    kernel: frozenset[str]

    @classmethod
    def current(cls) -> Self:
        """Read the current state."""
        cgroups = (*CGROUPS.glob("saffire-*"), *CGROUPS.glob("*/saffire-*"))
        return cls(
            mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
            links=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            routes=frozenset(map(str, routes())),
            cgroups=frozenset(map(str, cgroups)),
            files=frozenset(path for folder in FOLDERS for path in _below(folder, DEPTH)),
            kernel=frozenset(f"{name} = {Path('/proc/sys', name).read_text()}" for name in KERNEL),
        )

    def since(self, before: Self) -> dict[str, frozenset[str]]:
        """Return what is new since `before`; what others left there earlier does not count."""
        news = {name: getattr(self, name) - getattr(before, name) for name in self.__slots__}
        return {name: new for name, new in news.items() if new}


def processes(*marks: str) -> dict[int, str]:
    """
    Return the processes that have a mark in their environment or in the name of their cgroup.

    The result has their command lines by pid.
    """
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            known_by = (folder / "environ").read_bytes() + (folder / "cgroup").read_bytes()
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        if any(mark.encode() in known_by for mark in marks):
            commands[int(folder.name)] = command.replace(b"\0", b" ").decode()
    return commands


async def until_gone(before: MachineState, folder: Path, *marks: str) -> None:
    """Wait until the machine is as before, `folder` is empty, and no process has a mark."""

    async def gone() -> bool:
        return not processes(str(folder), *marks) and not listing(folder) and not MachineState.current().since(before)

    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await until(gone)
    except TimeoutError:  # show what is left
        assert {} == processes(str(folder), *marks)
        assert [] == listing(folder)
        assert {} == MachineState.current().since(before)


def listing(folder: Path) -> list[Path]:
    """Return everything in a folder."""
    return list(folder.rglob("*"))


def nodes_of(folder: Path) -> list[str]:
    """Return the names of the nodes' folders, which their cgroups have too."""
    return [path.name for path in folder.glob("saffire-node-*")]


def _below(folder: str, depth: int) -> list[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = [entry.path for entry in entries]
    if depth > 1:
        paths += [
            path for entry in entries if entry.is_dir(follow_symlinks=False) for path in _below(entry.path, depth - 1)
        ]
    return paths
