"""A node leaves nothing behind, however its owner ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from playground.cluster.binaries import CONTROL_PLANE, KUBELET, find_binaries
from playground.cluster.polling import until
from testkit import ROOT
from testkit.node.leftovers import DEADLINE_SECONDS, MachineState, nodes_of, processes, until_gone

OWNER = "testkit.node.owner_process"


@contextmanager
def owned(folder: Path, end: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run an owner; its temporary files, and those of all that it starts, are in `folder`."""
    own = {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT), **environ}
    command = (sys.executable, "-m", OWNER, end)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | own, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as owner:
        try:
            yield owner
        finally:
            owner.kill()


@pytest.mark.parametrize("end", ["success", "failure", "SIGINT", "SIGTERM", "SIGKILL"])
async def test_a_node_leaves_nothing_behind(end: str, folder: Path) -> None:
    """Processes, mounts, interfaces, cgroups and files are gone when the owner ends, however it ends."""
    before = MachineState.current()
    with owned(folder, end if end in {"success", "failure"} else "signal") as owner:
        assert owner.stdout
        assert "running\n" == await asyncio.to_thread(owner.stdout.readline)
        marks = (str(folder), *nodes_of(folder))
        running = " ".join(processes(*marks).values())
        assert all(program in running for program in ("kubelet", "containerd", "containerd-shim", "sleep 1000000"))
        during = MachineState.current()
        if end.startswith("SIG"):
            owner.send_signal(signal.Signals[end])
        await asyncio.to_thread(owner.communicate, "\n")
        await until_gone(before, folder, *marks)
    assert {"cgroups", "links", "routes"} == during.since(before).keys()


async def test_an_owner_that_is_killed_half_way_leaves_nothing_behind(folder: Path) -> None:
    """The same holds while the node is still starting."""
    before = MachineState.current()
    with owned(folder, "success") as owner:

        async def enclosed() -> bool:
            names = {Path(cgroup).name for cgroup in MachineState.current().cgroups}
            return bool(names & set(nodes_of(folder)))

        async with asyncio.timeout(DEADLINE_SECONDS):
            await until(enclosed)
        marks = nodes_of(folder)
        owner.kill()
        await until_gone(before, folder, *marks)


async def test_a_node_that_fails_to_start_says_why_and_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    """A kubelet that ends at once is an error for the owner, with the end of its log."""
    for name, path in find_binaries(CONTROL_PLANE).items():
        (tmp_path / name).symlink_to(path)
    broken = tmp_path / KUBELET
    broken.write_text("#!/bin/sh\necho unknown flag >&2\nexit 3\n")
    broken.chmod(0o755)
    before = MachineState.current()
    with owned(folder, "success", KUBEBUILDER_ASSETS=str(tmp_path)) as owner:
        _, errors = await asyncio.to_thread(owner.communicate)
        assert "kubelet ended with status 3" in errors
        assert "unknown flag" in errors
        await until_gone(before, folder)
