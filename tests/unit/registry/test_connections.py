"""Connections to registries: the proxy, and servers that send too much."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from saffire.proxies import Proxies
from saffire.registry.availability import Available, NotFound, Unreachable
from saffire.registry.check import ImageChecker
from saffire.registry.shares import Resolver
from saffire.registry.transport import RegistryTransport
from testkit.check_registry import PATIENCE, WEB, authority, check, eventually, question, running_registry, transport
from testkit.oci_images import INDEX

# Linux connects to this machine, and by no rule it is an address on loopback.
HERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it


@asynccontextmanager
async def proxy_to_nobody() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a proxy that answers 502; yield its `host:port`, and the requests that it has got so far."""
    requests: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n"))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname()), requests
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("host", "no_proxy", "is_asked"),
    [
        (HERE, "", True),
        (HERE, "10.0.0.0/8,.example", True),
        (HERE, f"10.0.0.0/8,{HERE}/8", False),
        (HERE, HERE, False),
        (HERE, "*", False),
        ("127.0.0.1", "", False),
    ],
)
async def test_a_proxy_is_asked_for_no_excepted_registry(host: str, no_proxy: str, *, is_asked: bool) -> None:
    """Such a registry is reached as if there were no proxy, and every other one through it alone."""
    async with proxy_to_nobody() as (proxy, requests), running_registry(tls=False) as registry:
        domain = registry.domain.replace("127.0.0.1", host)
        environ = {"HTTPS_PROXY": proxy, "HTTP_PROXY": f"http://{proxy}", "NO_PROXY": no_proxy}
        sender = RegistryTransport(frozenset({domain}), proxies=Proxies.from_environ(environ))
        asked = question(f"{domain}/acme/web:v1")
        async with ImageChecker(sender) as checker:
            answer = (await checker.check([asked], budget_seconds=PATIENCE))[asked]
    assert (is_asked, not is_asked) == (bool(requests), isinstance(answer, Available))
    assert all(domain.encode() in request for request in requests)


# Servers that send too much

MIB = 1024 * 1024
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n" % INDEX.encode()
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = OK + b"Content-Length: %d\r\n\r\n%s" % (len(WEB.body), WEB.body)


class Server:
    """
    A server over TLS that answers each connection with `head`, then with `piece` again and again.

    It stops at 64 MiB, or when the client hangs up.
    """

    domain: str

    def __init__(self, head: bytes, piece: bytes) -> None:
        self._head = head
        self._piece = piece
        self.sent = 0
        """The bytes of the pieces that the server has sent."""
        self.closed = 0
        """The number of connections that the client has closed."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        block = self._piece * (64 * 1024 // len(self._piece)) if self._piece else b""
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._head)
            while block and self.sent < 64 * MIB and not writer.is_closing():
                writer.write(block)
                await writer.drain()
                self.sent += len(block)
                await asyncio.sleep(0)  # a writer that need not wait would not see that the client has hung up
            await reader.read()
        except ConnectionError:
            pass
        finally:
            self.closed += 1
            writer.close()


@asynccontextmanager
async def serving(head: bytes = b"", piece: bytes = b"") -> AsyncIterator[Server]:
    """Run such a server on loopback."""
    server = Server(head, piece)
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=authority().server("127.0.0.1"))
    async with listener:
        server.domain = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield server


TOO_MANY = Unreachable("its answer has too many parts")


@pytest.mark.parametrize(
    ("head", "piece", "expected"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", TOO_MANY),
        (b"", EARLY_HINTS, TOO_MANY),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", TOO_MANY),
        (b"", b"\r\n", TOO_MANY),
        (CHUNKED, b"1\r\nx\r\n", TOO_MANY),
        (CHUNKED, b"200\r\n%s\r\n" % (b"x" * 512), TOO_MANY),
        (CHUNKED + b"1;", b"x", Unreachable("it broke off its answer")),
        (CHUNKED, b"1;%s\r\nx\r\n" % (b"x" * 60_000), Unreachable("it broke off its answer")),
    ],
    ids=[
        *("continue", "early hints", "links", "empty lines", "one-byte chunks", "small chunks"),
        *("an extension without end", "extensions"),
    ],
)
async def test_a_server_that_sends_small_parts_without_end_is_unreachable(
    head: bytes, piece: bytes, expected: Unreachable
) -> None:
    """It is given up long before the time is up, and after a bounded number of bytes."""
    async with serving(head, piece) as server:
        assert expected == await check(question(f"{server.domain}/acme/web:v1"), budget=10)
        await eventually(lambda: server.closed == 1)
        assert server.sent < 24 * MIB


async def test_twelve_such_servers_delay_no_other_registry() -> None:
    """The answer of a registry that works is there, whatever the others send."""
    async with running_registry() as registry, serving(piece=EARLY_HINTS) as server:
        good = question(f"{registry.domain}/acme/web:v1")
        hostile = [question(f"{server.domain}/acme/web-{number}:v1") for number in range(12)]
        async with ImageChecker(transport(registry.domain, server.domain)) as checker:
            answers = await checker.check([*hostile, good], budget_seconds=10)
        assert isinstance(answers[good], Available)
        assert {TOO_MANY} == {answers[asked] for asked in hostile}
        assert server.sent < 64 * MIB


async def test_a_response_without_a_request_closes_the_connection() -> None:
    """A connection that waits for its next request reads no responses without end."""
    async with serving(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", EARLY_HINTS) as server:
        asked = question(f"{server.domain}/acme/web:v1")
        async with ImageChecker(transport(server.domain)) as checker:
            assert NotFound() == (await checker.check([asked], budget_seconds=10))[asked]
            await eventually(lambda: server.closed == 1)
        assert server.sent < 24 * MIB


@pytest.mark.parametrize("count", [0, 1, 8])
async def test_some_informational_responses_are_skipped(count: int) -> None:
    """A proxy may send some of them before the response."""
    async with serving(EARLY_HINTS * count + WHOLE) as server:
        assert isinstance(await check(question(f"{server.domain}/acme/web:v1"), budget=10), Available)


async def test_a_connection_serves_any_number_of_requests() -> None:
    """What a server sends is counted anew for each request."""
    ports: set[object] = set()

    async def note_port(request: web.Request) -> None:
        ports.add(request.transport and request.transport.get_extra_info("peername"))

    async with running_registry() as registry, ImageChecker(transport(registry.domain)) as checker:
        registry.shape = note_port
        for number in range(20):
            asked = question(f"{registry.domain}/acme/web:v{number + 2}")
            assert NotFound() == (await checker.check([asked], budget_seconds=5))[asked]
    assert 1 == len(ports)


async def test_a_manifest_in_chunks_of_one_byte_is_read() -> None:
    """A body may have some small parts."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in WEB.body)
    async with serving(CHUNKED + chunks + b"0\r\n\r\n") as server:
        assert isinstance(await check(question(f"{server.domain}/acme/web:v1"), budget=10), Available)


async def test_a_large_body_may_have_many_parts() -> None:
    """A body of 4 MB in chunks of 2 kB, as some servers send it, is read to its end."""

    async def in_chunks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": INDEX})
        await response.prepare(request)
        await response.write(WEB.body)
        for _ in range(2000):
            await response.write(b" " * 2048)
        return response

    async with running_registry() as registry:
        registry.shape = in_chunks
        assert isinstance(await check(question(f"{registry.domain}/acme/web:v1"), budget=10), Available)


class KeepAlive:
    """A server that answers every request with 404, and keeps its connections open."""

    def __init__(self) -> None:
        self.opened = self.closed = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.opened += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        self.closed += 1
        writer.close()


async def test_few_connections_are_kept_for_a_next_request() -> None:
    """Whoever owns a domain may name any number of hosts. The host that was asked last is asked again without delay."""
    server = KeepAlive()
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=authority().server("*.evil.example"))
    hosts = [f"h{number}.evil.example:{listener.sockets[0].getsockname()[1]}" for number in range(150)]
    resolver = Resolver(lambda _, *rest, **options: socket.getaddrinfo("127.0.0.1", *rest, **options))
    sender = RegistryTransport(frozenset(hosts), resolver=resolver, tls=authority().trust())
    async with listener, ImageChecker(sender) as checker:
        for host in (*hosts, hosts[-1]):
            asked = question(f"{host}/acme/web:v1")
            assert {asked: NotFound()} == await checker.check([asked], budget_seconds=PATIENCE)
        await eventually(lambda: server.opened - server.closed <= 64)
    assert len(hosts) == server.opened
