"""What a figure yields: a measured number, and what it is compared with."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    One measured number.

    Args:
        figure: its unique name: the name of the figure in the catalogue, a colon, and what was measured.
        unit: the unit of value and baseline.
        value: what was measured.
        baseline: the same, measured by other means in the same run; `None` if there is none.
        better: which way is better.
        target: what the ratio has to reach, or the value if there is no baseline; `None` if there is no target.

    """

    figure: str
    unit: str
    value: float
    baseline: float | None = None
    better: Better = "lower"
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value divided by the baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; `None` if there is none."""
        reached = self.value if self.ratio is None else self.ratio
        if self.target is None:
            return None
        return reached <= self.target if self.better == "lower" else reached >= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    How to measure.

    Args:
        runs: how often a figure repeats its measurement.
        match: measure only the parts of a figure that have this in their name.
        say: reports each step to the person who waits.

    """

    runs: int
    match: str = ""
    say: Callable[[str], None] = lambda _: None


Measure = Callable[[Options], AsyncIterator[Result]]
Pages = Callable[[Mapping[str, Result]], Mapping[str, str]]


def no_pages(_: Mapping[str, Result]) -> Mapping[str, str]:
    """Return no page: the table is enough."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    An entry of the catalogue.

    Args:
        measure: yields each result as soon as it is known.
        runs: how often the measurement is repeated by default.
        pages: returns further files for docs/benchmarks/, text by name, from the latest results by name.

    """

    measure: Measure
    runs: int = 10
    pages: Pages = no_pages
