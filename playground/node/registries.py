"""Registries on loopback that can die, hang and come back, and one that loses all packets."""

import asyncio
import json
import os
import signal
import socket
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Self

from playground.cluster.polling import until
from playground.cluster.processes import ProcessGroup
from playground.node.network import reserve_port

START_SECONDS = 30
# On loopback, a connection takes a millisecond. TCP repeats a SYN without an answer after one second.
_CONNECT_SECONDS = 0.5


class Registry:
    """
    A registry that is empty at first and accepts any image; use as an async context manager.

    Args: passwords: the lines of an htpasswd file, with bcrypt. If given, the registry accepts only these users.
    """

    domain: str
    """`127.0.0.1:PORT`: what the references of its images start with."""

    def __init__(self, passwords: str = "") -> None:
        self._passwords = passwords
        self._pid: int | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-registry-")))
            self._port = stack.enter_context(reserve_port()).getsockname()[1]
            self.domain = f"127.0.0.1:{self._port}"
            self._processes = await stack.enter_async_context(ProcessGroup(folder))
            (folder / "passwords").write_text(self._passwords)
            auth = {"auth": {"htpasswd": {"realm": "us", "path": str(folder / "passwords")}}} if self._passwords else {}
            (folder / "registry.json").write_text(json.dumps(_settings(folder, self.domain) | auth))
            await self._start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._signal(signal.SIGCONT)  # a stopped process could not end
        await self._stack.aclose()

    async def die(self) -> None:
        """Kill the registry; return when it refuses connections."""
        self._signal(signal.SIGKILL)
        self._pid = None
        async with asyncio.timeout(START_SECONDS):
            await until(self._refuses_connections)

    def hang(self) -> None:
        """From now on, accept connections and never answer."""
        self._signal(signal.SIGSTOP)

    async def revive(self) -> None:
        """Answer again, with all images as before."""
        self._signal(signal.SIGCONT)
        if not self._pid:
            await self._start()

    def log(self) -> str:
        """Return what the registry has logged since it last started, including every request."""
        return (self._processes.folder / "registry.log").read_text()

    def _signal(self, number: signal.Signals) -> None:
        if self._pid:
            os.kill(self._pid, number)

    async def _start(self) -> None:
        await self._processes.start("registry", "docker-registry", "serve", "registry.json")
        self._pid = self._processes.pids()["registry"]
        await self._processes.until(until(self._accepts_connections), "registry", START_SECONDS)

    async def _refuses_connections(self) -> bool:
        return not await self._accepts_connections()

    async def _accepts_connections(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True


class BlackHole:
    """
    A registry that loses all packets, so that every connection to it times out; use as a context manager.

    It needs no firewall rules, which would need root: its backlog is full, and Linux then ignores further connections.
    """

    domain: str
    """`127.0.0.1:PORT`: what the references of its images start with."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            self.domain = f"127.0.0.1:{listener.getsockname()[1]}"
            while _connects(stack.enter_context(socket.socket()), listener.getsockname()):
                pass
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _connects(client: socket.socket, address: tuple[str, int]) -> bool:
    """Return whether a connection to `address` is accepted."""
    client.settimeout(_CONNECT_SECONDS)
    try:
        client.connect(address)
    except TimeoutError:
        return False
    return True


def _settings(folder: Path, address: str) -> dict[str, object]:
    return {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
