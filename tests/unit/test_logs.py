"""When what writes the log is imported, which takes longer than most answers."""

import subprocess
import sys

ANSWER = """
import asyncio, sys
from starlette.requests import Request
from saffire.function import Function
from saffire.settings import Settings

MODULE = "google.cloud.logging_v2.handlers.structured_log"  # the last

async def answer(method):
    async def receive():
        return {"type": "http.request", "body": b"{}"}
    headers = [(b"content-type", b"application/json"), (b"ce-specversion", b"1.0"), (b"ce-id", b"1"),
               (b"ce-source", b"s"), (b"ce-type", b"none.of.ours")]
    scope = {"type": "http", "method": method, "path": "/", "headers": headers, "query_string": b""}
    print((await Function(Settings()).answer(Request(scope, receive))).status_code, MODULE in sys.modules)

async def main():
    await answer("GET")
    await answer("POST")
    async with asyncio.timeout(30):
        while MODULE not in sys.modules:
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_the_first_event_has_it_imported_and_does_not_wait() -> None:
    """It is there for the first line, though nothing was logged, and neither a start nor a health check needs it."""
    done = subprocess.run([sys.executable, "-c", ANSWER], capture_output=True, text=True, check=True)
    assert ["405 False", "200 False"] == done.stdout.splitlines()
    assert "" == done.stderr
