"""
How the demo looks: one line per occurrence, and tables, no wider than the terminal.

Nothing here performs I/O, except that `Timeline` prints. The watcher may report entries slightly out of order; the
timeline prints them in order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from textwrap import wrap
from typing import TextIO

SETTLE_SECONDS = 0.4
"""How long an entry is held back, in case an earlier one arrives: a decision is known later than its effect."""


class Style(IntEnum):
    """How a terminal shows text; the values are its own numbers (ECMA-48, SGR)."""

    BOLD = 1
    DIM = 2
    RED = 31
    GREEN = 32
    YELLOW = 33
    CYAN = 36


class EntryKind(IntEnum):
    """What can happen to a workload. Entries of the same time are printed in this order."""

    FAILS = 1
    DECIDED = 2
    PATCHED = 3
    LEFT = 4
    RUNS = 5


_MARKS = {
    EntryKind.FAILS: ("✗", Style.RED),
    EntryKind.DECIDED: ("?", Style.YELLOW),
    EntryKind.PATCHED: ("~", Style.CYAN),
    EntryKind.LEFT: ("·", Style.DIM),
    EntryKind.RUNS: ("✓", Style.GREEN),
}


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the terminal can show: whether it has colours, and how many characters fit on a line."""

    colour: bool
    width: int

    def styled(self, text: str, style: Style) -> str:
        """Return `text` in `style`, if the terminal has colours."""
        return f"\x1b[{style:d}m{text}\x1b[0m" if self.colour else text

    def wrapped(self, text: str, indent: str = "") -> list[str]:
        """Return `text` as lines that fit; those after the first begin with `indent`."""
        return wrap(text, self.width, subsequent_indent=indent, break_on_hyphens=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened to `subject` at the time `at`, in seconds."""

    at: float
    kind: EntryKind
    subject: str
    detail: str

    def line(self, origin: float, terminal: Terminal) -> str:
        """
        Return the entry as a line, with the time since `origin`.

        >>> Entry(12.34, EntryKind.RUNS, "Pod/db-0", "ghcr.io/acme/db:1").line(10.0, Terminal(colour=False, width=80))
        '   +2.3 s  ✓ runs    Pod/db-0                 ghcr.io/acme/db:1'
        """
        mark, style = _MARKS[self.kind]
        head = f"{self.at - origin:+7.1f} s  "
        body = f"{mark} {self.kind.name.lower():<7} {self.subject:<24} {self.detail}"
        return terminal.styled(head, Style.DIM) + terminal.styled(clip(body, terminal.width - len(head)), style)


@dataclass(slots=True)
class Timeline:
    """Prints what happens."""

    out: TextIO
    terminal: Terminal
    origin: float | None = None
    """When the first pod failed, which is the first entry of all."""
    _pending: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Add an entry; a later `flush` prints it."""
        if self.origin is None and entry.kind is EntryKind.FAILS:
            self.origin = entry.at
        self._pending.append(entry)

    def flush(self, until: float = float("inf")) -> None:
        """Print the entries from before the time `until`, in order."""
        origin = self.origin or 0.0
        due = [entry for entry in self._pending if entry.at < until]
        for entry in sorted(due, key=lambda entry: (round(entry.at - origin, 1), entry.kind)):
            print(entry.line(origin, self.terminal), file=self.out, flush=True)
        self._pending = [entry for entry in self._pending if entry.at >= until]

    def print_heading(self, text: str) -> None:
        """Print a heading, after all entries that were added before it."""
        self.flush()
        print(file=self.out)
        for line in self.terminal.wrapped(text):
            print(self.terminal.styled(line, Style.BOLD), file=self.out, flush=True)


def clip(text: str, width: int) -> str:
    """
    Return `text` in at most `width` characters.

    >>> clip("Deployment", 7)
    'Deploy…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def changed_parts(before: str, after: str) -> tuple[str, str]:
    """
    Return the parts of two image references that differ: both without what they have in common at the end.

    >>> changed_parts("ghcr.io/acme/web:1.0", "registry.example.com/mirror/acme/web:1.0")
    ('ghcr.io', 'registry.example.com/mirror')
    >>> changed_parts("ghcr.io/acme/web:1.0", "ghcr.io/acme/web:2.0")
    ('ghcr.io/acme/web:1.0', 'ghcr.io/acme/web:2.0')
    """
    old, new = before.split("/"), after.split("/")
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        old.pop()
        new.pop()
    return "/".join(old), "/".join(new)


def table(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """
    Yield the lines of a table; the first row is its head. If it is too wide, the cells of the widest column are cut.

    >>> for line in table([("NAME", "AGE"), ("shop", "5s"), ("flannel", "7s")], width=80):
    ...     print(line)
      NAME     AGE
      shop     5s
      flannel  7s
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while (excess := sum(widths) + 2 * len(widths) - width) > 0 and max(widths) > 1:
        widest = widths.index(max(widths))
        second = max([*widths[:widest], *widths[widest + 1 :]], default=1)
        widths[widest] -= max(1, min(excess, widths[widest] - second))
    for row in rows:
        cells = (clip(cell, size).ljust(size) for cell, size in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
