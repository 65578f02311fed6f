"""The errors and the HTTP answers they stand for."""

import pytest

from saffire.errors import ConflictError, RefusedError, RejectedEvent, SaffireError, SettingsError, TransientError


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        (400, RejectedEvent),
        (403, RefusedError),
        (503, TransientError),
        (503, ConflictError),
        (503, SaffireError),
    ],
)
def test_an_error_carries_its_http_answer(expected: int, error: type[SaffireError]) -> None:
    """The answer tells Knative whether delivering again can help."""
    assert expected == error("why").http_status


def test_a_conflict_may_be_gone_at_the_next_try() -> None:
    """Whoever handles what is transient handles a conflict too."""
    assert issubclass(ConflictError, TransientError)


def test_every_error_has_one_root() -> None:
    """One `except` at the edge catches all that Saffire raises on purpose."""
    errors = {RejectedEvent, RefusedError, TransientError, SettingsError}
    assert errors == set(SaffireError.__subclasses__()) & errors
