"""The log: its lines in both formats, and which format is chosen."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from saffire import logs

FORMATS = ("json", "google")
LABELS = "logging.googleapis.com/labels"


def written(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the fields of the line that was written since the last call."""
    out = capsys.readouterr().out
    assert (1, "\n") == (out.count("\n"), out[-1])
    fields: dict[str, Any] = json.loads(out)
    return fields


@pytest.mark.parametrize("log_format", FORMATS)
def test_every_line_has_its_time(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in UTC, as in RFC 3339, with fractions of a second. Log agents use it, and `kubectl logs` shows it."""
    logs.configure("INFO", log_format)
    logs.answered(200, 'moved "web"\n{}', {"time": "not this one", "pod": "web-0"})
    line = written(capsys)
    assert ("Answered an event", "web-0", "INFO") == (line["message"], line["pod"], line["severity"])
    assert "time" == next(iter(line))
    assert line["time"].endswith("Z")
    assert timedelta() <= datetime.now(UTC) - datetime.fromisoformat(line["time"]) < timedelta(minutes=1)
    assert len("2026-11-23T02:00:00.000000Z") == len(line["time"])


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_trace_has_its_time_too(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected exception is one line, with the same first field."""
    logs.configure("INFO", log_format)
    try:
        raise ValueError("a fault")  # noqa: TRY301 - for its trace
    except ValueError as fault:
        logs.crashed(fault, {"pod": "web-0"})
    line = written(capsys)
    assert ("time", "ERROR", "web-0") == (next(iter(line)), line["severity"], line["pod"])
    assert line["message"].startswith("Crashed on an event\nTraceback")
    assert line["message"].endswith("ValueError: a fault")


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize(
    "text",
    ["a\nb\r\nc\vd\fe", "\x00\x1b[2J\x7f\x85\u2028", "\ud800 half of a pair", 'a quote " and a \\', "x" * 2**20],
    ids=["ends of lines", "control characters", "a lone surrogate", "quotes", "a megabyte"],
)
def test_whatever_a_text_has_its_line_is_one(log_format: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A log agent reads a line as one entry. Texts of runtimes and registries may have any character."""
    logs.configure("INFO", log_format)
    logs.answered(200, text, {"plans": ({"error": text},)})
    line = written(capsys)
    assert (text, text) == (line["outcome"], line["plans"][0]["error"])


def test_a_line_says_nothing_that_nobody_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere than on Google Cloud, nobody reads empty fields, or which line of Saffire's code has written this."""
    logs.configure("INFO")
    logs.answered(503, "the API server did not answer", {"pod": "web-0"})
    assert ["time", "severity", "message", "status", "outcome", "pod"] == list(written(capsys))


@pytest.mark.parametrize(
    ("log_format", "product_name", "is_google"),
    [
        ("auto", "Google Compute Engine\n", True),
        ("auto", "Standard PC (Q35 + ICH9, 2009)\n", False),
        ("auto", "\udcff", False),
        ("auto", None, False),
        ("google", None, True),
        ("json", "Google Compute Engine\n", False),
    ],
)
def test_the_machine_tells_whether_it_is_googles(
    log_format: str, product_name: str | None, *, is_google: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On such a machine, the log agent reads fields that nobody else reads. A setting overrules it."""
    file = tmp_path / "product_name"
    if product_name is not None:
        file.write_bytes(product_name.encode(errors="surrogateescape"))
    logs.configure("INFO", log_format, product_name=file)
    logs.answered(200, "moved", {})
    assert is_google == (LABELS in written(capsys))
