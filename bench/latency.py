"""
From the delivery of an Event to the workload's patch, beside a bare script that sends the same requests.

One workload fails at a time, in turns for Saffire and for the script; nodes and controllers stand still meanwhile, and
as everywhere a sweep comes every minute. When a patch was answered is what the API server's audit log says of both.
"""

import functools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.child import Child
from bench.percentiles import percentile
from bench.playhouse import Playhouse, all_of, opened, patched_at, still
from bench.registries import DEAD, OLD
from bench.result import Options, Result
from bench.scenery import add_source, deployments, failure_of, open_namespace, path_of, workload
from playground.polling import until
from playground.served import ServedFunction
from testkit.api.function_client import Door

NAME = "latency"
TARGETS = {50: 1.5, 99: 3.0}
NAMESPACES = 20
ROUNDS_PER_RUN = 2
SWEEP_SECONDS = 60

_NAMES = [f"shop-{number}" for number in range(NAMESPACES)]
_FASTER = 20


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure."""
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(opened())
        nodes = await stack.enter_async_context(house.nodes(1, faster=_FASTER, dead=[DEAD]))
        served = await stack.enter_async_context(house.saffire())
        bare = await stack.enter_async_context(house.bare())
        await all_of(functools.partial(open_namespace, house.api), _NAMES)
        await all_of(lambda name: add_source(house.api, name, house.alive.domain), _NAMES)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        swept = time.monotonic()
        for number in range(1 + options.runs * ROUNDS_PER_RUN):
            if time.monotonic() - swept > SWEEP_SECONDS:
                swept = time.monotonic()
                async with Door(served.url) as door:
                    await door.ping()
            measured = await _round(house, nodes, served, bare, number)
            if number:  # connections are opened in the first
                for ours, taken in measured:
                    seconds[ours].append(taken)
    options.say(f"latency: {len(seconds[True])} Events for each")
    for percent, target in TARGETS.items():
        value, yardstick = (percentile(seconds[ours], percent) for ours in (True, False))
        yield Result(
            figure=f"{NAME}: Event to patch, p{percent}", unit="s", value=value, yardstick=yardstick, target=target
        )


async def _round(
    house: Playhouse, nodes: Child, served: ServedFunction, bare: Child, number: int
) -> list[tuple[bool, float]]:
    """Have a workload fail in each namespace, move them one by one, and return who took how many seconds."""
    path = "/apis/apps/v1/namespaces/{}/deployments"
    name = f"web-{number}"
    await all_of(lambda each: house.api.post(path.format(each), workload(name, 1)), _NAMES)
    events = {namespace: await failure_of(house.api, namespace) for namespace in _NAMES}
    measured = []
    async with Door(served.url) as door:
        with still(house, nodes):
            for index, (namespace, event) in enumerate(events.items()):
                ours = (index + number) % 2 == 0
                mark, began = house.audit.mark(), time.time()
                if ours:
                    await door.post(event)  # which waits, so that the script has the API server for itself
                else:
                    pod = event["involvedObject"]["name"]
                    await bare.ask(do="move", namespace=namespace, pod=pod, before=OLD, after=house.alive.new)
                measured.append((ours, patched_at(house, mark) - began))
    await all_of(lambda one: house.api.delete(path_of(one)), await deployments(house.api, _NAMES))
    await until(functools.partial(_is_empty, house))
    return measured


async def _is_empty(house: Playhouse) -> bool:
    """Say whether no pod is left in any namespace."""
    return not (await house.api.get("/api/v1/pods", limit="1"))["items"]
