"""
Programs that run in a process of their own, so that their work takes no time from the measuring process.

A program answers every line of JSON on its stdin with a line on its stdout, and ends when stdin ends.
"""

import asyncio
import json
import sys
from asyncio import subprocess
from collections.abc import AsyncIterator
from typing import Any, Self

from testkit import ROOT

_LONGEST_LINE = 2**26


class Child:
    """
    A program in a child process; use as an async context manager.

    Args:
        module: the module that the child runs.
        order: the first order that it gets.

    """

    def __init__(self, module: str, **order: Any) -> None:
        self._module = module
        self._order = order

    async def __aenter__(self) -> Self:
        command = (sys.executable, "-m", self._module)
        pipe = subprocess.PIPE
        self._process = await subprocess.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, cwd=ROOT, limit=_LONGEST_LINE
        )
        await self.ask(**self._order)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.communicate(b"")  # closes stdin

    @property
    def pid(self) -> int:
        """The process id of the child."""
        return self._process.pid

    async def ask(self, **order: Any) -> Any:
        """Send an order and return the answer."""
        assert self._process.stdin  # noqa: S101 -- both are pipes
        assert self._process.stdout  # noqa: S101
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError(f"{self._module} has ended")
        return json.loads(line)


async def orders() -> AsyncIterator[Any]:
    """
    Yield the orders of the owner.

    By asking for the next order, the caller says that it has carried out the one before.
    """
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        yield json.loads(line)


def answer(**said: Any) -> None:
    """Tell the owner that the last order is carried out."""
    print(json.dumps(said), flush=True)
