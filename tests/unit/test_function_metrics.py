"""The answer to a scrape: what the instance knows, whatever the cluster does."""

import json
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from saffire.dispatch import Dispatcher
from saffire.errors import TransientError
from saffire.function import METRICS_PATH, Function
from saffire.settings import Settings
from testkit.builders import event

OPEN = "application/openmetrics-text; version=1.0.0"
LAST_EVENT = "saffire_last_event_timestamp_seconds"
COUNT = "saffire_event_duration_seconds_count"
BINARY = {"ce_id": "1", "ce_source": "/test", "ce_specversion": "1.0", "content_type": "application/json"}
IGNORED = event("Created container web", reason="Created", kind="Normal")


class Alone(Function):
    """A function that notes whether it loads what repairs need, which it cannot."""

    has_loaded = False

    async def _load(self) -> Dispatcher:
        self.has_loaded = True
        raise TransientError("no cluster")


async def ask(
    function: Function, method: str, path: str = METRICS_PATH, *, body: bytes = b"", **headers: str
) -> Response:
    """Send a request."""
    raw = Headers({name.replace("_", "-"): value for name, value in headers.items()}).raw
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    return await function.respond(Request(scope, receive))


async def scrape() -> dict[tuple[str, ...], float]:
    """Return the value of each sample of this process, by its name and the values of its labels."""
    answer = await ask(Alone(Settings()), "GET")
    families = text_string_to_metric_families(bytes(answer.body).decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


@pytest.mark.parametrize(("accept", "media_type"), [("", "text/plain"), ("text/html", "text/plain"), (OPEN, OPEN)])
async def test_a_scrape_is_answered_without_a_cluster(
    accept: str, media_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer has no log line, and nothing is loaded for it."""
    function = Alone(Settings())
    answer = await ask(function, "GET", accept=accept)
    assert 200 == answer.status_code
    assert answer.headers["content-type"].startswith(media_type)
    assert b"# TYPE saffire_left gauge\n" in bytes(answer.body)
    assert "" == capsys.readouterr().out
    assert not function.has_loaded


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/metrics/"), ("GET", "/x/metrics"), ("PUT", METRICS_PATH), ("DELETE", METRICS_PATH)]
)
async def test_nothing_else_passes_for_a_scrape(method: str, path: str) -> None:
    """Other requests without a CloudEvent are refused as ever."""
    assert 405 == (await ask(Alone(Settings()), method, path)).status_code


async def test_what_is_posted_there_is_an_event() -> None:
    """The path of an event source's sink does not matter. An answer counts, by what it is about and by its status."""
    before = (await scrape()).get((COUNT, "invalid", "400"), 0)
    function = Alone(Settings())
    assert 400 == (await ask(function, "POST")).status_code
    assert before + 1 == (await scrape())[COUNT, "invalid", "400"]
    with pytest.raises(TransientError):  # the function began to load for it
        await function.dispatcher()


async def test_an_event_that_is_ignored_shows_that_events_arrive() -> None:
    """It is the latest Event. A ping of the sweep is none."""
    function = Alone(Settings())
    began = time.time()
    body = json.dumps(IGNORED).encode()
    await ask(function, "POST", "/", body=body, ce_type="dev.knative.apiserver.resource.add", **BINARY)
    arrived = (await scrape())[(LAST_EVENT,)]
    assert began <= arrived <= time.time()
    answer = await ask(function, "POST", "/", body=b"{}", ce_type="dev.knative.sources.ping", **BINARY)
    assert 503 == answer.status_code
    assert arrived == (await scrape())[(LAST_EVENT,)]
