"""Runs Saffire as its image does: functions-framework, with the command line of the Procfile."""

import asyncio
import contextlib
import json
import shlex
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from playground import ROOT
from playground.cluster.processes import ProcessGroup

MAIN_FILE = ROOT / "main.py"
"""The file with the function."""

START_SECONDS = 60
"""How long the function may take until it accepts connections."""

_POLL_SECONDS = 0.02


class FunctionProcess:
    """
    The function in a process of its own; use as an async context manager.

    Entering returns when it accepts connections.

    Args:
        kubeconfig: of the identity that the function has at the API server.
        main_file: the file with the function.
        wrapper: a command, with its arguments, that runs the command of the function.
        environ: added to the function's environment. Without a setting there, it listens on 127.0.0.1, and sweeps need
            no pause between them.

    """

    def __init__(
        self, kubeconfig: Path, main_file: Path = MAIN_FILE, /, *, wrapper: Sequence[str | Path] = (), **environ: str
    ) -> None:
        self._main_file = main_file
        self._wrapper = wrapper
        self._environ = {
            "HOST": "127.0.0.1",
            "KUBECONFIG": str(kubeconfig),
            "PYTHONUNBUFFERED": "1",
            "SAFFIRE_SWEEP_INTERVAL_SECONDS": "0.001",
            **environ,
        }
        self.url = ""
        self._read = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-function-")))
            self._processes = await stack.enter_async_context(ProcessGroup(folder))
            self._environ["TMPDIR"] = str(folder)  # the Kubernetes client leaves a file there
            port = free_port()
            self.url = f"http://127.0.0.1:{port}/"
            await self._processes.start(
                "function",
                *self._wrapper,
                *server_command(self._main_file),
                PORT=str(port),
                **self._environ,
            )
            await self._processes.until(_accepts_connections(port), "function", START_SECONDS)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._processes.pids()["function"]

    def output(self) -> str:
        """Return everything that it has printed so far."""
        return (self._processes.folder / "function.log").read_text()

    def new_log_lines(self) -> list[dict[str, Any]]:
        """Return the structured log lines since the last call; an incomplete line comes with a later call."""
        with (self._processes.folder / "function.log").open("rb") as file:
            file.seek(self._read)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]
        self._read += len(complete)
        return [json.loads(line) for line in complete.decode().splitlines() if line.startswith("{")]

    def log(self) -> list[dict[str, Any]]:
        """Return all its structured log lines so far."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]


def server_command(main_file: Path = MAIN_FILE) -> tuple[str, ...]:
    """Return the command of the Procfile, with the program of this Python environment, and with `main_file`."""
    program, *arguments = shlex.split((ROOT / "Procfile").read_text().removeprefix("web:"))
    replaced = (argument.replace("--source=main.py", f"--source={main_file}") for argument in arguments)
    return (str(Path(sys.executable).with_name(program)), *replaced)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no program listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _accepts_connections(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(_POLL_SECONDS)
