"""
An outage, played: everything runs, its registry dies, and Saffire moves it.

All that plays shares a few cores with Saffire here, and an API server that rolls out a thousand Deployments answers
nobody soon. So before the Events are delivered, every kubelet has told its own, and then controllers and nodes stand
still: the storm is paced by its serial source alone, and so are the baselines of the same play, the same Events
delivered to a function that does nothing, and the same workloads patched by a bare script. A storm that is `live` goes
on while it is repaired: what it costs is told, and how long it takes says more about the machine. Before that, a sweep
sees everything run.
"""

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bench.harness.baseline import operations
from bench.harness.delivery_log import DeliveryLog, latest
from bench.harness.env_simulated import SimulatedEnvironment, opened, still
from bench.harness.fixtures import Size, deployments, path_of, set_up, until_failing
from bench.harness.memory import peak, resident
from bench.harness.raw_http import RawConnection
from bench.harness.targets import EMPTY
from bench.harness.unrelated_events import requests
from playground.served import ServedFunction
from playground.source import EventSource
from playground.stage import NAMESPACE
from testkit.api.function_client import FunctionClient

NODES = 24
IN_FLIGHT = 16
QUIET_SECONDS = 3
DEADLINE_SECONDS = 900
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """
    What was measured of one.

    Args:
        seconds: from the first Event to the last workload patched.
        answered: from the first Event until every pod's failure was delivered, with Saffire.
        delivery: the same, where a function does nothing.
        patches: what the patches of all workloads take the bare script.
        requests: how many Saffire has sent, by verb and resource.
        elsewhere: how many of them were about namespaces without a source.
        memory: peak over idle, in MiB.
        again: how many patches there were beyond one for each workload.

    """

    seconds: float
    answered: float
    delivery: float
    patches: float
    requests: Counter[str]
    elsewhere: int
    memory: float
    again: int


async def play(
    size: Size, say: Callable[[str], None] = lambda _: None, *, nodes: int = NODES, live: bool = False
) -> Storm:
    """Play a storm; raise `TimeoutError` if it does not end well."""
    async with opened() as environment, environment.nodes(nodes) as played, environment.saffire() as served:
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await set_up(environment, size)
        say(f"{size.all_pods} pods run after {time.monotonic() - began:.0f} s")
        with RawConnection(
            served.url
        ) as connection:  # nobody is idle who was never asked: with the first request more is imported
            connection.post(requests(served.url)[0])
        await asyncio.sleep(QUIET_SECONDS)
        idle = resident(served.pid)
        async with FunctionClient(served.url) as client:
            await client.ping()
        with contextlib.ExitStack() as stack:
            since = await latest(environment.api)
            await environment.lose(played)
            if not live:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await until_failing(environment.api, size)
                stack.enter_context(still(environment, played))
            first, ear = await _deliver(environment, served, since, functools.partial(_is_over, size))
            memory = peak(served.pid) - idle
            entries = environment.audit.entries(ear.mark)
            last, answered = max(ear.patched.values()) - first, max(ear.failed.values()) - first
            say(f"moved after {last:.1f} s; {len(ear.delivered)} Events, of every pod after {answered:.1f} s")
            if live:
                stack.enter_context(still(environment, played))
            async with ServedFunction(environment.kubeconfig, EMPTY) as empty:
                again, heard = await _deliver(
                    environment, empty, since, lambda other: len(other.failed) >= len(ear.failed)
                )
            delivery = max(heard.failed.values()) - again
            patches = await _patch_by_hand(environment, size)
        say(f"the same Events to an empty function: {delivery:.1f} s; patches by hand: {patches:.1f} s")
        without = set(size.names) - set(size.names_with_source)
        return Storm(
            seconds=last,
            answered=answered,
            delivery=delivery,
            patches=patches,
            requests=Counter(f"{entry['verb']} {entry['objectRef']['resource']}" for entry in entries),
            elsewhere=sum(entry["objectRef"].get("namespace") in without for entry in entries),
            memory=memory,
            again=ear.again,
        )


def _is_over(size: Size, ear: DeliveryLog) -> bool:
    """Say whether all is moved, and no failed pull is told of any more."""
    ear.listen()
    heard = bool(ear.failed) and time.time() - max(ear.failed.values()) > QUIET_SECONDS
    return heard and len(ear.patched) >= size.moving


async def _deliver(
    environment: SimulatedEnvironment, sink: ServedFunction, since: str, is_over: Callable[[DeliveryLog], bool]
) -> tuple[float, DeliveryLog]:
    """Deliver all Events from a version on, until it is over; return when that began, and what was heard."""
    ear = DeliveryLog(environment.audit)
    began = time.time()
    async with (
        await environment.plane.api_for(NAMESPACE, "saffire-source") as events,
        EventSource(events, sink.url, namespace=NAMESPACE, since=since, on_delivery=ear.on_delivery),
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        while not is_over(ear):  # noqa: ASYNC110 -- the audit log is a file
            await asyncio.sleep(_POLL_SECONDS)
    if ear.refused:
        raise ValueError(f"{ear.refused} Events were not taken")
    return began, ear


async def _patch_by_hand(environment: SimulatedEnvironment, size: Size) -> float:
    """Have the bare script patch all that was moved, and return how many seconds that took."""
    live = await deployments(environment.api, size.names_with_source)
    new, another = environment.alive.new, f"{environment.alive.new}.1"
    patches = [{"path": path_of(deployment), "operations": operations(deployment, new, another)} for deployment in live]
    async with environment.baseline() as baseline:
        began = time.perf_counter()
        await baseline.ask(do="patch", patches=patches, at_once=IN_FLIGHT)
        return time.perf_counter() - began
