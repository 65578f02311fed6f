"""
A registry on real sockets that answers as registries did in real outages.

The registry serves its images as the OCI distribution specification says. A test may give the registry a *shape*: a
function that answers each request in another way. If the shape returns `None`, the registry answers the request as the
specification says.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Self

from aiohttp import web

from testkit.oci_images import Image

Shape = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

SILENCE = 3600
"""How long a shape gives no answer, in seconds: longer than any test."""


class Registry:
    """
    A registry on loopback; use it as an async context manager.

    Args:
        tls: the TLS context with the registry's certificate; without it, the registry serves plain HTTP.
        port: the TCP port on which the registry listens; 0 for any free port.

    """

    domain: str
    """The domain in the references of the registry's images, `127.0.0.1:PORT`."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, port: int = 0) -> None:
        self.shape: Shape | None = None
        self.users: dict[str, str] = {}
        """
        The passwords, by the name of the user.

        If there are any, only these users have access, and an anonymous request is from the user with the empty name.
        """
        self.challenge = ""
        """The authentication that the registry asks for, `Basic` or `Bearer`; `""` if it asks for none."""
        self.realm = ""
        """The URL that the registry names as its token service; `""` for its own `/token`."""
        self.expires_in: object = 300
        self.requests: list[str] = []
        """The requests that the registry got, each as `METHOD PATH`."""
        self.tokens_given: list[str] = []
        """The tokens that the registry issued, each as `USER SCOPE`."""
        self.authorizations: list[str] = []
        """The Authorization header of each request; `""` if a request has none."""
        self.waiting = 0
        """How many requests the registry has not answered yet."""
        self._tls = tls
        self.port = port
        self._manifests: dict[str, Image] = {}
        self._blobs: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        self.domain = f"127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The URL of the registry."""
        return f"{'https' if self._tls else 'http'}://{self.domain}"

    def push(self, name: str, image: Image) -> str:
        """Store an image, and return its reference: `127.0.0.1:PORT/acme/web:v1` for `acme/web:v1`."""
        path, _, tag = name.partition(":")
        for reference, manifest in {tag: image, image.digest: image, **image.manifests}.items():
            self._manifests[f"{path}/manifests/{reference}"] = manifest
        self._blobs |= {f"{path}/blobs/{digest}": blob for digest, blob in image.blobs.items()}
        return f"{self.domain}/{name}"

    def lose(self, digest: str) -> None:
        """Delete what is stored under this digest in every repository: a blob, or a manifest, but not its tag."""
        for kept in (self._manifests, self._blobs):
            for key in [key for key in kept if key.endswith(f"/{digest}")]:
                del kept[key]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        self.authorizations.append(request.headers.get("Authorization", ""))
        self.waiting += 1
        try:
            shaped = await self.shape(request) if self.shape else None
            return shaped or self._own_answer(request)
        finally:
            self.waiting -= 1

    def _own_answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return self._token(request)
        if self.challenge and not self._is_let_in(request):
            said = f'{self.challenge} realm="{self.realm or self.url + "/token"}",service="{self.domain}"'
            return web.Response(status=401, headers={"WWW-Authenticate": said})
        key = request.path.removeprefix("/v2/")
        if manifest := self._manifests.get(key):
            headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
            return web.Response(body=manifest.body, headers=headers)
        if (blob := self._blobs.get(key)) is not None:
            return web.Response(body=blob)
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)

    def _token(self, request: web.Request) -> web.StreamResponse:
        name = self._user(request)
        if name is None:
            return web.Response(status=401)
        self.tokens_given.append(f"{name} {request.query['scope']}")
        return web.json_response({"token": f"token-{len(self.tokens_given)}", "expires_in": self.expires_in})

    def _is_let_in(self, request: web.Request) -> bool:
        if self.challenge == "Basic":
            return self._user(request) is not None
        return request.headers.get("Authorization", "").startswith("Bearer token-")

    def _user(self, request: web.Request) -> str | None:
        """
        Return the name of a request's user; `None` if the user is unknown or the password is wrong.

        If a request has no basic authentication, the name is `""`.
        """
        scheme, _, said = request.headers.get("Authorization", "").partition(" ")
        name, _, password = base64.b64decode(said).decode().partition(":") if scheme == "Basic" else ("", "", "")
        return name if self.users.get(name, "" if not self.users else None) == password else None


# Shapes


def status(code: int, headers: Mapping[str, str] | None = None) -> Shape:
    """Return a shape that answers with this status and an empty body."""

    async def shape(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers)

    return shape


async def hang(_: web.Request) -> None:
    """Accept the request and never answer."""
    await asyncio.sleep(SILENCE)


def after(seconds: float) -> Shape:
    """Return a shape that leaves the answer to the registry, after so many seconds."""

    async def shape(_: web.Request) -> None:
        await asyncio.sleep(seconds)

    return shape


def slow_at_first(requests: int = 1) -> Shape:
    """Return a shape that never answers the first requests, and leaves the others to the registry."""
    left = [hang] * requests

    async def shape(request: web.Request) -> None:
        if left:
            await left.pop()(request)

    return shape


async def drip(request: web.Request) -> web.StreamResponse:
    """Answer with one byte a second."""
    response = web.StreamResponse(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
    response.content_length = SILENCE
    await response.prepare(request)
    for _ in range(SILENCE):
        await response.write(b"{")
        await asyncio.sleep(1)
    return response


async def promise(request: web.Request) -> web.StreamResponse:
    """Send a Content-Length of 50 MiB, then nothing."""
    response = web.StreamResponse()
    response.content_length = 50 * 1024 * 1024
    await response.prepare(request)
    await asyncio.sleep(SILENCE)
    return response


async def large(request: web.Request) -> web.StreamResponse:
    """Send the first 300 kB of an answer of unknown length, then nothing."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(bytes(300_000))
    await asyncio.sleep(SILENCE)
    return response


async def huge(request: web.Request) -> web.StreamResponse:
    """Answer with 50 MiB and without a Content-Length, until the client closes the connection."""
    response = web.StreamResponse(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
    await response.prepare(request)
    for _ in range(50):
        await response.write(bytes(1024 * 1024))
    return response


async def disconnect(request: web.Request) -> None:
    """Close the connection without an answer."""
    if request.transport:
        request.transport.abort()
    await asyncio.sleep(SILENCE)


async def redirect_loop(request: web.Request) -> web.StreamResponse:
    """Redirect to the same path of the same registry, every time."""
    raise web.HTTPTemporaryRedirect(request.path)


def redirect(url: str) -> Shape:
    """Return a shape that redirects to the same path of another server, whose URL is `url`."""

    async def shape(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(url + request.raw_path)

    return shape


def body(content: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> Shape:
    """Return a shape that answers every request with this body."""

    async def shape(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, headers={"Content-Type": media_type, **(headers or {})})

    return shape


def on(part: str, shape: Shape, *, method: str = "") -> Shape:
    """
    Return a shape that answers like `shape`, but only if the path contains `part`, such as `/blobs/`.

    If `method` is given, the method of the request has to be the same. All other requests get `None` as their answer,
    so that the registry answers them as the specification says.
    """

    async def shaped(request: web.Request) -> web.StreamResponse | None:
        is_meant = part in request.path and method in {"", request.method}
        return await shape(request) if is_meant else None

    return shaped


# Servers that are no registries


@asynccontextmanager
async def raw(tls: ssl.SSLContext | None, *pieces: bytes, seconds: float = 0) -> AsyncIterator[str]:
    """
    Run a server that is no registry, and yield its domain.

    The server sends these pieces to each client, waits `seconds` before each piece, and then sends nothing more.
    """

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for piece in pieces:
                await asyncio.sleep(seconds)
                writer.write(piece)
            await reader.read()  # until the client hangs up
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
