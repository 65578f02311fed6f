"""
A simulated outage: everything runs, the registry fails, and Saffire moves the workloads.

All simulated parts share a few cores with Saffire, and an API server that rolls out a thousand Deployments is slow to
answer. So the Events are delivered only after every kubelet has written its own, and then controllers and nodes are
paused. What sets the pace is the event source alone, which sends one Event at a time. The baselines of the same run are
paced like that too: the same Events, delivered to a function that does nothing, and the same workloads, patched by a
script.

In a storm that is `live`, nodes and controllers keep running. Its costs are results; its duration says more about the
machine. Before every outage, Saffire sweeps while everything runs, until it knows the registry.
"""

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.harness.baseline import operations
from bench.harness.dealing_source import DealingSource
from bench.harness.delivery_log import DeliveryLog, latest
from bench.harness.env_simulated import SimulatedEnvironment, open_environment, paused
from bench.harness.fixtures import Size, deployments, path_of, set_up, sources_path, until_failing
from bench.harness.raw_http import RawConnection
from bench.harness.registries import DEAD
from bench.harness.targets import EMPTY
from bench.harness.unrelated_events import requests
from playground.cluster.polling import until
from playground.environment import NAMESPACE
from playground.eventsource.apiserversource import ApiServerSource
from playground.function_process import FunctionProcess
from testkit.api.function_client import FunctionClient
from testkit.memory import peak, resident

NODES = 24
IN_FLIGHT = 16
QUIET_SECONDS = 3
DEADLINE_SECONDS = 900
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """
    What was measured in a storm.

    Args:
        seconds: from the first Event to the last workload patched.
        answered: from the first Event until the failure of every pod was delivered, to Saffire.
        delivery: the same, to a function that does nothing.
        patches: how long the script takes to patch all workloads.
        requests: how many requests Saffire sent, by verb and resource.
        requests_without_source: how many of them were about namespaces without a source.
        memory: peak minus idle, in MiB.
        repeated_patches: how many patches there were beyond one for each workload.

    """

    seconds: float
    answered: float
    delivery: float
    patches: float
    requests: Counter[str]
    requests_without_source: int
    memory: float
    repeated_patches: int


async def run_storm(
    size: Size,
    say: Callable[[str], None] = lambda _: None,
    *,
    nodes: int = NODES,
    live: bool = False,
    instances: int = 1,
) -> Storm:
    """
    Run a storm; raise `TimeoutError` if not every workload is moved.

    Several `instances` of Saffire share the Events. Then `memory` is that of the largest.
    """
    async with (
        open_environment() as environment,
        environment.nodes(nodes) as simulated_nodes,
        contextlib.AsyncExitStack() as started,
    ):
        all_served = [await started.enter_async_context(environment.saffire()) for _ in range(instances)]
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await set_up(environment, size)
        say(f"{size.all_pods} pods run after {time.monotonic() - began:.0f} s")
        for served in all_served:  # before its idle memory is read: the first request imports more
            with RawConnection(served.url) as connection:
                connection.post(requests(served.url)[0])
        await asyncio.sleep(QUIET_SECONDS)
        idle = [resident(served.pid) for served in all_served]
        for served in all_served:
            async with FunctionClient(served.url) as client:
                await until(functools.partial(_has_swept, environment, client, size))
        with contextlib.ExitStack() as stack:
            since = await latest(environment.api)
            await environment.lose(simulated_nodes)
            if not live:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await until_failing(environment.api, size)
                stack.enter_context(paused(environment, simulated_nodes))
            first, log = await _deliver(environment, all_served, since, functools.partial(_is_over, size))
            memory = max(peak(served.pid) - before for served, before in zip(all_served, idle, strict=True))
            entries = environment.audit.entries(log.mark)
            last, answered = max(log.patched.values()) - first, max(log.failed.values()) - first
            say(f"moved after {last:.1f} s; {len(log.delivered)} Events, of every pod after {answered:.1f} s")
            if live:
                stack.enter_context(paused(environment, simulated_nodes))
            async with FunctionProcess(environment.kubeconfig, EMPTY) as empty:
                second_began, other_log = await _deliver(
                    environment, [empty], since, lambda other: len(other.failed) >= len(log.failed)
                )
            delivery = max(other_log.failed.values()) - second_began
            patches = await _patch_by_script(environment, size)
        say(f"the same Events to an empty function: {delivery:.1f} s; patches by the script: {patches:.1f} s")
        without = set(size.names) - set(size.names_with_source)
        return Storm(
            seconds=last,
            answered=answered,
            delivery=delivery,
            patches=patches,
            requests=Counter(f"{entry['verb']} {entry['objectRef']['resource']}" for entry in entries),
            requests_without_source=sum(entry["objectRef"].get("namespace") in without for entry in entries),
            memory=memory,
            repeated_patches=log.repeated_patches,
        )


async def _has_swept(environment: SimulatedEnvironment, client: FunctionClient, size: Size) -> bool:
    """
    Sweep, and say whether a source's status tells by now that the registry has answered Saffire.

    The silence of a registry that never answered would prove no outage.
    """
    await client.ping()
    [source] = (await environment.api.get(sources_path(size.names_with_source[0])))["items"]
    registries = source.get("status", {}).get("registries", [])
    return any(entry["registry"] == DEAD for entry in registries)


def _is_over(size: Size, log: DeliveryLog) -> bool:
    """Say whether all workloads are moved, and for some seconds no failed pull was delivered."""
    log.read_audit_log()
    other_log = bool(log.failed) and time.time() - max(log.failed.values()) > QUIET_SECONDS
    return other_log and len(log.patched) >= size.moving


async def _deliver(
    environment: SimulatedEnvironment,
    sinks: Sequence[FunctionProcess],
    since: str,
    is_over: Callable[[DeliveryLog], bool],
) -> tuple[float, DeliveryLog]:
    """Deliver all Events from a resource version on, until `is_over`. Return when the delivery began, and its log."""
    log = DeliveryLog(environment.audit)
    urls = [sink.url for sink in sinks]
    began = time.time()
    async with (
        await environment.plane.api_for(NAMESPACE, "saffire-source") as events,
        DealingSource(events, urls, namespace=NAMESPACE, since=since, on_delivery=log.on_delivery)
        if len(urls) > 1
        else ApiServerSource(events, urls[0], namespace=NAMESPACE, since=since, on_delivery=log.on_delivery),
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        while not is_over(log):  # noqa: ASYNC110 -- the audit log is a file
            await asyncio.sleep(_POLL_SECONDS)
    if log.refused:
        raise ValueError(f"{log.refused} Events were not taken")
    return began, log


async def _patch_by_script(environment: SimulatedEnvironment, size: Size) -> float:
    """Have the baseline script patch all workloads, and return how many seconds it took."""
    live = await deployments(environment.api, size.names_with_source)
    new, another = environment.alive.new, f"{environment.alive.new}.1"
    patches = [{"path": path_of(deployment), "operations": operations(deployment, new, another)} for deployment in live]
    async with environment.baseline() as baseline:
        began = time.perf_counter()
        await baseline.ask(do="patch", patches=patches, at_once=IN_FLIGHT)
        return time.perf_counter() - began
