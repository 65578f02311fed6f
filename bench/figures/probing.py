"""
What asking registries adds to a failover: from the delivery of an Event to the patch, beside the same without asking.

Two alternatives are asked at once, over TLS. Each answer of theirs comes 20 ms after its request, and for each
repository they want a token, which is one more question. One workload fails at a time, in turns for each way of asking;
nodes and controllers stand still meanwhile.
"""

import asyncio
import functools
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from bench.harness.child_process import Child
from bench.harness.env_simulated import SimulatedEnvironment, all_of, opened, patched_at, still
from bench.harness.fixtures import add_source, failure_of, open_namespace, workload
from bench.harness.percentiles import percentile
from bench.harness.registries import DEAD
from bench.report.result import Options, Result
from playground.served import ServedFunction
from testkit.api.function_client import FunctionClient
from testkit.check_registry import WEB, authority
from testkit.scripted_registry import Registry, raw

NAME = "probing"
ANSWER_SECONDS = 0.02
MOST_MS = 50
BUDGET_SECONDS = 1.5
BUDGET_RATIO = 1.05
ROUNDS_PER_RUN = 3

_FASTER = 20
_PAIR = 2
_OFF, _KNOWN, _NEW, _SILENT = "off", "known", "new", "silent"
_MEANINGS = {
    _KNOWN: "registries that answer, added",
    _NEW: "registries never asked before, added",
    _SILENT: "registries that do not answer, added",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Market:
    """The alternatives of each way of asking, by its name: a pair of registries for each round."""

    pairs: Mapping[str, list[tuple[str, ...]]]
    environ: Mapping[str, str]

    def names(self, number: int) -> dict[str, str]:
        """Return the namespace of each way in one round, in its order: who comes first goes round too."""
        ways = list(self.pairs)
        first = number % len(ways)
        return {way: _namespace(way, number) for way in ways[first:] + ways[:first]}


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure."""
    rounds = 1 + options.runs * ROUNDS_PER_RUN
    async with AsyncExitStack() as stack:
        market = await _open(stack, rounds)
        environment = await stack.enter_async_context(opened())
        nodes = await stack.enter_async_context(environment.nodes(1, faster=_FASTER, dead=[DEAD]))
        served = await stack.enter_async_context(environment.saffire(**market.environ))
        await _set_up(environment, market)
        seconds: dict[str, list[float]] = {way: [] for way in market.pairs}
        for number in range(rounds):
            taken = await _round(environment, nodes, served, market.names(number), number)
            for way in taken if number else ():  # connections are opened in the first
                seconds[way].append(taken[way])
    off = percentile(seconds[_OFF], 50)
    added = {way: percentile(seconds[way], 50) - off for way in _MEANINGS}
    options.say(f"probing: {rounds - 1} Events for each way, {off * 1000:.0f} ms without asking")
    for way in (_KNOWN, _NEW):
        target = MOST_MS if way == _KNOWN else None
        yield Result(figure=f"{NAME}: {_MEANINGS[way]}, p50", unit="ms", value=added[way] * 1000, target=target)
    yield Result(
        figure=f"{NAME}: {_MEANINGS[_SILENT]} (baseline: one budget), p50",
        unit="s",
        value=added[_SILENT],
        baseline=BUDGET_SECONDS,
        target=BUDGET_RATIO,
    )


async def _open(stack: AsyncExitStack, rounds: int) -> _Market:
    """Open all registries: whoever was silent is not asked again for a while, so each round has its own."""
    file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-bench-"))) / "authority.pem"
    file.write_bytes(authority().pem)
    tls = authority().server("127.0.0.1")
    known = await _answering(stack, tls, rounds)
    pairs = {
        _OFF: [known] * rounds,
        _KNOWN: [known] * rounds,
        _NEW: [await _answering(stack, tls, rounds) for _ in range(rounds)],
        _SILENT: [tuple([await stack.enter_async_context(raw(None)) for _ in range(_PAIR)]) for _ in range(rounds)],
    }
    domains = {domain for way in pairs.values() for pair in way for domain in pair}
    insecure = ",".join(sorted({DEAD, *domains}))
    return _Market(pairs=pairs, environ={"SAFFIRE_INSECURE_REGISTRIES": insecure, "SSL_CERT_FILE": str(file)})


async def _answering(stack: AsyncExitStack, tls: ssl.SSLContext, rounds: int) -> tuple[str, ...]:
    """Open a pair of registries that have the image of each round, and want tokens."""
    pair = []
    for _ in range(_PAIR):
        registry = await stack.enter_async_context(Registry(tls))
        registry.challenge, registry.shape = "Bearer", _in_time
        for number in range(rounds):
            registry.push(f"acme/{_name(number)}:v1", WEB)
        pair.append(registry.domain)
    return tuple(pair)


async def _in_time(_: web.Request) -> None:
    """Answer as always, after a while."""
    await asyncio.sleep(ANSWER_SECONDS)


async def _set_up(environment: SimulatedEnvironment, market: _Market) -> None:
    """Open a namespace with a source for each way and round."""
    pairs = {_namespace(way, number): pair for way in market.pairs for number, pair in enumerate(market.pairs[way])}
    await all_of(functools.partial(open_namespace, environment.api), pairs)

    async def declare(name: str) -> None:
        verification = "Off" if name.startswith(_OFF) else "BestEffort"
        await add_source(environment.api, name, *pairs[name], verification=verification)

    await all_of(declare, pairs)


async def _round(
    environment: SimulatedEnvironment, nodes: Child, served: ServedFunction, names: Mapping[str, str], number: int
) -> dict[str, float]:
    """Have a workload fail in each namespace, move them one by one, and return who took how many seconds."""
    made = workload(_name(number), 1, f"{DEAD}/acme/{_name(number)}:v1")
    await all_of(
        lambda name: environment.api.post(f"/apis/apps/v1/namespaces/{name}/deployments", made), names.values()
    )
    events = {way: await failure_of(environment.api, name) for way, name in names.items()}
    taken = {}
    async with FunctionClient(served.url) as client:
        with still(environment, nodes):
            for way, event in events.items():
                mark, began = environment.audit.mark(), time.time()
                await client.post(event)
                taken[way] = patched_at(environment, mark) - began
    return taken


def _namespace(way: str, number: int) -> str:
    return f"{way}-{number}"


def _name(number: int) -> str:
    """Return the workload of a round, whose image has that name too: no registry was asked for it before."""
    return f"web-{number}"
