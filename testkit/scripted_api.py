"""
The HTTP door of an API server that gives the answers which a test lists.

It is for answers that a real API server gives only in a race, after a fault, or behind an admission webhook. What such
an answer leads to is tested with it; that a real API server gives the answer is tested in the api tier.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire.kube.client import ApiServer
from testkit.builders import kubeconfig

Answers = Mapping[str, Sequence[tuple[int, Any]]]
"""The answers (HTTP status and JSON body) to each request (method and path), in order; the last is given again."""


def status(code: int, message: str = "no", **fields: Any) -> tuple[int, Any]:
    """Return the answer of an API server that refuses a request: a `Status` object."""
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, **fields}


TEST_FAILED = status(
    422, "the server rejected our request due to an error in our request", reason="Invalid", details={}, metadata={}
)
"""The answer to a JSON Patch of which a `test` failed, as Kubernetes 1.34 gives it."""


@asynccontextmanager
async def scripted_api(folder: Path, answers: Answers) -> AsyncIterator[ApiServer]:
    """Yield a client of an API server that gives these answers; `folder` is for its kubeconfig."""
    left = {request: list(of_request) for request, of_request in answers.items()}

    async def respond(request: web.Request) -> web.Response:
        of_request = left[f"{request.method} {request.path}"]
        code, body = of_request.pop(0) if len(of_request) > 1 else of_request[0]
        return web.json_response(body, status=code)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    async with TestServer(app) as server:
        connected = await ApiServer.connect(kubeconfig(folder, str(server.make_url(""))), timeout_seconds=5)
        try:
            yield connected
        finally:
            await connected.close()
