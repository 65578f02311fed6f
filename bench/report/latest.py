"""
`docs/benchmarks/latest.json`: the last measurement of every figure.

A run of some figures keeps what it did not measure. So each figure carries the date and the commit of its own
measurement; date, machine and versions of the whole are the last run's.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.report.result import Result
from testkit import ROOT

FOLDER = ROOT / "docs" / "benchmarks"
FILE = "latest.json"

_DIGITS = 4
"""So many behind the point are kept: a tenth of a millisecond, where the unit is a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What measured: where, with which versions (`saffire` is the commit), and when."""

    machine: Mapping[str, object]
    versions: Mapping[str, str]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A result, when it was measured, and of which commit."""

    result: Result
    date: str
    saffire: str

    def as_json(self) -> dict[str, Any]:
        """Return the entry as it is in the file."""
        own = asdict(self.result)
        numbers = {"value": own["value"], "baseline": own["baseline"], "ratio": self.result.ratio}
        rounded = {key: None if number is None else round(number, _DIGITS) for key, number in numbers.items()}
        order = ("figure", "unit", *rounded, "better", "target")
        return {key: (own | rounded)[key] for key in order} | {"date": self.date, "saffire": self.saffire}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Entry":
        """Return the entry that is in the file."""
        result = Result(**{known.name: entry[known.name] for known in fields(Result)})
        return cls(result=result, date=entry["date"], saffire=entry["saffire"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The file."""

    machine: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    entries: tuple[Entry, ...] = ()

    @property
    def results(self) -> dict[str, Result]:
        """Every result, by the name of its figure."""
        return {entry.result.figure: entry.result for entry in self.entries}

    def merged(self, measured: Iterable[Result], run: Run, whole: Iterable[str] = ()) -> "Latest":
        """
        Return the file after another run.

        Args:
            measured: in the order in which it is to be in the file.
            run: what measured it.
            whole: the figures of the catalogue of which everything was measured; what else there is of them is old.

        """
        date = run.now.isoformat(timespec="seconds")
        new = {result.figure: Entry(result=result, date=date, saffire=run.versions["saffire"]) for result in measured}
        gone = tuple(f"{name}:" for name in whole)
        old = {entry.result.figure: entry for entry in self.entries if not entry.result.figure.startswith(gone)}
        return Latest(machine=run.machine, versions=run.versions, date=date, entries=tuple((old | new).values()))

    def as_json(self) -> dict[str, Any]:
        """Return what is in the file."""
        figures = [entry.as_json() for entry in self.entries]
        return {"machine": dict(self.machine), "versions": dict(self.versions), "date": self.date, "figures": figures}


def read(folder: Path = FOLDER) -> Latest:
    """Return the file, which is empty as long as nothing was measured."""
    path = folder / FILE
    if not path.exists():
        return Latest()
    content = json.loads(path.read_text())
    entries = tuple(map(Entry.from_json, content["figures"]))
    return Latest(machine=content["machine"], versions=content["versions"], date=content["date"], entries=entries)


def write(latest: Latest, folder: Path = FOLDER) -> None:
    """Write the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(latest.as_json(), indent=1, ensure_ascii=False) + "\n")
