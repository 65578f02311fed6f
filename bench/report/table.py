"""The table of results, for a terminal and for a document."""

from collections.abc import Iterable, Iterator, Sequence

from bench.report.result import Result

HEADER = ("figure", "value", "baseline", "ratio", "target", "")

_MET = {True: "met", False: "MISSED", None: ""}
_LARGE = 100
_LEFT = 1
"""How many columns, from the first on, are text. The others are numbers."""


def number(value: float | None) -> str:
    """
    Return a number as it is read.

    >>> number(2.0)
    '2.00'
    >>> number(1234.5)
    '1234'
    >>> number(None)
    '-'
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= _LARGE else f"{value:.2f}"


def cells(result: Result) -> tuple[str, ...]:
    """Return the cells of a result's row."""
    return (
        result.figure,
        f"{number(result.value)} {result.unit}",
        "-" if result.baseline is None else f"{number(result.baseline)} {result.unit}",
        number(result.ratio),
        target(result),
        _MET[result.is_met],
    )


def target(result: Result) -> str:
    """Return the target of a result: that of its ratio, or that of its value."""
    if result.target is None:
        return "-"
    sign = "≤" if result.better == "lower" else "≥"
    return f"{sign} {number(result.target)}" + (f" {result.unit}" if result.ratio is None else "")


def plain(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of the table for a terminal."""
    rows = [HEADER, *map(cells, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(_placed(row, widths)).rstrip()


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown. The first column is text, the others are numbers."""
    rule = ["---"] * _LEFT + ["--:"] * (len(header) - _LEFT)
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def _placed(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for index, (text, width) in enumerate(zip(row, widths, strict=True)):
        yield text.ljust(width) if index < _LEFT or index == len(row) - 1 else text.rjust(width)
