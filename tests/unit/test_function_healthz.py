"""The answer to probes: the process lives, whatever the cluster does."""

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from saffire.dispatch import Dispatcher
from saffire.function import HEALTH_PATH, Function
from saffire.settings import Settings


class Recording(Function):
    """A function that notes whether it loads what repairs need, which it cannot."""

    has_loaded = False

    async def _load(self) -> Dispatcher:
        self.has_loaded = True
        raise OSError("no cluster")


async def ask(function: Function, method: str, path: str) -> Response:
    """Send a request without a body."""
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": Headers().raw}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    return await function.respond(Request(scope, receive))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_probe_is_answered_without_a_cluster(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer has no body and no log line, and nothing is loaded for it."""
    function = Recording(Settings())
    answer = await ask(function, method, HEALTH_PATH)
    assert (200, b"") == (answer.status_code, answer.body)
    assert "" == capsys.readouterr().out
    assert not function.has_loaded


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/healthz/"), ("GET", "/x/healthz"), ("PUT", HEALTH_PATH)]
)
async def test_nothing_else_passes_for_a_probe(method: str, path: str) -> None:
    """Other requests without a CloudEvent are refused as ever."""
    assert 405 == (await ask(Recording(Settings()), method, path)).status_code


async def test_an_event_that_is_posted_there_is_an_event() -> None:
    """The path of an event source's sink does not matter."""
    assert 400 == (await ask(Recording(Settings()), "POST", HEALTH_PATH)).status_code
