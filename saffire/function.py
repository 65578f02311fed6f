"""
The function: HTTP in, HTTP out.

It answers every request in one line of text: 2xx decided, also if there is nothing to do; 400 not a CloudEvent, or not
one of a shape we know; 403 the API server forbids what was decided; 503 deliver again. It echoes nothing of the
request.

An Event is answered as soon as its own pod is taken care of, since an event source sends nothing else until then. A
sender of `Prefer: wait` (RFC 7240, section 4.3) is answered when the rest of the namespace is done too, and everything
is recorded. How many seconds it prefers is not heeded.

Nearly every request is a CloudEvent as Knative's event sources send it (binary mode, version 1.0, a body of JSON) and
is to be ignored, so reading these is most of what Saffire costs on a calm day. The parser that knows all versions and
modes takes ten times as long, and reads only the others.

More than half of Saffire's own code is loaded with the first request, beside the event loop: most Events need none of
it, and an instance that a storm has brought takes connections that much earlier. What others have written is loaded at
the start, so that an image that lacks some of it never gets ready.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from cloudevents.http import from_http
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from saffire import logs
from saffire.concurrency import collect_garbage_every, tune_garbage_collector
from saffire.errors import INTERNAL_ERROR, RejectedEvent, SaffireError
from saffire.kube import client  # noqa: F401 - loaded before the first request
from saffire.logs import printable
from saffire.reconcile.request import ClusterSourceChanged, PodFailed, SourceChanged, SweepDue
from saffire.registry import transport  # noqa: F401 - likewise
from saffire.settings import Settings
from saffire.sources.spec import CLUSTER_WIDE
from saffire.triage import Ignored, triage

_JSON = b"application/json"
_VERSION = b"1.0"


def read_binary(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> tuple[str, Any] | None:
    """
    Return type and data of a CloudEvent in binary mode (CloudEvents 1.0, HTTP binding, 3.1); `None` for all else.

    Args:
        headers: with names in lower case, as ASGI has them.
        body: all of it.

    """
    given = dict(headers)
    if given.get(b"content-type") != _JSON or given.get(b"ce-specversion") != _VERSION:
        return None
    if b"ce-id" not in given or b"ce-source" not in given or b"ce-type" not in given:
        return None
    try:
        return given[b"ce-type"].decode(), orjson.loads(body)
    except ValueError:
        return None


if TYPE_CHECKING:
    from saffire.dispatch import Dispatcher
# An Event is a few kilobytes. What is larger is hostile: parsing megabytes would hold up everybody else.
_MAX_BODY = 2**18
_BODY_SECONDS = 10
_GARBAGE_SECONDS = 60


class Function:
    """Answers CloudEvents; connects to the cluster when the first one is worth a look."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dispatcher: asyncio.Task[Dispatcher] | None = None
        logs.configure(settings.log_level)

    async def respond(self, request: Request) -> PlainTextResponse:
        """Answer one request; never with 500, which an event source does not repeat."""
        if request.method != "POST":
            return PlainTextResponse("POST a CloudEvent", 405, {"Allow": "POST"})
        self._start_loading()
        started = time.perf_counter()
        fields: dict[str, Any] = {}
        try:
            found = triage(*_cloud_event(request.headers, await _body(request)))
            if isinstance(found, Ignored):
                logs.ignored(found.reason)
                return PlainTextResponse(f"ignored: {found.reason}")
            fields = _request_fields(found)
            answer = await (await self.dispatcher()).dispatch(found, whole=_prefers_wait(request.headers))
            status, line = answer.status, printable(answer.line)
            if answer.is_redundant:
                logs.ignored(line)
                return PlainTextResponse(line)
            fields["plans"] = answer.plans
        except SaffireError as error:
            status, line = error.http_status, str(error)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the event must not be lost to a 500
            logs.crashed(fault, fields)
            status, line = 503, INTERNAL_ERROR
        fields["seconds"] = round(time.perf_counter() - started, 4)
        logs.answered(status, line, fields)
        return PlainTextResponse(line, status)

    async def dispatcher(self) -> "Dispatcher":
        """Return where events that are worth a look are answered, when it is loaded."""
        # Others wait for it, too: a request that is cancelled must not take it along.
        return await asyncio.shield(self._start_loading())

    def _start_loading(self) -> "asyncio.Task[Dispatcher]":
        """Begin to load the desk if nobody has, or if that has failed."""
        if not self._dispatcher or (self._dispatcher.done() and self._dispatcher.exception()):
            self._dispatcher = asyncio.create_task(self._load())
        return self._dispatcher

    async def _load(self) -> "Dispatcher":
        loop = asyncio.get_running_loop()
        desk = await loop.run_in_executor(None, _import_dispatcher)
        loop.run_in_executor(None, logs.load_formatter).add_done_callback(lambda _: tune_garbage_collector())
        collect_garbage_every(_GARBAGE_SECONDS)
        return desk(self._settings, clock=lambda: datetime.now(UTC))


def _import_dispatcher() -> "type[Dispatcher]":
    from saffire.dispatch import Dispatcher  # noqa: PLC0415 - see above

    return Dispatcher


def _request_fields(found: PodFailed | SourceChanged | ClusterSourceChanged | SweepDue) -> dict[str, Any]:
    """Return what an event is about, as fields of its log line."""
    match found:
        case PodFailed():
            return {"event": f"{found.namespace}/{found.event}", "pod": f"{found.namespace}/{found.pod}"}
        case SourceChanged():
            return {"source": f"{found.namespace}/{found.source}"}
        case ClusterSourceChanged():
            return {"source": f"{CLUSTER_WIDE}/{found.source}"}
        case SweepDue():
            return {"sweep": True}


def _prefers_wait(headers: Headers) -> bool:
    """Tell whether the sender would rather wait for all that comes of an Event (RFC 7240, `Prefer: wait=SECONDS`)."""
    preferences = ",".join(headers.getlist("Prefer")).split(",")
    return any(one.partition("=")[0].strip().lower() == "wait" for one in preferences)


async def _body(request: Request) -> bytes:
    """Read the body; one that is too large is read to its end, so that its sender sees the answer, but not kept."""
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RejectedEvent("the request ended before its body did")
                chunk, more = message.get("body", b""), message.get("more_body", False)
                size += len(chunk)
                if size <= _MAX_BODY:
                    chunks.append(chunk)
    except TimeoutError as error:
        raise RejectedEvent(f"the body took longer than {_BODY_SECONDS} s") from error
    if size > _MAX_BODY:
        raise RejectedEvent(f"the body is larger than {_MAX_BODY} bytes, which no Event is")
    return b"".join(chunks)


def _cloud_event(headers: Headers, body: bytes) -> tuple[str, Any]:
    """Return type and data of the CloudEvent, in binary or structured mode (CloudEvents 1.0, HTTP binding)."""
    if found := read_binary(headers.raw, body):
        return found
    try:
        event = from_http(headers, body)
        return str(event["type"]), event.data
    except Exception as error:  # the parser raises whatever hostile input makes it trip over
        raise RejectedEvent("not a CloudEvent") from error
