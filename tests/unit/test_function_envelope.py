"""`read_binary` reads CloudEvents exactly as the parser of the `cloudevents` package does, and a body has its limit."""

import json
import weakref
from typing import Any

import pytest
from cloudevents.http import from_http
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from saffire.function import Function, read_binary
from saffire.settings import Settings

HEADERS = {
    "ce-id": "1",
    "ce-source": "https://10.96.0.1:443",
    "ce-specversion": "1.0",
    "ce-type": "dev.knative.apiserver.resource.add",
    "content-type": "application/json",
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def read(headers: dict[str, str], body: bytes) -> tuple[str, Any] | None:
    """Call `read_binary` with headers in the form of a web server."""
    return read_binary([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()], body)


@given(data=st.dictionaries(st.text(), JSON))
def test_it_reads_what_the_parser_reads(data: object) -> None:
    """For any object, both return the same type and data."""
    body = json.dumps(data).encode()
    parsed = from_http(HEADERS, body)
    assert (parsed["type"], parsed.data) == read(HEADERS, body)


@pytest.mark.parametrize("name", HEADERS)
def test_an_event_without_an_attribute_is_left_to_the_parser(name: str) -> None:
    """Each of these headers is required."""
    assert read(HEADERS, b"{}")
    assert read({key: value for key, value in HEADERS.items() if key != name}, b"{}") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"content-type": "application/cloudevents+json"},
        {"content-type": "application/json; charset=utf-8"},
        {"ce-specversion": "0.3"},
        {"ce-specversion": "2.0"},
        {"ce-type": "\xff"},
    ],
    ids=str,
)
def test_other_modes_and_versions_are_left_to_the_parser(changes: dict[str, str]) -> None:
    """The parser decides whether they are valid."""
    assert read(HEADERS | changes, b"{}") is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"NaN", b'"\\ud800"', b"7" * 5000, b"[" * 100_000, b"[" * 2000 + b"]" * 2000],
    ids=lambda body: f"{body[:9]} of {len(body)}",
)
def test_a_body_that_is_not_plainly_json_is_left_to_the_parser(body: bytes) -> None:
    """The parser decides whether it is valid."""
    assert read(HEADERS, body) is None


class Chunk(bytearray):
    """A part of a body; unlike `bytes`, it can be seen to be freed."""


async def test_a_body_that_is_too_large_is_not_kept() -> None:
    """Saffire reads it to its end, so that the sender sees the answer, but a sender cannot fill Saffire's memory."""
    size, count = 2**16, 128
    sent: list[weakref.ref[Chunk]] = []
    kept: list[int] = []

    async def receive() -> dict[str, Any]:
        kept.append(size * sum(chunk() is not None for chunk in sent))
        chunk = Chunk(size)
        sent.append(weakref.ref(chunk))
        return {"type": "http.request", "body": chunk, "more_body": len(kept) < count}

    function = Function(Settings())
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    answer = await function.respond(Request(scope, receive))
    assert 400 == answer.status_code
    assert max(kept) < 2**19
