"""What trials of a row come to, as results and as a page."""

import pytest

from bench.recovery import Trials, results
from bench.recovery_page import STRATEGIES, pages
from bench.result import Result
from bench.trial import Trial

TEN = [float(seconds) for seconds in range(1, 11)]


def trials(*seconds: float, factor: float) -> Trials:
    """Return trials that take Saffire that many seconds, and a hand `factor` times as many."""
    return {True: [Trial(back=each) for each in seconds], False: [Trial(back=each * factor) for each in seconds]}


def test_a_row_has_two_percentiles_each_beside_its_own_yardstick() -> None:
    """The tail is compared with the hand's tail, and may be further from it than what is typical."""
    found = {each.figure: each for each in results("Pod", trials(*TEN, factor=0.5))}
    assert ["recovery: Pod, p50", "recovery: Pod, p95"] == list(found)
    assert [(5.5, 2.75, 1.2), (pytest.approx(9.55), pytest.approx(4.775), 1.5)] == [
        (each.value, each.yardstick, each.target) for each in found.values()
    ]


def test_a_crowd_has_its_costs_too() -> None:
    """The median of each, beside what the same patches cost when they are sent by hand."""
    one = Trial(back=3.0, freed=2.0, settled=4.0, replaced=50, restarted=1)
    other = Trial(back=3.0, freed=1.0, settled=3.0, replaced=48, restarted=0)
    found = {
        each.figure: (each.value, each.yardstick, each.unit) for each in results("x", {True: [one], False: [other]})
    }
    expected = {
        "recovery: x, until the five are free": (2.0, 1.0, "s"),
        "recovery: x, until it is settled": (4.0, 3.0, "s"),
        "recovery: x, replaced": (50, 48, "pods"),
        "recovery: x, containers restarted": (1, 0, "times"),
    }
    assert expected.items() <= found.items()


def test_what_never_came_back_is_missed() -> None:
    """A trial that ran into its deadline counts with all of it, and the row misses its target."""
    p50, _ = results("Pod", {True: [Trial(back=60.0)], False: [Trial(back=2.0)]})
    assert (60.0, False) == (p50.value, p50.is_met)


def measured(*names: str) -> dict[str, Result]:
    """Return results of rows, of which the first is well and the others are not."""
    found: dict[str, Result] = {}
    for index, name in enumerate(names):
        one, other = Trial(back=2.0 + index, settled=9.0, freed=1.0), Trial(back=2.0, settled=9.0, freed=1.0)
        found |= {each.figure: each for each in results(name, {True: [one], False: [other]})}
    return found


def test_the_page_has_a_line_for_each_row_in_their_order() -> None:
    """Whatever order they were measured in; a missed target is not hidden."""
    page = pages(measured("DaemonSet", "Deployment"))["recovery.md"]
    lines = [line for line in page.splitlines() if line.startswith("| D")]
    assert [
        "| Deployment | 3.00 s | 2.00 s | 1.50 | 3.00 s | 2.00 s | 1.50 | **missed** |",
        "| DaemonSet | 2.00 s | 2.00 s | 1.00 | 2.00 s | 2.00 s | 1.00 | met |",
    ] == lines


def test_the_strategies_are_compared_once_both_are_measured() -> None:
    """Side by side; until then, there is nothing to compare."""
    assert "What a strategy costs" not in pages(measured(STRATEGIES[0]))["recovery.md"]
    assert "| until it is settled | 9.00 s | 9.00 s |" in pages(measured(*STRATEGIES))["recovery.md"]


def test_without_a_measurement_there_is_no_page() -> None:
    """A page of nothing would only hide that nothing was measured."""
    assert {} == pages({})
