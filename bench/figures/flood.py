"""
How long an honest Event waits for its answer while somebody floods the function.

The event source sends one Event after the other, and nearly all are to be ignored. The baseline is the same without a
flood, in the same run, by turns. The flood has a process of its own, and sends a bounded number of requests a second.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.harness.child_process import Child
from bench.harness.env_simulated import for_all, open_environment
from bench.harness.fixtures import add_source, open_namespace
from bench.harness.flooder import KINDS
from bench.harness.percentiles import percentile
from bench.harness.raw_http import RawConnection
from bench.harness.unrelated_events import requests
from bench.report.result import Options, Result

NAME = "flood"
TARGET = 10.0
NAMESPACES = 10
TURN_SECONDS = 4.0
_WARM_UP_SECONDS = 1.0
_GAP_SECONDS = 0.005
"""Between two honest Events, as in a busy cluster: two hundred a second."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure each flood beside a quiet turn, and yield the 99th percentile of the seconds until an answer."""
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(open_environment())
        served = await stack.enter_async_context(environment.saffire(SAFFIRE_SWEEP_INTERVAL_SECONDS="20"))
        names = [f"shop-{number}" for number in range(NAMESPACES)]
        await for_all(functools.partial(open_namespace, environment.api), names)
        await for_all(lambda name: add_source(environment.api, name, environment.alive.domain), names)
        flooder = await stack.enter_async_context(Child("bench.harness.flooder", url=served.url))
        for kind in KINDS:
            if options.match not in kind:
                continue
            flooded: list[float] = []
            quiet: list[float] = []
            sent = 0
            for _ in range(options.runs):
                quiet += await asyncio.to_thread(_answer_times, served.url, TURN_SECONDS)
                await flooder.ask(flood=kind)
                await asyncio.to_thread(_answer_times, served.url, _WARM_UP_SECONDS)
                flooded += await asyncio.to_thread(_answer_times, served.url, TURN_SECONDS)
                sent += (await flooder.ask(flood=""))["sent"]
            options.say(f"flood: {sent} requests ({kind}), {len(flooded)} honest Events answered 200")
            yield Result(
                figure=f"{NAME}: {kind}, an ignored Event's answer, p99",
                unit="s",
                value=percentile(flooded, 99),
                baseline=percentile(quiet, 99),
                target=TARGET,
            )


def _answer_times(url: str, seconds: float) -> list[float]:
    """Send Events that are to be ignored; return the seconds until each answer. Raise if an answer is not 200."""
    events, times = requests(url), []
    end = time.monotonic() + seconds
    with RawConnection(url) as connection:
        while time.monotonic() < end:
            for event in events:
                began = time.perf_counter()
                connection.post(event)
                times.append(time.perf_counter() - began)
                time.sleep(_GAP_SECONDS)
    return times
