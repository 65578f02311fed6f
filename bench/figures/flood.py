"""
How long an honest Event waits for its answer while somebody floods the function, and how much memory a flood takes.

The event source sends one Event after the other, and nearly all are to be ignored. The baseline is the same without a
flood, in the same run, by turns. The flood has a process of its own, and sends a bounded number of requests. Each kind
of flood meets a function of its own, whose memory is compared with that before the flood.
"""

import asyncio
import functools
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.harness.child_process import Child
from bench.harness.env_simulated import SimulatedEnvironment, for_all, open_environment
from bench.harness.fixtures import add_source, open_namespace
from bench.harness.flooder import BURST, KINDS
from bench.harness.percentiles import percentile
from bench.harness.raw_http import RawConnection
from bench.harness.unrelated_events import requests
from bench.report.result import Options, Result
from testkit.memory import peak, resident

NAME = "flood"
TARGET = 10.0
MEMORY_TARGET = 150.0
"""MiB. With the 160 of an idle instance, that is well below the 512 of knative/service.yaml."""

NAMESPACES = 10
TURN_SECONDS = 4.0
BURST_SECONDS = 14.0
"""With the second before the measurement, 15 s."""

_WARM_UP_SECONDS = 1.0
_GAP_SECONDS = 0.005
"""Between two honest Events, as in a busy cluster: two hundred a second."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure each flood beside a quiet turn; yield the p99 of the seconds until an answer, and the peak memory."""
    async with open_environment() as environment:
        names = [f"shop-{number}" for number in range(NAMESPACES)]
        await for_all(functools.partial(open_namespace, environment.api), names)
        await for_all(lambda name: add_source(environment.api, name, environment.alive.domain), names)
        for kind in KINDS:
            if options.match in kind:
                for result in await _flooded(environment, kind, options):
                    yield result


async def _flooded(environment: SimulatedEnvironment, kind: str, options: Options) -> list[Result]:
    """
    Flood a new function, and return the results.

    With a burst, the sender uses up the processors of a small machine, so the seconds until an answer have no target
    then. A burst comes once.
    """
    turn, runs, target = (BURST_SECONDS, 1, None) if kind == BURST else (TURN_SECONDS, options.runs, TARGET)
    times: dict[str, list[float]] = {"": [], kind: []}
    sent = 0
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(environment.saffire(SAFFIRE_SWEEP_INTERVAL_SECONDS="20"))
        flooder = await stack.enter_async_context(Child("bench.harness.flooder", url=served.url))
        await asyncio.to_thread(_answer_times, served.url, _WARM_UP_SECONDS)
        idle = resident(served.pid)
        for flood in ("", kind) * runs:
            await flooder.ask(flood=flood)
            await asyncio.to_thread(_answer_times, served.url, _WARM_UP_SECONDS)
            times[flood] += await asyncio.to_thread(_answer_times, served.url, turn if flood else TURN_SECONDS)
            sent += (await flooder.ask(flood=""))["sent"]
        over_idle = peak(served.pid) - idle
    options.say(f"flood: {sent} requests ({kind}), {len(times[kind])} honest Events answered 200, {idle:.0f} MiB idle")
    return [
        Result(
            figure=f"{NAME}: {kind}, an ignored Event's answer, p99",
            unit="s",
            value=percentile(times[kind], 99),
            baseline=percentile(times[""], 99),
            target=target,
        ),
        Result(figure=f"{NAME}: {kind}, peak memory over idle", unit="MiB", value=over_idle, target=MEMORY_TARGET),
    ]


def _answer_times(url: str, seconds: float) -> list[float]:
    """Send Events that are to be ignored; return the seconds until each answer. Raise if an answer is not 200."""
    times: list[float] = []
    end = time.monotonic() + seconds
    with RawConnection(url) as connection:
        for event in itertools.cycle(requests(url)):
            began = time.perf_counter()
            connection.post(event)
            times.append(time.perf_counter() - began)
            time.sleep(_GAP_SECONDS)
            if time.monotonic() > end:
                break
    return times
