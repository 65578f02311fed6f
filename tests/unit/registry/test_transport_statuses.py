"""What statuses and headers say."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from saffire.registry.availability import Availability, Denied, NotFound, Throttled, Unreachable
from saffire.registry.transport import Answered, Response

DATE = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}


def response(status: int = 200, **headers: str) -> Response:
    """Return a response without a body."""
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status=status, headers=CIMultiDictProxy(named), body=b"", elsewhere=False)


@pytest.mark.parametrize("status", [200, 206])
def test_what_is_there_settles_nothing(status: int) -> None:
    """There is more to read."""
    response(status).check(NotFound())


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, NotFound()),
        (401, Denied()),
        (403, Denied()),
        (429, Throttled()),
        (500, Unreachable("it answered 500")),
        (503, Unreachable("it answered 503")),
        (400, Unreachable("it answered 400")),
        (204, Unreachable("it answered 204")),
        (304, Unreachable("it answered 304")),
        (410, Unreachable("it answered 410")),
    ],
)
def test_any_other_status_settles_the_question(status: int, expected: Availability) -> None:
    """Only 404 says that there is nothing."""
    with pytest.raises(Answered) as settled:
        response(status).check(NotFound())
    assert expected == settled.value.answer


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "0"}, 0),
        ({"Retry_After": " 120 "}, 120),
        ({"Retry_After": "999999999999"}, 86400),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:00 GMT", **DATE}, 60),
        ({"Retry_After": "Wed, 21 Oct 2015 07:27:00 GMT", **DATE}, 0),
        ({"Retry_After": "Wed, 21 Oct 2099 07:27:00 GMT", **DATE}, 86400),
        ({"Retry_After": "Wed, 21 Oct 2015 07:29:00 GMT"}, None),
        ({"Retry_After": "Wed, 21 Oct 0000 07:29:00 +9999", **DATE}, None),
        ({"Retry_After": "-1", **DATE}, None),
        ({"Retry_After": "²"}, None),
        ({}, None),
    ],
)
def test_when_to_ask_again(headers: dict[str, str], seconds: int | None) -> None:
    """In seconds, or as a date by the registry's own clock; a day at most."""
    with pytest.raises(Answered) as settled:
        response(429, **headers).check(NotFound())
    assert Throttled(seconds) == settled.value.answer


@pytest.mark.parametrize(("told", "digest"), [("sha256:" + 64 * "a", "sha256:" + 64 * "a"), ("md5:1", ""), ("", "")])
def test_a_digest_is_one_that_can_be_checked(told: str, digest: str) -> None:
    """Anything else is as good as none."""
    assert digest == response(Docker_Content_Digest=told).digest
    assert "" == response().digest
