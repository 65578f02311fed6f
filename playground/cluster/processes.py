"""
Programs that live and die together.

A family of processes ends with its owner, however the owner ends. In order, the end of the family's block stops them
one by one. For the rest there is a guard, itself a tiny process, which reads a pipe whose other end only the owner has:
when the pipe ends without a word, the owner is gone, and the guard kills the family and removes its folder.
"""

import asyncio
import os
import sys
from asyncio import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")

GRACE_SECONDS = 10
"""How long a process may take to end after SIGTERM, before SIGKILL."""

TAIL_LINES = 15
"""How much of its log a failed process shows."""

_GUARD = """
import os, shutil, signal, sys
if not sys.stdin.read():
    family = os.getpgrp()
    if os.fork():
        signal.pause()  # a member to the end, so that the group's number cannot become another's
    os.setsid()
    os.killpg(family, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class ProcessError(Exception):
    """A process ended on its own, or does not do what is awaited; the message shows the end of its log."""


class ProcessGroup:
    """
    Processes whose working directory is `folder`, each logging to `NAME.log` there; use as an async context manager.

    They are one process group, and not the terminal's: a Ctrl-C reaches the owner alone, who then stops them in order.
    """

    def __init__(self, folder: Path, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self.folder = folder
        self._grace_seconds = grace_seconds
        self._members: dict[str, subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        command = (sys.executable, "-I", "-S", "-c", _GUARD, self.folder)
        self._guard = await subprocess.create_subprocess_exec(*command, stdin=subprocess.PIPE, cwd="/", process_group=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in reversed(self._members.values()):
            await self._stop(member)
        await self._guard.communicate(b"in order")

    async def start(self, name: str, *command: str | Path, **environ: str) -> None:
        """Start `command` as `name`, with `environ` added to the environment."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._members[name] = await subprocess.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | environ,
                process_group=self._guard.pid,
            )

    def pids(self) -> dict[str, int]:
        """Return the process id of each member."""
        return {name: member.pid for name, member in self._members.items()}

    async def until(self, condition: Coroutine[Any, Any, T], of: str, deadline_seconds: float) -> T:
        """
        Return what `condition` returns in the end, which is the work of the member `of`.

        Raise `ProcessError` after the deadline, or as soon as any member ends.
        """
        awaited = asyncio.create_task(condition)
        ends = {asyncio.create_task(member.wait()): name for name, member in self._members.items()}
        try:
            done, _ = await asyncio.wait(
                {awaited, *ends}, timeout=deadline_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (awaited, *ends):
                task.cancel()
        if awaited in done:
            return await awaited
        for end, name in ends.items():
            if end in done:
                raise ProcessError(f"{name} ended with status {end.result()}{self._tail(name)}")
        raise ProcessError(f"{of} is not ready after {deadline_seconds:g} s{self._tail(of)}")

    async def _stop(self, member: subprocess.Process) -> None:
        if member.returncode is not None:
            return
        member.terminate()
        try:
            await asyncio.wait_for(member.wait(), self._grace_seconds)
        except TimeoutError:
            member.kill()
            await member.wait()

    def _tail(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(["; the end of its log:", *lines[-TAIL_LINES:]])
