"""
Programs that live and die together.

A family of processes ends with its owner, however the owner ends: an `async with` block that is left stops them one by one, and a guard,
itself a tiny process, holds the read end of a pipe whose other end only the owner has. Should the owner be killed without a chance to
clean up, the pipe ends without a word, and the guard kills the family and removes its folder.
"""

import asyncio
import sys
from asyncio import subprocess
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

GRACE_SECONDS = 10
"""How long a process may take to end after SIGTERM, before SIGKILL."""

TAIL_LINES = 15
"""How much of its log a failed process shows."""

_GUARD = """
import os, shutil, signal, sys
if not sys.stdin.read():
    group = os.getpgrp()
    if os.fork():
        signal.pause()  # in the group to the end: its number cannot become another's
    os.setsid()
    os.killpg(group, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class ProcessEndedError(Exception):
    """A process of the family ended on its own; the message shows the end of its log."""


class Family:
    """
    Processes whose working directory is `folder`, each logging to `NAME.log` there; use as an async context manager.

    All are in one process group, away from the terminal's: a Ctrl-C reaches the owner, who stops them in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._members: dict[str, subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        self._guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _GUARD, str(self.folder)),
            stdin=subprocess.PIPE,
            cwd="/",
            process_group=0,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in reversed(self._members.values()):
            await _stop(member)
        await self._guard.communicate(b"done")

    async def start(self, name: str, *command: str | Path) -> None:
        """Start `command` as `name`."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._members[name] = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                process_group=self._guard.pid,
            )

    def pids(self) -> dict[str, int]:
        """Return the process id of each member."""
        return {name: member.pid for name, member in self._members.items()}

    async def during(self, work: Awaitable[T]) -> T:
        """Return what `work` returns; raise `ProcessEndedError` as soon as a member ends before it."""
        task = asyncio.ensure_future(work)
        ends = {asyncio.ensure_future(member.wait()): name for name, member in self._members.items()}
        try:
            await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                name = next(name for end, name in ends.items() if end.done())
                raise ProcessEndedError(self._obituary(name))
            return await task
        finally:
            for each in (task, *ends):
                each.cancel()

    def _obituary(self, name: str) -> str:
        log = (self.folder / f"{name}.log").read_text(errors="replace")
        tail = "\n".join(log.splitlines()[-TAIL_LINES:])
        return f"{name} ended with status {self._members[name].returncode}; the end of its log:\n{tail}"


async def _stop(member: subprocess.Process) -> None:
    if member.returncode is not None:
        return
    member.terminate()
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await member.wait()
    except TimeoutError:
        member.kill()
        await member.wait()
