"""The demo on real nodes, with a registry that is a process and is killed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testkit.demo_output import DemoRun, assert_all_moved, assert_it_fits_a_terminal, assert_nothing_moved
from testkit.node.leftovers import MachineState, nodes_of, processes, until_gone


@contextmanager
def demo_run(binaries: dict[str, Path], folder: Path, *options: str) -> Iterator[DemoRun]:
    """Run a demo; its temporary files, and those of all that it starts, are in `folder`."""
    run = DemoRun(binaries, *options, TMPDIR=str(folder))
    try:
        yield run
    finally:
        run.kill()


async def test_every_workload_is_back(binaries: dict[str, Path], folder: Path) -> None:
    """With three nodes and four registries, one of them killed, every workload recovers, and nothing is left behind."""
    before = MachineState.current()
    with demo_run(binaries, folder) as run:
        status, out = run.end()
    assert_all_moved(status, out)
    assert_it_fits_a_terminal(out)
    assert "Nodes and registries are real: kubelet and containerd" in out
    await until_gone(before, folder)


def test_without_saffire_nothing_is(binaries: dict[str, Path], folder: Path) -> None:
    """Without Saffire, all workloads of the dead registry stay stuck, on real nodes as on simulated ones."""
    with demo_run(binaries, folder, "--real", "--without-saffire") as run:
        assert_nothing_moved(*run.end())


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
async def test_an_end_in_the_middle_leaves_nothing_behind(
    end: signal.Signals, binaries: dict[str, Path], folder: Path
) -> None:
    """After Ctrl-C or a kill during the start of a node, no process, mount, interface, cgroup or file is left."""
    before = MachineState.current()
    with demo_run(binaries, folder, "--real") as run:
        run.until("dies. node-3 joins")
        run.until("fails")
        marks = (str(folder), *nodes_of(folder))
        running = " ".join(processes(*marks).values())
        assert all(program in running for program in ("kubelet", "containerd-shim", "docker-registry", "sleep 1000000"))
        run.process.send_signal(end)
        _, out = run.end()
        await until_gone(before, folder, *marks)
    assert "Traceback" not in out
