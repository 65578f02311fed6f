"""The pages of the recovery figure: a table of all rows, their plot, and the two strategies compared."""

from collections.abc import Mapping

from bench.figures.recovery import COSTS, PATCHED, figure
from bench.report.plot import Bar, Plot
from bench.report.result import Result
from bench.report.table import markdown, number
from testkit.node.recovery_rows import ROWS

STRATEGIES = ("strategy: Pods, 5 of 55", "strategy: Controller, 5 of 55")

_NOTE = "<!-- Written by `python -m bench`: edit bench/report/recovery_page.py instead. -->\n"


def pages(results: Mapping[str, Result]) -> Mapping[str, str]:
    """Return the text of each file, by its name."""
    rows = [name for name in ROWS if figure(name, "p50") in results]
    if not rows:
        return {}
    table = markdown(
        ("row", "p50", "baseline", "ratio", "p95", "baseline", "ratio", "target", "patch", "baseline"),
        [_row(name, results) for name in rows],
    )
    text = f"{_NOTE}# Recovery, row by row\n\n![](recovery.svg)\n\n{table}{_strategies(results)}"
    # Rows of many pods take tens of seconds; on their scale all other bars would be a few millimetres long.
    plot = _plot([name for name in rows if name not in STRATEGIES], results)
    return {"recovery.md": text, "recovery.svg": plot.svg()}


def _row(name: str, results: Mapping[str, Result]) -> tuple[str, ...]:
    both = [results[figure(name, percentile)] for percentile in ("p50", "p95")]
    numbers = [
        cell for result in both for cell in (_seconds(result.value), _seconds(result.baseline), number(result.ratio))
    ]
    patch = results[figure(name, PATCHED)]
    target = "met" if all(result.is_met for result in both) else "**missed**"
    return (name, *numbers, target, _milliseconds(patch.value), _milliseconds(patch.baseline))


def _strategies(results: Mapping[str, Result]) -> str:
    """
    Return the section that compares the strategies, with fifty healthy and five stuck pods.

    It is empty if they were not measured.
    """
    whats = [what for _, what, _ in COSTS.values()]
    if not all(figure(name, what) in results for name in STRATEGIES for what in whats):
        return ""
    sides = [[results[figure(name, what)] for name in STRATEGIES] for what in whats]
    rows = [
        (what, *(f"{number(side.value)} {side.unit}" for side in both)) for what, both in zip(whats, sides, strict=True)
    ]
    header = ("fifty healthy, five stuck, p50", "`strategy: Pods`", "`strategy: Controller`")
    return f"\n## What a strategy costs\n\n{markdown(header, rows)}"


def _plot(rows: list[str], results: Mapping[str, Result]) -> Plot:
    def bars(name: str) -> list[Bar]:
        typical, tail = (results[figure(name, percentile)] for percentile in ("p50", "p95"))
        baseline = Bar(typical=typical.baseline or 0, tail=tail.baseline or 0)
        return [Bar(typical=typical.value, tail=tail.value), baseline]

    return Plot(
        title="From the first failed pull until the workload is back: p50, and on to p95",
        unit="s",
        series=("Saffire", "baseline: the same patches, by hand"),
        rows=[(name, bars(name)) for name in rows],
    )


def _seconds(value: float | None) -> str:
    return f"{number(value)} s"


def _milliseconds(value: float | None) -> str:
    return f"{(value or 0) * 1000:.0f} ms"
