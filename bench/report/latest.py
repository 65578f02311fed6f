"""
`docs/benchmarks/latest.json`: the last result of every figure.

A run of some figures keeps the results of the others. So each result has the date and the commit of its own
measurement; date, machine and versions of the file are those of the last run.
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
"""How many decimal places are kept: with seconds, a tenth of a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """On which machine, with which versions (`saffire` is the commit), and when a run measured."""

    machine: Mapping[str, object]
    versions: Mapping[str, str]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A result with the date and the commit of its measurement."""

    result: Result
    date: str
    saffire: str

    def as_json(self) -> dict[str, Any]:
        """Return the entry as the file has it."""
        own = asdict(self.result)
        numbers = {"value": own["value"], "baseline": own["baseline"], "ratio": self.result.ratio}
        rounded = {key: None if number is None else round(number, _DIGITS) for key, number in numbers.items()}
        order = ("figure", "unit", *rounded, "better", "target")
        return {key: (own | rounded)[key] for key in order} | {"date": self.date, "saffire": self.saffire}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Entry":
        """Return the entry that the file has."""
        result = Result(**{known.name: entry[known.name] for known in fields(Result)})
        return cls(result=result, date=entry["date"], saffire=entry["saffire"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The content of the file."""

    machine: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    entries: tuple[Entry, ...] = ()

    @property
    def results(self) -> dict[str, Result]:
        """Every result, by its name."""
        return {entry.result.figure: entry.result for entry in self.entries}

    def merged(self, measured: Iterable[Result], run: Run, whole: Iterable[str] = ()) -> "Latest":
        """
        Return the content after another run.

        Args:
            measured: the results of the run, in the order that the file gets.
            run: the run that measured them.
            whole: the figures that were measured completely. Other results of these figures are dropped.

        """
        date = run.now.isoformat(timespec="seconds")
        new = {result.figure: Entry(result=result, date=date, saffire=run.versions["saffire"]) for result in measured}
        gone = tuple(f"{name}:" for name in whole)
        old = {entry.result.figure: entry for entry in self.entries if not entry.result.figure.startswith(gone)}
        return Latest(machine=run.machine, versions=run.versions, date=date, entries=tuple((old | new).values()))

    def as_json(self) -> dict[str, Any]:
        """Return the content as the file has it."""
        figures = [entry.as_json() for entry in self.entries]
        return {"machine": dict(self.machine), "versions": dict(self.versions), "date": self.date, "figures": figures}


def read(folder: Path = FOLDER) -> Latest:
    """Return the content of the file; it is empty if nothing was measured yet."""
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
