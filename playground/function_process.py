"""Saffire itself, served as its image serves it: functions-framework with the command line of the Procfile."""

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

from playground.cluster.processes import ProcessGroup

ROOT = Path(__file__).parent.parent
MAIN_FILE = ROOT / "main.py"
START_SECONDS = 60
_POLL_SECONDS = 0.02


class FunctionProcess:
    """
    The function in a process of its own; use as an async context manager.

    Entering returns when it takes connections.

    Args:
        kubeconfig: of the identity it has at the API server.
        source: the file with the target.
        wrapper: the command, with its arguments, that is to run the function's.
        environ: added to its environment.

    """

    def __init__(
        self, kubeconfig: Path, source: Path = MAIN_FILE, /, *, wrapper: Sequence[str | Path] = (), **environ: str
    ) -> None:
        self._source = source
        self._wrapper = wrapper
        self._environ = {"KUBECONFIG": str(kubeconfig), "PYTHONUNBUFFERED": "1", **environ}
        self.url = ""
        self._read = 0

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-function-")))
            self._family = await stack.enter_async_context(ProcessGroup(folder))
            self._environ["TMPDIR"] = str(folder)  # the client of Kubernetes leaves a file there
            port = free_port()
            self.url = f"http://127.0.0.1:{port}/"
            await self._family.start(
                "function",
                *self._wrapper,
                *server_command(self._source),
                PORT=str(port),
                HOST="127.0.0.1",
                **self._environ,
            )
            await self._family.until(_listens(port), "function", START_SECONDS)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._family.pids()["function"]

    def output(self) -> str:
        """Return what it printed so far."""
        return (self._family.folder / "function.log").read_text()

    def news(self) -> list[dict[str, Any]]:
        """Return the structured log lines since the last call, as far as they are whole."""
        with (self._family.folder / "function.log").open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.decode().splitlines() if line.startswith("{")]

    def log(self) -> list[dict[str, Any]]:
        """Return its structured log lines so far."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]


def server_command(source: Path = MAIN_FILE) -> tuple[str, ...]:
    """Return the Procfile's command, with the program of this environment and another source."""
    program, *arguments = shlex.split((ROOT / "Procfile").read_text().removeprefix("web:"))
    placed = (argument.replace("--source=main.py", f"--source={source}") for argument in arguments)
    return (str(Path(sys.executable).with_name(program)), *placed)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _listens(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(_POLL_SECONDS)
