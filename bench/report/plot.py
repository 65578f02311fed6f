"""
Plots as SVG for a page of this repository: no script, no external resources, the same bytes for the same numbers.

There is one form of plot: a row for each thing measured, with a bar for each series, and a thin line from the bar to
its tail.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
LEFT = 350
RIGHT = 60
BAR = 8
ROW = 26
TOP = 64
COLOURS = ("#c2410c", "#64748b")
TICKS = 8
"""The axis has about this many marks."""

_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2937}.grid{stroke:#94a3b8;stroke-opacity:.35}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A typical value, and the end of its tail."""

    typical: float
    tail: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """
    A plot of bars.

    Args:
        title: the text above the plot.
        unit: the unit of the axis.
        series: the name of each bar of a row, at most two.
        rows: the bars of each row, in the order of `series`, by the row's name.

    """

    title: str
    unit: str
    series: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Bar]]]

    def svg(self) -> str:
        """Return the text of the SVG file."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        height = TOP + ROW * len(self.rows) + 34
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
            f' aria-label="{escape(self.title)}">'
        )
        yield f"<style>{_STYLE}</style>"
        yield _text(LEFT, 20, self.title, "start", "font-weight:600")
        for index, name in enumerate(self.series):
            x = LEFT + 190 * index
            yield f'<rect x="{x}" y="32" width="14" height="{BAR}" fill="{COLOURS[index]}"/>'
            yield _text(x + 20, 40, name, "start")
        yield from self._axis(height - 34)
        for index, (name, bars) in enumerate(self.rows):
            yield from self._row(TOP + ROW * index, name, bars)
        yield "</svg>"

    @property
    def _step(self) -> float:
        most = max((bar.tail for _, bars in self.rows for bar in bars), default=1.0)
        return step(most / TICKS)

    @property
    def _end(self) -> float:
        most = max((bar.tail for _, bars in self.rows for bar in bars), default=1.0)
        return self._step * -(-most // self._step)

    def _x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self._end

    def _axis(self, bottom: int) -> Iterator[str]:
        for index in range(round(self._end / self._step) + 1):
            value = index * self._step
            x = f"{self._x(value):.1f}"
            yield f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{bottom}"/>'
            yield _text(self._x(value), bottom + 18, f"{value:g} {self.unit}", "middle")

    def _row(self, top: int, name: str, bars: Sequence[Bar]) -> Iterator[str]:
        yield _text(LEFT - 10, top + BAR + 4, name, "end")
        for index, bar in enumerate(bars):
            y, colour = top + (BAR + 1) * index, COLOURS[index]
            width = self._x(bar.typical) - LEFT
            yield f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
            yield (
                f'<line x1="{self._x(bar.typical):.1f}" x2="{self._x(bar.tail):.1f}" y1="{y + BAR / 2}"'
                f' y2="{y + BAR / 2}" stroke="{colour}" stroke-width="2"/>'
            )


def step(least: float) -> float:
    """
    Return the next round number, which people count in.

    >>> [step(0.3), step(1.2), step(2.0), step(30)]
    [0.5, 2.0, 2.0, 50.0]
    """
    power = 10.0**-6
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least * (1 - 1e-9):
                return round(factor * power, 6)
        power *= 10


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    own = f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{own}>{escape(text)}</text>'
