"""Families of processes: they end with their owner, and say why they failed."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from playground.cluster.processes import ProcessError, ProcessGroup

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")

OWNER = """
import asyncio, sys
from pathlib import Path
from playground.cluster.processes import ProcessGroup

MEMBER = "import sys, time; out = open(sys.argv[1], 'w'); time.sleep(60); out.write('survived')"

async def own(folder, fifo):
    async with ProcessGroup(Path(folder)) as family:
        await family.start("member", sys.executable, "-c", MEMBER, fifo)
        await asyncio.sleep(60)

asyncio.run(own(*sys.argv[1:]))
"""


async def never() -> None:
    """Wait for what does not come."""
    await asyncio.Event().wait()


def runs(pid: int) -> bool:
    """Say whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_leaving_the_block_ends_each_process(tmp_path: Path) -> None:
    """A family ends with its block."""
    async with ProcessGroup(tmp_path) as family:
        await family.start("first", *SLEEP)
        await family.start("second", *SLEEP)
        pids = family.pids()
        assert [True, True] == [runs(pid) for pid in pids.values()]
    assert [False, False] == [runs(pid) for pid in pids.values()]


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After its grace, a process that does not end on request is ended without one."""
    os.mkfifo(tmp_path / "deaf")
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); open('deaf', 'w').close(); time.sleep(60)"
    async with ProcessGroup(tmp_path, grace_seconds=0.1) as family:
        await family.start("deaf", sys.executable, "-c", deaf)
        await asyncio.to_thread((tmp_path / "deaf").read_bytes)  # returns when it has become deaf
        pid = family.pids()["deaf"]
    assert not runs(pid)


async def test_an_early_end_is_told_with_the_end_of_the_log(tmp_path: Path) -> None:
    """Who waits for one process learns at once that another has ended, and what it said."""
    async with ProcessGroup(tmp_path) as family:
        await family.start("sleep", *SLEEP)
        await family.start("broken", sys.executable, "-c", "import sys; sys.exit('no such flag')")
        with pytest.raises(ProcessError, match=r"(?s)broken ended with status 1.*no such flag"):
            await family.until(never(), of="sleep", deadline_seconds=60)


async def test_a_missed_deadline_names_the_process_that_is_waited_for(tmp_path: Path) -> None:
    """A condition that does not come true in time is the failure of the process it is asked of."""
    async with ProcessGroup(tmp_path) as family:
        await family.start("sleep", *SLEEP)
        with pytest.raises(ProcessError, match=r"sleep is not ready after 0\.1 s"):
            await family.until(never(), of="sleep", deadline_seconds=0.1)


async def test_an_error_of_the_condition_is_passed_on(tmp_path: Path) -> None:
    """A condition that cannot be looked at is no failure of a process."""

    async def fail() -> None:
        raise LookupError

    async with ProcessGroup(tmp_path) as family:
        await family.start("sleep", *SLEEP)
        with pytest.raises(LookupError):
            await family.until(fail(), of="sleep", deadline_seconds=60)


@pytest.mark.parametrize(
    ("end", "folder_stays"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGINT, True)]
)
def test_a_family_ends_however_its_owner_ends(end: signal.Signals, folder_stays: bool, tmp_path: Path) -> None:  # noqa: FBT001 -- a column of the table
    """An owner that has no time to clean up leaves neither processes nor their folder."""
    folder, fifo = tmp_path / "folder", tmp_path / "fifo"
    folder.mkdir()
    os.mkfifo(fifo)
    with subprocess.Popen([sys.executable, "-c", OWNER, folder, fifo], stderr=subprocess.PIPE) as owner:
        with fifo.open() as member:  # opens when the member has started
            owner.send_signal(end)
            assert not member.read()  # returns when the member has ended
        owner.communicate()  # returns when the guard has ended
    assert folder_stays == folder.exists()
