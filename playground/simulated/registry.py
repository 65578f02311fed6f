"""
A simulated registry: it has every image that is asked for, and nothing that could be run.

Simulated nodes pull no bytes, so they need no registry. Saffire asks registries, so it needs one.
"""

from collections.abc import Collection
from http import HTTPStatus
from typing import Self

from aiohttp import web

from playground.registry_gateway import domain_of
from playground.simulated.images import INDEX, Image

_MANIFESTS = "/v2/{path:.+}/manifests/{reference}"


class SimulatedRegistry:
    """
    A registry on loopback, in plain HTTP; use as an async context manager.

    It is every registry that is in the header `Host` of a request. It has the index that `Image.index` returns for any
    path and tag. It shows no image that is asked for by digest: nobody can tell which index that would be.

    Args:
        dead: the domains of registries that are broken: to requests for them, it answers 503. The caller may change
            the collection.
        port: the TCP port on which it listens; 0 for any free port.

    """

    address: str
    """`127.0.0.1:PORT`."""

    def __init__(self, dead: Collection[str] = (), *, port: int = 0) -> None:
        self._dead = dead
        self._port = port

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(_MANIFESTS, self._answer)  # and HEAD
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        """Close all connections, and refuse connections from now on."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        """Answer as the distribution specification says, "Pulling manifests"."""
        if domain_of(request.host) in self._dead:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        if ":" in request.match_info["reference"]:
            return web.Response(status=HTTPStatus.UNAUTHORIZED)
        image = Image(domain="", path=request.match_info["path"], tag=request.match_info["reference"], digest="")
        digest = image.id.rpartition("@")[2]
        return web.Response(body=image.index(), headers={"Content-Type": INDEX, "Docker-Content-Digest": digest})
