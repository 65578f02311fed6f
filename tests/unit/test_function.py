"""The function's answers: a status and one line for each way an event can end, and nothing of the request in them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from saffire.dispatch import Answer, Dispatcher
from saffire.errors import INTERNAL_ERROR, ConflictError, RefusedError, RejectedEvent, SaffireError, TransientError
from saffire.function import Function
from saffire.kube.manifest import InvalidManifest
from saffire.policy.plan import Leave, Reason
from saffire.reconcile.queue import CoalescingQueue, ReportEarly
from saffire.reconcile.request import ClusterSourceChanged, PodFailed, SourceChanged, SweepDue, WorkItem
from saffire.record.outcome import RepairOutcome
from saffire.settings import Settings
from saffire.sources.index import NamespaceIndex
from testkit.builders import FAILING, event, kubeconfig

ROOT = Path(__file__).parents[2]
LOADED = """
import sys, main
assert "saffire.dispatch" not in sys.modules
before = set(sys.modules)
import saffire.dispatch
late = {one for one in set(sys.modules) - before if not one.startswith("saffire.")}
assert not late, late
"""
CANARY = "c4n4ry0f7h3fun"
ADD = "dev.knative.apiserver.resource.add"
FAILED = event(f'Failed to pull image "{FAILING}": 503 Service Unavailable')
HEADERS = {
    "ce-id": CANARY,
    "ce-source": f"/{CANARY}",
    "ce-specversion": "1.0",
    "ce-type": ADD,
    "content-type": "application/json",
    "authorization": f"Bearer {CANARY}",
}
HINT = PodFailed(namespace="shop", pod="web-0", pod_uid="pod-uid", container="web", event="web-0.1", image=FAILING)
BODY = json.dumps({**FAILED, "reportingInstance": CANARY}).encode()


async def ask(
    function: Function,
    *chunks: bytes,
    headers: dict[str, str] | None = None,
    method: str = "POST",
    hangs_up: bool = False,
) -> tuple[int, str]:
    """Send a request as a web server would hand it over; return status and text of the answer."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if hangs_up else {"type": "http.request", "body": b""})
    given = HEADERS if headers is None else headers
    scope = {
        "type": "http",
        "method": method,
        "path": f"/{CANARY}",
        "query_string": CANARY.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    answer = await function.respond(Request(scope, receive))
    text = bytes(answer.body).decode()
    assert CANARY not in f"{text}{answer.headers}"
    assert "\n" not in text
    return answer.status_code, text


async def nobody(_: str) -> bool:
    """Tell that no cluster-wide source speaks for a namespace."""
    return False


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
    """A function that cannot be loaded at first."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self._faults = [OSError("too many open files")]

    async def _load(self) -> Dispatcher:
        if self._faults:
            raise self._faults.pop()
        return FailingDispatcher(TransientError("this is why"))


class Slow(Function):
    """A function that is loaded when that is let."""

    def __init__(self) -> None:
        super().__init__(Settings())
        self.let = asyncio.Event()

    async def _load(self) -> Dispatcher:
        await self.let.wait()
        return FailingDispatcher(TransientError("this is why"))


class FailingDispatcher(Dispatcher):
    """A dispatcher whose answer is an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(Settings(), clock=lambda: datetime.now(UTC))
        self._error = error

    async def dispatch(
        self,
        found: PodFailed | SourceChanged | ClusterSourceChanged | SweepDue,  # noqa: ARG002 - fails whatever it is
        *,
        whole: bool = False,  # noqa: ARG002
    ) -> Answer:
        """Fail."""
        raise self._error


def kinds(root: type[SaffireError]) -> Iterator[type[SaffireError]]:
    """Yield an error and everything below it."""
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize(
    ("error", "status"), [(RejectedEvent, 400), (RefusedError, 403), (TransientError, 503), (ConflictError, 503)]
)
async def test_an_error_is_answered_with_its_own_status(error: type[SaffireError], status: int) -> None:
    """The status tells the event source whether to try again, and the text why."""
    assert (status, "this is why") == await ask(Failing(error("this is why")), BODY)


def test_what_is_of_others_is_loaded_at_the_start() -> None:
    """An image that lacks some of it never gets ready; most of Saffire's own is for Events that are worth a look."""
    subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, check=True)


async def test_what_cannot_be_loaded_at_first_is_loaded_for_the_next_event() -> None:
    """Nothing that goes wrong once lasts as long as the instance; an Event is asked for again."""
    function = Unready()
    assert (503, INTERNAL_ERROR) == await ask(function, BODY)
    assert (503, "this is why") == await ask(function, BODY)


async def test_who_hangs_up_does_not_keep_others_from_an_answer() -> None:
    """What is loaded with the first event is loaded for all."""
    function = Slow()
    first = asyncio.create_task(ask(function, BODY))
    second = asyncio.create_task(ask(function, BODY))
    await asyncio.wait([first, second], timeout=0.01)
    first.cancel()
    await asyncio.wait([first])
    function.let.set()
    assert (503, "this is why") == await second


@pytest.mark.parametrize("error", list(kinds(SaffireError)))
async def test_no_error_of_ours_is_answered_with_what_a_source_mistakes(error: type[SaffireError]) -> None:
    """Never 500, which no source repeats, and never 404 or 409, which brokers repeat in vain."""
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
async def test_a_fault_of_our_own_asks_for_the_event_again(
    fault: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever goes wrong inside, the event is not lost to a 500; the trace is in the log and not in the answer."""
    assert (503, "a fault of Saffire's own; its log has the trace") == await ask(Failing(fault), BODY)
    crashed, answered = lines(capsys.readouterr().out)
    assert ("ERROR", True) == (crashed["severity"], type(fault).__name__ in crashed["message"])
    assert ("WARNING", 503) == (answered["severity"], answered["status"])


async def test_whoever_stops_the_server_is_obeyed() -> None:
    """A cancelled request is not a fault to be answered."""
    with pytest.raises(asyncio.CancelledError):
        await ask(Failing(asyncio.CancelledError()), BODY)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", CANARY])
async def test_a_method_but_post_is_refused(method: str) -> None:
    """The answer says what to do instead."""
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
async def test_what_is_no_event_is_refused(headers: dict[str, str], body: bytes, text: str) -> None:
    """The answer names the fault and not what was sent."""
    assert (400, text) == await ask(Function(Settings()), body, headers=headers)


async def test_noise_is_answered_without_a_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Most Events are none of ours: unless asked to, the function does not even mention them."""
    noise = json.dumps({**FAILED, "reason": "Pulled"}).encode()
    ignored = (200, "ignored: tells of no failed pull")
    assert ignored == await ask(Function(Settings()), noise)
    assert "" == capsys.readouterr().out
    assert ignored == await ask(Function(Settings(log_level="DEBUG")), noise)
    (line,) = lines(capsys.readouterr().out)
    assert ("Ignored an event", "tells of no failed pull") == (line["message"], line["reason"])


async def test_a_body_may_come_in_parts() -> None:
    """They are put together."""
    refused = Failing(RefusedError("reached"))
    assert (403, "reached") == await ask(refused, BODY[:7], b"", BODY[7:])


@pytest.mark.parametrize("parts", [1, 20])
async def test_a_body_that_is_too_large_is_not_kept(parts: int) -> None:
    """It is read to its end, so that whoever sends it sees the answer."""
    chunks = [b"x" * (20_000_000 // parts)] * parts
    code, text = await ask(Function(Settings()), *chunks)
    assert (400, "the body is larger than") == (code, text[:23])


async def test_a_sender_who_hangs_up_is_refused() -> None:
    """Nobody reads the answer, but the log does not show a fault."""
    assert (400, "the request ended before its body did") == await ask(Function(Settings()), BODY, hangs_up=True)


# What stands where the API server should be.


@asynccontextmanager
async def listening(answer: bytes | None) -> AsyncIterator[str]:
    """Listen as something that answers every request with the same bytes, or not at all; give its URL."""
    held: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for writer in held:
            writer.close()
        await server.wait_closed()


async def close(function: Function) -> None:
    """Close the connections that a served function closes with its process."""
    await (await function.dispatcher()).close()


def said(status: int, body: str) -> bytes:
    """Return an HTTP answer."""
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return f"{head}\r\n{body}".encode()


def status(code: int, message: str = "no") -> str:
    """Return the object by which an API server explains itself."""
    return json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, (503, "the API server did not answer: TimeoutError")),
        (b"", (503, "the API server did not answer: ServerDisconnectedError")),
        (b"SSH-2.0-OpenSSH_9.2\r\n", (503, "the API server did not answer: ClientResponseError")),
        (said(200, "<html>Welcome</html>"), (503, "the API server did not answer in JSON")),
        (said(200, "[]"), (503, "the API server did not answer with an object")),
        (said(302, ""), (503, "the API server did not answer in JSON")),
        (said(502, "<html>Bad Gateway</html>"), (503, "the API server did not answer in JSON")),
        (said(401, status(401)), (503, "the API server answered 401")),
        (said(408, status(408)), (503, "the API server answered 408")),
        (said(429, status(429)), (503, "the API server answered 429")),
        (said(500, status(500)), (503, "the API server answered 500")),
        (said(503, status(503)), (503, "the API server answered 503")),
        (said(504, status(504)), (503, "the API server answered 504")),
        (said(403, status(403, "may\nnot")), (403, "may not")),
        (said(400, "{}"), (403, "the API server answered 400")),
        (said(403, "7"), (403, "the API server answered 403")),
    ],
)
async def test_what_stands_in_the_way_of_the_api_server(
    tmp_path: Path, answer: bytes | None, expected: tuple[int, str]
) -> None:
    """A proxy, a load balancer, or something else: what may pass asks for the event again, a refusal does not."""
    async with listening(answer) as url:
        function = Function(Settings(kubeconfig=kubeconfig(tmp_path, url), request_timeout_seconds=0.2))
        assert expected == await ask(function, BODY)
        await close(function)


async def test_a_repair_has_a_time_limit(tmp_path: Path) -> None:
    """However patient the single request is, the event source is answered in time."""
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
async def test_who_prefers_to_wait_is_answered_when_all_is_done(prefer: str | None, expected: str) -> None:
    """An event source hears of its own pod at once; `Prefer: wait` (RFC 7240) waits for the others of the namespace."""
    function = Function(Settings())
    so_far = RepairOutcome(gone=frozenset({HINT.pod_uid}), nothing_to_do=Leave(reason=Reason.ALREADY_MOVED, detail="so far"))
    end = asyncio.Event()

    async def carry_out(_: WorkItem, tell: ReportEarly[RepairOutcome]) -> RepairOutcome:
        tell(so_far)
        await end.wait()
        return RepairOutcome(nothing_to_do=Leave(reason=Reason.NO_FAILURE, detail="the whole"))

    async def with_sources() -> tuple[str, ...]:
        return ("shop",)

    desk = await function.dispatcher()
    desk._queue, desk._namespaces = CoalescingQueue(carry_out), NamespaceIndex(with_sources, nobody)  # noqa: SLF001 - by the test's own clock
    headers = HEADERS if prefer is None else {**HEADERS, "prefer": prefer}
    answer = asyncio.create_task(ask(function, BODY, headers=headers))
    if expected == "the whole":
        await asyncio.wait([answer], timeout=0.1)
        assert not answer.done()
        end.set()
    status, text = await asyncio.wait_for(answer, timeout=10)
    assert (200, True) == (status, ("the whole" if expected == "the whole" else "so far") in text)
    end.set()


@pytest.mark.parametrize("found", [HINT, SourceChanged(namespace="shop", source="shop")], ids=["a-hint", "a-look"])
async def test_an_event_does_not_wait_for_ever_behind_others(found: PodFailed | SourceChanged) -> None:
    """Who has to wait for the repair under way, and then for the next, is answered in time; both repairs go on."""
    desk = Dispatcher(Settings(repair_timeout_seconds=0.05), clock=lambda: datetime.now(UTC))
    begun: list[WorkItem] = []
    end = asyncio.Event()

    async def carry_out(order: WorkItem, _: ReportEarly[RepairOutcome]) -> RepairOutcome:
        begun.append(order)
        await end.wait()
        return RepairOutcome()

    async def with_sources() -> tuple[str, ...]:
        return ("shop",)

    desk._queue, desk._namespaces = CoalescingQueue(carry_out), NamespaceIndex(with_sources, nobody)  # noqa: SLF001 - so slow is no API server
    for _ in range(2):
        with pytest.raises(TransientError, match=r"^the repair took too long$"):
            await asyncio.wait_for(desk.dispatch(found), timeout=10)
    end.set()
    assert RepairOutcome() == await desk._queue.submit(WorkItem(namespace="shop"))  # noqa: SLF001
    assert 2 == len(begun)


@pytest.mark.parametrize(
    ("excepted", "expected"),
    [
        ("", "the API server answered 429"),
        ("elsewhere.invalid", "the API server answered 429"),
        ("api.invalid", "the API server did not answer: ClientConnectorDNSError"),
        ("api.invalid:8080", "the API server did not answer: ClientConnectorDNSError"),
    ],
)
async def test_the_proxy_of_the_environment_leads_to_the_api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excepted: str, expected: str
) -> None:
    """`HTTP_PROXY` and `HTTPS_PROXY` name it, but for the hosts that `NO_PROXY` lists."""
    async with listening(said(429, status(429))) as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("NO_PROXY", excepted)
        function = Function(Settings(kubeconfig=kubeconfig(tmp_path, "http://api.invalid:8080")))
        assert (503, expected) == await ask(function, BODY)
        await close(function)


async def test_nobody_listens(tmp_path: Path) -> None:
    """An API server that is down is one to come back."""
    async with listening(b"") as url:
        pass
    function = Function(Settings(kubeconfig=kubeconfig(tmp_path, url)))
    assert (503, "the API server did not answer: ClientConnectorError") == await ask(function, BODY)
    await close(function)


@pytest.mark.parametrize(
    "content",
    [None, "", "kubeconfig", "[]", "{", "\0", "clusters: 7", '{"current-context": "x", "contexts": []}'],
)
async def test_a_kubeconfig_that_is_none_asks_for_the_event_again(tmp_path: Path, content: str | None) -> None:
    """It may still be on its way: a mounted file appears when it appears, and is then read."""
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    function = Function(Settings(kubeconfig=str(path)))
    code, text = await ask(function, BODY)
    assert (503, "no cluster is configured") == (code, text.partition(":")[0])
    async with listening(said(429, status(429))) as url:
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
