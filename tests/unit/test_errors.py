"""The errors and their HTTP status."""

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
    """The status tells Knative whether to deliver the event again."""
    assert expected == error("why").http_status


def test_a_conflict_is_transient() -> None:
    """Code that handles a `TransientError` handles a conflict, too."""
    assert issubclass(ConflictError, TransientError)


def test_every_error_has_one_root() -> None:
    """One `except` in `function` catches every error that Saffire raises on purpose."""
    errors = {RejectedEvent, RefusedError, TransientError, SettingsError}
    assert errors == set(SaffireError.__subclasses__()) & errors
