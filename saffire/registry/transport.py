"""
Sends HTTP requests to registries and their token endpoints. No other module sends requests to them.

A namespace's owner chooses the hosts that Saffire asks, and a host may be hostile. So this module connects only to
addresses that a registry may have (`address_guard`). It follows redirects itself, one by one, and limits the size of
every response, and the number of its parts (`connections`). HTTP statuses have the meaning of the distribution
specification. Only 404 means that something is absent. 402, 410, 412 and 451 mean that the registry gives the image to
nobody. This module catches the exceptions of third-party packages, so callers see only `Answered`. It sets no timeout,
so the caller has to set one.

An *origin* is a scheme, a host and a port. If the operator lists a registry as *insecure*, the registry may be at any
address, also at one that the guard refuses, and may use plain HTTP. If the registry uses TLS, its certificate is
verified all the same.

What Saffire says about a registry may reach the author of a source. So once a question has led to a private address,
its answer does not say how a connection fails, since that would show which ports of the private network are open.

If the environment names a proxy, requests go through it, as those of container runtimes do. The proxy then resolves the
names of hosts, so the guard can check only addresses that a URL names.
"""

import contextlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDictProxy
from yarl import URL

from saffire.concurrency import Shares
from saffire.proxies import Proxies, address_in
from saffire.registry.address_guard import AddressGuard, is_private
from saffire.registry.availability import WITHHELD, Denied, KnownBad, Throttled, Unknown, Unreachable, Withheld
from saffire.registry.connections import (
    FOREIGN,
    NOT_TOLD,
    READ_BUFFER,
    REFUSED_ADDRESS,
    SYSTEM_TRUST,
    BoundedConnector,
    may_lack_tls,
    meaning_of,
    parts_of,
)
from saffire.registry.reference import is_digest
from saffire.registry.shares import Connections, Progress, Resolver, progress, share

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes: the largest manifest that registries accept (distribution-spec, "Pushing Manifests")."""
MAX_SMALL_BODY: Final = 64 * 1024
"""Bytes: the largest body that Saffire reads in the response of a token endpoint, an error or a redirect."""
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SERVER_ERROR = 500
_MAX_RETRY_SECONDS = 24 * 3600
# Most manifests have some kilobytes. Only a few larger bodies are read at once, since more would use up the memory that
# everything else needs.
_LARGE, _LARGE_AT_ONCE = 256 * 1024, 12
# The host of Docker Hub's API differs from its domain in references (moby/moby, registry/config.go).
_HOSTS = {"docker.io": "registry-1.docker.io"}


# The answer to a request


class Answered(Exception):
    """Raised to end the check of an image: `answer` is what the registry answers about the image."""

    def __init__(self, answer: KnownBad | Unknown) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """
    The HTTP response to a request, after redirects.

    Args:
        status: the HTTP status.
        headers: the headers of the response.
        body: the body; `b""` if the caller asked for no body, or if the body of an error is too large.
        is_from_other_origin: whether a redirect led to another origin than that of the request. Then a status 401 is
            not a challenge of the registry.

    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    is_from_other_origin: bool

    @property
    def is_challenge(self) -> bool:
        """Whether the registry itself asks for authentication."""
        return self.status == HTTPStatus.UNAUTHORIZED and not self.is_from_other_origin

    @property
    def digest(self) -> str:
        """The digest in the header `Docker-Content-Digest`; `""` if there is no valid digest."""
        digest = self.headers.get("Docker-Content-Digest", "")
        return digest if is_digest(digest) else ""

    def check(self, absent: KnownBad | Unknown) -> None:
        """
        Return if the status is 200 or 206; otherwise raise `Answered` with the meaning of the status.

        For the status 404, the meaning is `absent`.
        """
        match self.status:
            case 200 | 206:
                return
            case 404:
                raise Answered(absent)
            case 401 | 403:
                raise Answered(Denied())
            case 429:
                raise Answered(Throttled(_retry_after(self.headers)))
            case status if status in WITHHELD:
                raise Answered(Withheld(status))
            case _:
                is_broken = self.status >= _SERVER_ERROR
                raise Answered(
                    Unreachable(f"it answered {self.status}", is_silent=is_broken, is_server_error=is_broken)
                )


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Return after how many seconds, at most a day, the registry allows the next request (RFC 9110, section 10.2.3)."""
    retry_after = headers.get("Retry-After", "").strip()
    if retry_after.isascii() and retry_after.isdigit():
        return min(int(retry_after[:9]), _MAX_RETRY_SECONDS)
    then, now = _date(retry_after), _date(headers.get("Date", ""))  # both by the registry's own clock
    return min(max(0, int((then - now).total_seconds())), _MAX_RETRY_SECONDS) if then and now else None


def _date(header: str) -> datetime | None:
    try:
        return parsedate_to_datetime(header).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# Requests


class RegistryTransport:
    """
    Sends requests to all registries.

    Create the transport in the event loop that uses it, and close the transport after use.

    Args:
        insecure: the registries, as `host[:port]`, that the operator lists as insecure. Saffire may ask these in plain
            HTTP, and also at addresses that the guard refuses for all other registries, such as its own machine.
        guard: knows the addresses that a registry may have; by default, all but those that no registry has.
        resolver: resolves the names of hosts; by default, the operating system does, as `Resolver` asks it.
        tls: the certificates to trust; by default, those that the operating system trusts.
        proxies: the proxies of the environment; by default, there is none.

    """

    def __init__(
        self,
        insecure: frozenset[str] = frozenset(),
        *,
        guard: AddressGuard | None = None,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self._insecure = insecure
        self._guard = guard or AddressGuard()
        self._proxies = proxies or Proxies()
        # Domains of insecure registries that do not use TLS.
        self._plain: set[str] = set()
        self._large = Shares(_LARGE_AT_ONCE)
        self._connections = Connections()
        resolver = resolver or Resolver()
        # The pools have no limits, and keep no addresses: `_connections` and `Resolver` do both, fairly for all askers.
        guarded, unguarded = (
            BoundedConnector(
                limit=0,
                use_dns_cache=False,
                resolver=resolver,
                ssl=tls or SYSTEM_TRUST,
                socket_factory=factory,
            )
            for factory in (self._open_socket, None)
        )
        self._guarded, self._unguarded = _session(guarded), _session(unguarded)

    async def close(self) -> None:
        """Close all connections."""
        await self._guarded.close()
        await self._unguarded.close()

    async def request(self, domain: str, method: str, path: str, *, headers: Mapping[str, str], limit: int) -> Response:
        """
        Send a request to a registry, follow redirects, and return the response.

        If the operator lists the registry as insecure and the registry does not use TLS, send the request in plain
        HTTP. Raise `Answered` if the registry gives no usable response.

        Args:
            domain: the domain of the registry in image references, such as `docker.io`.
            method: the HTTP method.
            path: the path of the URL.
            headers: the headers to send.
            limit: the largest body to read, in bytes; 0 to read no body.

        """
        try:
            url = URL(f"https://{_HOSTS.get(domain, domain)}{path}", encoded=True)
            is_insecure = self._is_insecure(url)
        except ValueError as error:
            raise Answered(Unreachable("its name is not one of a host")) from error
        if not is_insecure:
            return await self.send(method, url, headers=headers, limit=limit)
        plain = url.with_scheme("http")
        if domain not in self._plain:
            try:
                return await self.send(method, url, headers=headers, limit=limit)
            except _NoTls:
                if not self._is_insecure(plain):  # the operator's list names it with the port of HTTPS
                    raise
                self._plain.add(domain)
        try:
            return await self.send(method, plain, headers=headers, limit=limit)
        except Answered:
            self._plain.discard(domain)
            raise

    async def send(self, method: str, url: URL, *, headers: Mapping[str, str], limit: int) -> Response:
        """
        Send a request, follow redirects, and return the last response.

        The header `Authorization` is sent only to the origin of `url`. Raise `Answered` if there is no usable response.
        """
        progress.set(question := progress.get() or Progress())  # outside of a question, the request is one by itself
        first_origin = url.origin() if url.absolute and url.host else None
        for _ in range(_MAX_REDIRECTS + 1):
            self._check(url)
            is_other = url.origin() != first_origin
            allowed = {name: value for name, value in headers.items() if not (is_other and name == "Authorization")}
            try:
                response = await self._send(method, url, allowed, limit)
                if response.status not in _REDIRECTS:
                    return replace(response, is_from_other_origin=is_other)
                url = url.join(URL(response.headers.get("Location", ""), encoded=True))
            except FOREIGN as error:
                raise _answered(error, is_other=is_other, is_private=question.is_private) from error
        raise Answered(Unreachable("it redirects without end"))

    async def _send(self, method: str, url: URL, headers: Mapping[str, str], limit: int) -> Response:
        """Send one request to a URL that `_check` has allowed; do not follow a redirect."""
        proxy = self._proxy_for(url)
        session = self._unguarded if proxy or self._is_insecure(url) else self._guarded
        async with (
            self._connections.for_request(f"{url.host}:{url.port}"),
            session.request(method, url, headers=headers, allow_redirects=False, proxy=proxy) as response,
        ):
            is_good = response.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}
            body = await self._read(response, limit if is_good else MAX_SMALL_BODY) if limit else b""
            if body is None and is_good:
                raise Answered(Unreachable(f"its answer is larger than {limit} bytes"))
            return Response(
                status=response.status, headers=response.headers, body=body or b"", is_from_other_origin=False
            )

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes | None:
        """Return the body of a response; stop and return `None` if the body has more than `limit` bytes."""
        if (response.content_length or 0) > limit:
            return None
        body = bytearray()
        async with contextlib.AsyncExitStack() as stack:
            async for chunk in parts_of(response.content):
                if len(body) <= _LARGE < len(body) + len(chunk):
                    await stack.enter_async_context(share(self._large))
                body += chunk
                if len(body) > limit:
                    return None
        return bytes(body)

    def _check(self, url: URL) -> None:
        """Raise `Answered` if Saffire may not send a request to a URL."""
        if url.scheme not in {"http", "https"} or not url.host or url.user is not None or url.password is not None:
            raise Answered(Unreachable("it points to what is no address on the web"))
        if url.scheme == "http" and not self._is_insecure(url):
            raise Answered(Unreachable("it wants to be asked in plain HTTP"))

    def _open_socket(self, info: tuple[object, ...]) -> socket.socket:
        """Return a socket for a connection to a registry that the operator does not list as insecure."""
        opened, address = self._guard.open_socket(info)
        if is_private(address) and (question := progress.get()):
            question.is_private = True
        return opened

    def _proxy_for(self, url: URL) -> str | None:
        """Return the URL of the proxy for a request; `None` if the request goes straight to its host."""
        proxy = self._proxies.of(url)
        # The guard does not see an address to which a proxy connects.
        address = address_in(url)
        if proxy and address and not self._guard.allows(address) and not self._is_insecure(url):
            raise Answered(REFUSED_ADDRESS)
        return proxy

    def _is_insecure(self, url: URL) -> bool:
        """Tell whether the operator lists the host of a URL as insecure; the default port may be left out."""
        host = (url.host_subcomponent or "").lower()
        names = {f"{host}:{url.port}"} | ({host} if url.is_default_port() else set())
        return not names.isdisjoint(self._insecure)


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """Return a session that keeps no cookies, decompresses nothing and looks for no proxy by itself."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=READ_BUFFER,
        headers={"User-Agent": "saffire", "Accept-Encoding": "identity"},
    )


# Failures of the network


class _NoTls(Answered):
    """The TLS handshake with a host failed, or Saffire could not connect to the host."""


def _answered(error: Exception, *, is_other: bool, is_private: bool) -> Answered:
    """Return the exception that stands for an exception of the HTTP client."""
    answer = meaning_of(error)
    if is_private:
        answer = replace(answer, why=NOT_TOLD)
    # If the target of a redirect fails (`is_other`), that does not mean that the registry itself lacks TLS.
    return (_NoTls if may_lack_tls(error) and not is_other else Answered)(answer)
