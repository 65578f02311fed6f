"""The function's answers: a status and one line for every outcome, which repeat nothing of the request."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from saffire.dispatch import Dispatcher
from saffire.errors import INTERNAL_ERROR, ConflictError, RefusedError, RejectedEvent, SaffireError, TransientError
from saffire.function import Function
from saffire.kube.manifest import InvalidManifest
from saffire.policy.plan import Leave, Reason
from saffire.reconcile.queue import CoalescingQueue, Run
from saffire.reconcile.request import Answer, PodFailed, RepairRequest, SourceChanged, WorkItem
from saffire.record.outcome import RepairOutcome
from saffire.settings import Settings
from testkit.builders import FAILING, event, kubeconfig
from testkit.stuck_cluster import StuckCluster, dispatcher_of, serving

ROOT = Path(__file__).parents[2]
LOADED = """
import sys, main
assert "saffire.dispatch" not in sys.modules
before = set(sys.modules)
import saffire.dispatch
late = {name for name in set(sys.modules) - before if not name.startswith("saffire.")}
assert not late, late
"""
CANARY = "c4n4ry0f7h3fun"
# The URL of an API server of which nothing is asked.
NOWHERE = "http://127.0.0.1:9"
ADD = "dev.knative.apiserver.resource.add"
FAILED = event(f'Failed to pull image "{FAILING}": 503 Service Unavailable')
HEADERS = {
    "ce-id": CANARY,
    "ce-source": f"/{CANARY}",
    "ce-specversion": "1.0",
    "ce-type": ADD,
    "content-type": "application/json",
    "authorization": f"Bearer {CANARY}",
    "accept": "text/plain",
}
POD_FAILED = PodFailed(
    namespace="shop", pod="web-0", pod_uid="pod-uid", container="web", event="web-0.1", image=FAILING
)
BODY = json.dumps({**FAILED, "reportingInstance": CANARY}).encode()


async def ask(
    function: Function,
    *chunks: bytes,
    headers: dict[str, str] | None = None,
    method: str = "POST",
    disconnects: bool = False,
) -> tuple[int, str]:
    """Send a request in the form of a web server; return status and text of the answer."""
    answer = await respond(function, *chunks, headers=headers, method=method, disconnects=disconnects)
    text = bytes(answer.body).decode()
    assert CANARY not in f"{text}{answer.headers}"
    assert "\n" not in text
    return answer.status_code, text


async def respond(  # noqa: PLR0913 - a request has as many parts
    function: Function,
    *chunks: bytes,
    headers: dict[str, str] | None = None,
    method: str = "POST",
    disconnects: bool = False,
    left: asyncio.Event | None = None,
    pause: asyncio.Event | None = None,
) -> Response:
    """
    Send a request in the form of a web server; return the answer.

    With `disconnects`, the sender disconnects before its body ends. It disconnects after that once `left` is set. With
    `pause`, it sends the first chunk, and the others once that is set.
    """
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if disconnects else {"type": "http.request", "body": b""})
    sent_headers = HEADERS if headers is None else headers
    scope = {
        "type": "http",
        "method": method,
        "path": f"/{CANARY}",
        "query_string": CANARY.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in sent_headers.items()],
    }

    async def receive() -> dict[str, Any]:
        if pause and len(messages) == len(chunks):
            await pause.wait()
        if messages:
            return messages.pop(0)
        await (left or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return await function.respond(Request(scope, receive))


def lines(printed: str) -> list[dict[str, Any]]:
    """Return the structured log lines."""
    return [json.loads(line) for line in printed.splitlines()]


class Failing(Function):
    """A function whose repairs end with an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(Settings())
        self._error = error

    async def _load(self) -> Dispatcher:
        return FailingDispatcher(self._error)


class Unready(Function):
    """A function whose first attempt to create its dispatcher fails."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self._faults = [OSError("too many open files")]

    async def _load(self) -> Dispatcher:
        if self._faults:
            raise self._faults.pop()
        return FailingDispatcher(TransientError("this is why"))


class Slow(Function):
    """A function whose dispatcher is not created before `may_load` is set."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.may_load = asyncio.Event()

    async def _load(self) -> Dispatcher:
        await self.may_load.wait()
        return FailingDispatcher(TransientError("this is why"))


class FailingDispatcher(Dispatcher):
    """A dispatcher that raises an error for every request."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def dispatch(
        self,
        request: RepairRequest,  # noqa: ARG002 - it fails for all
        *,
        wait: bool = False,  # noqa: ARG002
    ) -> Answer:
        """Raise the error."""
        raise self._error


class Answering(Function):
    """A function that has the same answer to every request, once `may_answer` is set."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(Settings())
        self.answer = answer
        self.waits: list[bool] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def _load(self) -> Dispatcher:
        return AnsweringDispatcher(self)


class AnsweringDispatcher(Dispatcher):
    """A dispatcher that has the same answer to every request."""

    def __init__(self, function: Answering) -> None:
        self._function = function

    async def dispatch(self, request: RepairRequest, *, wait: bool = False) -> Answer:  # noqa: ARG002 - one answer for all
        """Return the answer."""
        self._function.waits.append(wait)
        await self._function.may_answer.wait()
        return self._function.answer


def kinds(root: type[SaffireError]) -> Iterator[type[SaffireError]]:
    """Yield an error class and its subclasses."""
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize(
    ("error", "status"), [(RejectedEvent, 400), (RefusedError, 403), (TransientError, 503), (ConflictError, 503)]
)
async def test_an_error_is_answered_with_its_own_status(error: type[SaffireError], status: int) -> None:
    """The status tells the event source whether to deliver again; the text says why."""
    assert (status, "this is why") == await ask(Failing(error("this is why")), BODY)


def test_packages_of_others_are_imported_at_the_start() -> None:
    """If the image lacks a package, the instance never gets ready. Most of Saffire's own code is imported later."""
    subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, check=True)


def test_a_wrong_environment_ends_the_start_with_its_faults() -> None:
    """Each fault is on a line of its own, and there is no traceback."""
    serve = [sys.executable, "-m", "functions_framework", "--target=receive", "--source=main.py", "--port=0"]
    environ = {**os.environ, "SAFFIRE_LOG_LEVEL": "loud", "SAFFIRE_SWEEP_SECONDS": "soon"}
    process = subprocess.run(serve, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert [
        "SAFFIRE_SWEEP_SECONDS: wants a number of seconds above 0 and up to 3600",
        "SAFFIRE_LOG_LEVEL: wants one of DEBUG, INFO, WARNING, ERROR",
    ] == process.stderr.splitlines()
    assert (1, "") == (process.returncode, process.stdout)


async def test_a_dispatcher_that_cannot_be_created_is_created_for_the_next_event() -> None:
    """The first Event is answered with 503, and the next one finds the dispatcher."""
    function = Unready()
    assert (503, INTERNAL_ERROR) == await ask(function, BODY)
    assert (503, "this is why") == await ask(function, BODY)


async def test_a_cancelled_request_does_not_cancel_others() -> None:
    """All requests wait for the same dispatcher."""
    function = Slow()
    cancelled = asyncio.create_task(ask(function, BODY))
    other = asyncio.create_task(ask(function, BODY))
    await asyncio.wait([cancelled, other], timeout=0.01)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    function.may_load.set()
    assert (503, "this is why") == await other


@pytest.mark.parametrize("error", list(kinds(SaffireError)))
async def test_no_error_is_answered_with_another_status(error: type[SaffireError]) -> None:
    """After 500 no event source delivers again; after 404 and 409 brokers deliver again in vain."""
    status, _ = await ask(Failing(error("why")), BODY)
    assert status in {400, 403, 503}


@pytest.mark.parametrize(
    "fault",
    [
        ZeroDivisionError(CANARY),
        RecursionError(CANARY),
        MemoryError(CANARY),
        KeyError(CANARY),
        InvalidManifest(CANARY),
        TimeoutError(CANARY),
        ExceptionGroup("two", [ValueError(CANARY), OSError(CANARY)]),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_an_unexpected_exception_asks_for_the_event_again(
    fault: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is never 500, which would lose the event. The trace is in the log, not in the answer."""
    assert (503, "a fault of Saffire's own; its log has the trace") == await ask(Failing(fault), BODY)
    crashed, answered = lines(capsys.readouterr().out)
    assert ("ERROR", True) == (crashed["severity"], type(fault).__name__ in crashed["message"])
    assert ("WARNING", 503) == (answered["severity"], answered["status"])


async def test_a_cancellation_is_raised() -> None:
    """When the server stops, a cancelled request gets no answer."""
    with pytest.raises(asyncio.CancelledError):
        await ask(Failing(asyncio.CancelledError()), BODY)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", CANARY])
async def test_a_method_but_post_is_refused(method: str) -> None:
    """The answer says to use POST."""
    assert (405, "POST a CloudEvent") == await ask(Function(Settings()), BODY, method=method)


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ({}, BODY, "not a CloudEvent"),
        (HEADERS, b"", "the CloudEvent's data is not a JSON object"),
        (HEADERS, f'["{CANARY}"]'.encode(), "the CloudEvent's data is not a JSON object"),
        (
            HEADERS,
            json.dumps({**FAILED, "reason": [CANARY]}).encode(),
            "not an Event of Kubernetes: reason: not a string",
        ),
        (
            HEADERS | {"ce-type": ADD.replace("resource", "ref")},
            BODY,
            "the ApiServerSource sends references: set `mode: Resource` in its spec",
        ),
    ],
)
async def test_a_malformed_request_is_refused(headers: dict[str, str], body: bytes, text: str) -> None:
    """The answer names the fault, and does not repeat the request."""
    assert (400, text) == await ask(Function(Settings()), body, headers=headers)


async def test_an_ignored_event_has_no_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Saffire ignores most Events, and logs them only at DEBUG."""
    pulled = json.dumps({**FAILED, "reason": "Pulled"}).encode()
    ignored = (200, "ignored: tells of no failed pull")
    assert ignored == await ask(Function(Settings()), pulled)
    assert "" == capsys.readouterr().out
    assert ignored == await ask(Function(Settings(log_level="DEBUG")), pulled)
    (line,) = lines(capsys.readouterr().out)
    assert ("Ignored an event", "tells of no failed pull") == (line["message"], line["reason"])


async def test_a_body_may_come_in_parts() -> None:
    """The parts are joined."""
    refused = Failing(RefusedError("reached"))
    assert (403, "reached") == await ask(refused, BODY[:7], b"", BODY[7:])


@pytest.mark.parametrize("parts", [1, 20])
async def test_a_body_that_is_too_large_is_not_kept(parts: int) -> None:
    """It is read to its end, so that its sender sees the answer."""
    chunks = [b"x" * (20_000_000 // parts)] * parts
    code, text = await ask(Function(Settings()), *chunks)
    assert (400, "the body is larger than") == (code, text[:23])


async def test_a_sender_that_disconnects_is_refused() -> None:
    """Nothing reads the answer, but the log shows no fault of Saffire's own."""
    assert (400, "the request ended before its body did") == await ask(Function(Settings()), BODY, disconnects=True)


# Servers in the place of the API server


@asynccontextmanager
async def listening(answer: bytes | None) -> AsyncIterator[str]:
    """Run a server that answers every request with the same bytes, or never; yield its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


async def close(function: Function) -> None:
    """Close the connections that a served function closes with its process."""
    await (await function.dispatcher()).close()


def http_response(status: int, body: str) -> bytes:
    """Return an HTTP response."""
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return f"{head}\r\n{body}".encode()


def status(code: int, message: str = "no") -> str:
    """Return the `Status` object of an API server."""
    return json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, (503, "the API server did not answer: TimeoutError")),
        (b"", (503, "the API server did not answer: ServerDisconnectedError")),
        (b"SSH-2.0-OpenSSH_9.2\r\n", (503, "the API server did not answer: ClientResponseError")),
        (http_response(200, "<html>Welcome</html>"), (503, "the API server did not answer in JSON")),
        (http_response(200, "[]"), (503, "the API server did not answer with an object")),
        (http_response(302, ""), (503, "the API server did not answer in JSON")),
        (http_response(502, "<html>Bad Gateway</html>"), (503, "the API server did not answer in JSON")),
        (http_response(401, status(401)), (503, "the API server answered 401")),
        (http_response(408, status(408)), (503, "the API server answered 408")),
        (http_response(429, status(429)), (503, "the API server answered 429")),
        (http_response(500, status(500)), (503, "the API server answered 500")),
        (http_response(503, status(503)), (503, "the API server answered 503")),
        (http_response(504, status(504)), (503, "the API server answered 504")),
        (http_response(403, status(403, "may\nnot")), (403, "may not")),
        (http_response(400, "{}"), (403, "the API server answered 400")),
        (http_response(403, "7"), (403, "the API server answered 403")),
    ],
)
async def test_a_failure_of_the_api_server_is_answered(
    tmp_path: Path, answer: bytes | None, expected: tuple[int, str]
) -> None:
    """The answer to a failure that may pass, also of a proxy or load balancer, asks for the event again."""
    async with listening(answer) as url:
        function = Function(Settings(kubeconfig=kubeconfig(tmp_path, url), request_timeout_seconds=0.2))
        assert expected == await ask(function, BODY)
        await close(function)


async def test_a_repair_has_a_time_limit(tmp_path: Path) -> None:
    """The event source gets an answer in time, however long a single request may take."""
    async with listening(None) as url:
        settings = Settings(kubeconfig=kubeconfig(tmp_path, url), repair_timeout_seconds=0.2)
        function = Function(settings)
        assert (503, "the repair took too long") == await ask(function, BODY)
        await close(function)


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        (None, "ignored"),
        ("", "ignored"),
        ("respond-async", "ignored"),
        ("waiting=5", "ignored"),
        ("wait", "the whole"),
        ("wait=10", "the whole"),
        ('respond-async, Wait = "10"; x=y', "the whole"),
    ],
)
async def test_a_sender_that_prefers_to_wait_is_answered_at_the_end(
    tmp_path: Path, prefer: str | None, expected: str
) -> None:
    """Without `Prefer: wait` (RFC 7240), an Event is answered when its own pod is repaired."""
    so_far = RepairOutcome(
        gone=frozenset({POD_FAILED.pod_uid}), nothing_to_do=Leave(reason=Reason.ALREADY_MOVED, detail="so far")
    )
    end = asyncio.Event()

    async def process(_: WorkItem, run: Run[RepairOutcome]) -> RepairOutcome:
        run.report_early(so_far)
        await end.wait()
        return RepairOutcome(nothing_to_do=Leave(reason=Reason.NO_FAILURE, detail="the whole"))

    async with serving(StuckCluster("shop"), tmp_path) as config:
        function = Function(Settings(kubeconfig=config))
        dispatcher = await function.dispatcher()
        dispatcher._queue = CoalescingQueue(process)  # noqa: SLF001 - the test decides when a repair ends
        headers = HEADERS if prefer is None else {**HEADERS, "prefer": prefer}
        answer = asyncio.create_task(ask(function, BODY, headers=headers))
        if expected == "the whole":
            await asyncio.wait([answer], timeout=0.1)
            assert not answer.done()
            end.set()
        status, text = await asyncio.wait_for(answer, timeout=10)
        assert (200, True) == (status, ("the whole" if expected == "the whole" else "so far") in text)
        end.set()
        await close(function)


@pytest.mark.parametrize(
    "request_", [POD_FAILED, SourceChanged(namespace="shop", source="shop")], ids=["pod-failed", "source-changed"]
)
async def test_the_wait_for_other_repairs_has_a_time_limit(tmp_path: Path, request_: PodFailed | SourceChanged) -> None:
    """A sender that wants to wait for two repairs is answered before Knative gives up on it. Both repairs go on."""
    items: list[WorkItem] = []
    end = asyncio.Event()

    async def process(item: WorkItem, _: Run[RepairOutcome]) -> RepairOutcome:
        items.append(item)
        await end.wait()
        return RepairOutcome()

    async with dispatcher_of(StuckCluster("shop"), tmp_path, repair_timeout_seconds=0.05) as dispatcher:
        await dispatcher._clients.index.has_source("shop")  # noqa: SLF001 - to connect may take longer than that
        dispatcher._queue = CoalescingQueue(process)  # noqa: SLF001 - no API server is that slow
        for _ in range(2):
            with pytest.raises(TransientError, match=r"^the repair took too long$"):
                await asyncio.wait_for(dispatcher.dispatch(request_, wait=True), timeout=10)
        end.set()
        assert RepairOutcome() == await dispatcher._queue.submit(WorkItem(namespace="shop"))  # noqa: SLF001
    assert 2 == len(items)


BY_PROXY = "the API server answered 429"
DIRECTLY = "the API server answered 401"
NO_SUCH_NAME = "the API server did not answer: ClientConnectorDNSError"
# Linux connects to this machine, and by no rule it is an address on loopback.
HERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it


@pytest.mark.parametrize(
    ("host", "no_proxy", "expected"),
    [
        ("api.invalid", "", BY_PROXY),
        ("api.invalid", "elsewhere.invalid,10.0.0.0/8", BY_PROXY),
        ("api.invalid", "api.invalid", NO_SUCH_NAME),
        ("api.invalid", "*.invalid", NO_SUCH_NAME),
        (HERE, "", BY_PROXY),
        (HERE, "10.0.0.0/8,.svc", BY_PROXY),
        (HERE, f"{HERE}/8,.svc", DIRECTLY),
        (HERE, HERE, DIRECTLY),
        ("127.0.0.1", "", DIRECTLY),
    ],
)
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["url", "host-port"])
async def test_the_proxy_of_the_environment_is_used(
    tmp_path: Path, scheme: str, host: str, no_proxy: str, expected: str
) -> None:
    """The way to the API server is the one that `kubectl` takes in that environment."""
    async with listening(http_response(429, status(429))) as proxy, listening(http_response(401, status(401))) as url:
        environ = {
            "KUBECONFIG": kubeconfig(tmp_path, url.replace("127.0.0.1", host)),
            "HTTP_PROXY": proxy.replace("http://", scheme),
            "NO_PROXY": no_proxy,
        }
        function = Function.from_environ(environ)
        assert (503, expected) == await ask(function, BODY)
        await close(function)


async def test_an_api_server_that_is_down_asks_for_the_event_again(tmp_path: Path) -> None:
    """It may be up again at the next delivery."""
    async with listening(b"") as url:
        pass
    function = Function(Settings(kubeconfig=kubeconfig(tmp_path, url)))
    assert (503, "the API server did not answer: ClientConnectorError") == await ask(function, BODY)
    await close(function)


@pytest.mark.parametrize(
    "content",
    [None, "", "kubeconfig", "[]", "{", "\0", "clusters: 7", '{"current-context": "x", "contexts": []}'],
)
async def test_a_missing_or_broken_kubeconfig_asks_for_the_event_again(tmp_path: Path, content: str | None) -> None:
    """A mounted file may appear later, and is then read."""
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    function = Function(Settings(kubeconfig=str(path)))
    code, text = await ask(function, BODY)
    assert (503, "no cluster is configured") == (code, text.partition(":")[0])
    async with listening(http_response(429, status(429))) as url:
        kubeconfig(tmp_path, url)
        assert (503, "the API server answered 429") == await ask(function, BODY)
        await close(function)


async def test_no_configuration_anywhere_asks_for_the_event_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a cluster and without a kubeconfig there is nothing to connect to."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    code, text = await ask(Function(Settings()), BODY)
    assert (503, "no cluster is configured") == (code, text.partition(":")[0])
