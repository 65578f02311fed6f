"""The file of the latest results, over many runs."""

import json
from datetime import UTC, datetime
from pathlib import Path

from bench.report.latest import FILE, Latest, Run, read, write
from bench.report.result import Result


def run(day: int) -> Run:
    """Return a run on that day, of a commit of its own."""
    return Run(machine={"cores": 2}, versions={"saffire": f"c{day}"}, now=datetime(2026, 1, day, tzinfo=UTC))


def result(figure: str, value: float = 1.0) -> Result:
    """Return a result."""
    return Result(figure=figure, unit="s", value=value, baseline=2.0, target=1.2)


def test_the_file_is_what_tools_read(tmp_path: Path) -> None:
    """The file is one object: machine, versions, date, and the results, each with its own date and commit."""
    write(Latest().merged([result("storm: all", 1.23456789)], run(1)), tmp_path)
    expected = {
        "machine": {"cores": 2},
        "versions": {"saffire": "c1"},
        "date": "2026-01-01T00:00:00+00:00",
        "figures": [
            {
                "figure": "storm: all",
                "unit": "s",
                "value": 1.2346,
                "baseline": 2.0,
                "ratio": 0.6173,
                "better": "lower",
                "target": 1.2,
                "date": "2026-01-01T00:00:00+00:00",
                "saffire": "c1",
            }
        ],
    }
    assert expected == json.loads((tmp_path / FILE).read_text())


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Nothing is lost, not even that there is no baseline."""
    latest = Latest().merged([result("storm: all"), Result(figure="start: x", unit="s", value=1.0)], run(1))
    write(latest, tmp_path)
    assert latest == read(tmp_path)


def test_a_partial_run_keeps_what_it_did_not_measure(tmp_path: Path) -> None:
    """Each result keeps the date of its measurement, and its position; the file has the date of the last run."""
    write(Latest().merged([result("storm: all"), result("start: first", 7.0)], run(1)), tmp_path)
    latest = read(tmp_path).merged([result("storm: all", 5.0)], run(2))
    assert [("storm: all", 5.0, "c2"), ("start: first", 7.0, "c1")] == [
        (entry.result.figure, entry.result.value, entry.saffire) for entry in latest.entries
    ]
    assert ["2026-01-02", "2026-01-01"] == [entry.date[:10] for entry in latest.entries]
    assert ("2026-01-02", {"saffire": "c2"}) == (latest.date[:10], latest.versions)


def test_a_figure_measured_whole_leaves_nothing_stale() -> None:
    """A complete run of a figure drops its other results, but not those of a figure with a longer name."""
    before = Latest().merged([result("storm: old"), result("storm: all"), result("storms: all")], run(1))
    latest = before.merged([result("storm: all")], run(2), whole=["storm"])
    assert {"storms: all", "storm: all"} == set(latest.results)


def test_nothing_was_measured_at_first(tmp_path: Path) -> None:
    """Without a file there are no results, and a run creates the file."""
    assert {} == read(tmp_path / "not-there").results
