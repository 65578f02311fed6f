"""
The gateway between Saffire and registries: under the names of real registries, registries on loopback answer.

Saffire asks registries by the names that images have, such as `quay.io`, and trusts the certificates of the machine. A
story brings registries of its own, alive or dead as the story says. So it runs Saffire in an environment where the
gateway is the proxy for HTTPS, and where only an authority of this run is trusted. Then Saffire sees the same on every
machine, whether that machine reaches the real registries or not.
"""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from playground.certificates import CertificateAuthority
from playground.cluster.processes import ProcessGroup

_HUB_HOST, _HUB = "registry-1.docker.io", "docker.io"
_HTTPS = ":443"
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_NO_ANSWER = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
_CHUNK = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ServingTasks:
    """The tasks that serve the connections of a server."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve one connection."""
        task = asyncio.create_task(serving)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Cancel all of them, and wait for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class RegistryGateway:
    """
    A proxy on loopback that knows the method CONNECT (RFC 9110, section 9.3.6); use as an async context manager.

    To a client, it is the registry that the client asked for: it has a certificate for that name, and hands the
    requests on to a registry on loopback in plain HTTP. If that registry refuses connections, it answers CONNECT with
    502, as proxies do.

    Args:
        address_of: returns the address on loopback, `HOST:PORT`, of a registry by its domain in image references;
            `""` if there is no such registry.
        authority: issues the certificates; by default, a new one does.

    """

    environ: dict[str, str]
    """What a process needs in its environment to ask registries through the gateway."""

    def __init__(self, address_of: Callable[[str], str], authority: CertificateAuthority | None = None) -> None:
        self._address_of = address_of
        self._authority = authority or CertificateAuthority()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._serving = ServingTasks()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-gateway-")))
            await stack.enter_async_context(ProcessGroup(folder))  # removes the folder if this process is killed
            file = folder / "authority.pem"
            file.write_bytes(self._authority.pem)
            server = await stack.enter_async_context(await asyncio.start_server(self._accept, "127.0.0.1", 0))
            stack.push_async_callback(self._serving.end)
            url, no_proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "127.0.0.1,localhost"
            # Programs differ in which spelling they prefer, and the machine may have set the other one.
            self.environ = {"HTTPS_PROXY": url, "https_proxy": url, "NO_PROXY": no_proxy, "no_proxy": no_proxy}
            self.environ["SSL_CERT_FILE"] = str(file)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.start(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client, until either side closes its own."""
        try:
            host = await _read_target(reader)
            registry = await self._connect(host)
            if not registry:
                writer.write(_NO_ANSWER)
                return
            try:
                writer.write(_CONNECTED)
                client = await _start_tls(writer, self._context(host))
                await join(client, registry)
            finally:
                registry[1].close()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            return  # the client hung up, or is no client of a proxy
        finally:
            writer.close()

    async def _connect(self, host: str) -> Streams | None:
        """Return a connection to a registry, by the `HOST:PORT` that the client asked for; `None` if it refuses."""
        address, _, port = self._address_of(domain_of(host)).rpartition(":")
        if not address:
            return None
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(address, int(port))
        return None

    def _context(self, host: str) -> ssl.SSLContext:
        """Return the TLS context for a name; its certificate is issued at the first connection."""
        name = host.rpartition(":")[0]
        if name not in self._contexts:
            self._contexts[name] = self._authority.server(name)
        return self._contexts[name]


def domain_of(host: str) -> str:
    """
    Return the domain that image references have for the `HOST` or `HOST:PORT` of a registry.

    Docker Hub's API has a host of its own (moby/moby, registry/config.go).

    >>> domain_of("registry-1.docker.io:443"), domain_of("quay.io:8443")
    ('docker.io', 'quay.io:8443')
    """
    domain = host.removesuffix(_HTTPS)
    return _HUB if domain == _HUB_HOST else domain


async def _read_target(reader: asyncio.StreamReader) -> str:
    """Return the `HOST:PORT` that a client wants a connection to; raise `ValueError` if it wants something else."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, host, _ = head.partition(b"\r\n")[0].decode("ascii").split(" ")
    if method != "CONNECT":
        raise ValueError(method)
    return host


async def _start_tls(writer: asyncio.StreamWriter, context: ssl.SSLContext) -> Streams:
    """Speak TLS as the server on a connection from now on."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport = await loop.start_tls(writer.transport, protocol, context, server_side=True)
    if not transport:
        raise EOFError("the client hung up")
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def join(client: Streams, registry: Streams) -> None:
    """Hand on what each side sends to the other, until one of them closes its connection."""
    tasks = [asyncio.create_task(_copy(client[0], registry[1])), asyncio.create_task(_copy(registry[0], client[1]))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        client[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
