"""
How many Events a second are ignored over one connection, which is all that an event source has.

Beside functions-framework with a target that does nothing. Both are served at once and asked in turns, so that what
else the machine does troubles both alike.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from bench.harness.percentiles import percentile
from bench.harness.raw_http import RawConnection
from bench.harness.targets import EMPTY
from bench.harness.unrelated_events import requests
from bench.report.result import Options, Result
from playground.served import ServedFunction

NAME = "ignored"
TURN_SECONDS = 0.25
TURNS_PER_RUN = 8
TARGET = 0.8

_NOWHERE = Path("/nonexistent")
"""No Event that is ignored makes Saffire look for its cluster."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure."""
    async with ServedFunction(_NOWHERE) as ours, ServedFunction(_NOWHERE, EMPTY) as empty:
        rates = await asyncio.to_thread(_turns, ours.url, empty.url, options.runs * TURNS_PER_RUN)
    ours_rate, empty_rate = (percentile(turns, 50) for turns in rates)
    options.say(f"ignored: {ours_rate:.0f} and {empty_rate:.0f} a second")
    yield Result(
        figure=f"{NAME}: Events a second, one connection",
        unit="/s",
        value=ours_rate,
        baseline=empty_rate,
        better="higher",
        target=TARGET,
    )


def _turns(ours: str, empty: str, turns: int) -> tuple[list[float], list[float]]:
    """Return the rates of each turn of both."""
    sent = requests(ours), requests(empty)
    with RawConnection(ours) as first, RawConnection(empty) as second:
        first.rate(sent[0], TURN_SECONDS / 4)
        second.rate(sent[1], TURN_SECONDS / 4)
        pairs = [(first.rate(sent[0], TURN_SECONDS), second.rate(sent[1], TURN_SECONDS)) for _ in range(turns)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
