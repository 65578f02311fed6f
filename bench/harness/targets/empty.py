"""
An async target that does nothing: what the framework costs by itself.

It answers with the two letters that the framework answers for an event target that returns. Without a body, the server
would write once and not twice.
"""

import functions_framework.aio
from starlette.requests import Request


@functions_framework.aio.http  # type: ignore[untyped-decorator]  # the framework ships no types
async def receive(_: Request) -> str:
    """Answer with two letters."""
    return "OK"
