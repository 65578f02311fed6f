"""Processes end with their owner, and say why they failed."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from playground.cluster.processes import ProcessError, ProcessGroup, TiedProcess

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")

OWNER = """
import asyncio, sys
from pathlib import Path
from playground.cluster.processes import ProcessGroup

PROGRAM = "import sys, time; out = open(sys.argv[1], 'w'); time.sleep(60); out.write('survived')"

async def own(folder, fifo):
    async with ProcessGroup(Path(folder)) as group:
        await group.start("program", sys.executable, "-c", PROGRAM, fifo)
        await asyncio.sleep(60)

asyncio.run(own(*sys.argv[1:]))
"""


async def never() -> None:
    """Wait forever."""
    await asyncio.Event().wait()


def runs(pid: int) -> bool:
    """Return whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_leaving_the_block_ends_each_process(tmp_path: Path) -> None:
    """When the block ends, all processes of the group have ended."""
    async with ProcessGroup(tmp_path) as group:
        await group.start("first", *SLEEP)
        await group.start("second", *SLEEP)
        pids = group.pids()
        assert [True, True] == [runs(pid) for pid in pids.values()]
    assert [False, False] == [runs(pid) for pid in pids.values()]


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """If a process does not end after SIGTERM, it gets SIGKILL after the grace period."""
    os.mkfifo(tmp_path / "stubborn")
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); open('stubborn', 'w').close(); time.sleep(60)"
    async with ProcessGroup(tmp_path, grace_seconds=0.1) as group:
        await group.start("stubborn", sys.executable, "-c", stubborn)
        await asyncio.to_thread((tmp_path / "stubborn").read_bytes)  # returns when it ignores SIGTERM
        pid = group.pids()["stubborn"]
    assert not runs(pid)


async def test_an_early_end_is_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    """If another process ends during the wait, the error comes at once and shows its log."""
    async with ProcessGroup(tmp_path) as group:
        await group.start("sleep", *SLEEP)
        await group.start("broken", sys.executable, "-c", "import sys; sys.exit('no such flag')")
        with pytest.raises(ProcessError, match=r"(?s)broken ended with status 1.*no such flag"):
            await group.until(never(), of="sleep", deadline_seconds=60)


async def test_a_missed_deadline_names_the_process_that_is_waited_for(tmp_path: Path) -> None:
    """If the condition is not met in time, the error names the process that should bring it about."""
    async with ProcessGroup(tmp_path) as group:
        await group.start("sleep", *SLEEP)
        with pytest.raises(ProcessError, match=r"sleep is not ready after 0\.1 s"):
            await group.until(never(), of="sleep", deadline_seconds=0.1)


async def test_an_error_of_the_condition_is_passed_on(tmp_path: Path) -> None:
    """If the check of the condition fails, that error is raised, and not a ProcessError."""

    async def fail() -> None:
        raise LookupError

    async with ProcessGroup(tmp_path) as group:
        await group.start("sleep", *SLEEP)
        with pytest.raises(LookupError):
            await group.until(fail(), of="sleep", deadline_seconds=60)


@pytest.mark.parametrize(
    ("end", "folder_stays"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_a_group_ends_however_its_owner_ends(end: signal.Signals, folder_stays: bool, tmp_path: Path) -> None:  # noqa: FBT001 -- a column of the table
    """If the owner is killed, the watchdog ends the processes and removes their folder."""
    folder, fifo = tmp_path / "folder", tmp_path / "fifo"
    folder.mkdir()
    os.mkfifo(fifo)
    with subprocess.Popen([sys.executable, "-c", OWNER, folder, fifo], stderr=subprocess.PIPE) as owner:
        with fifo.open() as program:  # opens when the process has started
            owner.send_signal(end)
            assert not program.read()  # returns when the process has ended
        owner.communicate()  # returns when the watchdog has ended
    assert folder_stays == folder.exists()


async def test_a_tied_process_undoes_what_it_prepared(tmp_path: Path) -> None:
    """It does so when the block ends, which returns after that."""
    made = tmp_path / "made"
    async with TiedProcess("a file", "sh", "-c", 'touch "$0"; echo ready; cat; rm "$0"', made) as tied:
        assert ("ready", True) == (tied.line, made.exists())
    assert not made.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param("echo no room >&2; exit 1", "a file cannot be created: no room", id="prepares-nothing"),
        pytest.param("echo ready; cat; echo busy >&2; exit 1", "a file left something behind: busy", id="undoes-half"),
    ],
)
async def test_a_tied_process_says_what_it_could_not_do(script: str, message: str) -> None:
    """The error has the process's own words."""
    with pytest.raises(ProcessError, match=message):
        async with TiedProcess("a file", "sh", "-c", script):
            pass
