"""The meaning of HTTP statuses and headers."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from saffire.registry.availability import Availability, Denied, NotFound, Throttled, Unreachable, Withheld
from saffire.registry.transport import Answered, Response

DATE = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}


def response(status: int = 200, **headers: str) -> Response:
    """Return a response without a body."""
    fields = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status=status, headers=CIMultiDictProxy(fields), body=b"", is_from_other_origin=False)


@pytest.mark.parametrize("status", [200, 206])
def test_a_good_status_raises_nothing(status: int) -> None:
    """The body follows."""
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
        (418, Unreachable("it answered 418")),
        (402, Withheld(402)),
        (410, Withheld(410)),
        (412, Withheld(412)),
        (451, Withheld(451)),
    ],
)
def test_any_other_status_is_an_answer(status: int, expected: Availability) -> None:
    """Only 404 means that the image is absent."""
    with pytest.raises(Answered) as answered:
        response(status).check(NotFound())
    assert expected == answered.value.answer


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
def test_retry_after_is_read(headers: dict[str, str], seconds: int | None) -> None:
    """It has seconds, or a date by the registry's own clock; a day at most."""
    with pytest.raises(Answered) as answered:
        response(429, **headers).check(NotFound())
    assert Throttled(seconds) == answered.value.answer


@pytest.mark.parametrize(("header", "digest"), [("sha256:" + 64 * "a", "sha256:" + 64 * "a"), ("md5:1", ""), ("", "")])
def test_only_a_valid_digest_is_read(header: str, digest: str) -> None:
    """Anything else counts as no digest."""
    assert digest == response(Docker_Content_Digest=header).digest
    assert "" == response().digest
