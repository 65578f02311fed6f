"""What a figure yields: one measured number, and what it has to be compared with."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    One number.

    Args:
        figure: its name, unique among all: the name of the figure in the catalogue, a colon, and what exactly.
        unit: of value and baseline.
        value: what was measured.
        baseline: the same by other means in the same run; `None` where there is none.
        better: which way is better.
        target: what the ratio has to reach, or the value where there is no baseline; `None` where nothing has to be.

    """

    figure: str
    unit: str
    value: float
    baseline: float | None = None
    better: Better = "lower"
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """Value by baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; `None` where there is none."""
        reached = self.value if self.ratio is None else self.ratio
        if self.target is None:
            return None
        return reached <= self.target if self.better == "lower" else reached >= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    How to measure.

    Args:
        runs: how often, where a figure is made of many.
        match: measure only what has this in its name, where a figure has parts of which that can be said.
        say: told about each step, for a person who waits.

    """

    runs: int
    match: str = ""
    say: Callable[[str], None] = lambda _: None


Measure = Callable[[Options], AsyncIterator[Result]]
Pages = Callable[[Mapping[str, Result]], Mapping[str, str]]


def no_pages(_: Mapping[str, Result]) -> Mapping[str, str]:
    """Return no page: the table says it all."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    What the catalogue has.

    Args:
        measure: yields results, each as soon as it is known.
        runs: how often is measured what is measured many times, unless it is said.
        pages: what docs/benchmarks/ has besides: the text of each file by its name, from the latest results by theirs.

    """

    measure: Measure
    runs: int = 10
    pages: Pages = no_pages
