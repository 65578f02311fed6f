"""`spec.failBack`: whether workloads return, and how long their original must have been healthy."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.sources.spec import parse_fail_back_after
from testkit.builders import source_manifest

WRONG_LENGTH = "spec.failBack.after: wants a length of time such as 90s, 30m or 1h30m"
WRONG_POLICY = "spec.failBack.policy: wants one of Never, Automatic"


def read(fail_back: Any) -> tuple[timedelta | None, list[str]]:
    """Return the time of a source with that `spec.failBack`, and its faults."""
    faults: list[str] = []
    return parse_fail_back_after(source_manifest(failBack=fail_back), faults), faults


@pytest.mark.parametrize(
    "fail_back", [None, {}, {"policy": "Never"}, {"after": "30m"}, {"policy": "", "after": "soon"}]
)
def test_without_automatic_no_workload_returns(fail_back: Any) -> None:
    """`Never` is the default, and then `after` does not matter."""
    assert (None, []) == read(fail_back)


@pytest.mark.parametrize(
    ("seconds", "after"),
    [
        (1800, None),
        (1800, ""),
        (1, "1s"),
        (90, "90s"),
        (1800, "30m"),
        (5400, "1h30m"),
        (3661, "1h1m1s"),
        (3601, "1h1s"),
        (60, "0h1m"),
        (10 * 365 * 86400, "999999999999999h"),
    ],
)
def test_a_length_of_time_is_hours_minutes_and_seconds(seconds: int, after: str | None) -> None:
    """The default is half an hour, and the most is ten years."""
    assert (timedelta(seconds=seconds), []) == read({"policy": "Automatic", "after": after})


@pytest.mark.parametrize("after", ["0s", "30", "m", "1d", "1m1h", "-1m", " 1m", "1.5h", "\uff11m"])
def test_another_text_is_a_fault(after: str) -> None:
    """An older schema may have let it pass."""
    assert [WRONG_LENGTH] == read({"policy": "Automatic", "after": after})[1]


def test_an_unknown_policy_is_a_fault() -> None:
    """It is not taken for `Never`."""
    assert (None, [WRONG_POLICY]) == read({"policy": "Perhaps"})


@given(hours=st.integers(0, 99), minutes=st.integers(0, 99), seconds=st.integers(1, 99))
def test_hours_minutes_and_seconds_are_added(hours: int, minutes: int, seconds: int) -> None:
    """Each part counts once."""
    expected = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    assert (expected, []) == read({"policy": "Automatic", "after": f"{hours}h{minutes}m{seconds}s"})
