"""An async target that does nothing and imports the Kubernetes client: the least that a function like Saffire loads."""

import functions_framework.aio
import kubernetes.aio  # noqa: F401 -- the import is what costs
from starlette.requests import Request


@functions_framework.aio.http  # type: ignore[untyped-decorator]  # the framework ships no types
async def receive(_: Request) -> str:
    """Answer with an empty body."""
    return ""
