"""The output of the demo is in order, fits the terminal, and has colours only if they are wanted."""

import io
import re

import pytest

from playground.demo.timeline import Entry, EntryKind, Terminal, Timeline, changed_parts, clip, table

WIDTH = 80
PLAIN = Terminal(colour=False, width=WIDTH)
LONGEST = Entry(
    9999.96, EntryKind.PATCHED, "Deployment/a-rather-long-name-for-a-workload", "registry.example.com/mirror" * 9
)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("kind", EntryKind)
def test_a_line_fits(kind: EntryKind, width: int) -> None:
    """Whatever the names, no line is wider than the terminal."""
    line = Entry(LONGEST.at, kind, LONGEST.subject, LONGEST.detail).line(0.0, Terminal(colour=False, width=width))
    assert width == len(line)
    assert line.endswith("…")


def test_colour_adds_nothing_but_colour() -> None:
    """Without its escape sequences, a line with colours equals the plain line."""
    coloured = LONGEST.line(0.0, Terminal(colour=True, width=WIDTH))
    assert coloured != LONGEST.line(0.0, PLAIN)
    assert LONGEST.line(0.0, PLAIN) == re.sub(r"\x1b\[\d+m", "", coloured)


def test_times_are_since_the_first_failure() -> None:
    """The time of each entry is that since the first failure."""
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    timeline.add(Entry(1000.0, EntryKind.FAILS, "Pod/db-0", ""))
    timeline.add(Entry(1002.5, EntryKind.RUNS, "Pod/db-0", ""))
    timeline.flush()
    assert ["+0.0 s", "+2.5 s"] == re.findall(r"\S+ s\b", out.getvalue())


def test_causes_come_before_effects() -> None:
    """Of entries of the same time, the decision is printed before its effect, even if it is added last."""
    entries = [
        Entry(1.21, EntryKind.RUNS, "Pod/db-0", ""),
        Entry(1.20, EntryKind.PATCHED, "Pod/db-0", ""),
        Entry(1.21, EntryKind.DECIDED, "StatefulSet/db", ""),
        Entry(1.20, EntryKind.FAILS, "Pod/db-0", ""),
        Entry(0.50, EntryKind.FAILS, "Pod/web", ""),
    ]
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    for entry in entries:
        timeline.add(entry)
    timeline.flush()
    assert ["fails", "fails", "decided", "patched", "runs"] == re.findall(r"s  . (\w+)", out.getvalue())


def test_recent_entries_are_held_back() -> None:
    """An entry is printed once, when no earlier entry can be added any more."""
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    timeline.add(Entry(1.0, EntryKind.FAILS, "Pod/db-0", ""))
    timeline.add(Entry(2.0, EntryKind.RUNS, "Pod/db-0", ""))
    timeline.flush(until=2.0)
    assert 1 == len(out.getvalue().splitlines())
    timeline.flush()
    timeline.flush()
    assert 2 == len(out.getvalue().splitlines())


def test_a_heading_comes_after_earlier_entries() -> None:
    """Before a heading, all pending entries are printed."""
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    timeline.add(Entry(1.0, EntryKind.FAILS, "Pod/db-0", ""))
    timeline.print_heading("The report is due.")
    assert ["The report is due."] == out.getvalue().splitlines()[-1:]
    assert "Pod/db-0" in out.getvalue()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("ghcr.io/acme/web:1", "quay.io/acme/web:1", ("ghcr.io", "quay.io")),
        ("ghcr.io/flannel-io/flannel:v1", "docker.io/flannel/flannel:v1", ("ghcr.io/flannel-io", "docker.io/flannel")),
        ("nginx", "public.ecr.aws/docker/library/nginx", ("nginx", "public.ecr.aws/docker/library/nginx")),
        ("docker.io/nginx", "nginx", ("docker.io/nginx", "nginx")),
        ("ghcr.io/acme/web:1", "ghcr.io/acme/web:2", ("ghcr.io/acme/web:1", "ghcr.io/acme/web:2")),
        ("ghcr.io/acme/web:1", "ghcr.io/acme/web:1", ("ghcr.io", "ghcr.io")),
    ],
)
def test_the_changed_parts(before: str, after: str, expected: tuple[str, str]) -> None:
    """What both references have in common at the end is left out, but neither part is ever empty."""
    assert expected == changed_parts(before, after)


def test_columns_are_aligned() -> None:
    """Every cell of a column begins below its head."""
    rows = [("NAME", "READY", "AGE"), ("a-long-name", "", "5s"), ("b", "True", "")]
    lines = list(table(rows, WIDTH))
    assert ["  NAME         READY  AGE", "  a-long-name         5s", "  b            True"] == lines


def test_a_table_that_is_too_wide_loses_the_end_of_its_widest_cells() -> None:
    """The other columns stay complete, and the table is exactly as wide as the terminal."""
    rows = [("NAME", "MOVED TO", "PATCHED"), ("web", "registry.example.com/mirror", "pod"), ("db", "quay.io", "pod")]
    lines = list(table(rows, width=30))
    assert ["  NAME  MOVED TO       PATCHED", "  web   registry.exa…  pod", "  db    quay.io        pod"] == lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_heading_is_wrapped(width: int) -> None:
    """A heading that is too long takes several lines, and no word is lost."""
    out = io.StringIO()
    heading = "node-3 joins: it needs flannel before it accepts other pods. " * 3
    Timeline(out, Terminal(colour=False, width=width)).print_heading(heading)
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert heading.split() == out.getvalue().split()


def test_clip_leaves_what_fits() -> None:
    """Only text that is too wide is cut, and an ellipsis shows the cut."""
    assert ["12345", "1234…"] == [clip("12345", 5), clip("123456", 5)]
