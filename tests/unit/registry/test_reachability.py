"""When registries last answered: what counts as an answer, and for how long it is known."""

from datetime import UTC, datetime, timedelta

import pytest

from saffire.registry.availability import Availability, Available, Denied, NotFound, Throttled, Unreachable
from saffire.registry.reachability import Reachability

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
SILENT = Unreachable("connection refused", is_silent=True)


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (Available(digest="sha256:1"), True),
        (NotFound(), True),
        (Denied(), True),
        (Throttled(), True),
        (Unreachable("it answered 503", is_silent=True, is_server_error=True), True),
        (SILENT, False),
        (Unreachable("TLS: certificate has expired", is_tls=True), False),
    ],
)
def test_whatever_a_registry_says_is_an_answer(answer: Availability, *, counts: bool) -> None:
    """Silence and a failed handshake are none."""
    reachability = Reachability(Clock())
    reachability.note("quay.io", answer)
    assert (reachability.seconds_since("quay.io") is not None) is counts
    assert reachability.any_within(1) is counts
    assert reachability.seconds_since("ghcr.io") is None


def test_an_answer_is_known_for_a_day() -> None:
    """A later question without an answer changes nothing about that."""
    clock = Clock()
    reachability = Reachability(clock)
    reachability.note("quay.io", NotFound())
    clock.now += 3600
    reachability.note("quay.io", SILENT)
    assert reachability.seconds_since("quay.io") == 3600
    assert not reachability.any_within(300)
    assert reachability.answered_at(NOW) == {"quay.io": NOW - timedelta(hours=1)}
    assert reachability.none_within(300)
    clock.now += 23 * 3600
    assert not reachability.none_within(300)
    assert reachability.seconds_since("quay.io") is None
    assert reachability.answered_at(NOW) == {}
