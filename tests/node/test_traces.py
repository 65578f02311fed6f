"""A node leaves nothing behind, whatever becomes of its owner."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.traces import Traces, processes
from playground.binaries import CONTROL_PLANE, KUBELET, find
from playground.polling import until

ROOT = Path(__file__).parents[2]
OWNER = Path(__file__).with_name("owner.py")
DEADLINE_SECONDS = 60


@contextmanager
def owned(folder: Path, end: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run an owner whose temporary files, and those of all that it starts, are in `folder`."""
    own = {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT), **environ}
    command = (sys.executable, OWNER, end)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | own, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as owner:
        try:
            yield owner
        finally:
            owner.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder for all temporary files, whose path is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="saffire-test-") as name:
        yield Path(name)


async def until_gone(before: Traces, folder: Path, *marks: str) -> None:
    """Wait until the machine looks as it did before, with nothing in `folder` and no process that has a mark."""

    async def gone() -> bool:
        return not processes(str(folder), *marks) and not listing(folder) and not Traces.of_the_machine().since(before)

    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await until(gone)
    except TimeoutError:  # and this is what was left
        assert {} == processes(str(folder), *marks)
        assert [] == listing(folder)
        assert {} == Traces.of_the_machine().since(before)


def listing(folder: Path) -> list[Path]:
    """Return all that is in a folder."""
    return list(folder.rglob("*"))


def node_of(folder: Path) -> str:
    """Return the name of the node's own folder, which its cgroup has too; `""` before there is one."""
    return next((each.name for each in folder.glob("saffire-node-*")), "")


@pytest.mark.parametrize("end", ["success", "failure", "SIGINT", "SIGTERM", "SIGKILL"])
async def test_a_node_leaves_nothing_behind(end: str, folder: Path) -> None:
    """Processes, mounts, interfaces, cgroups and files are gone when the owner ends, however it does."""
    before = Traces.of_the_machine()
    with owned(folder, end if end in {"success", "failure"} else "signal") as owner:
        assert owner.stdout
        assert "running\n" == await asyncio.to_thread(owner.stdout.readline)
        marks = (str(folder), node_of(folder))
        running = " ".join(processes(*marks).values())
        assert all(program in running for program in ("kubelet", "containerd", "containerd-shim", "sleep 1000000"))
        during = Traces.of_the_machine()
        if end.startswith("SIG"):
            owner.send_signal(signal.Signals[end])
        await asyncio.to_thread(owner.communicate, "\n")
        await until_gone(before, folder, *marks)
    assert {"cgroups", "links", "routes"} == during.since(before).keys()


async def test_an_owner_that_is_killed_half_way_leaves_nothing_behind(folder: Path) -> None:
    """The same is true while the node still starts."""
    before = Traces.of_the_machine()
    with owned(folder, "success") as owner:

        async def enclosed() -> bool:
            return any(Path(cgroup).name == node_of(folder) for cgroup in Traces.of_the_machine().cgroups)

        async with asyncio.timeout(DEADLINE_SECONDS):
            await until(enclosed)
        mark = node_of(folder)
        owner.kill()
        await until_gone(before, folder, mark)


async def test_a_node_that_fails_to_start_says_why_and_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    """A kubelet that ends at once is the owner's error, with the end of its log."""
    for name, path in find(CONTROL_PLANE).items():
        (tmp_path / name).symlink_to(path)
    broken = tmp_path / KUBELET
    broken.write_text("#!/bin/sh\necho unknown flag >&2\nexit 3\n")
    broken.chmod(0o755)
    before = Traces.of_the_machine()
    with owned(folder, "success", KUBEBUILDER_ASSETS=str(tmp_path)) as owner:
        _, errors = await asyncio.to_thread(owner.communicate)
        assert "kubelet ended with status 3" in errors
        assert "unknown flag" in errors
        await until_gone(before, folder)
