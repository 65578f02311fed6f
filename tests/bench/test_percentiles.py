"""Percentiles of a few values."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.percentiles import percentile

VALUES = st.lists(st.floats(0, 1e6), min_size=2)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 5.5), (95, 9.55), (100, 10.0)])
def test_ten_trials(percent: float, expected: float) -> None:
    """Of ten values, the median is between the fifth and the sixth, and p95 close to the last."""
    assert expected == pytest.approx(percentile([float(value) for value in range(10, 0, -1)], percent))


def test_a_single_value_is_all_of_them() -> None:
    """Every percentile of a single value is that value."""
    assert [3.0, 3.0] == [percentile([3.0], percent) for percent in (50, 95)]


@settings(deadline=None)
@given(VALUES, st.integers(1, 99))
def test_they_are_those_of_statistics(values: list[float], percent: int) -> None:
    """The standard library, which refuses a single value, returns the same."""
    assert statistics.quantiles(values, n=100, method="inclusive")[percent - 1] == pytest.approx(
        percentile(values, percent)
    )
