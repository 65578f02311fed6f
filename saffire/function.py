"""
The function: answers HTTP requests that carry CloudEvents.

Saffire answers every request with one of these HTTP statuses:

- 2xx: Saffire has decided about the request, also if there is nothing to do;
- 400: the request is no CloudEvent, or has a shape that Saffire does not know;
- 403: the API server refuses what Saffire decided;
- 405: the method of the request is not POST, and the path is none of the two below;
- 503: the event source should deliver the event again.

A Broker takes a 2xx for a failed delivery if its body is neither empty nor a CloudEvent, and delivers the event again
(knative/eventing, pkg/broker/filter). So the body of a 2xx is empty. If the sender prefers a reply (`Prefer: reply`,
Knative's event delivery contract) and Saffire did something, the body is a CloudEvent that tells what. A sender that
accepts `text/plain` gets one line of text instead. All other answers have one line of text.

`GET /healthz` is answered with 200 as long as the process answers requests. It loads nothing, and asks nothing of the
cluster: if the API server is down, another process would not help. `GET /metrics` asks nothing of the cluster either:
it is answered with the numbers that this instance knows (`metrics`).

The event source waits for the answer before it sends the next CloudEvent. So if more pods are to be repaired, Saffire
answers as soon as that of the Event is, and after 3 s in any case. If the sender prefers to wait (`Prefer: wait`, RFC
7240, section 4.3), Saffire answers when the other pods of the namespace are repaired too, and everything is recorded.
Saffire ignores the number of seconds in that header.

Any pod of the cluster can send requests, so those that wait are counted. If the sender disconnects, its request stops
waiting, and the repair goes on.

Nearly every request is a CloudEvent that Saffire ignores, in the form that Knative's event sources use: binary mode,
version 1.0, a JSON body. While no pod fails, reading these CloudEvents takes most of Saffire's time. So `read_binary`
reads that form. The parser of the `cloudevents` package knows all versions and modes, but takes ten times as long. So
that parser reads only CloudEvents in other forms.

More than half of Saffire's own code is imported during the first request, in a thread. Most Events do not need that
code, and a new instance accepts connections earlier without it. Third-party packages are imported at the start, but for
those that only a kubeconfig needs: if the container image lacks one of them, the instance never gets ready.
"""

import asyncio
import math
import sys
import time
from collections.abc import Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import orjson
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent, from_http
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from saffire import logs
from saffire.concurrency import collect_garbage_every, tune_garbage_collector
from saffire.errors import INTERNAL_ERROR, RejectedEvent, SaffireError, SettingsError, TransientError
from saffire.kube import client  # noqa: F401 - imported before the first request
from saffire.kube.manifest import printable
from saffire.metrics import NUMBERS, load_package
from saffire.reconcile.request import Answer, ClusterSourceChanged, PodFailed, RepairRequest, SourceChanged, SweepDue
from saffire.registry import transport  # noqa: F401 - likewise
from saffire.settings import Settings
from saffire.sources.spec import CLUSTER_WIDE
from saffire.triage import Ignored, triage

HEALTH_PATH = "/healthz"
"""The path at which the kubelet and Knative probe the process."""

METRICS_PATH = "/metrics"
"""The path at which Prometheus scrapes the numbers of the process."""

_SOURCE = "/apis/saffire.fairwinds.com/v1alpha1"
"""The `source` of the CloudEvents that Saffire sends: the path of its API group at the API server."""
_JSON = b"application/json"
_VERSION = b"1.0"
# Bytes. An Event has a few kilobytes, so a larger body is hostile. To parse megabytes would delay all other requests.
_MAX_BODY = 2**18
_BODY_SECONDS = 10
# Of all bodies that have arrived in part, together. A body of a few kilobytes arrives all the same, so that slow
# senders of large ones keep no Event out.
_MAX_PARTIAL_BYTES = 2**25
_SMALL_BODY = 2**13
# Requests that wait for a repair. An event source has no more than one, and Knative sends a pod no more than 20
# (knative/service.yaml).
_MAX_WAITING = 512
# If so many senders wait for whole namespaces, Saffire ignores the preference of others, as RFC 7240 allows.
_MAX_PREFERRING_WAIT = 64
_RETRY_SECONDS = 1
_CLIENT_ERROR = 400
_GARBAGE_SECONDS = 60


def read_binary(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> tuple[str, Any] | None:
    """
    Return type and data of a CloudEvent in binary mode (CloudEvents 1.0, HTTP binding, 3.1).

    Return `None` if the request is in another version, mode or content type, or if it is malformed.

    Args:
        headers: the name and the value of each header; the names are in lower case, as in ASGI.
        body: the whole body.

    """
    fields = dict(headers)
    if fields.get(b"content-type") != _JSON or fields.get(b"ce-specversion") != _VERSION:
        return None
    if b"ce-id" not in fields or b"ce-source" not in fields or b"ce-type" not in fields:
        return None
    try:
        return fields[b"ce-type"].decode(), orjson.loads(body)
    except ValueError:
        return None


if TYPE_CHECKING:
    from saffire.dispatch import Dispatcher


class Function:
    """Answers CloudEvents; connects to the cluster with the first of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dispatcher: asyncio.Task[Dispatcher] | None = None
        self._waiting = 0
        self._preferring_wait = 0
        self._partial_bytes = 0
        logs.configure(settings.log_level, settings.log_format)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """
        Return the function with the settings from these environment variables.

        If a setting is wrong, print all faults and end the process.
        """
        try:
            return cls(Settings.from_environ(environ))
        except SettingsError as error:
            sys.exit(str(error))

    async def respond(self, request: Request) -> Response:
        """Answer one request; never with 500, since an event source does not deliver an event again after 500."""
        if request.method != "POST":
            return await _respond_without_event(request)
        self._start_loading()
        started = time.perf_counter()
        fields: dict[str, Any] = {}
        answer: Answer | None = None
        retry_after = 0.0
        try:
            triaged = triage(*_cloud_event(request.headers, await self._body(request)))
            if not isinstance(triaged, SweepDue):
                NUMBERS.event_at = time.time()
            if isinstance(triaged, Ignored):
                logs.ignored(triaged.reason)
                return _success(request.headers, f"ignored: {triaged.reason}")
            fields = _request_fields(triaged)
            answer = await self._dispatch(triaged, request)
            status, line = answer.status, printable(answer.line)
            if answer.is_redundant:
                logs.ignored(line)
                return _success(request.headers, line)
            fields["plans"] = answer.plans
        except _SenderLeft:
            logs.ignored(_SENDER_LEFT)
            return PlainTextResponse(_SENDER_LEFT, 503)  # nobody reads it
        except SaffireError as error:
            status, line = error.http_status, str(error)
            retry_after = error.retry_after if isinstance(error, TransientError) else 0.0
        except Exception as fault:  # noqa: BLE001 - after a 500, the event would be lost
            logs.crashed(fault, fields)
            status, line = 503, INTERNAL_ERROR
        # The first field names what the request was about: see `_request_fields`.
        about, seconds = next(iter(fields), "invalid"), time.perf_counter() - started
        NUMBERS.answered(about, status, seconds)
        fields["seconds"] = round(seconds, 4)
        logs.answered(status, line, fields)
        if answer and status < _CLIENT_ERROR:
            return _success(request.headers, line, answer)
        return PlainTextResponse(line, status, {"Retry-After": str(math.ceil(retry_after))} if retry_after else None)

    async def _dispatch(self, triaged: RepairRequest, request: Request) -> Answer:
        """
        Wait for the answer to a request; raise `_SenderLeft` if its sender disconnects first.

        Raise `TransientError` if too many requests wait.
        """
        if self._waiting >= _MAX_WAITING:
            raise TransientError("too many requests wait for a repair", retry_after=_RETRY_SECONDS)
        wait = self._preferring_wait < _MAX_PREFERRING_WAIT and "wait" in _preferences(request.headers)
        self._waiting += 1
        self._preferring_wait += wait
        try:
            dispatcher = await self.dispatcher()
            return await _while_connected(request, dispatcher.dispatch(triaged, wait=wait))
        finally:
            self._waiting -= 1
            self._preferring_wait -= wait

    async def _body(self, request: Request) -> bytes:
        """
        Return the body of a request; raise `RejectedEvent` if the body is too large, incomplete, or takes over 10 s.

        If a body is too large, Saffire reads it to its end without keeping it, so that the sender sees the answer. If
        all bodies that have arrived in part take more than 32 MiB together, raise `TransientError`.
        """
        chunks: list[bytes] = []
        size, kept, more = 0, 0, True
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise RejectedEvent("the request ended before its body did")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    if size > _MAX_BODY:
                        chunks.clear()
                        continue
                    chunks.append(chunk)
                    if more:
                        self._partial_bytes += len(chunk)
                        kept += len(chunk)
                    if self._partial_bytes > _MAX_PARTIAL_BYTES and size > _SMALL_BODY:
                        raise TransientError("too many bodies arrive at once", retry_after=_RETRY_SECONDS)
        except TimeoutError as error:
            raise RejectedEvent(f"the body took longer than {_BODY_SECONDS} s") from error
        finally:
            self._partial_bytes -= kept
        if size > _MAX_BODY:
            raise RejectedEvent(f"the body is larger than {_MAX_BODY} bytes, which no Event is")
        return b"".join(chunks)

    async def dispatcher(self) -> "Dispatcher":
        """
        Wait until the dispatcher is imported and connected to the cluster, and return the dispatcher.

        Raise `TransientError` if no cluster is configured yet. The next call tries again.
        """
        if self._dispatcher and self._dispatcher.done() and self._dispatcher.exception():
            self._dispatcher = None
        # Other requests wait for the same task, so a cancelled request must not cancel it.
        return await asyncio.shield(self._start_loading())

    def _start_loading(self) -> "asyncio.Task[Dispatcher]":
        """Return the task that creates the dispatcher; start it if there is none."""
        self._dispatcher = self._dispatcher or asyncio.create_task(self._load())
        return self._dispatcher

    async def _load(self) -> "Dispatcher":
        dispatcher = await asyncio.get_running_loop().run_in_executor(None, _import_dispatcher)
        tune_garbage_collector()
        collect_garbage_every(_GARBAGE_SECONDS)
        # Not at import: the framework and its server fork after that.
        return await dispatcher.open(self._settings, clock=lambda: datetime.now(UTC))


def _import_dispatcher() -> "type[Dispatcher]":
    from saffire.dispatch import Dispatcher  # noqa: PLC0415 - see above

    return Dispatcher


def _request_fields(request: RepairRequest) -> dict[str, Any]:
    """Return the log fields that name the object which a request is about."""
    match request:
        case PodFailed():
            return {"event": f"{request.namespace}/{request.event}", "pod": f"{request.namespace}/{request.pod}"}
        case SourceChanged():
            return {"source": f"{request.namespace}/{request.source}"}
        case ClusterSourceChanged():
            return {"source": f"{CLUSTER_WIDE}/{request.source}"}
        case SweepDue():
            return {"sweep": True}


def _preferences(headers: Headers) -> frozenset[str]:
    """Return the names of what the sender prefers (RFC 7240), such as `wait` or `reply`, in lower case."""
    preferences = ",".join(headers.getlist("Prefer")).split(",")
    return frozenset(preference.partition(";")[0].partition("=")[0].strip().lower() for preference in preferences)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Await `work`; if the sender of the request disconnects first, cancel `work` and raise `_SenderLeft`."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _SenderLeft
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnect(request: Request) -> None:
    """Return when the sender of a request, whose body is read, disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _SenderLeft(Exception):
    """The sender of a request disconnected before the answer."""


_SENDER_LEFT = "the sender disconnected before the answer"


# Answers


async def _respond_without_event(request: Request) -> Response:
    """Answer a request that posts nothing: a probe, a scrape, or what has to be refused."""
    path = request.scope["path"]
    if request.method in {"GET", "HEAD"} and path == HEALTH_PATH:
        return PlainTextResponse("")
    if request.method == "GET" and path == METRICS_PATH:
        # The first import takes longer than other requests should wait.
        await asyncio.get_running_loop().run_in_executor(None, load_package)
        body, media_type = NUMBERS.exposition(request.headers.get("Accept", ""), time.time())
        return Response(body, headers={"Content-Type": media_type})
    return PlainTextResponse("POST a CloudEvent", 405, {"Allow": "POST"})


def _success(headers: Headers, line: str, answer: Answer | None = None) -> Response:
    """
    Return the response with status 200 to a request with these headers.

    Its body is the line of text, or a CloudEvent about what Saffire did, or empty: see above.
    """
    if "text/plain" in headers.get("Accept", ""):
        return PlainTextResponse(line)
    if answer and answer.notice and "reply" in _preferences(headers):
        fields, body = to_binary(
            CloudEvent(
                {"type": answer.notice, "source": _SOURCE, "datacontenttype": "application/json"},
                {"outcome": line, "plans": answer.plans},
            )
        )
        return Response(body, headers=fields)
    return Response()


def _cloud_event(headers: Headers, body: bytes) -> tuple[str, Any]:
    """
    Return type and data of the CloudEvent, in binary or structured mode (CloudEvents 1.0, HTTP binding).

    Raise `RejectedEvent` if the request is no CloudEvent.
    """
    if event_in_binary_mode := read_binary(headers.raw, body):
        return event_in_binary_mode
    try:
        event = from_http(headers, body)
        return str(event["type"]), event.data
    except Exception as error:  # hostile input may make the parser raise anything
        raise RejectedEvent("not a CloudEvent") from error
