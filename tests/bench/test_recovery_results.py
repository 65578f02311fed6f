"""The results and the page that trials of a row lead to."""

import pytest

from bench.figures.recovery import Trials, results
from bench.harness.recovery_trial import Cost, Trial
from bench.report.recovery_page import STRATEGIES, pages
from bench.report.result import Result
from testkit.node.namespace_fixture import missing

TEN = [float(seconds) for seconds in range(1, 11)]
FIGURES = [
    "settled, p50",
    "settled, p95",
    "most pods made",
    "first ready, p50",
    "ready pods lost, p50",
    "first patch, p50",
]


def trial(settled: float, *, made: int = 2, patched: float = 0.05, crowd: Cost | None = None) -> Trial:
    """Return a trial whose pods were ready half a second before it settled."""
    return Trial(ready=settled - 0.5, settled=settled, patched=patched, made=made, crowd=crowd)


def trials(*seconds: float, factor: float) -> Trials:
    """Return trials that take Saffire these seconds, and the baseline `factor` times as many."""
    return {
        True: [trial(settled) for settled in seconds],
        False: [trial(settled * factor, patched=0.01) for settled in seconds],
    }


def crowd(freed: float, settled: float = 3.0, *, replaced: int) -> Trial:
    """Return a trial of a row of many pods."""
    return trial(settled, crowd=Cost(freed=freed, fewest=40, replaced=replaced, restarted=1))


def by_name(name: str, of: Trials) -> dict[str, Result]:
    """Return the results of a row, by what was measured."""
    return {result.figure.removeprefix(f"recovery: {name}, "): result for result in results(name, of)}


def test_a_row_has_two_percentiles_each_beside_its_own_baseline() -> None:
    """The tail is compared with the baseline's tail, and may be further from it than the typical value."""
    measured = by_name("Pod", trials(*TEN, factor=0.5))
    assert FIGURES == list(measured)
    assert [(5.5, 2.75, 1.2), (pytest.approx(9.55), pytest.approx(4.775), 1.5)] == [
        (measured[name].value, measured[name].baseline, measured[name].target) for name in FIGURES[:2]
    ]
    assert [(5.0, 2.25, None), (0.0, 0.0, None), (0.05, 0.01, None)] == [
        (measured[name].value, measured[name].baseline, measured[name].target) for name in FIGURES[3:]
    ]


@pytest.mark.parametrize(("expected", "ours"), [(True, [2, 2]), (True, [2, 3]), (False, [2, 4])])
def test_a_row_that_makes_more_pods_than_the_script_misses_its_target(ours: list[int], *, expected: bool) -> None:
    """The trial with the most pods counts: a pod that starts twice in one of five trials is a fault."""
    measured = by_name("x", {True: [trial(1.0, made=made) for made in ours], False: [trial(1.0), trial(1.0, made=3)]})
    assert (max(ours), 3, expected) == (
        measured["most pods made"].value,
        measured["most pods made"].baseline,
        measured["most pods made"].is_met,
    )


def test_a_crowd_has_its_costs_too() -> None:
    """The median of each cost, beside the median of the baseline."""
    measured = by_name("x", {True: [crowd(2.0, replaced=50)], False: [crowd(1.0, replaced=48)]})
    expected = {
        "until the five are free": (2.0, 1.0, "s"),
        "fewest ready": (40, 40, "pods"),
        "healthy ones replaced": (50, 48, "pods"),
        "containers restarted": (1, 1, "times"),
    }
    costs = list(measured.items())[len(FIGURES) :]
    assert expected == {name: (result.value, result.baseline, result.unit) for name, result in costs}


def test_a_crowd_that_never_settled_has_no_costs() -> None:
    """Without recovery the costs are unknown; the row itself shows the failure."""
    assert FIGURES == list(by_name("x", {True: [trial(60.0)], False: [crowd(1.0, replaced=48)]}))


def test_what_never_settled_is_missed() -> None:
    """A trial that did not settle counts with its whole deadline, and the row misses its target."""
    p50, *_ = results("Pod", {True: [trial(60.0)], False: [trial(2.0)]})
    assert (60.0, False) == (p50.value, p50.is_met)


@pytest.mark.parametrize(
    ("expected", "since", "until"),
    [
        pytest.param(0.0, 1.0, 2.5, id="all-ready"),
        pytest.param(3.0, 1.0, 4.5, id="one-and-then-two-are-missing"),
        pytest.param(0.5, 3.0, 3.5, id="one-is-missing-already"),
        pytest.param(11.0, 3.5, 10.0, id="until-all-are-ready-again"),
        pytest.param(3.0, 0.0, 2.0, id="nothing-is-known-at-first"),
    ],
)
def test_pods_that_are_not_ready_are_counted_for_as_long_as_that_lasts(
    expected: float, since: float, until: float
) -> None:
    """More ready pods than wanted, as in a rollout, do not make up for it."""
    counts = [(1.0, 3), (1.5, 4), (2.0, 3), (2.5, 2), (3.5, 1), (9.0, 3)]
    assert expected == pytest.approx(missing(counts, 3, since, until))


def measured(*names: str) -> dict[str, Result]:
    """Return results of rows, of which only the first meets its targets."""
    by_figure: dict[str, Result] = {}
    for index, name in enumerate(names):
        ours, by_hand = (crowd(1.0, settled, replaced=0) for settled in (2.0 + index, 2.0))
        by_figure |= {result.figure: result for result in results(name, {True: [ours], False: [by_hand]})}
    return by_figure


def test_the_page_has_a_line_for_each_row_in_their_order() -> None:
    """The order is that of the rows, not of the results; a missed target is marked."""
    page = pages(measured("DaemonSet", "Deployment"))["recovery.md"]
    lines = [line for line in page.splitlines() if line.startswith("| D")]
    assert [
        "| Deployment | 3.00 s | 2.00 s | 1.50 | 3.00 s | 2.00 s | 1.50 | **missed** |",
        "| DaemonSet | 2.00 s | 2.00 s | 1.00 | 2.00 s | 2.00 s | 1.00 | met |",
        "| Deployment | 2.50 s | 1.50 s | 2 pods | 2 pods | 0.00 pod-s | 0.00 pod-s | 50 ms | 50 ms | met |",
        "| DaemonSet | 1.50 s | 1.50 s | 2 pods | 2 pods | 0.00 pod-s | 0.00 pod-s | 50 ms | 50 ms | met |",
    ] == lines


def test_the_strategies_are_compared_once_both_are_measured() -> None:
    """The comparison is shown once both strategies are measured."""
    assert "What a strategy costs" not in pages(measured(STRATEGIES[0]))["recovery.md"]
    assert "| settled, p50 | 2.00 s | 3.00 s |" in pages(measured(*STRATEGIES))["recovery.md"]


def test_the_plot_leaves_out_what_would_dwarf_the_rest() -> None:
    """Rows of many pods have a table of their own."""
    plot = pages(measured("Deployment", *STRATEGIES))["recovery.svg"]
    assert ["Deployment"] == [name for name in ("Deployment", *STRATEGIES) if f">{name}<" in plot]


def test_without_a_measurement_there_is_no_page() -> None:
    """Without results there is no page."""
    assert {} == pages({})
