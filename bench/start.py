"""
From the start of the program to the first answer, beside the least that a function of this kind has to load.

That is functions-framework, and the client of Kubernetes.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.noise import requests
from bench.percentiles import percentile
from bench.result import Options, Result
from bench.targets import CLIENT
from bench.wire import Wire
from playground.processes import Family
from playground.served import SOURCE, command, free_port

NAME = "start"
TARGET = 1.3
DEADLINE_SECONDS = 60
_POLL_SECONDS = 0.002


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure in turns; the first of each is not counted, since it may compile and read from disk."""
    ours, theirs = [], []
    for _ in range(options.runs + 1):
        ours.append(await first_answer(SOURCE))
        theirs.append(await first_answer(CLIENT))
    value, yardstick = (percentile(each[1:], 50) for each in (ours, theirs))
    options.say(f"start: {value:.2f} s and {yardstick:.2f} s")
    yield Result(figure=f"{NAME}: first answer", unit="s", value=value, yardstick=yardstick, target=TARGET)


async def first_answer(source: Path) -> float:
    """Serve a target, and return how many seconds it took until it had answered an Event."""
    with tempfile.TemporaryDirectory(prefix="saffire-start-") as folder:
        async with Family(Path(folder)) as family:
            port = free_port()
            environ = {"PORT": str(port), "HOST": "127.0.0.1", "TMPDIR": folder, "KUBECONFIG": "/nonexistent"}
            began = time.perf_counter()
            await family.start("function", *command(source), **environ)
            await family.until(_answers(f"http://127.0.0.1:{port}/"), "function", DEADLINE_SECONDS)
            return time.perf_counter() - began


async def _answers(url: str) -> None:
    request = requests(url)[0]
    while True:
        with contextlib.suppress(OSError), Wire(url) as wire:
            wire.post(request)
            return
        await asyncio.sleep(_POLL_SECONDS)
