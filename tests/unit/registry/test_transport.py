"""Requests to registries: addresses, TLS, redirects, and servers that answer badly or not at all."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from playground.certificates import CertificateAuthority
from playground.node.network import reserve_port
from saffire.registry.address_guard import AddressGuard
from saffire.registry.availability import Availability, Available, Unreachable
from saffire.registry.check import ImageChecker
from saffire.registry.connections import system_trust
from saffire.registry.transport import RegistryTransport
from testkit import scripted_registry as shapes
from testkit.check_registry import LATE, WEB, authority, check, eventually, question, running_registry, transport
from testkit.scripted_registry import Registry, raw

REFUSED = Unreachable("its address is not one that may be asked")
NO_WEB = Unreachable("it does not answer as the web does")


class Resolver(AbstractResolver):
    """A resolver that returns these addresses for any name."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.names: list[str] = []
        """Each name that it was asked for, with the port."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses."""
        self.names.append(f"{host}:{port}")
        numeric = socket.AI_NUMERICHOST
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=numeric)
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


async def ask_by_name(reference: str, resolver: Resolver, *insecure: str) -> Availability:
    """Check an image, with `resolver` for names."""
    guarded = RegistryTransport(frozenset(insecure), resolver=resolver, tls=authority().trust())
    web_question = question(reference)
    async with ImageChecker(guarded) as checker:
        return (await checker.check([web_question], budget_seconds=2))[web_question]


# Addresses


@pytest.mark.parametrize(
    "domain",
    [
        *("127.0.0.1:{}", "localhost:{}", "[::1]:{}", "[::ffff:7f00:1]:{}", "0.0.0.0:{}"),
        *("0x7f000001:{}", "0x7f.1:{}", "LOCALHOST:{}"),
    ],
)
async def test_a_registry_on_this_machine_is_not_asked(domain: str) -> None:
    """It gets no request, however its address is written."""
    async with running_registry() as registry:
        answer = await ask_by_name(f"{domain.format(registry.port)}/acme/web:v1", Resolver("127.0.0.1"))
        assert REFUSED == answer
        assert [] == registry.requests


@pytest.mark.parametrize("domain", ["2130706433:5000", "127.1:5000", "0177.0.0.1:5000", "1.1.1.1:99999"])
async def test_an_address_in_an_old_spelling_is_refused(domain: str) -> None:
    """Only some libraries read it as an address, so it gets no request."""
    answer = await ask_by_name(f"{domain}/acme/web:v1", Resolver("127.0.0.1"))
    assert answer in {Unreachable("its address is not spelled as one"), Unreachable("its name is not one of a host")}


@pytest.mark.parametrize(
    "addresses",
    [
        *(["127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["169.254.169.254"], ["0.0.0.0"], ["224.0.0.1"]),  # noqa: S104 - none is bound
        *(["::1"], ["fd00:ec2::254"], ["fe80::1"], ["::ffff:127.0.0.1"]),
    ],
)
async def test_a_name_of_this_machine_is_not_asked(addresses: list[str]) -> None:
    """The guard checks the address of a name, not the name."""
    async with running_registry() as registry:
        assert REFUSED == await ask_by_name(f"registry.test:{registry.port}/acme/web:v1", Resolver(*addresses))
        assert [] == registry.requests


async def test_a_listed_registry_may_be_anywhere() -> None:
    """The operator's list takes precedence over the guard."""
    async with Registry(authority().server("registry.test")) as registry:
        registry.push("acme/web:v1", WEB)
        domain = f"registry.test:{registry.port}"
        answer = await ask_by_name(f"{domain}/acme/web:v1", Resolver("127.0.0.1"), domain)
        assert isinstance(answer, Available)


async def test_a_listed_port_allows_no_other_port() -> None:
    """Other services of the machine get no requests."""
    async with running_registry() as listed, running_registry() as other:
        listed.shape = shapes.redirect(other.url)
        assert REFUSED == await check(question(f"{listed.domain}/acme/web:v1"))
        assert [] == other.requests


@pytest.mark.parametrize(
    ("listed", "domain", "is_asked"),
    [
        ("registry.test", "registry.test", True),
        ("registry.test", "registry.test:443", True),
        ("registry.test", "registry.test:5000", False),
        ("registry.test:5000", "registry.test:5000", True),
        ("registry.test:5000", "registry.test", False),
        ("registry.test", "sub.registry.test", False),
    ],
)
async def test_a_host_without_a_port_has_the_default_ports(listed: str, domain: str, *, is_asked: bool) -> None:
    """They are those of HTTPS and HTTP."""
    answer = await ask_by_name(f"{domain}/acme/web:v1", Resolver("127.99.99.99"), listed)
    assert (Unreachable("connection refused") if is_asked else REFUSED) == answer


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", "registry-1.docker.io:443"),
        ("index.docker.io/acme/web:v1", "registry-1.docker.io:443"),
        ("registry.hub.docker.com/acme/web:v1", "registry-1.docker.io:443"),
        ("QUAY.io:443/acme/web:v1", "quay.io:443"),
        ("quay.io/acme/web:v1", "quay.io:443"),
    ],
)
async def test_a_registry_is_at_the_host_in_its_name(reference: str, name: str) -> None:
    """The exception is Docker Hub, whose API is at another host."""
    resolver = Resolver("127.0.0.1")
    assert REFUSED == await ask_by_name(reference, resolver)
    assert [name] == resolver.names


async def test_a_denied_network_is_not_asked() -> None:
    """Neither by its address, nor by a name that leads to it."""
    guard = AddressGuard([ip_network("10.0.0.0/8")])
    for domain in ("10.0.0.1", "registry.test"):
        web_question = question(f"{domain}:5000/acme/web:v1")
        guarded = RegistryTransport(guard=guard, resolver=Resolver("10.0.0.1"))
        async with ImageChecker(guarded) as checker:
            assert {web_question: REFUSED} == await checker.check([web_question], budget_seconds=2)


async def test_a_listed_registry_may_be_in_a_denied_network() -> None:
    """The operator lists it by its name."""
    async with running_registry() as registry:
        denying = AddressGuard([ip_network("127.0.0.0/8")])
        web_question = question(f"{registry.domain}/acme/web:v1")
        listed = RegistryTransport(frozenset({registry.domain}), guard=denying, tls=authority().trust())
        async with ImageChecker(listed) as checker:
            answers = await checker.check([web_question], budget_seconds=2)
        assert isinstance(answers[web_question], Available)


class LoopbackGuard(AddressGuard):
    """Allows loopback too, so that a test has a private network with something in it."""

    def allows(self, address: str) -> bool:
        """Tell whether the address is on loopback."""
        return address in {"127.0.0.1", "127.0.0.2"}


@asynccontextmanager
async def nothing() -> AsyncIterator[str]:
    """Give a port that refuses connections."""
    with reserve_port() as reserved:
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


@asynccontextmanager
async def hanging_up(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a server that closes each connection at once, or after the handshake if it has TLS."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


IN_A_PRIVATE_NETWORK: dict[str, Callable[[], AbstractAsyncContextManager[str]]] = {
    "nothing": nothing,
    "a server that hangs up": hanging_up,
    "a server that hangs up after the handshake": lambda: hanging_up(authority().server("127.0.0.1")),
    "a server without TLS": lambda: raw(None, b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a certificate of another host": lambda: raw(authority().server("192.0.2.1")),
    "a certificate of another authority": lambda: raw(CertificateAuthority().server("127.0.0.1")),
    "another protocol over TLS": lambda: raw(authority().server("127.0.0.1"), b"SSH-2.0-OpenSSH_9.6\r\n"),
}


@pytest.mark.parametrize("is_named", [False, True], ids=["address", "name"])
@pytest.mark.parametrize("server", IN_A_PRIVATE_NETWORK.values(), ids=IN_A_PRIVATE_NETWORK.keys())
async def test_every_failure_at_a_private_address_reads_the_same(
    server: Callable[[], AbstractAsyncContextManager[str]], *, is_named: bool
) -> None:
    """The author of a source does not learn which ports of a private network are open."""
    guarded = RegistryTransport(guard=LoopbackGuard(), resolver=Resolver("127.0.0.1"), tls=authority().trust())
    async with server() as domain, ImageChecker(guarded) as checker:
        reference = f"{domain.replace('127.0.0.1', 'registry.test') if is_named else domain}/acme/web:v1"
        answers = await checker.check([question(reference)], budget_seconds=5)
        assert [Unreachable("it gives no usable answer")] == list(answers.values())


async def test_a_name_with_several_private_addresses_tells_nothing_either() -> None:
    """The addresses are tried side by side."""
    guarded = RegistryTransport(guard=LoopbackGuard(), resolver=Resolver("127.0.0.1", "127.0.0.2"))
    async with nothing() as domain, ImageChecker(guarded) as checker:
        reference = f"{domain.replace('127.0.0.1', 'registry.test')}/acme/web:v1"
        answers = await checker.check([question(reference)], budget_seconds=5)
        assert [Unreachable("it gives no usable answer")] == list(answers.values())


async def test_a_private_address_that_says_nothing_reads_the_same_too() -> None:
    """Otherwise a port that loses packets differs from one that is closed."""
    guarded = RegistryTransport(guard=LoopbackGuard(), tls=authority().trust())
    async with raw(None) as domain, ImageChecker(guarded) as checker:
        (answer,) = (await checker.check([question(f"{domain}/acme/web:v1")], budget_seconds=0.5)).values()
        assert Unreachable("it gives no usable answer", is_silent=True) == answer


@pytest.mark.parametrize("server", [nothing, hanging_up])
async def test_a_private_address_behind_a_registry_tells_nothing_either(
    server: Callable[[], AbstractAsyncContextManager[str]],
) -> None:
    """A registry that answers may name any address: as the target of a redirect, or as its token endpoint."""
    async with running_registry() as registry, server() as domain:
        realm = {"WWW-Authenticate": f'Bearer realm="https://{domain}/token"'}
        guarded = RegistryTransport(frozenset({registry.domain}), guard=LoopbackGuard(), tls=authority().trust())
        async with ImageChecker(guarded) as checker:
            for shape, expected in (
                (shapes.redirect(f"https://{domain}"), "it gives no usable answer"),
                (shapes.status(401, realm), "its token endpoint: it gives no usable answer"),
            ):
                registry.shape = shape
                answers = await checker.check([question(f"{registry.domain}/acme/web:v1")], budget_seconds=5)
                assert [Unreachable(expected)] == list(answers.values())


async def test_nothing_is_told_of_what_follows_a_private_address() -> None:
    """How a host fails to which a private one redirects is not said either."""
    async with running_registry() as registry, nothing() as domain:
        guarded = RegistryTransport(frozenset({domain}), guard=LoopbackGuard(), tls=authority().trust())
        registry.shape = shapes.redirect(f"https://{domain}")
        async with ImageChecker(guarded) as checker:
            answers = await checker.check([question(f"{registry.domain}/acme/web:v1")], budget_seconds=5)
            assert [Unreachable("it gives no usable answer")] == list(answers.values())


async def test_a_private_registry_that_refuses_connections_is_silent() -> None:
    """What the failure proves does not depend on what is told of it."""
    guarded = RegistryTransport(guard=LoopbackGuard(), tls=authority().trust())
    async with nothing() as domain, ImageChecker(guarded) as checker:
        (answer,) = (await checker.check([question(f"{domain}/acme/web:v1")], budget_seconds=5)).values()
        assert isinstance(answer, Unreachable)
        assert answer.is_silent


async def test_a_registry_that_is_listed_says_why_it_fails() -> None:
    """The operator has named it, and not the author of a source."""
    async with hanging_up() as domain:
        assert Unreachable("it closed the connection") == await check(question(f"{domain}/acme/web:v1"), budget=5)


# TLS


@pytest.mark.parametrize(
    ("names", "days", "expected"),
    [
        (["127.0.0.1"], -1, "TLS: certificate has expired"),
        (["127.0.0.2"], 1, "TLS: IP address mismatch, certificate is not valid for '127.0.0.1'."),
        (["registry.test"], 1, "TLS: IP address mismatch, certificate is not valid for '127.0.0.1'."),
    ],
    ids=["expired", "another address", "a name"],
)
async def test_a_wrong_certificate_is_no_answer(names: list[str], days: int, expected: str) -> None:
    """A listed registry with a wrong certificate gets no request, not even in plain HTTP."""
    async with Registry(authority().server(*names, days=days)) as registry:
        assert Unreachable(expected) == await check(question(f"{registry.domain}/acme/web:v1"))
        assert [] == registry.requests


async def test_a_certificate_of_an_unknown_authority_is_no_answer() -> None:
    """By default, only the certificate authorities of the system are trusted."""
    async with running_registry() as registry:
        web_question = question(f"{registry.domain}/acme/web:v1")
        async with ImageChecker(RegistryTransport(frozenset({registry.domain}))) as checker:
            answers = await checker.check([web_question], budget_seconds=2)
        assert {web_question: Unreachable("TLS: unable to get local issuer certificate")} == answers


async def test_a_certificate_that_nodes_accept_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Container runtimes do not demand key identifiers, as Python does from 3.13 on."""
    old = CertificateAuthority(strict=False)
    (tmp_path / "authority.pem").write_bytes(old.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with Registry(old.server("127.0.0.1")) as registry:
        registry.push("acme/web:v1", WEB)
        web_question = question(f"{registry.domain}/acme/web:v1")
        trusting = RegistryTransport(frozenset({registry.domain}), tls=system_trust())
        async with ImageChecker(trusting) as checker:
            answers = await checker.check([web_question], budget_seconds=2)
        assert isinstance(answers[web_question], Available)


async def test_a_listed_registry_without_tls_is_asked_in_plain_http() -> None:
    """TLS is tried once, and again after plain HTTP gets no answer any more."""
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        web_question = question(f"127.0.0.1:{port}/acme/web:v1", strict=True)
        async with ImageChecker(transport(f"127.0.0.1:{port}")) as checker:

            async def ask_again() -> Availability:
                return (await checker.check([web_question], budget_seconds=2))[web_question]

            assert Unreachable("connection refused") == await ask_again()
            async with Registry(port=port) as plain:
                plain.shape = shapes.status(503)
                assert Unreachable("it answered 503") == await ask_again()
                assert Unreachable("it answered 503") == await ask_again()
            assert Unreachable("connection refused") == await ask_again()
            async with Registry(authority().server("127.0.0.1"), port=port) as secured:
                secured.push("acme/web:v1", WEB)
                assert isinstance(await ask_again(), Available)


async def test_plain_http_is_not_tried_if_the_storage_is_down() -> None:
    """If the target of a redirect refuses a connection, the registry itself still speaks TLS."""
    async with running_registry() as registry:
        registry.shape = shapes.redirect("https://127.0.0.1:1")
        web_question = question(f"{registry.domain}/acme/web:v1")
        assert Unreachable("connection refused") == await check(web_question, "127.0.0.1:1")
        assert 1 == len(registry.requests)


async def test_a_registry_that_redirects_everybody_to_a_dead_host_is_silent() -> None:
    """No client gets an answer from it, as if the registry itself gave none."""
    async with running_registry() as registry:
        registry.shape = shapes.redirect("https://127.0.0.1:1")
        answer = await check(question(f"{registry.domain}/acme/web:v1"), "127.0.0.1:1")
        assert isinstance(answer, Unreachable)
        assert answer.is_silent


# Redirects


async def test_a_redirect_is_followed_without_the_token() -> None:
    """Storage on another host sends the image, and does not get the token."""
    async with running_registry() as registry, running_registry() as storage:
        registry.challenge = "Bearer"
        registry.shape = shapes.on("/manifests/", bearer_then(shapes.redirect(storage.url)))
        answer = await check(question(f"{registry.domain}/acme/web:v1"), storage.domain)
        assert isinstance(answer, Available)
        assert "Bearer token-1" in registry.authorizations
        assert [""] == storage.authorizations


async def test_a_redirect_is_followed_unchanged() -> None:
    """The signature in its query is valid for this spelling only."""
    path = "/a%2Fb/%C3%BC?X-Signature=a%2Bb%3D+c%20d"
    raw_paths: list[str] = []

    async def storage_shape(request: web.Request) -> web.StreamResponse:
        raw_paths.append(request.raw_path)
        return web.Response(status=404)

    async with running_registry() as registry, running_registry() as storage:
        registry.shape = shapes.status(307, {"Location": storage.url + path})
        storage.shape = storage_shape
        await check(question(f"{registry.domain}/acme/web:v1"), storage.domain)
    assert [path] == raw_paths


async def test_a_challenge_after_a_redirect_is_denied() -> None:
    """Only the registry of the reference gets credentials."""
    async with running_registry() as registry, running_registry() as storage:
        registry.shape = shapes.redirect(storage.url)
        storage.challenge = "Bearer"
        assert "Denied()" == str(await check(question(f"{registry.domain}/acme/web:v1"), storage.domain))
        assert ["GET /v2/acme/web/manifests/v1"] == storage.requests


def bearer_then(shape: shapes.Shape) -> shapes.Shape:
    """Answer requests that have a token with `shape`."""

    async def shaped(request: web.Request) -> web.StreamResponse | None:
        return await shape(request) if "Authorization" in request.headers else None

    return shaped


# Servers that answer badly


def silent() -> AbstractAsyncContextManager[str]:
    """Accept connections, and send nothing."""
    return raw(None)


def slow() -> AbstractAsyncContextManager[str]:
    """Send headers, one byte a second."""
    pieces = (bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    return raw(authority().server("127.0.0.1"), *pieces, seconds=1)


def gibberish() -> AbstractAsyncContextManager[str]:
    """Send another protocol than HTTP."""
    return raw(authority().server("127.0.0.1"), b"SSH-2.0-OpenSSH_9.6\r\n")


def long_headers() -> AbstractAsyncContextManager[str]:
    """Send headers without end."""
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 4000) for number in range(1000))
    return raw(authority().server("127.0.0.1"), b"HTTP/1.1 200 OK\r\n" + lines)


def broken_off() -> AbstractAsyncContextManager[str]:
    """Send a body that is shorter than its `Content-Length`."""
    return raw(authority().server("127.0.0.1"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", b"")


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (silent, Unreachable(LATE)),
        (slow, Unreachable(LATE)),
        (gibberish, NO_WEB),
        (long_headers, NO_WEB),
        (broken_off, Unreachable(LATE)),
    ],
)
async def test_a_server_that_answers_badly_is_unreachable(
    server: Callable[[], AbstractAsyncContextManager[str]], expected: Availability
) -> None:
    """A check takes no longer than its budget, whatever the server sends."""
    async with server() as domain:
        assert expected == await check(question(f"{domain}/acme/web:v1"))


async def test_a_registry_that_is_down_is_unreachable() -> None:
    """It refuses connections for TLS and for plain HTTP."""
    with reserve_port() as reserved:
        domain = f"127.0.0.1:{reserved.getsockname()[1]}"
        assert Unreachable("connection refused") == await check(question(f"{domain}/acme/web:v1"))


async def test_a_name_without_an_address_is_unreachable() -> None:
    """No name below `.invalid` has one (RFC 2606)."""
    assert Unreachable("its name cannot be resolved") == await check(question("registry.invalid/acme/web:v1"), budget=2)


async def test_a_connection_is_closed_when_the_time_is_up() -> None:
    """No request goes on after its check has ended."""
    async with running_registry() as registry:
        registry.shape = shapes.hang
        web_question = question(f"{registry.domain}/acme/web:v1")
        async with ImageChecker(transport(registry.domain)) as checker:
            await checker.check([web_question], budget_seconds=0.2)
            await eventually(lambda: registry.waiting == 0)
        assert 1 == len(registry.requests)
