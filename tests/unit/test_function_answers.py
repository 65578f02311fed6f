"""
The body of each answer: nothing, a CloudEvent or a line of text; and how many requests may wait for one.

A Broker delivers an event again, ten times, if the body of a 2xx is neither empty nor a CloudEvent.
"""

import asyncio
import json

import pytest
from cloudevents.http import from_http
from starlette.responses import Response

from saffire.errors import ConflictError, RefusedError, SaffireError, TransientError
from saffire.function import Function
from saffire.reconcile.request import Answer
from saffire.record.outcome import FAIL_BACK_NOTICE, FAILOVER_NOTICE, REFUSAL_NOTICE
from saffire.settings import Settings
from tests.unit.test_function import BODY, FAILED, HEADERS, Answering, Failing, ask, respond

SENDERS = {
    "ApiServerSource": {},
    "PingSource": {"ce-type": "dev.knative.sources.ping"},
    "Broker": {"prefer": "reply"},
    "Broker, wait": {"prefer": "Reply;x=y, wait=10"},
    "curl": {"accept": "*/*"},
}
PLANS = ({"plan": "Failover", "container": "web"},)
DECIDED = {
    "nothing to do": Answer(status=200, line="NoFailure"),
    "redundant": Answer(status=200, line="ignored: older than the last look at it", is_redundant=True),
    "failover": Answer(status=200, line="moved web", plans=PLANS, notice=FAILOVER_NOTICE),
    "fail back": Answer(status=200, line="moved web back", plans=PLANS, notice=FAIL_BACK_NOTICE),
    "left alone": Answer(status=200, line="left web", plans=PLANS, notice=REFUSAL_NOTICE),
}
REFUSED = Answer(status=403, line="the API server refused to patch Pod/web", notice=FAILOVER_NOTICE)


def headers_of(sender: str) -> dict[str, str]:
    """Return the headers of a request of this sender, which accepts no text."""
    return {name: value for name, value in HEADERS.items() if name != "accept"} | SENDERS[sender]


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("kind", DECIDED)
async def test_the_body_of_a_success_is_empty_or_a_cloudevent(kind: str, sender: str) -> None:
    """It is a CloudEvent only if there is something to tell, and if the sender prefers a reply."""
    answer = DECIDED[kind]
    response = await respond(Answering(answer), BODY, headers=headers_of(sender))
    assert 200 == response.status_code
    if not answer.notice or "Broker" not in sender:
        assert (b"", None) == (response.body, response.headers.get("content-type"))
        return
    event = from_http(dict(response.headers), bytes(response.body))
    assert (answer.notice, "/apis/saffire.fairwinds.com/v1alpha1", "1.0") == (
        event["type"],
        event["source"],
        event["specversion"],
    )
    assert {"outcome": answer.line, "plans": list(answer.plans)} == event.data


@pytest.mark.parametrize("sender", SENDERS)
async def test_an_ignored_event_has_an_empty_answer(sender: str) -> None:
    """Saffire ignores nearly all Events."""
    pulled = json.dumps({**FAILED, "reason": "Pulled"}).encode()
    response = await respond(Function(Settings()), pulled, headers=headers_of(sender) | {"ce-type": HEADERS["ce-type"]})
    assert (200, b"", None) == (response.status_code, response.body, response.headers.get("content-type"))


@pytest.mark.parametrize("kind", DECIDED)
async def test_who_accepts_text_gets_a_line(kind: str) -> None:
    """So does `make send`, whatever it prefers besides."""
    answer = DECIDED[kind]
    response = await respond(Answering(answer), BODY, headers=HEADERS | {"prefer": "reply"})
    assert (200, answer.line.encode()) == (response.status_code, response.body)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize(
    "function",
    [
        Answering(REFUSED),
        Failing(RefusedError("RBAC")),
        Failing(TransientError("slow")),
        Failing(ConflictError("changed")),
        Failing(ZeroDivisionError()),
    ],
    ids=["refused", "403", "503", "conflict", "crash"],
)
async def test_an_answer_that_is_no_success_says_why(function: Function, sender: str) -> None:
    """Senders write it to their logs; no Broker reads it."""
    response = await respond(function, BODY, headers=headers_of(sender))
    assert response.status_code in {403, 503}
    assert response.body
    assert "text/plain; charset=utf-8" == response.headers["content-type"]


@pytest.mark.parametrize(("seconds", "header"), [(0, None), (0.2, "1"), (7, "7")])
async def test_a_sender_is_told_when_to_deliver_again(seconds: float, header: str | None) -> None:
    """What the API server asks of Saffire, Saffire asks of its senders (RFC 9110, section 10.2.3)."""
    response = await respond(Failing(TransientError("throttled", retry_after=seconds)), BODY)
    assert (503, header) == (response.status_code, response.headers.get("retry-after"))


async def ask_all(function: Function, number: int, headers: dict[str, str] = HEADERS) -> list[asyncio.Task[Response]]:
    """Start requests that wait for an answer; return once no more of them can go on."""
    tasks = [asyncio.create_task(respond(function, BODY, headers=headers)) for _ in range(number)]
    await function.dispatcher()
    for _ in range(20):  # turns of the event loop: each request needs a few
        await asyncio.sleep(0)
    return tasks


async def test_only_so_many_requests_wait() -> None:
    """Each has an answer: further ones are to be delivered again. An Event that is ignored has its answer at once."""
    function = Answering(DECIDED["failover"])
    function.may_answer.clear()
    tasks = await ask_all(function, 600)
    refused = [task.result() for task in tasks if task.done()]
    assert {(503, "1", b"too many requests wait for a repair")} == {
        (response.status_code, response.headers["retry-after"], response.body) for response in refused
    }
    assert 512 == len(function.waits) == 600 - len(refused)
    assert (200, "ignored: tells of no failed pull") == await ask(
        function, json.dumps({**FAILED, "reason": "Pulled"}).encode()
    )
    function.may_answer.set()
    assert {200, 503} == {(await task).status_code for task in tasks}
    assert (200, "moved web") == await ask(function, BODY)


async def test_a_request_stops_waiting_once_its_sender_has_left() -> None:
    """Senders that hang up take no place of others, however many they are."""
    function, left = Answering(DECIDED["failover"]), asyncio.Event()
    function.may_answer.clear()
    left.set()
    for _ in range(1000):
        response = await respond(function, BODY, left=left)
        assert b"the sender disconnected before the answer" == response.body
    waiting = asyncio.create_task(ask(function, BODY))
    function.may_answer.set()
    assert (200, "moved web") == await waiting


async def test_only_so_many_senders_wait_for_whole_namespaces() -> None:
    """For further ones Saffire ignores the preference, so that they do not wait for each other."""
    function = Answering(DECIDED["failover"])
    function.may_answer.clear()
    tasks = await ask_all(function, 100, HEADERS | {"prefer": "wait"})
    assert 64 == sum(function.waits)
    assert 100 == len(function.waits)
    function.may_answer.set()
    assert {200} == {(await task).status_code for task in tasks}


async def test_bodies_that_arrive_in_parts_have_a_common_limit() -> None:
    """Senders that send slowly cannot fill the memory; a body that arrives at once needs none of it."""
    function, go_on = Answering(DECIDED["failover"]), asyncio.Event()
    part = b" " * 200_000
    slow = [asyncio.create_task(respond_slowly(function, part, go_on)) for _ in range(200)]
    for _ in range(20):
        await asyncio.sleep(0)
    refused = [task for task in slow if task.done()]
    assert 0 < len(refused) < 100
    assert {503} == {(await task).status_code for task in refused}
    assert (200, "moved web") == await ask(function, BODY)
    go_on.set()
    assert {200, 503} == {(await task).status_code for task in slow}
    assert (200, "moved web") == await ask(function, part, BODY)


async def test_slow_senders_do_not_keep_out_an_event_of_usual_size() -> None:
    """They may use up the room for large bodies to the last kilobyte."""
    function, go_on = Answering(DECIDED["failover"]), asyncio.Event()
    slow = [
        asyncio.create_task(respond_slowly(function, b" " * size, go_on)) for size in (200_000,) * 170 + (1_000,) * 200
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    assert any(task.done() for task in slow)
    assert (200, "moved web") == await ask(function, b" " * 4_000, BODY)
    assert (503, "too many bodies arrive at once") == await ask(function, b" " * 200_000, BODY)
    go_on.set()
    await asyncio.wait(slow)


async def respond_slowly(function: Function, part: bytes, go_on: asyncio.Event) -> Response:
    """Send a request whose body ends once `go_on` is set."""
    return await respond(function, part, BODY, pause=go_on)


@pytest.mark.parametrize("error", [SaffireError, TransientError])
async def test_an_error_frees_the_place_of_its_request(error: type[SaffireError]) -> None:
    """A thousand errors refuse nobody."""
    function = Failing(error("why"))
    for _ in range(600):
        assert (503, "why") == await ask(function, BODY)
