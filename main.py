"""The entry point: what functions-framework loads and serves."""

import os

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from saffire.concurrency import tune_garbage_collector
from saffire.function import Function

_function = Function.from_environ(os.environ)


@functions_framework.aio.http  # type: ignore[untyped-decorator]  # the framework ships no types
async def receive(request: Request) -> Response:
    """Answer one CloudEvent."""
    return await _function.respond(request)


tune_garbage_collector()
