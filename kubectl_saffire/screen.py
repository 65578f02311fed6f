"""
The screen: everything that the plugin writes to the terminal.

Names and messages come from the cluster, so any user of the cluster may have written them. Every text is escaped here:
what reaches the terminal is printable ASCII, the plugin's own colours and line ends. Lines are no wider than the
terminal, or than 80 columns where there is none.
"""

import shutil
import time
from collections.abc import Iterable, Sequence
from enum import IntEnum
from textwrap import wrap
from typing import TextIO

from saffire.kube.manifest import printable

FALLBACK_SIZE = (80, 24)
"""Columns and lines where there is no terminal."""
_MIN_WIDTH = 40
_MIN_COLUMN = 8
_GAP = "  "
# A command that ends sooner shows no progress.
_PROGRESS_AFTER_SECONDS = 1.0
_CLEAR_LINE = "\r\x1b[K"


class Style(IntEnum):
    """How a terminal shows a line; the values are its own numbers (ECMA-48, SGR)."""

    PLAIN = 0
    BOLD = 1
    DIM = 2
    RED = 31
    GREEN = 32
    YELLOW = 33


class ToType(str):
    """A command that a user may copy, so that it stays on one line."""

    __slots__ = ()


class Screen:
    """
    Writes results to `out`, and progress, warnings and errors to `err`.

    Args:
        out: gets the result of the command.
        err: gets everything else.
        width: the most characters in a line.
        colour: whether `out` shows colours.

    """

    def __init__(self, out: TextIO, err: TextIO, *, width: int = FALLBACK_SIZE[0], colour: bool = False) -> None:
        self.width = max(_MIN_WIDTH, width)
        self.colour = colour
        self._out = out
        self._err = err
        self._began = time.monotonic()
        self._has_progress = False

    @classmethod
    def of_terminal(cls, out: TextIO, err: TextIO, *, no_colour: bool) -> "Screen":
        """Return the screen of this process: as wide as its terminal, and with colours if `out` is one."""
        width = shutil.get_terminal_size(FALLBACK_SIZE).columns
        return cls(out, err, width=width, colour=out.isatty() and not no_colour)

    def line(self, text: str = "", style: Style = Style.PLAIN, *, indent: int = 0) -> None:
        """Write a text, on several lines if it is too long; the lines after the first are indented by two more."""
        for line in folded(text, self.width, indent=indent):
            self._write(line, style)

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        below: Sequence[Sequence[str]] = (),
        *,
        indent: int = 0,
    ) -> None:
        """
        Write a table. If it is wider than the terminal, the widest columns are cut, and their texts go on below.

        `below` has further lines for each row, such as why it is there, and commands (`ToType`).
        """
        first, *others = table_lines(header, rows, width=self.width - indent)
        for line in first:
            self._write(f"{' ' * indent}{line}", Style.BOLD)
        for number, lines in enumerate(others):
            for line in lines:
                self._write(f"{' ' * indent}{line}", Style.PLAIN)
            for text in below[number] if below else ():
                self.note(text, indent=indent + 2)

    def note(self, text: str, *, indent: int = 0) -> None:
        """Write a text below something else; a command to type stays on one line, however long it is."""
        if isinstance(text, ToType):
            self._write(f"{' ' * indent}$ {printable(text)}", Style.BOLD)
        else:
            self.line(text, Style.DIM, indent=indent)

    def raw(self, text: str) -> None:
        """Write a text in which nothing is to be escaped any more: JSON in ASCII, for instance."""
        self._clear()
        self._out.write(text)

    def warn(self, text: str) -> None:
        """Write a warning to `err`."""
        self._clear()
        self._err.write(f"{printable(text)}\n")

    def remark(self, text: str, *, indent: int = 0) -> None:
        """Write prose beside the result of the command to `err`, on several lines if it is too long for one."""
        for line in folded(text, self.width, indent=indent):
            self.warn(line)

    def error(self, text: str) -> None:
        """Write an error to `err`, each of its lines on one."""
        self._clear()
        for number, line in enumerate(text.splitlines() or [""]):
            self._err.write(f"{'' if number else 'error: '}{printable(line)}\n")

    def progress(self, text: str) -> None:
        """Show in a terminal what the command does now, once it has run for a second; the next output removes it."""
        if self._err.isatty() and time.monotonic() - self._began >= _PROGRESS_AFTER_SECONDS:
            self._err.write(f"{_CLEAR_LINE}{printable(text)[: self.width - 1]}")
            self._err.flush()
            self._has_progress = True

    def clear(self) -> None:
        """Remove everything from the terminal of `out`, before a screen that stays is written again."""
        if self._out.isatty():
            self._out.write("\x1b[H\x1b[2J")

    def flush(self) -> None:
        """Send what was written, and remove the progress."""
        self._clear()
        self._out.flush()

    def _write(self, line: str, style: Style) -> None:
        self._clear()
        styled = f"\x1b[{style:d}m{line}\x1b[0m" if self.colour and style and line.strip() else line
        self._out.write(f"{styled}\n")

    def _clear(self) -> None:
        if self._has_progress:
            self._err.write(_CLEAR_LINE)
            self._err.flush()
            self._has_progress = False


def folded(text: str, width: int, *, indent: int = 0) -> list[str]:
    """Return a text, escaped, as lines of at most `width` characters."""
    first = " " * indent
    return wrap(
        printable(text), width, initial_indent=first, subsequent_indent=f"{first}  ", break_on_hyphens=False
    ) or [""]


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]], *, width: int) -> list[list[str]]:
    """
    Return the lines of the header and of each row of a table.

    A line has at most `width` characters, if the columns can be made so narrow.
    """
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and max(widths) > _MIN_COLUMN:
        widths[widths.index(max(widths))] -= 1
    return [_row_lines(row, widths) for row in cells]


def _row_lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the lines of a row: a text that is too long for its column goes on in the next line."""
    parts = [_cut(cell, size) for cell, size in zip(row, widths, strict=True)]
    height = max(map(len, parts))
    padded = [[*part, *[""] * (height - len(part))] for part in parts]
    return [
        _GAP.join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        for line in zip(*padded, strict=True)
    ]


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def shortened(image: str) -> str:
    """
    Return an image reference for a line of a table: of a digest, the first 12 digits.

    >>> shortened("ghcr.io/acme/web@sha256:" + 64 * "a")
    'ghcr.io/acme/web@sha256:aaaaaaaaaaaa..'
    """
    name, at, digest = image.partition("@")
    algorithm, colon, digits = digest.partition(":")
    return f"{name}{at}{algorithm}{colon}{digits[:12]}.." if at and colon else image


def plural(count: int, noun: str) -> str:
    """
    Return a count with its noun.

    >>> plural(1, "pod"), plural(0, "pod")
    ('1 pod', '0 pods')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"
