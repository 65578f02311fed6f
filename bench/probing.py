"""
What asking registries adds to a failover: from the delivery of an Event to the patch, beside the same without asking.

Two alternatives are asked at once, over TLS. Each answer of theirs comes 20 ms after its request, and for each
repository they want a token, which is one more question. One workload fails at a time, in turns for each way of asking.
"""

import asyncio
import functools
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from api.door import Door
from asking import WEB, authority
from registries import Registry, raw

from bench.percentiles import percentile
from bench.playhouse import Playhouse, all_of, opened, patched_at
from bench.registries import DEAD
from bench.result import Options, Result
from bench.scenery import add_source, failure_of, open_namespace, workload
from playground.served import ServedFunction

NAME = "probing"
ANSWER_SECONDS = 0.02
MOST_MS = 50
BUDGET_SECONDS = 1.5
BUDGET_RATIO = 1.05
TURNS_PER_RUN = 3

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
    """The alternatives of each way of asking, by its name: a pair of registries for each turn."""

    pairs: Mapping[str, list[tuple[str, ...]]]
    environ: Mapping[str, str]

    def turns(self) -> Iterator[tuple[str, int, tuple[str, ...]]]:
        """Yield way, number and registries of each turn; the ways take turns, and which of them comes first, too."""
        ways = list(self.pairs)
        for number in range(len(self.pairs[_OFF])):
            first = number % len(ways)
            yield from ((way, number, self.pairs[way][number]) for way in ways[first:] + ways[:first])


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure."""
    turns = 1 + options.runs * TURNS_PER_RUN
    async with AsyncExitStack() as stack:
        market = await _open(stack, turns)
        house = await stack.enter_async_context(opened())
        await stack.enter_async_context(house.nodes(1, faster=_FASTER, dead=[DEAD]))
        served = await stack.enter_async_context(house.saffire(**market.environ))
        await _set_up(house, market)
        seconds: dict[str, list[float]] = {way: [] for way in market.pairs}
        for way, number, _ in market.turns():
            taken = await _move(house, served, _namespace(way, number), number)
            if number:  # connections are opened in the first
                seconds[way].append(taken)
    off = percentile(seconds[_OFF], 50)
    added = {way: percentile(seconds[way], 50) - off for way in _MEANINGS}
    options.say(f"probing: {turns - 1} Events for each way, {off * 1000:.0f} ms without asking")
    for way in (_KNOWN, _NEW):
        target = MOST_MS if way == _KNOWN else None
        yield Result(figure=f"{NAME}: {_MEANINGS[way]}, p50", unit="ms", value=added[way] * 1000, target=target)
    yield Result(
        figure=f"{NAME}: {_MEANINGS[_SILENT]} (yardstick: one budget), p50",
        unit="s",
        value=added[_SILENT],
        yardstick=BUDGET_SECONDS,
        target=BUDGET_RATIO,
    )


async def _open(stack: AsyncExitStack, turns: int) -> _Market:
    """Open all registries: whoever was silent is not asked again for a while, and is another one in each turn."""
    file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-bench-"))) / "authority.pem"
    file.write_bytes(authority().pem)
    tls = authority().server("127.0.0.1")
    known = await _answering(stack, tls, turns)
    pairs = {
        _OFF: [known] * turns,
        _KNOWN: [known] * turns,
        _NEW: [await _answering(stack, tls, turns) for _ in range(turns)],
        _SILENT: [tuple([await stack.enter_async_context(raw(None)) for _ in range(_PAIR)]) for _ in range(turns)],
    }
    domains = {domain for way in pairs.values() for pair in way for domain in pair}
    insecure = ",".join(sorted({DEAD, *domains}))
    return _Market(pairs=pairs, environ={"SAFFIRE_INSECURE_REGISTRIES": insecure, "SSL_CERT_FILE": str(file)})


async def _answering(stack: AsyncExitStack, tls: ssl.SSLContext, turns: int) -> tuple[str, ...]:
    """Open a pair of registries that have the image of each turn, and want tokens."""
    pair = []
    for _ in range(_PAIR):
        registry = await stack.enter_async_context(Registry(tls))
        registry.challenge, registry.shape = "Bearer", _in_time
        for number in range(turns):
            registry.push(f"acme/{_name(number)}:v1", WEB)
        pair.append(registry.domain)
    return tuple(pair)


async def _in_time(_: web.Request) -> None:
    """Answer as always, after a while."""
    await asyncio.sleep(ANSWER_SECONDS)


async def _set_up(house: Playhouse, market: _Market) -> None:
    """Open a namespace with a source for each turn."""
    places = {_namespace(way, number): (way, pair) for way, number, pair in market.turns()}
    await all_of(functools.partial(open_namespace, house.api), places)

    async def declare(name: str) -> None:
        way, pair = places[name]
        await add_source(house.api, name, *pair, verification="Off" if way == _OFF else "BestEffort")

    await all_of(declare, places)


async def _move(house: Playhouse, served: ServedFunction, namespace: str, number: int) -> float:
    """Have a workload fail, and return after how many seconds it was moved."""
    made = workload(_name(number), 1, f"{DEAD}/acme/{_name(number)}:v1")
    await house.api.post(f"/apis/apps/v1/namespaces/{namespace}/deployments", made)
    event = await failure_of(house.api, namespace)
    async with Door(served.url) as door:
        mark, began = house.audit.mark(), time.time()
        await door.post(event, waits=False)
    return patched_at(house, mark) - began


def _namespace(way: str, number: int) -> str:
    return f"{way}-{number}"


def _name(number: int) -> str:
    """Return the workload of a turn, whose image has that name too: no registry was asked for it before."""
    return f"web-{number}"
