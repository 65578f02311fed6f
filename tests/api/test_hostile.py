"""
Hostile requests: a clear answer, never a 5xx, nothing patched, nothing echoed.

Every request is about a healthy pod whose image a source lists, so only a function that believes the request would send
a patch.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.nodes import SimulatedNode
from testkit.api.audit_log import AuditLog
from testkit.api.function_client import Answer, FunctionClient, Header, request
from testkit.api.namespace_fixture import READS, NamespaceFixture, until
from testkit.api.workloads import NEW, container, deployment, pod, pod_spec
from testkit.strategies import json_values, paths_into, replaced, ways

CANARY = "c4n4ry0f7h3m1n3"
ADD = "dev.knative.apiserver.resource.add"
HEALTHY = "NoPullFailure"
HEALED = (200, HEALTHY)
NO_EVENT, NO_OBJECT = (400, "not a CloudEvent"), (400, "the CloudEvent's data is not a JSON object")
NOT_FOUND = (404, "Not Found")
NO_POST, NO_HTTP = (405, "POST a CloudEvent"), (400, "Invalid HTTP request received.")
NOT_OURS, NO_KIND = (
    (200, "ignored: not an event of an ApiServerSource or a PingSource"),
    (200, "ignored: not an Event of Kubernetes"),
)


@dataclass
class HostileClient:
    """A client that may not be trusted, and what it knows: a healthy pod, and an Event that says it fails."""

    client: FunctionClient
    namespace: NamespaceFixture
    event: Manifest

    async def send(self, sent: bytes, *, end: bool = False) -> Answer | None:
        """Send a request and return the answer; assert that it repeats nothing of the request."""
        answer = await self.client.send(sent, end=end)
        if answer:
            assert answer.status < 500
            assert CANARY not in answer.text
            assert CANARY.encode() not in answer.head
        return answer


async def works(namespace: NamespaceFixture) -> None:
    """Assert that the function still repairs."""
    async with namespace.another() as another:
        await another.source()
        _, genuine = await another.fail(deployment())
        await another.post(genuine)
        assert [("deployments", "web")] == another.patches()


@pytest.fixture(scope="module")
async def healthy_pod_event(
    cluster: ControlPlane, function: FunctionProcess, audit_log: AuditLog, node: SimulatedNode
) -> AsyncIterator[tuple[NamespaceFixture, Manifest]]:
    """Give a namespace with a source and a healthy pod, and an Event that says the pod fails."""
    async with NamespaceFixture(cluster.admin, function.url, audit_log, node.dead) as namespace:
        await namespace.source()
        await namespace.apply(pod(pod_spec(container("web", NEW)), name="healthy"))

        async def running() -> Manifest | None:
            (pod,) = await namespace.pods()
            return pod if pod["status"]["phase"] == "Running" else None

        event = await namespace.write_kubelet_event(await until(running), "containers", "web", NEW)
        assert HEALTHY == (await namespace.post(event)).text
        await namespace.sweep()  # after that the source has its conditions, and its readiness
        yield namespace, event
        await works(namespace)


@pytest.fixture
async def hostile_client(
    healthy_pod_event: tuple[NamespaceFixture, Manifest], function: FunctionProcess, audit_log: AuditLog
) -> AsyncIterator[HostileClient]:
    """Give a hostile client. Afterwards, assert that nothing was written and no internal fault was logged."""
    since, printed = audit_log.mark(), len(function.output())
    async with FunctionClient(function.url) as client:
        yield HostileClient(client, *healthy_pod_event)
    assert [] == [call for call in audit_log.calls(since) if call.verb not in READS]
    said = function.output()[printed:]
    assert [] == [word for word in ("Traceback", "Crashed") if word in said]


def ce(**changes: str | None) -> list[Header]:
    """Return the headers of a CloudEvent in binary mode; a `change` replaces a header, or removes it."""
    headers = {
        "Ce-Id": f"id-{CANARY}",
        "Ce-Source": f"https://10.96.0.1:443/{CANARY}",
        "Ce-Specversion": "1.0",
        "Ce-Type": ADD,
        "Ce-Subject": f"/apis/v1/{CANARY}",
        "Content-Type": "application/json",
        "Accept": "text/plain",
        "Authorization": f"Bearer {CANARY}",
    }
    for name, value in changes.items():
        headers[name.replace("_", "-").title()] = value or ""
        if value is None:
            del headers[name.replace("_", "-").title()]
    return list(headers.items())


def chunked(body: bytes, size: int) -> bytes:
    """Return a body in chunked encoding."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


def structured(event: Manifest, **changes: Any) -> bytes:
    """Return a CloudEvent in structured mode."""
    envelope = {"specversion": "1.0", "id": CANARY, "source": f"/{CANARY}", "type": ADD, "data": event} | changes
    return json.dumps({key: value for key, value in envelope.items() if value is not None}).encode()


Build = Callable[[Manifest], bytes]
TEXT = ("Accept", "text/plain")
STRUCTURED = [TEXT, ("Content-Type", "application/cloudevents+json"), ("X-Token", CANARY)]
BATCH = [("Content-Type", "application/cloudevents-batch+json"), ("X-Token", CANARY)]


def body(event: Manifest) -> bytes:
    """Return the body that the event source writes, with changes."""
    return json.dumps(event | {"reportingInstance": CANARY}).encode()


def with_headers(**changes: str | None) -> Build:
    """Return a function that sends the Event with other headers."""
    return lambda event: request(ce(**changes), body(event))


def with_body(content: bytes) -> Build:
    """Return a function that sends another body with the Event's headers."""
    return lambda _: request(ce(), content)


def with_method(method: str, path: str) -> Build:
    """Return a function that sends a request with another method and path."""
    return lambda _: request(ce(), b"", method=method, path=path)


REQUESTS: dict[str, tuple[Build, tuple[int, str]]] = {
    # Headers that a CloudEvent needs, and those it does not.
    "as it should be": (with_headers(), HEALED),
    "no content type": (with_headers(content_type=None), HEALED),
    "another content type": (with_headers(content_type="text/plain"), HEALED),
    "an older version": (with_headers(ce_specversion="0.3"), HEALED),
    "an empty id": (with_headers(ce_id=""), HEALED),
    "a time that is none": (with_headers(ce_time=f"yesterday {CANARY}"), HEALED),
    "no id": (with_headers(ce_id=None), NO_EVENT),
    "no source": (with_headers(ce_source=None), NO_EVENT),
    "no type": (with_headers(ce_type=None), NO_EVENT),
    "no version": (with_headers(ce_specversion=None), NO_EVENT),
    "version 2": (with_headers(ce_specversion="2.0"), NO_EVENT),
    "no version at all": (with_headers(ce_specversion=CANARY), NO_EVENT),
    "a header that is an attribute of the parser": (with_headers(ce_extensions=CANARY), HEALED),
    "another type": (
        with_headers(ce_type=f"com.example.{CANARY}"),
        NOT_OURS,
    ),
    "a type that only begins well": (with_headers(ce_type=f"{ADD}{CANARY}"), HEALED),
    "attributes twice": (lambda event: request([*ce(), *ce()], body(event)), HEALED),
    "130 headers": (lambda event: request([*ce(), *((f"X-{n}", CANARY) for n in range(130))], body(event)), HEALED),
    "a header in Latin-1": (with_headers(ce_subject=f"\xfc{CANARY}\xff"), HEALED),
    # Bodies.
    "an empty body": (with_body(b""), NO_OBJECT),
    "no JSON": (with_body(f'{{"kind": "Event", "{CANARY}"'.encode()), NO_OBJECT),
    "no text": (with_body(b"\xff\xfe" + CANARY.encode()), NO_OBJECT),
    "a JSON string": (with_body(json.dumps(CANARY).encode()), NO_OBJECT),
    "a JSON number": (with_body(b"7"), NO_OBJECT),
    "a number of 5000 digits": (with_body(b"7" * 5000), NO_EVENT),
    "a JSON list": (with_body(f'["{CANARY}"]'.encode()), NO_OBJECT),
    "null": (with_body(b"null"), NO_OBJECT),
    "not a number": (with_body(b"NaN"), NO_OBJECT),
    "deep nesting": (with_body(b"[" * 100_000), NO_EVENT),
    "deep nesting that ends": (with_body(b'{"a":' * 20_000 + b"1" + b"}" * 20_000), NO_EVENT),
    "an empty object": (with_body(b"{}"), NO_KIND),
    "chunks": (lambda event: request([*ce(), ("Transfer-Encoding", "chunked")], chunked(body(event), 7)), HEALED),
    # Other modes.
    "structured": (lambda event: request(STRUCTURED, structured(event)), HEALED),
    "structured, with a charset": (
        lambda event: request(
            [TEXT, ("Content-Type", "application/cloudevents+json; charset=utf-8")], structured(event)
        ),
        HEALED,
    ),
    "structured, as plain JSON": (
        lambda event: request([TEXT, ("Content-Type", "application/json")], structured(event)),
        HEALED,
    ),
    "structured and binary at once": (lambda event: request([*ce(), *STRUCTURED], structured(event)), HEALED),
    "structured, without an id": (lambda event: request(STRUCTURED, structured(event, id=None)), NO_EVENT),
    "structured, with a number for a type": (lambda event: request(STRUCTURED, structured(event, type=1)), NOT_OURS),
    "structured, with bytes": (
        lambda event: request(STRUCTURED, structured(event, data=None, data_base64="e30=")),
        NO_KIND,
    ),
    "structured, a list": (lambda _: request(STRUCTURED, b"[]"), NO_EVENT),
    "structured, no JSON": (lambda _: request(STRUCTURED, CANARY.encode()), NO_EVENT),
    "a batch": (lambda event: request(BATCH, b"[" + structured(event) + b"]"), NO_EVENT),
    "an empty batch": (lambda _: request(BATCH, b"[]"), NO_EVENT),
    "plain JSON": (lambda event: request([("Content-Type", "application/json")], body(event)), NO_EVENT),
    "plain text": (lambda _: request([("Content-Type", "text/plain")], CANARY.encode()), NO_EVENT),
    "nothing at all": (lambda _: request(), NO_EVENT),
    "a form": (
        lambda _: request([("Content-Type", "application/x-www-form-urlencoded")], f"a={CANARY}".encode()),
        NO_EVENT,
    ),
    # HTTP.
    "any path": (lambda event: request(ce(), body(event), path=f"/{CANARY}/%2e%2e/x?{CANARY}=1"), HEALED),
    **{
        f"{method} {path}": (with_method(method, path), NO_POST)
        for method in ("GET", "OPTIONS", "PUT", "DELETE", "PATCH")
        for path in ("/", f"/{CANARY}")
    },
    # The framework answers these two.
    "GET /robots.txt": (with_method("GET", "/robots.txt"), NOT_FOUND),
    "a target that is no path": (with_method("POST", f"http://{CANARY}/"), NOT_FOUND),
    "a method of its own": (lambda _: request(ce(), b"", method=CANARY.upper()), (405, "Method Not Allowed")),
    "an offer of WebSockets": (with_headers(connection="Upgrade", upgrade="websocket"), HEALED),
    "an offer of HTTP/2": (
        with_headers(connection="Upgrade, HTTP2-Settings", upgrade="h2c", http2_settings="AA"),
        HEALED,
    ),
    "a wish to be asked first": (with_headers(expect="100-continue"), HEALED),
    "two lengths": (lambda _: request([*ce(), ("Content-Length", "1"), ("Content-Length", "2")], b"{}"), NO_HTTP),
    "a negative length": (lambda _: request([*ce(), ("Content-Length", "-1")], b"{}"), NO_HTTP),
    "a NUL in a header": (with_headers(ce_subject=f"\0{CANARY}"), NO_HTTP),
    "no HTTP": (lambda _: f"{CANARY}\r\n\r\n".encode(), NO_HTTP),
    "TLS": (lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 8, NO_HTTP),
}


@pytest.mark.parametrize(("build", "expected"), REQUESTS.values(), ids=REQUESTS)
async def test_each_request_has_its_answer(
    hostile_client: HostileClient, build: Build, expected: tuple[int, str]
) -> None:
    """A request that is no CloudEvent gets 400, a method other than POST gets 405, all others are read."""
    answer = await hostile_client.send(build(hostile_client.event))
    assert answer
    assert expected == (answer.status, answer.text)


@pytest.mark.parametrize(
    "large",
    [
        request(ce(), b'"' + CANARY.encode() + b"x" * 20_000_000 + b'"'),
        request([*ce(), ("Transfer-Encoding", "chunked")], chunked(b"x" * 20_000_000, 100_000)),
    ],
    ids=["at once", "in chunks"],
)
async def test_twenty_megabytes_are_refused(hostile_client: HostileClient, large: bytes) -> None:
    """A large body is read to its end, so that the sender sees the answer, but not kept."""
    answer = await hostile_client.send(large)
    assert answer
    assert (400, "the body is larger than") == (answer.status, answer.text[:23])


async def test_a_head_request_is_answered_without_a_body(hostile_client: HostileClient) -> None:
    """HEAD cannot deliver an Event."""
    answer = await hostile_client.send(request(ce(), b"", method="HEAD"))
    assert answer
    assert (405, "") == (answer.status, answer.text)


@pytest.mark.parametrize("length", [70_000, 1_000_000])
async def test_a_long_header_is_taken_or_refused(hostile_client: HostileClient, length: int) -> None:
    """The web server limits only the incomplete part of a head, so the answer depends on how the head arrives."""
    answer = await hostile_client.send(with_headers(x_long=CANARY + "x" * length)(hostile_client.event))
    # The server may hang up while the rest is being sent; then the answer is lost.
    assert answer is None or (answer.status, answer.text) in {HEALED, NO_HTTP}


@pytest.mark.parametrize("length", [0, 1, 100, -1])
async def test_a_body_that_ends_too_soon_is_dropped(hostile_client: HostileClient, length: int) -> None:
    """A client that hangs up in the middle of a body gets no answer, and the function goes on."""
    whole = with_headers()(hostile_client.event)
    head, _, content = whole.partition(b"\r\n\r\n")
    answer = await hostile_client.send(head + b"\r\n\r\n" + content[:length], end=True)
    assert answer is None or answer.status == 400
    again = await hostile_client.send(whole)
    assert again
    assert HEALED == (again.status, again.text)


NAMES: tuple[Any, ...] = (
    "",
    " ",
    ".",
    "..",
    "-x",
    "x-",
    "Web",
    "web_1",
    "../../secrets",
    "../../../../api/v1/namespaces/kube-system/secrets/x",
    "%2e%2e%2fsecrets",
    "%2e",
    "a/b",
    "a\\b",
    "web?fieldManager=x",
    "web#x",
    "web;x",
    "web\n",
    "web\r\nX-Injected: 1",
    "we\0b",
    "w\u0435b",
    "\uff57eb",
    "\U0001f600",
    "\ud800",
    "x" * 254,
    "x" * 10_000,
    "a." * 5_000 + "a",
    None,
    7,
    [],
    {},
)
PLACES = (("involvedObject", "name"), ("involvedObject", "namespace"), ("metadata", "name"), ("metadata", "namespace"))


@pytest.mark.parametrize("place", PLACES, ids=".".join)
async def test_a_name_that_is_none_is_refused_before_anything_is_asked(
    hostile_client: HostileClient, audit_log: AuditLog, place: tuple[str, str]
) -> None:
    """A name that could be more than a name in a URL is refused before any request to the API server."""
    since = audit_log.mark()
    for name in NAMES:
        event = replaced(hostile_client.event, place, name)
        answer = await hostile_client.send(request(ce(), json.dumps(event).encode()))
        assert answer
        # An Event without a namespace is in its pod's namespace.
        expected = 200 if place == ("metadata", "namespace") and name in ("", None) else 400
        assert (expected, name) == (answer.status, name)
    assert {"healthy"} >= {call.name for call in audit_log.calls(since) if call.resource == "pods"}


WRONG: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    1e400,
    2**70,
    "",
    CANARY,
    CANARY * 1000,
    "\0",
    "\ud800",
    [],
    [[]],
    [None],
    [{}],
    {},
    {CANARY: CANARY},
    {"": {"": {}}},
)


async def test_a_wrong_type_at_any_place_is_survived(hostile_client: HostileClient) -> None:
    """A value of a wrong type, anywhere in the Event, is refused or ignored, or does not matter."""
    seen = set()
    for way in ways(hostile_client.event, ()):
        for value in WRONG:
            answer = await hostile_client.send(
                request(ce(), json.dumps(replaced(hostile_client.event, way, value)).encode())
            )
            assert answer
            seen.add(answer.status)
            assert answer.status == 400 or answer.text.startswith(("ignored: ", HEALTHY, "NoSuchPod", "NoSource"))
    assert {200, 400} == seen


# Ten thousand more: every generated head with every generated body.

HEADS = BODIES = 5
DRAWN = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def texts() -> SearchStrategy[str]:
    """Draw texts that may stand in a header, and texts that may not."""
    return st.one_of(
        st.sampled_from(["", "1.0", "0.3", "2.0", ADD, ADD.replace("add", "delete"), CANARY, "application/json", "\t"]),
        st.text(st.characters(max_codepoint=255), max_size=10),
    )


@st.composite
def heads(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draw a request without its body: mostly a POST with the headers of a CloudEvent, some of them changed."""
    named = dict(draw(st.sampled_from([ce(), ce(), ce(), STRUCTURED, BATCH])))
    for name in draw(st.lists(st.sampled_from([*named, "Ce-Data", "Ce-Extensions", "Expect", "X-A"]), max_size=2)):
        named[name] = draw(texts())
    for name in draw(st.lists(st.sampled_from([*named]), max_size=1)):
        del named[name]
    method = draw(st.sampled_from(["POST"] * 12 + ["GET", "HEAD", "PUT", "TRACE", "x"]))
    path = draw(st.sampled_from(["/"] * 5 + ["//", "/%00", "/../..", f"/{CANARY}", f"/?{CANARY}"]))
    return lambda content: request(named.items(), content, method=method, path=path)


@st.composite
def bodies(draw: st.DrawFn, event: Manifest) -> bytes:
    """Draw a body: the Event with another value at one or two places, other JSON, or no JSON."""
    changed: Any = event
    for _ in range(draw(st.integers(0, 2))):
        changed = replaced(changed, draw(paths_into(changed)), draw(json_values()))
    match draw(st.sampled_from(["whole", "whole", "whole", "structured", "cut", "json", "bytes"])):
        case "structured":
            return structured(event, data=changed)
        case "cut":
            return json.dumps(changed).encode()[: draw(st.integers(0, 500))]
        case "json":
            return json.dumps(draw(json_values())).encode()
        case "bytes":
            return draw(st.binary(max_size=50))
        case _:
            return json.dumps(changed).encode()


async def test_ten_thousand_hostile_requests_get_nowhere(hostile_client: HostileClient) -> None:
    """For every generated request: no 5xx, no write, and nothing of the request in the answer."""
    answered = Counter[int]()

    async def deliver(requests: list[bytes]) -> None:
        for attempt in requests:
            answer = await hostile_client.send(attempt)
            assert answer
            answered[answer.status] += 1

    @DRAWN
    @given(
        st.lists(heads(), min_size=HEADS, max_size=HEADS),
        st.lists(bodies(hostile_client.event), min_size=BODIES, max_size=BODIES),
    )
    def attack(heads: list[Callable[[bytes], bytes]], bodies: list[bytes]) -> None:
        requests = [head(body) for head in heads for body in bodies]
        asyncio.run_coroutine_threadsafe(deliver(requests), loop).result()

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(attack)
    assert answered.total() >= 10_000
    assert {200, 400, 405} == answered.keys()


async def test_what_is_no_http_gets_nowhere(hostile_client: HostileClient) -> None:
    """Any bytes are refused, or dropped if they end too soon."""

    @DRAWN
    @given(st.one_of(st.binary(min_size=1), st.binary().map(lambda junk: b"POST / HTTP/1.1\r\n" + junk + b"\r\n\r\n")))
    def attack(junk: bytes) -> None:
        answer = asyncio.run_coroutine_threadsafe(hostile_client.send(junk, end=True), loop).result()
        assert answer is None or 400 == answer.status

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(attack)


async def test_a_forged_event_silences_nobody(namespace: NamespaceFixture) -> None:
    """A claim with a pod's uid under another name is ignored, and a later Event of the real pod still counts."""
    await namespace.source()
    _, event = await namespace.fail(deployment())
    for name in ("nobody", "somebody"):
        forged = replaced(event, ("involvedObject", "name"), name)
        answer = await namespace.post(forged)
        assert (200, "NoSuchPod") == (answer.status, answer.text)
    answer = await namespace.post(event)
    assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)


async def test_a_pod_that_claims_a_stranger_s_uid_silences_nobody(namespace: NamespaceFixture) -> None:
    """By its annotations, a pod is known to Events by any uid; a rollout that replaces it says nothing of that uid."""
    async with namespace.another() as other:
        for tenant in (namespace, other):
            await tenant.source()
        victim, event = await namespace.fail(deployment())
        failing, of_other = await other.fail(deployment())
        annotations = {
            "kubernetes.io/config.mirror": "x",
            "kubernetes.io/config.hash": victim["metadata"]["uid"],
            "controller.kubernetes.io/pod-deletion-cost": "-1",
        }
        # The ReplicaSet that the pod claims wants no second pod, and deletes this one.
        like = {key: failing["metadata"][key] for key in ("labels", "ownerReferences")}
        stays = {"annotations": annotations, "finalizers": ["example.com/wait"]}
        claiming = await other.apply(pod(pod_spec(nodeName="api"), name="claims", **like, **stays))
        moved = await other.post(of_other)
        assert (200, f"moved web of Deployment/web to {NEW}") == (moved.status, moved.text)
        answer = await namespace.post(event)
        await other.api.patch(await other.api.path(claiming), {"metadata": {"finalizers": None}})
        assert (200, f"moved web of Deployment/web to {NEW}") == (answer.status, answer.text)
