"""
The function: HTTP in, HTTP out.

It answers every request, in one line of text: 2xx decided, also that nothing is to be done; 400 not a CloudEvent, or of
no shape we know; 403 the API server forbids what was decided; 503 deliver again. It echoes nothing of the request.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cloudevents.http import from_http
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse

from saffire import telemetry
from saffire.cluster import Cluster
from saffire.errors import RefusedError, RejectedEvent, SaffireError, TransientError
from saffire.record import in_fields, plain
from saffire.recorder import Recorder
from saffire.repair import Outcome, Repair
from saffire.settings import Settings
from saffire.triage import Hint, Ignored, triage

# An Event is a few kilobytes. What is larger is hostile: parsing megabytes would hold up everybody else.
_MAX_BODY = 2**18
_BODY_SECONDS = 10


class Function:
    """Answers CloudEvents; connects to the cluster when the first one is worth a look."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster: Cluster | None = None
        self._recorder: Recorder | None = None
        self._connecting = asyncio.Lock()
        telemetry.start(settings.log_level)

    async def answer(self, request: Request) -> PlainTextResponse:
        """Answer one request; never with 500, which an event source does not repeat."""
        if request.method != "POST":
            return PlainTextResponse("POST a CloudEvent", 405, {"Allow": "POST"})
        started = time.perf_counter()
        fields: dict[str, Any] = {}
        try:
            hint = triage(*_cloud_event(request.headers, await _body(request)))
            if isinstance(hint, Ignored):
                telemetry.ignored(hint.reason)
                return PlainTextResponse(f"ignored: {hint.reason}")
            fields = {"event": f"{hint.namespace}/{hint.event}", "pod": f"{hint.namespace}/{hint.pod}"}
            outcome = await self._repair(hint)
            status, line = _status(outcome), plain(str(outcome))
            fields["plans"] = [in_fields(plan) for plan in outcome.plans]
        except SaffireError as error:
            status, line = error.http_status, str(error)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the event must not be lost to a 500
            telemetry.crashed(fault, fields)
            status, line = 503, "a fault of Saffire's own; its log has the trace"
        fields["seconds"] = round(time.perf_counter() - started, 4)
        telemetry.answered(status, line, fields)
        return PlainTextResponse(line, status)

    async def _repair(self, hint: Hint) -> Outcome:
        """Repair, then record, each within its time; the clock is read here and nowhere else."""
        limit = self._settings.repair_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                cluster, recorder = await self._connected()
                repair = Repair(cluster=cluster, recorder=recorder, hint=hint, now=datetime.now(UTC))
                outcome = await repair.run()
        except TimeoutError as error:
            raise TransientError("the repair took too long") from error
        try:
            async with asyncio.timeout(limit):
                await repair.record(outcome)
        except TimeoutError:
            telemetry.failed("Could not write the record in time", {"pod": f"{hint.namespace}/{hint.pod}"})
        return outcome

    async def _connected(self) -> tuple[Cluster, Recorder]:
        """Return the cluster and its recorder; connect on first use, since framework and server fork after import."""
        async with self._connecting:
            if self._cluster is None or self._recorder is None:
                self._cluster = await Cluster.connect(self._settings)
                self._recorder = Recorder(self._cluster)
            return self._cluster, self._recorder


def _status(outcome: Outcome) -> int:
    """Return the HTTP status of an outcome."""
    if outcome.fault:
        return outcome.fault.http_status
    return RefusedError.http_status if outcome.refusals else 200


async def _body(request: Request) -> bytes:
    """Read the body; one that is too large is read to its end, so that its sender sees the answer, but not kept."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= _MAX_BODY:
                    chunks.append(chunk)
    except TimeoutError as error:
        raise RejectedEvent(f"the body took longer than {_BODY_SECONDS} s") from error
    except ClientDisconnect as error:
        raise RejectedEvent("the request ended before its body did") from error
    if size > _MAX_BODY:
        raise RejectedEvent(f"the body is larger than {_MAX_BODY} bytes, which no Event is")
    return b"".join(chunks)


def _cloud_event(headers: Mapping[str, str], body: bytes) -> tuple[str, Any]:
    """Return type and data of the CloudEvent, in binary or structured mode (CloudEvents 1.0, HTTP binding)."""
    try:
        event = from_http(headers, body)
        return str(event["type"]), event.data
    except Exception as error:  # the parser raises whatever hostile input makes it trip over
        raise RejectedEvent("not a CloudEvent") from error
