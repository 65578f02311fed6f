"""What the tests of the node tier measure besides: seconds since the first Event of a failed pull."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Measurements:
    """By what was measured: what happened, and after how many seconds."""

    taken: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, subject: str, **seconds: float) -> None:
        """Keep the seconds of one measurement."""
        self.taken[subject] = seconds

    def lines(self) -> Iterator[str]:
        """Yield a line for each measurement."""
        width = max(map(len, self.taken), default=0)
        for subject, seconds in self.taken.items():
            yield f"{subject:{width}}  {'  '.join(f'{happened} {after:5.2f} s' for happened, after in seconds.items())}"
