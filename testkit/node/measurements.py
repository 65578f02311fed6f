"""What the tests of the node tier measure besides: seconds since the first Event that told of a failed pull."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Measurements:
    """By what it happened to: what happened, and after how many seconds."""

    taken: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, whom: str, **seconds: float) -> None:
        """Keep a measure."""
        self.taken[whom] = seconds

    def lines(self) -> Iterator[str]:
        """Yield a line for each that something happened to."""
        width = max(map(len, self.taken), default=0)
        for whom, seconds in self.taken.items():
            yield f"{whom:{width}}  {'  '.join(f'{what} {after:5.2f} s' for what, after in seconds.items())}"
