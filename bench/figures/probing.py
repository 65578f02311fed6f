"""
What checking alternatives adds to a failover: the time from the delivery of an Event to the patch, with and without.

Two alternatives are checked at once, over TLS. Each answers 20 ms after a request, and wants a token for each
repository, which is one more request. One workload fails at a time, by turns for each way of checking. Meanwhile nodes
and controllers are paused.
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
from bench.harness.env_simulated import SimulatedEnvironment, for_all, open_environment, patched_at, paused
from bench.harness.fixtures import add_source, failure_of, open_namespace, workload
from bench.harness.percentiles import percentile
from bench.harness.registries import DEAD
from bench.report.result import Options, Result
from playground.function_process import FunctionProcess
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
class _RegistryPairs:
    """The alternatives of each case, by its name: a pair of registries for each round."""

    pairs: Mapping[str, list[tuple[str, ...]]]
    environ: Mapping[str, str]

    def names(self, number: int) -> dict[str, str]:
        """Return the namespace of each case in one round. The case that comes first changes with each round."""
        cases = list(self.pairs)
        first = number % len(cases)
        return {case: _namespace(case, number) for case in cases[first:] + cases[:first]}


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure in rounds, and yield what each case adds to a failover without checks."""
    rounds = 1 + options.runs * ROUNDS_PER_RUN
    async with AsyncExitStack() as stack:
        registries = await _open(stack, rounds)
        environment = await stack.enter_async_context(open_environment())
        nodes = await stack.enter_async_context(environment.nodes(1, faster=_FASTER))
        await environment.lose(nodes)
        served = await stack.enter_async_context(environment.saffire(**registries.environ))
        await _set_up(environment, registries)
        seconds: dict[str, list[float]] = {case: [] for case in registries.pairs}
        for number in range(rounds):
            taken = await _round(environment, nodes, served, registries.names(number), number)
            for case in taken if number else ():  # the first round opens the connections
                seconds[case].append(taken[case])
    off = percentile(seconds[_OFF], 50)
    added = {case: percentile(seconds[case], 50) - off for case in _MEANINGS}
    options.say(f"probing: {rounds - 1} Events for each case, {off * 1000:.0f} ms without checks")
    for case in (_KNOWN, _NEW):
        target = MOST_MS if case == _KNOWN else None
        yield Result(figure=f"{NAME}: {_MEANINGS[case]}, p50", unit="ms", value=added[case] * 1000, target=target)
    yield Result(
        figure=f"{NAME}: {_MEANINGS[_SILENT]} (baseline: one budget), p50",
        unit="s",
        value=added[_SILENT],
        baseline=BUDGET_SECONDS,
        target=BUDGET_RATIO,
    )


async def _open(stack: AsyncExitStack, rounds: int) -> _RegistryPairs:
    """
    Open all registries.

    Saffire does not check a registry that was silent again for a while, so each round has its own.
    """
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
    domains = {domain for case in pairs.values() for pair in case for domain in pair}
    insecure = ",".join(sorted({DEAD, *domains}))
    return _RegistryPairs(pairs=pairs, environ={"SAFFIRE_INSECURE_REGISTRIES": insecure, "SSL_CERT_FILE": str(file)})


async def _answering(stack: AsyncExitStack, tls: ssl.SSLContext, rounds: int) -> tuple[str, ...]:
    """Open a pair of registries that have the image of each round, and ask for tokens."""
    pair = []
    for _ in range(_PAIR):
        registry = await stack.enter_async_context(Registry(tls))
        registry.challenge, registry.shape = "Bearer", _in_time
        for number in range(rounds):
            registry.push(f"acme/{_name(number)}:v1", WEB)
        pair.append(registry.domain)
    return tuple(pair)


async def _in_time(_: web.Request) -> None:
    """Leave the answer to the registry, after a delay."""
    await asyncio.sleep(ANSWER_SECONDS)


async def _set_up(environment: SimulatedEnvironment, registries: _RegistryPairs) -> None:
    """Create a namespace with a source for each case and round."""
    pairs = {
        _namespace(case, number): pair
        for case in registries.pairs
        for number, pair in enumerate(registries.pairs[case])
    }
    await for_all(functools.partial(open_namespace, environment.api), pairs)

    async def declare(name: str) -> None:
        verification = "Off" if name.startswith(_OFF) else "BestEffort"
        await add_source(environment.api, name, *pairs[name], verification=verification)

    await for_all(declare, pairs)


async def _round(
    environment: SimulatedEnvironment, nodes: Child, served: FunctionProcess, names: Mapping[str, str], number: int
) -> dict[str, float]:
    """Have one workload fail in each namespace, repair one after the other, and return the seconds of each case."""
    made = workload(_name(number), 1, f"{DEAD}/acme/{_name(number)}:v1")
    await for_all(
        lambda name: environment.api.post(f"/apis/apps/v1/namespaces/{name}/deployments", made), names.values()
    )
    events = {case: await failure_of(environment.api, name) for case, name in names.items()}
    taken = {}
    async with FunctionClient(served.url) as client:
        with paused(environment, nodes):
            for case, event in events.items():
                mark, began = environment.audit.mark(), time.time()
                await client.post(event)
                taken[case] = patched_at(environment, mark) - began
    return taken


def _namespace(case: str, number: int) -> str:
    return f"{case}-{number}"


def _name(number: int) -> str:
    """Return the name of a round's workload and of its image, for which no registry was asked before."""
    return f"web-{number}"
