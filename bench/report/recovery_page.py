"""The pages of the recovery figure: a table of all rows, their plot, and the two strategies compared."""

from collections.abc import Mapping, Sequence

from bench.figures.recovery import COSTS, LOST, MADE, PATCHED, READY, TARGETS, figure, settled
from bench.report.plot import Bar, Plot
from bench.report.result import Result
from bench.report.table import markdown, number
from testkit.node.recovery_rows import ROWS

STRATEGIES = ("strategy: Pods, 5 of 55", "strategy: Controller, 5 of 55")

_MEANWHILE = (READY, MADE, LOST, PATCHED)
"""The columns of the second table."""

_SHORT = 0.1
_NOTE = "<!-- Written by `python -m bench`: edit bench/report/recovery_page.py instead. -->\n"


def pages(results: Mapping[str, Result]) -> Mapping[str, str]:
    """Return the text of each file, by its name."""
    rows = [name for name in ROWS if figure(name, settled(50)) in results]
    if not rows:
        return {}
    until_settled = markdown(
        ("until it has settled", "p50", "by hand", "ratio", "p95", "by hand", "ratio", "target"),
        [_until_settled(name, results) for name in rows],
    )
    meanwhile = markdown(
        ("meanwhile", *(cell for what in _MEANWHILE for cell in (what, "by hand")), "target"),
        [_meanwhile(name, results) for name in rows],
    )
    text = f"{_NOTE}# Recovery, row by row\n\n![](recovery.svg)\n\n{until_settled}\n{meanwhile}{_strategies(results)}"
    # Rows of many pods take tens of seconds; on their scale all other bars would be a few millimetres long.
    plot = _plot([name for name in rows if name not in STRATEGIES], results)
    return {"recovery.md": text, "recovery.svg": plot.svg()}


def _until_settled(name: str, results: Mapping[str, Result]) -> tuple[str, ...]:
    both = [results[figure(name, settled(percent))] for percent in TARGETS]
    cells = [(_cell(result.value, "s"), _cell(result.baseline, "s"), number(result.ratio)) for result in both]
    return (name, *(cell for of_result in cells for cell in of_result), _verdict(both))


def _meanwhile(name: str, results: Mapping[str, Result]) -> tuple[str, ...]:
    measured = [results[figure(name, what)] for what in _MEANWHILE]
    cells = [_cell(value, result.unit) for result in measured for value in (result.value, result.baseline)]
    return (name, *cells, _verdict([results[figure(name, MADE)]]))


def _verdict(results: Sequence[Result]) -> str:
    return "met" if all(result.is_met for result in results) else "**missed**"


def _strategies(results: Mapping[str, Result]) -> str:
    """
    Return the section that compares the strategies, with fifty healthy and five stuck pods.

    It is empty if they were not measured.
    """
    whats = (settled(50), *(what for _, what, _ in COSTS.values()))
    if not all(figure(name, what) in results for name in STRATEGIES for what in whats):
        return ""
    sides = {what: [results[figure(name, what)] for name in STRATEGIES] for what in whats}
    rows = [(what, *(_cell(side.value, side.unit) for side in both)) for what, both in sides.items()]
    header = ("fifty healthy, five stuck, p50", "`strategy: Pods`", "`strategy: Controller`")
    return f"\n## What a strategy costs\n\n{markdown(header, rows)}"


def _plot(rows: list[str], results: Mapping[str, Result]) -> Plot:
    def bars(name: str) -> list[Bar]:
        typical, tail = (results[figure(name, settled(percent))] for percent in TARGETS)
        baseline = Bar(typical=typical.baseline or 0, tail=tail.baseline or 0)
        return [Bar(typical=typical.value, tail=tail.value), baseline]

    return Plot(
        title="From the first failed pull until the workload has settled: p50, and on to p95",
        unit="s",
        series=("Saffire", "baseline: the best patches, by hand"),
        rows=[(name, bars(name)) for name in rows],
    )


def _cell(value: float | None, unit: str) -> str:
    """Return a number with its unit; pods are whole, and less than a tenth of a second is in milliseconds."""
    if unit == "pods":
        return f"{value or 0:.0f} {unit}"
    if unit == "s" and value is not None and value < _SHORT:
        return f"{value * 1000:.0f} ms"
    return f"{number(value)} {unit}"
