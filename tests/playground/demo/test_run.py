"""The demo with simulated nodes and registries."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.demo_output import DemoRun, assert_all_moved, assert_it_fits_a_terminal, assert_nothing_moved

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def demos(binaries: dict[str, Path]) -> Iterator[tuple[DemoRun, DemoRun]]:
    """Give a demo with Saffire and a demo without it, which run at the same time."""
    both = DemoRun(binaries, "--simulated"), DemoRun(binaries, "--simulated", "--without-saffire")
    yield both
    for run in both:
        run.kill()


def test_every_workload_recovers(demos: tuple[DemoRun, DemoRun]) -> None:
    """If the registry dies, each workload fails, is moved, and runs again; the exit status is 0."""
    status, out = demos[0].end()
    assert_all_moved(status, out)
    assert "Nodes and registries are simulated: --simulated asks for that." in out


def test_without_saffire_nothing_recovers(demos: tuple[DemoRun, DemoRun]) -> None:
    """Without Saffire, the demo names each workload and why it has not recovered; the exit status is 1."""
    assert_nothing_moved(*demos[1].end())


@pytest.mark.parametrize("run", [0, 1])
def test_it_fits_a_terminal(demos: tuple[DemoRun, DemoRun], run: int) -> None:
    """If the output is no terminal, the demo fits 80 columns, is short, and has no colours."""
    assert_it_fits_a_terminal(demos[run].end()[1])


def test_keep_goes_on_until_ctrl_c(binaries: dict[str, Path]) -> None:
    """With --keep, the cluster keeps running and its kubeconfig is printed, until Ctrl-C removes both."""
    run = DemoRun(binaries, "--simulated", "--keep")
    folder = Path(run.until("export KUBECONFIG=").strip().removeprefix("export KUBECONFIG=")).parent
    assert folder.exists()
    run.process.send_signal(signal.SIGINT)
    status, out = run.end()
    assert (130, False) == (status, folder.exists())
    assert "Traceback" not in out


def test_if_the_machine_cannot_run_a_node_the_demo_simulates_and_says_why(
    binaries: dict[str, Path], tmp_path: Path
) -> None:
    """Without the packages of a real node, the demo still runs, and names what is missing."""
    run = DemoRun(binaries, PATH=str(tmp_path))
    try:
        assert "a real node needs" in run.until("Nodes and registries are simulated: ")
    finally:
        run.process.send_signal(signal.SIGINT)
        run.end()


def test_real_fails_if_the_machine_cannot_run_a_node(binaries: dict[str, Path], tmp_path: Path) -> None:
    """With --real, the demo does not fall back to simulated nodes; it says what is missing."""
    status, out = DemoRun(binaries, "--real", PATH=str(tmp_path)).end()
    assert (1, True) == (status, out.startswith("a real node needs "))
