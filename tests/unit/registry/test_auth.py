"""Reading the challenges of registries, and the answers of token endpoints."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.registry.auth import Challenge, parse_challenges, parse_token

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"'
BEARER = Challenge(scheme="bearer", realm="https://auth.docker.io/token", service="registry.docker.io")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], ()),
        ([""], ()),
        ([HUB], (BEARER,)),
        ([HUB.replace(",", " , ")], (BEARER,)),
        ([HUB.replace("Bearer", "BEARER").replace("realm", "Realm")], (BEARER,)),
        (['Basic realm="us"', HUB], (Challenge(scheme="basic", realm="us"), BEARER)),
        ([f'Basic realm="us", {HUB}'], (Challenge(scheme="basic", realm="us"), BEARER)),
        ([f"{HUB}, Basic"], (BEARER, Challenge(scheme="basic"))),
        (["Basic"], (Challenge(scheme="basic"),)),
        (
            ["Bearer realm=https://example.com/,service=us"],
            (Challenge(scheme="bearer", realm="https://example.com/", service="us"),),
        ),
        ([r'Bearer realm="a \"quoted\" one"'], (Challenge(scheme="bearer", realm='a "quoted" one'),)),
        (['Bearer realm="first",realm="second"'], (Challenge(scheme="bearer", realm="first"),)),
        (['Bearer realm="never closed'], (Challenge(scheme="bearer"),)),
        (['="'], ()),
    ],
)
def test_challenges_are_read(headers: list[str], expected: tuple[Challenge, ...]) -> None:
    """Several challenges may be in one header, or each in its own."""
    assert expected == parse_challenges(headers)


@given(st.lists(st.text('Bearer realm="\\,\t :/x', max_size=200), max_size=3))
def test_any_header_is_read(headers: list[str]) -> None:
    """Nonsense raises no error."""
    parse_challenges(headers)


@pytest.mark.parametrize("piece", ['a="', "a=,", ", ", "Bearer ", '\\"', 'a="\\'])
def test_a_long_header_is_read_quickly(piece: str) -> None:
    """A header that repeats one piece for eight kilobytes takes less than a second."""
    before = time.process_time()
    parse_challenges([piece * (8190 // len(piece))])
    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"token": "a.b-c"}, ("a.b-c", 60)),
        ({"access_token": "a"}, ("a", 60)),
        ({"token": "a", "access_token": "b", "expires_in": 300}, ("a", 300)),
        ({"token": "a", "expires_in": 1e300}, ("a", 3600)),
        ({"token": "a", "expires_in": -5}, ("a", 60)),
        ({"token": "a", "expires_in": "300"}, ("a", 60)),
        ({"token": "a", "expires_in": float("nan")}, ("a", 60)),
        ({"token": "a", "expires_in": float("inf")}, ("a", 3600)),
        ({"token": "a b"}, None),
        ({"token": "a\r\nHost: b"}, None),
        ({"token": "ä"}, None),
        ({"token": ""}, None),
        ({"token": 5}, None),
        ({"token": "a" * 16384}, ("a" * 16384, 60)),
        ({"token": "a" * 16385}, None),
        ({}, None),
        ([], None),
    ],
)
def test_the_answer_of_a_token_endpoint_is_read(answer: object, expected: tuple[str, int] | None) -> None:
    """A token that a header cannot contain is refused, and none is used for more than an hour."""
    token = parse_token(json.dumps(answer).encode())
    assert expected == (token and (token.value, token.seconds))


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b"token"])
def test_a_body_that_is_no_json_has_no_token(body: bytes) -> None:
    """It raises no error."""
    assert parse_token(body) is None


def test_a_token_is_not_shown() -> None:
    """A log line with a token in it would not show its value."""
    assert "secret" not in repr(parse_token(b'{"token": "secret"}'))
