"""
How many Events a second Saffire ignores over one connection. An event source has no more than one.

The baseline is functions-framework with a target that does nothing. Both run at once and are measured by turns, so that
other load on the machine slows both alike.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from bench.harness.percentiles import percentile
from bench.harness.raw_http import RawConnection
from bench.harness.targets import EMPTY
from bench.harness.unrelated_events import requests
from bench.report.result import Options, Result
from playground.function_process import FunctionProcess

NAME = "ignored"
TURN_SECONDS = 0.25
TURNS_PER_RUN = 8
TARGET = 0.8

_NOWHERE = Path("/nonexistent")
"""No cluster is needed: Saffire does not connect to one for an Event that it ignores."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure both functions by turns, and yield the rate of Saffire beside that of the empty function."""
    async with FunctionProcess(_NOWHERE) as ours, FunctionProcess(_NOWHERE, EMPTY) as empty:
        rates = await asyncio.to_thread(_turns, ours.url, empty.url, options.runs * TURNS_PER_RUN)
    ours_rate, empty_rate = (percentile(turns, 50) for turns in rates)
    options.say(f"ignored: {ours_rate:.0f} Events a second, baseline {empty_rate:.0f}")
    yield Result(
        figure=f"{NAME}: Events a second, one connection",
        unit="/s",
        value=ours_rate,
        baseline=empty_rate,
        better="higher",
        target=TARGET,
    )


def _turns(ours: str, empty: str, turns: int) -> tuple[list[float], list[float]]:
    """Return the rates of all turns, of Saffire and of the empty function."""
    sent = requests(ours), requests(empty)
    with RawConnection(ours) as first, RawConnection(empty) as second:
        first.rate(sent[0], TURN_SECONDS / 4)
        second.rate(sent[1], TURN_SECONDS / 4)
        pairs = [(first.rate(sent[0], TURN_SECONDS), second.rate(sent[1], TURN_SECONDS)) for _ in range(turns)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
