"""The demo where nodes and registries are played."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.demo_output import DemoRun, assert_all_moved, assert_it_fits_a_terminal, assert_nothing_moved

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def plays(binaries: dict[str, Path]) -> Iterator[tuple[DemoRun, DemoRun]]:
    """Give one demo with Saffire and one without, which run at the same time."""
    both = DemoRun(binaries, "--played"), DemoRun(binaries, "--played", "--without-saffire")
    yield both
    for run in both:
        run.kill()


def test_every_workload_is_back(plays: tuple[DemoRun, DemoRun]) -> None:
    """The registry dies, and each workload fails, is moved, and runs again: exit status 0."""
    status, out = plays[0].end()
    assert_all_moved(status, out)
    assert "Nodes and registries are played: --played asks for that." in out


def test_without_saffire_nothing_is(plays: tuple[DemoRun, DemoRun]) -> None:
    """The same day without Saffire: each workload is named with what it lacks, and the exit status is 1."""
    assert_nothing_moved(*plays[1].end())


@pytest.mark.parametrize("run", [0, 1])
def test_it_fits_a_terminal(plays: tuple[DemoRun, DemoRun], run: int) -> None:
    """It is not wide, not long, and without colour where nobody looks."""
    assert_it_fits_a_terminal(plays[run].end()[1])


def test_keep_goes_on_until_ctrl_c(binaries: dict[str, Path]) -> None:
    """The cluster stays for a look, its kubeconfig is printed, and Ctrl-C removes both."""
    run = DemoRun(binaries, "--played", "--keep")
    folder = Path(run.until("export KUBECONFIG=").strip().removeprefix("export KUBECONFIG=")).parent
    assert folder.exists()
    run.process.send_signal(signal.SIGINT)
    status, out = run.end()
    assert (130, False) == (status, folder.exists())
    assert "Traceback" not in out


def test_a_machine_that_can_be_no_node_plays_and_says_why(binaries: dict[str, Path], tmp_path: Path) -> None:
    """Nothing is asked of a machine without the packages, and its user learns what there is to see besides."""
    run = DemoRun(binaries, PATH=str(tmp_path))
    try:
        assert "a real node needs" in run.until("Nodes and registries are played: ")
    finally:
        run.process.send_signal(signal.SIGINT)
        run.end()


def test_who_insists_on_a_real_node_is_told_what_it_takes(binaries: dict[str, Path], tmp_path: Path) -> None:
    """The demo does not fall back on something else then."""
    status, out = DemoRun(binaries, "--real", PATH=str(tmp_path)).end()
    assert (1, True) == (status, out.startswith("a real node needs "))
