"""A program: a registry that works, in a process of its own. It has every image that is requested."""

import asyncio

from aiohttp import web

from bench.harness.child_process import answer, orders
from playground.simulated.images import INDEX, Image

_MANIFESTS = "/v2/{path:.+}/manifests/{tag}"


async def main() -> None:
    """Serve on the port of the first order, until the orders end."""
    app = web.Application()
    app.router.add_get(_MANIFESTS, _manifest)  # and HEAD
    runner = web.AppRunner(app, access_log=None)
    async for order in orders():
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", order["port"]).start()
        answer()
    await runner.cleanup()


async def _manifest(request: web.Request) -> web.Response:
    """Answer as the distribution specification says, "Pulling manifests"."""
    image = Image(domain="", path=request.match_info["path"], tag=request.match_info["tag"], digest="")
    digest = image.id.rpartition("@")[2]
    return web.Response(body=image.index(), headers={"Content-Type": INDEX, "Docker-Content-Digest": digest})


if __name__ == "__main__":
    asyncio.run(main())
