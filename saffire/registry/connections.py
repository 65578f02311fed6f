"""
Connections to registries: whom they trust, how much a server may send, and what failures of connections mean.

*Trust* is as in container runtimes, so that Saffire reaches a registry where nodes do.

*Limits.* A server may send many tiny parts: informational responses (RFC 9110, section 15.2), chunks of one byte (RFC
9112, section 7.1), or responses to which there was no request. Each part costs the event loop some microseconds, and a
fast server would occupy it. So a connection is closed after a few responses to one request, and a body is given up if
its parts are small on average. The work for a response is bounded, whatever its server sends. A connection
has large buffers, so few are kept for a next request.
"""

import asyncio
import functools
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from saffire.registry.address_guard import RefusedAddressError
from saffire.registry.availability import Unreachable

READ_BUFFER = 16 * 1024
"""Bytes of a body that a connection buffers: the HTTP client pauses at twice as many, or at 1,024 chunks."""
_SLICE = 16 * 1024
# The final response, and the informational ones before it.
_MAX_RESPONSES = 1 + 8
# Twice the largest manifest, since the framing of chunks may add to it.
_MAX_BYTES = 8 * 1024 * 1024
# A body may have this many parts of any size, and more if these have this many bytes on average.
_FREE_PARTS, _MEAN_PART = 1024, 1024
_PARTS_AT_ONCE = 64
# Connections of one pool that wait for another request. A connection with TLS takes 0.3 MB, and whoever owns a domain
# can name any number of hosts. The host that was not asked for longest loses one.
_MAX_IDLE = 64


# Trust


def system_trust() -> ssl.SSLContext:
    """
    Return a TLS context that trusts the certificate authorities of the operating system.

    From 3.13 on, Python also refuses certificates without key identifiers (`ssl.VERIFY_X509_STRICT`). Container
    runtimes accept these, as Go does. A registry from which nodes can pull must not seem down to Saffire.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


# Made while the module is imported, since it reads files. That would hold up the event loop.
SYSTEM_TRUST = system_trust()


# Limits


class FloodError(aiohttp.ClientError):
    """A server sends so many small parts that Saffire does not read them to the end."""


class BoundedConnector(aiohttp.TCPConnector):
    """Opens connections that are closed if a server sends more than any registry does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The HTTP client (aiohttp) has no public setting for the class of its connections.
        self._factory = functools.partial(_bounded_connection, self._loop)

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Keep a connection for the next request to its host; the HTTP client calls this after each request."""
        super()._release(key, protocol, should_close=should_close)
        while sum(map(len, self._conns.values())) > _MAX_IDLE:
            host = next(iter(self._conns))
            oldest, _ = self._conns[host].popleft()
            if not self._conns[host]:
                del self._conns[host]
            oldest.close()


class _BoundedConnection(ResponseHandler):
    """
    A connection that is closed after too many responses, or too many bytes, since the last request.

    The HTTP client calls `data_received` with all that has arrived, up to 256 KiB, and parses it at once. To stop
    sooner, this class hands over a slice at a time.
    """

    _responses = 0
    _bytes = 0

    def set_response_params(self, **params: Any) -> None:
        """Prepare for the response to the next request; the HTTP client calls this before each request."""
        self._responses = self._bytes = 0
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Count a response whose headers are parsed."""
        self._responses += 1
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse what the server sends; close the connection if that is too much."""
        self._bytes += len(data)
        for start in range(0, max(len(data), 1), _SLICE):
            super().data_received(data[start : start + _SLICE])
            if self._responses > _MAX_RESPONSES or self._bytes > _MAX_BYTES:
                self.set_exception(FloodError())
                if self.transport:  # pragma: no branch - a reader may resume after the connection was lost
                    self.transport.abort()
                return


def _bounded_connection(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _BoundedConnection(loop)


async def parts_of(body: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they arrive, and let other tasks run; raise `FloodError` if they are too many."""
    count = size = 0
    async for part, _ in body.iter_chunks():
        count += 1
        size += len(part)
        if count > _FREE_PARTS + size // _MEAN_PART:
            raise FloodError
        if not count % _PARTS_AT_ONCE:
            await asyncio.sleep(0)
        yield part


# Failures

NOT_TOLD = "it gives no usable answer"
"""The reason if a connection to a private address fails in any way: a better one would show which ports are open."""
REFUSED_ADDRESS = Unreachable("its address is not one that may be asked")
FOREIGN = (aiohttp.ClientError, OSError, ValueError)
"""The exceptions of the HTTP client and the libraries below it. A `ValueError` is about the name of a host or a URL."""
# By these statuses a proxy says that it gets no answer from the host.
_NO_ANSWER_BEHIND_PROXY = frozenset({502, 503, 504})
_MEANINGS: dict[type[Exception], str] = {
    aiohttp.ServerDisconnectedError: "it closed the connection",
    aiohttp.ClientOSError: "it closed the connection",
    aiohttp.ClientPayloadError: "it broke off its answer",
    aiohttp.InvalidUrlClientError: "its address is not spelled as one",
    FloodError: "its answer has too many parts",
}


def may_lack_tls(error: Exception) -> bool:
    """Tell whether, by an exception of `FOREIGN`, the TLS handshake failed or there was no connection at all."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorDNSError():
            return False
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientConnectorError(os_error=RefusedAddressError()):
            return False
        case _:
            return isinstance(error, aiohttp.ClientConnectorError)


def meaning_of(error: Exception) -> Unreachable:
    """
    Return what an exception of `FOREIGN` says about the host.

    The reason is in Saffire's words, or quotes OpenSSL or the operating system. It never quotes the host.
    """
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "its certificate is not valid"
            return Unreachable(f"TLS: {why}", is_tls=True)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable("its name cannot be resolved", is_silent=True)
        case aiohttp.ClientConnectorError(os_error=RefusedAddressError()):
            return REFUSED_ADDRESS
        case aiohttp.ClientHttpProxyError():
            is_silent = error.status in _NO_ANSWER_BEHIND_PROXY
            return Unreachable(f"the proxy answered {error.status}", is_silent=is_silent)
        case aiohttp.ClientProxyConnectionError():
            return Unreachable("the proxy does not answer")
        case aiohttp.ClientConnectorSSLError():
            return Unreachable("TLS: no handshake", is_tls=True)
        case aiohttp.ClientConnectorError():
            why = os.strerror(error.errno).lower() if error.errno else "no connection"
            return Unreachable(why, is_silent=True)
        case _:
            is_silent = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
            why = _MEANINGS.get(type(error), "it does not answer as the web does")
            return Unreachable(why, is_silent=is_silent)
