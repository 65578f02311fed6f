"""
One request to a registry, and what came of it. The only module that talks to registries.

A namespace's owner chooses whom we ask, and a stranger answers. So each connection is made only to an address that may
be a registry's (`address_guard`), redirects are followed here, one by one, and every answer is cut at a size. HTTP
statuses mean what the distribution specification says; only 404 says that something is absent. Foreign exceptions stop
here; what leaves is an `Answered`. Nothing here ends by itself: the caller sets a time.

An *origin* is scheme, host and port. Registries that the operator lists as *insecure* may be anywhere, and may speak
plain HTTP; where they speak TLS, their certificates are verified all the same.
"""

import asyncio
import contextlib
import os
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

from saffire.registry.address_guard import RefusedAddressError, guarded_socket
from saffire.registry.availability import Denied, KnownBad, Throttled, Unknown, Unreachable
from saffire.registry.manifests import is_digest

_MAX_RETRY_SECONDS = 24 * 3600
_SERVER_ERROR = 500


class Answered(Exception):
    """There is nothing more to ask: `answer` is all that can be said of the image."""

    def __init__(self, answer: KnownBad | Unknown) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """What was answered; `elsewhere` tells that a redirect led to another origin, which speaks for itself only."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    elsewhere: bool

    @property
    def digest(self) -> str:
        """The digest that the registry tells; `""` where it tells none."""
        told = self.headers.get("Docker-Content-Digest", "")
        return told if is_digest(told) else ""

    def check(self, absent: KnownBad | Unknown) -> None:
        """Raise `Answered` where the status is not that of something that is there; `absent` where it says that."""
        match self.status:
            case 200 | 206:
                return
            case 404:
                raise Answered(absent)
            case 401 | 403:
                raise Answered(Denied())
            case 429:
                raise Answered(Throttled(_retry_after(self.headers)))
            case _:
                raise Answered(Unreachable(f"it answered {self.status}", is_silent=self.status >= _SERVER_ERROR))


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Return in how many seconds to ask again; a date counts from the registry's own (RFC 9110, section 10.2.3)."""
    written = headers.get("Retry-After", "").strip()
    if written.isascii() and written.isdigit():
        return min(int(written[:9]), _MAX_RETRY_SECONDS)
    then, now = _date(written), _date(headers.get("Date", ""))
    return min(max(0, int((then - now).total_seconds())), _MAX_RETRY_SECONDS) if then and now else None


def _date(written: str) -> datetime | None:
    try:
        return parsedate_to_datetime(written).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes: what registries take for a manifest, at most (distribution-spec, "Pushing Manifests")."""
MAX_REMARK: Final = 64 * 1024
"""Bytes of a token, or of what comes with an error or a redirect."""
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECTIONS, _CONNECTIONS_TO_ONE = 256, 16
# Manifests have kilobytes. Only so many bodies above that are read at once: they would take the memory of all others.
_LARGE, _LARGE_AT_ONCE = 256 * 1024, 4
# Where Docker Hub's API is; its name in references is another (moby/moby, registry/config.go).
_HOSTS = {"docker.io": "registry-1.docker.io"}


class RegistryTransport:
    """
    The way to all registries; made in the event loop that it is for, and to be closed after use.

    Args: insecure: `host[:port]` of those that may be anywhere and speak plain HTTP. resolver: who finds a name's
    addresses, else the system. tls: whom to trust, else whom the system does.
    """

    def __init__(
        self,
        insecure: frozenset[str] = frozenset(),
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._insecure = insecure
        self._plain: set[str] = set()
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        guarded, anywhere = (
            aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                limit_per_host=_CONNECTIONS_TO_ONE,
                resolver=resolver,
                ssl=tls or True,
                socket_factory=factory,
            )
            for factory in (guarded_socket, None)
        )
        self._guarded, self._anywhere = _session(guarded), _session(anywhere)

    async def close(self) -> None:
        """Close all connections."""
        await self._guarded.close()
        await self._anywhere.close()

    async def request(self, domain: str, method: str, path: str, *, headers: Mapping[str, str], limit: int) -> Response:
        """
        Send a request to the registry that references call `domain`, and follow where it leads.

        Only one that is listed as insecure is asked in plain HTTP, if it speaks no TLS.
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
                if not self._is_insecure(plain):  # it names the port of HTTPS
                    raise
                self._plain.add(domain)
        try:
            return await self.send(method, plain, headers=headers, limit=limit)
        except Answered:
            self._plain.discard(domain)
            raise

    async def send(self, method: str, url: URL, *, headers: Mapping[str, str], limit: int) -> Response:
        """Send a request and follow where it leads; who we are is told to the first origin only."""
        first = url.origin() if url.absolute and url.host else None
        for _ in range(_MAX_REDIRECTS + 1):
            self._check(url)
            elsewhere = url.origin() != first
            told = {name: value for name, value in headers.items() if not (elsewhere and name == "Authorization")}
            try:
                response = await self._send(method, url, told, limit)
                if response.status not in _REDIRECTS:
                    return replace(response, elsewhere=elsewhere)
                url = url.join(URL(response.headers.get("Location", ""), encoded=True))
            except _FOREIGN as error:
                settled = _no_answer(error)
                raise (Answered(_of_another(settled.answer)) if elsewhere else settled) from error
        raise Answered(Unreachable("it redirects without end"))

    async def _send(self, method: str, url: URL, headers: Mapping[str, str], limit: int) -> Response:
        """Send one request, to an origin that has been checked."""
        session = self._anywhere if self._is_insecure(url) else self._guarded
        async with session.request(method, url, headers=headers, allow_redirects=False) as response:
            is_good = response.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}
            body = await self._read(response, limit if is_good else MAX_REMARK) if limit else b""
            if body is None and is_good:
                raise Answered(Unreachable(f"its answer is larger than {limit} bytes"))
            return Response(status=response.status, headers=response.headers, body=body or b"", elsewhere=False)

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes | None:
        """Return the body; `None` where it is larger than `limit`, of which no more than that is read."""
        if (response.content_length or 0) > limit:
            return None
        body = bytearray()
        async with contextlib.AsyncExitStack() as stack:
            async for chunk in response.content.iter_any():
                if len(body) <= _LARGE < len(body) + len(chunk):
                    await stack.enter_async_context(self._large)
                body += chunk
                if len(body) > limit:
                    return None
        return bytes(body)

    def _check(self, url: URL) -> None:
        """Raise `Answered` for a URL that nothing is sent to: one that is not HTTPS, unless it is listed."""
        if url.scheme not in {"http", "https"} or not url.host or url.user is not None or url.password is not None:
            raise Answered(Unreachable("it points to what is no address on the web"))
        if url.scheme == "http" and not self._is_insecure(url):
            raise Answered(Unreachable("it wants to be asked in plain HTTP"))

    def _is_insecure(self, url: URL) -> bool:
        """Tell whether the operator lists a host, with its port if that is not the scheme's own."""
        host = (url.host_subcomponent or "").lower()
        names = {f"{host}:{url.port}"} | ({host} if url.is_default_port() else set())
        return not names.isdisjoint(self._insecure)


def _of_another(answer: KnownBad | Unknown) -> KnownBad | Unknown:
    """Return an answer of whom the registry pointed to, who speaks for itself only."""
    return replace(answer, is_silent=False) if isinstance(answer, Unreachable) else answer


class _NoTls(Answered):
    """There is nobody who speaks TLS."""


# All that comes out of aiohttp and below; the ValueErrors are of names and URLs.
_FOREIGN = (aiohttp.ClientError, OSError, ValueError)
_WORDS: dict[type[Exception], str] = {
    aiohttp.ServerDisconnectedError: "it closed the connection",
    aiohttp.ClientOSError: "it closed the connection",
    aiohttp.ClientPayloadError: "it broke off its answer",
    aiohttp.InvalidUrlClientError: "its address is not spelled as one",
}


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """Return a session that keeps no cookies, unpacks nothing and asks no proxy."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"User-Agent": "saffire", "Accept-Encoding": "identity"},
    )


def _no_answer(error: Exception) -> Answered:
    """Return what an exception means, in words that quote nobody but OpenSSL and the operating system."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            said = getattr(error.certificate_error, "verify_message", "") or "its certificate is not valid"
            return Answered(Unreachable(f"TLS: {said}"))
        case aiohttp.ClientConnectorDNSError():
            return Answered(Unreachable("its name cannot be resolved", is_silent=True))
        case aiohttp.ClientConnectorError(os_error=RefusedAddressError()):
            return Answered(Unreachable("its address is not one that may be asked"))
        case aiohttp.ClientConnectorSSLError():
            return _NoTls(Unreachable("TLS: no handshake"))
        case aiohttp.ClientConnectorError():
            said = os.strerror(error.errno).lower() if error.errno else "no connection"
            return _NoTls(Unreachable(said, is_silent=True))
        case _:
            is_silent = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
            said = _WORDS.get(type(error), "it does not answer as the web does")
            return Answered(Unreachable(said, is_silent=is_silent))
