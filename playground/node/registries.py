"""Registries on loopback that can die, hang and come back, and one that no packet reaches."""

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
# On loopback an answer takes a millisecond; a request that gets none is repeated after one second.
_DIAL_SECONDS = 0.5


class Registry:
    """
    A registry, empty at first, that takes any image; use as an async context manager.

    Args: passwords: lines of an htpasswd file, with bcrypt; whoever is not among them is not let in, if there are any.
    """

    domain: str
    """`127.0.0.1:PORT`: what its images' references start with."""

    def __init__(self, passwords: str = "") -> None:
        self._passwords = passwords
        self._pid: int | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-registry-")))
            self._port = stack.enter_context(reserve_port()).getsockname()[1]
            self.domain = f"127.0.0.1:{self._port}"
            self._family = await stack.enter_async_context(ProcessGroup(folder))
            (folder / "passwords").write_text(self._passwords)
            asked = (
                {"auth": {"htpasswd": {"realm": "us", "path": str(folder / "passwords")}}} if self._passwords else {}
            )
            (folder / "registry.json").write_text(json.dumps(_settings(folder, self.domain) | asked))
            await self._start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._signal(signal.SIGCONT)  # one that hangs could not end
        await self._stack.aclose()

    async def die(self) -> None:
        """End at once; return when connections are refused."""
        self._signal(signal.SIGKILL)
        self._pid = None
        async with asyncio.timeout(START_SECONDS):
            await until(self._refuses)

    def hang(self) -> None:
        """Take connections from now on, and never answer."""
        self._signal(signal.SIGSTOP)

    async def revive(self) -> None:
        """Answer again, with every image that was there."""
        self._signal(signal.SIGCONT)
        if not self._pid:
            await self._start()

    def log(self) -> str:
        """Return what it logged since it last started: also each request."""
        return (self._family.folder / "registry.log").read_text()

    def _signal(self, number: signal.Signals) -> None:
        if self._pid:
            os.kill(self._pid, number)

    async def _start(self) -> None:
        await self._family.start("registry", "docker-registry", "serve", "registry.json")
        self._pid = self._family.pids()["registry"]
        await self._family.until(until(self._listens), "registry", START_SECONDS)

    async def _refuses(self) -> bool:
        return not await self._listens()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True


class BlackHole:
    """
    A registry to which all packets are lost: whoever dials it gives up in the end; use as a context manager.

    Nothing is dropped by rules, which would take root: its queue of connections is full, and Linux answers nobody then.
    """

    domain: str
    """`127.0.0.1:PORT`: what its images' references start with."""

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


def _connects(dialling: socket.socket, address: tuple[str, int]) -> bool:
    """Dial, and tell whether that is answered."""
    dialling.settimeout(_DIAL_SECONDS)
    try:
        dialling.connect(address)
    except TimeoutError:
        return False
    return True


def _settings(folder: Path, address: str) -> dict[str, object]:
    return {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
