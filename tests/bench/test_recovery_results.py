"""The results and the page that trials of a row lead to."""

import pytest

from bench.figures.recovery import Trials, results
from bench.harness.recovery_trial import Cost, Trial
from bench.report.recovery_page import STRATEGIES, pages
from bench.report.result import Result

TEN = [float(seconds) for seconds in range(1, 11)]


def trials(*seconds: float, factor: float) -> Trials:
    """Return trials that take Saffire these seconds, and the baseline `factor` times as many."""
    return {
        True: [Trial(back=back, patched=0.05) for back in seconds],
        False: [Trial(back=back * factor, patched=0.01) for back in seconds],
    }


def crowd(freed: float, settled: float, *, replaced: int, back: float = 3.0) -> Trial:
    """Return a trial of a row of many pods."""
    return Trial(
        back=back, patched=0.05, crowd=Cost(freed=freed, settled=settled, fewest=40, replaced=replaced, restarted=1)
    )


def test_a_row_has_two_percentiles_each_beside_its_own_baseline() -> None:
    """The tail is compared with the baseline's tail, and may be further from it than the typical value."""
    by_figure = {result.figure: result for result in results("Pod", trials(*TEN, factor=0.5))}
    assert ["recovery: Pod, p50", "recovery: Pod, p95", "recovery: Pod, first patch, p50"] == list(by_figure)
    assert [(5.5, 2.75, 1.2), (pytest.approx(9.55), pytest.approx(4.775), 1.5), (0.05, 0.01, None)] == [
        (result.value, result.baseline, result.target) for result in by_figure.values()
    ]


def test_a_crowd_has_its_costs_too() -> None:
    """The median of each cost, beside the median of the baseline."""
    ours, theirs = crowd(2.0, 4.0, replaced=50), crowd(1.0, 3.0, replaced=48)
    by_figure = {result.figure: result for result in results("x", {True: [ours], False: [theirs]})}
    expected = {
        "until the five are free": (2.0, 1.0, "s"),
        "until all is settled": (4.0, 3.0, "s"),
        "fewest ready": (40, 40, "pods"),
        "healthy ones replaced": (50, 48, "pods"),
        "containers restarted": (1, 1, "times"),
    }
    costs = {name.removeprefix("recovery: x, "): result for name, result in list(by_figure.items())[3:]}
    assert expected == {name: (result.value, result.baseline, result.unit) for name, result in costs.items()}


def test_a_crowd_that_never_came_back_has_no_costs() -> None:
    """Without recovery the costs are unknown; the row itself shows the failure."""
    yielded = results("x", {True: [Trial(back=60.0, patched=60.0)], False: [crowd(1.0, 3.0, replaced=48)]})
    assert ["recovery: x, p50", "recovery: x, p95", "recovery: x, first patch, p50"] == [
        result.figure for result in yielded
    ]


def test_what_never_came_back_is_missed() -> None:
    """A trial that did not recover counts with its whole deadline, and the row misses its target."""
    p50, *_ = results("Pod", {True: [Trial(back=60.0, patched=60.0)], False: [Trial(back=2.0, patched=0.01)]})
    assert (60.0, False) == (p50.value, p50.is_met)


def measured(*names: str) -> dict[str, Result]:
    """Return results of rows, of which only the first meets its targets."""
    by_figure: dict[str, Result] = {}
    for index, name in enumerate(names):
        ours, theirs = (crowd(1.0, 9.0, replaced=0, back=back) for back in (2.0 + index, 2.0))
        by_figure |= {result.figure: result for result in results(name, {True: [ours], False: [theirs]})}
    return by_figure


def test_the_page_has_a_line_for_each_row_in_their_order() -> None:
    """The order is that of the rows, not of the results; a missed target is marked."""
    page = pages(measured("DaemonSet", "Deployment"))["recovery.md"]
    lines = [line for line in page.splitlines() if line.startswith("| D")]
    assert [
        "| Deployment | 3.00 s | 2.00 s | 1.50 | 3.00 s | 2.00 s | 1.50 | **missed** | 50 ms | 50 ms |",
        "| DaemonSet | 2.00 s | 2.00 s | 1.00 | 2.00 s | 2.00 s | 1.00 | met | 50 ms | 50 ms |",
    ] == lines


def test_the_strategies_are_compared_once_both_are_measured() -> None:
    """The comparison is shown once both strategies are measured."""
    assert "What a strategy costs" not in pages(measured(STRATEGIES[0]))["recovery.md"]
    assert "| until all is settled | 9.00 s | 9.00 s |" in pages(measured(*STRATEGIES))["recovery.md"]


def test_the_plot_leaves_out_what_would_dwarf_the_rest() -> None:
    """Rows of many pods have a table of their own."""
    plot = pages(measured("Deployment", *STRATEGIES))["recovery.svg"]
    assert ["Deployment"] == [name for name in ("Deployment", *STRATEGIES) if f">{name}<" in plot]


def test_without_a_measurement_there_is_no_page() -> None:
    """Without results there is no page."""
    assert {} == pages({})
