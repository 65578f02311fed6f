"""Ratio and target of a result."""

import pytest

from bench.report.result import Better, Result


def result(value: float, baseline: float | None, target: float | None, better: Better = "lower") -> Result:
    """Return a result."""
    return Result(figure="a: b", unit="s", value=value, baseline=baseline, better=better, target=target)


@pytest.mark.parametrize(
    ("measured", "is_met"),
    [
        (result(1.2, 1.0, 1.2), True),
        (result(1.3, 1.0, 1.2), False),
        (result(80.0, 100.0, 0.8, "higher"), True),
        (result(79.0, 100.0, 0.8, "higher"), False),
        (result(60.0, None, 60.0), True),
        (result(61.0, None, 60.0), False),
        (result(61.0, 1.0, None), None),
    ],
)
def test_a_target_is_the_ratios_or_else_the_values(measured: Result, is_met: bool | None) -> None:  # noqa: FBT001
    """A value equal to the target meets it, in either direction; without a target, nothing is missed."""
    assert is_met is measured.is_met


def test_there_is_no_ratio_to_nothing() -> None:
    """With a baseline of zero there is no ratio."""
    assert [2.0, None, None] == [result(2.0, baseline, None).ratio for baseline in (1.0, None, 0.0)]
