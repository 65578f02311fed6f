"""
How the demo looks: one line per thing that happens, and tables, no wider than 100 characters.

Nothing here performs I/O but `Timeline`, which prints, in order, what its observers report a little out of order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TextIO

WIDTH = 100

SETTLE_SECONDS = 0.4
"""How long an entry is held back for earlier ones: what was decided is known later than what came of it."""


class Style(IntEnum):
    """What a terminal makes of text, in its own numbers (ECMA-48, SGR)."""

    BOLD = 1
    DIM = 2
    RED = 31
    GREEN = 32
    YELLOW = 33
    CYAN = 36


class What(IntEnum):
    """What can happen to a workload; of one moment, in this order."""

    FAILS = 1
    DECIDED = 2
    PATCHED = 3
    LEFT = 4
    RUNS = 5


_LOOKS = {
    What.FAILS: ("✗", Style.RED),
    What.DECIDED: ("?", Style.YELLOW),
    What.PATCHED: ("~", Style.CYAN),
    What.LEFT: ("·", Style.DIM),
    What.RUNS: ("✓", Style.GREEN),
}


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours text, or leaves it alone."""

    colour: bool

    def __call__(self, text: str, style: Style) -> str:
        """Return `text` in `style`."""
        return f"\x1b[{style:d}m{text}\x1b[0m" if self.colour else text


@dataclass(frozen=True, slots=True)
class Entry:
    """At the time `at`, in seconds, `what` happened to `whom`; `detail` says more."""

    at: float
    what: What
    whom: str
    detail: str

    def line(self, origin: float, paint: Paint) -> str:
        """
        Return the entry as a line; its time is that since `origin`.

        >>> Entry(12.34, What.RUNS, "Pod/db-0", "ghcr.io/acme/db:1").line(10.0, Paint(colour=False))
        '   +2.3 s  ✓ runs    Pod/db-0                 ghcr.io/acme/db:1'
        """
        mark, style = _LOOKS[self.what]
        head = f"{self.at - origin:+7.1f} s  "
        body = f"{mark} {self.what.name.lower():<7} {self.whom:<24} {self.detail}"
        return paint(head, Style.DIM) + paint(clip(body, WIDTH - len(head)), style)


@dataclass(slots=True)
class Timeline:
    """Prints what happens."""

    out: TextIO
    paint: Paint
    origin: float | None = None
    """When the first pod failed, which is before anything else that there is to tell."""
    _held: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Take an entry, to be printed by a later `flush`."""
        if self.origin is None and entry.what is What.FAILS:
            self.origin = entry.at
        self._held.append(entry)

    def flush(self, until: float = float("inf")) -> None:
        """Print, in order, what happened before the time `until`."""
        origin = self.origin or 0.0
        due = (one for one in self._held if one.at < until)
        for entry in sorted(due, key=lambda one: (round(one.at - origin, 1), one.what)):
            print(entry.line(origin, self.paint), file=self.out, flush=True)
        self._held = [one for one in self._held if one.at >= until]

    def say(self, text: str) -> None:
        """Print a heading, after everything that was reported before it."""
        self.flush()
        print(f"\n{self.paint(clip(text), Style.BOLD)}", file=self.out, flush=True)


def clip(text: str, width: int = WIDTH) -> str:
    """
    Return `text` in at most `width` characters.

    >>> clip("Deployment", 7)
    'Deploy…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def moved(before: str, after: str) -> str:
    """
    Say which part of an image reference changed.

    >>> moved("ghcr.io/acme/web:1.0", "registry.example.com/mirror/acme/web:1.0")
    'ghcr.io → registry.example.com/mirror'
    >>> moved("ghcr.io/acme/web:1.0", "ghcr.io/acme/web:2.0")
    'ghcr.io/acme/web:1.0 → ghcr.io/acme/web:2.0'
    """
    old, new = before.split("/"), after.split("/")
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        old.pop()
        new.pop()
    return f"{'/'.join(old)} → {'/'.join(new)}"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """
    Yield the lines of a table; the first row is its head.

    >>> for line in table([("NAME", "AGE"), ("shop", "5s"), ("flannel", "7s")]):
    ...     print(line)
      NAME     AGE
      shop     5s
      flannel  7s
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield clip(f"  {'  '.join(cells)}".rstrip())
