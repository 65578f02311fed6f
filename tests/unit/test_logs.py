"""The log: the time of its lines, and when the library that formats them is imported."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from saffire import logs

RESPOND = """
import asyncio, sys
from starlette.requests import Request
from saffire.function import Function
from saffire.settings import Settings

MODULE = "google.cloud.logging_v2.handlers.structured_log"  # the last

async def respond(method):
    async def receive():
        return {"type": "http.request", "body": b"{}"}
    headers = [(b"content-type", b"application/json"), (b"ce-specversion", b"1.0"), (b"ce-id", b"1"),
               (b"ce-source", b"s"), (b"ce-type", b"none.of.ours")]
    scope = {"type": "http", "method": method, "path": "/", "headers": headers, "query_string": b""}
    print((await Function(Settings()).respond(Request(scope, receive))).status_code, MODULE in sys.modules)

async def main():
    await respond("GET")
    await respond("POST")
    async with asyncio.timeout(30):
        while MODULE not in sys.modules:
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_the_first_event_imports_the_library_and_does_not_wait() -> None:
    """It is ready before the first line is logged. Neither the start nor a health check imports it."""
    process = subprocess.run([sys.executable, "-c", RESPOND], capture_output=True, text=True, check=True)
    assert ["405 False", "200 False"] == process.stdout.splitlines()
    assert "" == process.stderr


def test_every_line_has_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    """It is in UTC, as in RFC 3339, with fractions of a second. Log agents use it, and `kubectl logs` shows it."""
    logs.configure("INFO")
    logs.answered(200, 'moved "web"\n{}', {"time": "not this one", "pod": "web-0"})
    line = json.loads(capsys.readouterr().out)
    assert ("Answered an event", "web-0", "INFO") == (line["message"], line["pod"], line["severity"])
    assert line["time"].endswith("Z")
    assert timedelta() <= datetime.now(UTC) - datetime.fromisoformat(line["time"]) < timedelta(minutes=1)
    assert len("2026-11-23T02:00:00.000000Z") == len(line["time"])


def test_a_trace_has_its_time_too(capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected exception is one line, with the same first field."""
    logs.configure("INFO")
    logs.crashed(ValueError("a fault"), {"pod": "web-0"})
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert ["time", "pod", "message"] == list(line)[:3]
    assert "ValueError: a fault" in line["message"]
