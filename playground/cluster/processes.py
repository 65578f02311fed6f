"""
Processes that end with their owner, however the owner ends: groups, and single ones that undo what they did.

If the owner leaves a group's block, its processes are stopped one after the other. If the owner is killed, a watchdog
cleans up: a tiny process that reads a pipe whose other end only the owner holds. If the pipe closes without a message,
the owner is gone: the watchdog kills the group and removes its folder.
"""

import asyncio
import os
import sys
from asyncio import StreamReader, subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar, cast

T = TypeVar("T")

GRACE_SECONDS = 10
"""How long a process may take to end after SIGTERM, before SIGKILL."""

TAIL_LINES = 15
"""How many lines of its log a failed process shows."""

_WATCHDOG = """
import os, shutil, signal, sys
if not sys.stdin.read():
    group = os.getpgrp()
    if os.fork():
        signal.pause()  # stays in the group, so that the kernel cannot reuse its number
    os.setsid()
    os.killpg(group, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class ProcessError(Exception):
    """A process ended on its own, or is not ready in time; the message shows the end of its log."""


class ProcessGroup:
    """
    Processes whose working directory is `folder`, each logging to `NAME.log` there; use as an async context manager.

    Their process group is not the terminal's, so Ctrl-C reaches only the owner, which then stops them in order.
    """

    def __init__(self, folder: Path, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self.folder = folder
        self._grace_seconds = grace_seconds
        self._processes: dict[str, subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        command = (sys.executable, "-I", "-S", "-c", _WATCHDOG, self.folder)
        self._watchdog = await subprocess.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, cwd="/", process_group=0
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            await self._stop(process)
        await self._watchdog.communicate(b"in order")

    async def start(self, name: str, *command: str | Path, **environ: str) -> None:
        """Start `command` as `name`, with `environ` added to the environment."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = await subprocess.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | environ,
                process_group=self._watchdog.pid,
            )

    async def kill(self, name: str) -> None:
        """Kill a process by SIGKILL, and wait for its end; it may be started again."""
        self._processes[name].kill()
        await self.wait(name)

    async def wait(self, name: str) -> int:
        """Wait for the end of a process, and return its exit status."""
        return await self._processes[name].wait()

    def pids(self) -> dict[str, int]:
        """Return the process id of each process, by name."""
        return {name: process.pid for name, process in self._processes.items()}

    async def until(self, condition: Coroutine[Any, Any, T], of: str, deadline_seconds: float) -> T:
        """
        Wait for `condition`, which the process `of` brings about, and return its result.

        Raise `ProcessError` after the deadline, or as soon as any process of the group ends.
        """
        task = asyncio.create_task(condition)
        ends = {asyncio.create_task(process.wait()): name for name, process in self._processes.items()}
        try:
            done, _ = await asyncio.wait({task, *ends}, timeout=deadline_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pending in (task, *ends):
                pending.cancel()
        if task in done:
            return await task
        for end, name in ends.items():
            if end in done:
                raise ProcessError(f"{name} ended with status {end.result()}{self._tail(name)}")
        raise ProcessError(f"{of} is not ready after {deadline_seconds:g} s{self._tail(of)}")

    async def _stop(self, process: subprocess.Process) -> None:
        if process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._grace_seconds)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _tail(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(["; the end of its log:", *lines[-TAIL_LINES:]])


class TiedProcess:
    """
    A process that prepares something, and undoes it when its input ends; use as an async context manager.

    Its input is a pipe that only the owner holds open, so it also ends if the owner is killed. Entering and leaving
    raise `ProcessError` with the process's error output if it prepares nothing, or does not undo everything.

    Args:
        what: what it prepares, as the errors name it.
        command: the program, with its arguments. It prints a line once everything is prepared.

    """

    def __init__(self, what: str, *command: str | Path) -> None:
        self.line = ""
        """The line that it printed."""
        self._what = what
        self._command = command

    async def __aenter__(self) -> Self:
        pipe = subprocess.PIPE
        # In a session of its own, an interrupt from the terminal does not end it before everything is undone.
        self._process = await subprocess.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        try:
            self.line = (await cast("StreamReader", self._process.stdout).readline()).decode().strip()
        except BaseException:
            await self._end()
            raise
        if not self.line:
            raise ProcessError(f"{self._what} cannot be created: {await self._end()}")
        return self

    async def __aexit__(self, *_: object) -> None:
        errors = await self._end()
        if self._process.returncode:
            raise ProcessError(f"{self._what} left something behind: {errors}")

    async def _end(self) -> str:
        """End the input; return the error output."""
        _, errors = await self._process.communicate(b"end")
        return errors.decode(errors="replace").strip()
