"""The demo where nodes and registries are played."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.demo_output import Play, assert_all_is_well, assert_it_fits_a_terminal, assert_nothing_is

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def plays(binaries: dict[str, Path]) -> Iterator[tuple[Play, Play]]:
    """Give one demo with Saffire and one without, which run at the same time."""
    both = Play(binaries, "--played"), Play(binaries, "--played", "--without-saffire")
    yield both
    for play in both:
        play.kill()


def test_every_workload_is_back(plays: tuple[Play, Play]) -> None:
    """The registry dies, and each workload fails, is moved, and runs again: exit status 0."""
    status, out = plays[0].end()
    assert_all_is_well(status, out)
    assert "Nodes and registries are played: --played asks for that." in out


def test_without_saffire_nothing_is(plays: tuple[Play, Play]) -> None:
    """The same day without Saffire: each workload is named with what it lacks, and the exit status is 1."""
    assert_nothing_is(*plays[1].end())


@pytest.mark.parametrize("play", [0, 1])
def test_it_fits_a_terminal(plays: tuple[Play, Play], play: int) -> None:
    """It is not wide, not long, and without colour where nobody looks."""
    assert_it_fits_a_terminal(plays[play].end()[1])


def test_keep_goes_on_until_ctrl_c(binaries: dict[str, Path]) -> None:
    """The cluster stays for a look, its kubeconfig is printed, and Ctrl-C removes both."""
    play = Play(binaries, "--played", "--keep")
    folder = Path(play.until("export KUBECONFIG=").strip().removeprefix("export KUBECONFIG=")).parent
    assert folder.exists()
    play.process.send_signal(signal.SIGINT)
    status, out = play.end()
    assert (130, False) == (status, folder.exists())
    assert "Traceback" not in out


def test_a_machine_that_can_be_no_node_plays_and_says_why(binaries: dict[str, Path], tmp_path: Path) -> None:
    """Nothing is asked of a machine without the packages, and its user learns what there is to see besides."""
    play = Play(binaries, PATH=str(tmp_path))
    try:
        assert "a real node needs" in play.until("Nodes and registries are played: ")
    finally:
        play.process.send_signal(signal.SIGINT)
        play.end()


def test_who_insists_on_a_real_node_is_told_what_it_takes(binaries: dict[str, Path], tmp_path: Path) -> None:
    """The demo does not fall back on something else then."""
    status, out = Play(binaries, "--real", PATH=str(tmp_path)).end()
    assert (1, True) == (status, out.startswith("a real node needs "))
