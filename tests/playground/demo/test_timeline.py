"""What the demo prints is in order, fits a terminal, and is plain where colour is not wanted."""

import io
import re

import pytest

from playground.demo.timeline import WIDTH, Entry, Paint, Timeline, What, clip, moved, table

PLAIN = Paint(colour=False)
LONGEST = Entry(9999.96, What.PATCHED, "Deployment/a-rather-long-name-for-one", "registry.example.com/mirror" * 9)


@pytest.mark.parametrize("what", What)
def test_a_line_fits(what: What) -> None:
    """No line is wider than 100 characters, whatever the names."""
    line = Entry(LONGEST.at, what, LONGEST.whom, LONGEST.detail).line(0.0, PLAIN)
    assert WIDTH == len(line)
    assert line.endswith("…")


def test_colour_adds_nothing_but_colour() -> None:
    """Without its escape sequences, a line in colour is the plain line."""
    coloured = LONGEST.line(0.0, Paint(colour=True))
    assert coloured != LONGEST.line(0.0, PLAIN)
    assert LONGEST.line(0.0, PLAIN) == re.sub(r"\x1b\[\d+m", "", coloured)


def test_times_are_since_the_first_failure() -> None:
    """The first failure is at 0, and everything else that much later."""
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    timeline.add(Entry(1000.0, What.FAILS, "Pod/db-0", ""))
    timeline.add(Entry(1002.5, What.RUNS, "Pod/db-0", ""))
    timeline.flush()
    assert ["+0.0 s", "+2.5 s"] == re.findall(r"\S+ s\b", out.getvalue())


def test_causes_come_before_effects() -> None:
    """Of one moment, a decision is printed before what came of it, though it is known last."""
    entries = [
        Entry(1.21, What.RUNS, "Pod/db-0", ""),
        Entry(1.20, What.PATCHED, "Pod/db-0", ""),
        Entry(1.21, What.DECIDED, "StatefulSet/db", ""),
        Entry(1.20, What.FAILS, "Pod/db-0", ""),
        Entry(0.50, What.FAILS, "Pod/web", ""),
    ]
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    for entry in entries:
        timeline.add(entry)
    timeline.flush()
    assert ["fails", "fails", "decided", "patched", "runs"] == re.findall(r"s  . (\w+)", out.getvalue())


def test_what_is_too_young_is_held_back() -> None:
    """An entry waits until nothing earlier can come any more, and is printed once."""
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    timeline.add(Entry(1.0, What.FAILS, "Pod/db-0", ""))
    timeline.add(Entry(2.0, What.RUNS, "Pod/db-0", ""))
    timeline.flush(until=2.0)
    assert 1 == len(out.getvalue().splitlines())
    timeline.flush()
    timeline.flush()
    assert 2 == len(out.getvalue().splitlines())


def test_a_heading_comes_after_what_happened_before_it() -> None:
    """Nothing that is held back slips under a later heading."""
    out = io.StringIO()
    timeline = Timeline(out, PLAIN)
    timeline.add(Entry(1.0, What.FAILS, "Pod/db-0", ""))
    timeline.say("The report is due.")
    assert ["The report is due."] == out.getvalue().splitlines()[-1:]
    assert "Pod/db-0" in out.getvalue()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("ghcr.io/acme/web:1", "quay.io/acme/web:1", "ghcr.io → quay.io"),
        ("ghcr.io/flannel-io/flannel:v1", "docker.io/flannel/flannel:v1", "ghcr.io/flannel-io → docker.io/flannel"),
        ("nginx", "public.ecr.aws/docker/library/nginx", "nginx → public.ecr.aws/docker/library/nginx"),
        ("docker.io/nginx", "nginx", "docker.io/nginx → nginx"),
        ("ghcr.io/acme/web:1", "ghcr.io/acme/web:2", "ghcr.io/acme/web:1 → ghcr.io/acme/web:2"),
        ("ghcr.io/acme/web:1", "ghcr.io/acme/web:1", "ghcr.io → ghcr.io"),
    ],
)
def test_moved(before: str, after: str, said: str) -> None:
    """What both references end with goes without saying, but both always say something."""
    assert said == moved(before, after)


def test_columns_are_aligned() -> None:
    """Every cell of a column begins under its head."""
    rows = [("NAME", "READY", "AGE"), ("a-long-name", "", "5s"), ("b", "True", "")]
    lines = list(table(rows))
    assert ["  NAME         READY  AGE", "  a-long-name         5s", "  b            True"] == lines


def test_clip_leaves_what_fits() -> None:
    """Only what is too wide is cut, and the cut is visible."""
    assert ["12345", "1234…"] == [clip("12345", 5), clip("123456", 5)]
