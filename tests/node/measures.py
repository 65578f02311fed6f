"""What the tests of the node tier measure besides: seconds, shown after the last test."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Measures:
    """Seconds by what took them."""

    taken: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        """Keep a measure."""
        self.taken[what] = seconds

    def lines(self) -> Iterator[str]:
        """Yield a line for each measure."""
        width = max(map(len, self.taken), default=0)
        return (f"{what:{width}}  {seconds:6.2f} s" for what, seconds in self.taken.items())
