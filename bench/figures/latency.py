"""
From the delivery of an Event to the workload's patch, beside a bare script that sends the same requests.

One workload fails at a time, in turns for Saffire and for the script; nodes and controllers stand still meanwhile, and
as everywhere a sweep comes every minute. When a patch was answered is what the API server's audit log says of both.
"""

import functools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.harness.child_process import Child
from bench.harness.env_simulated import SimulatedEnvironment, all_of, opened, patched_at, still
from bench.harness.fixtures import add_source, deployments, failure_of, open_namespace, path_of, workload
from bench.harness.percentiles import percentile
from bench.harness.registries import DEAD, OLD
from bench.report.result import Options, Result
from playground.polling import until
from playground.served import ServedFunction
from testkit.api.function_client import FunctionClient

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
        environment = await stack.enter_async_context(opened())
        nodes = await stack.enter_async_context(environment.nodes(1, faster=_FASTER, dead=[DEAD]))
        served = await stack.enter_async_context(environment.saffire())
        script = await stack.enter_async_context(environment.baseline())
        await all_of(functools.partial(open_namespace, environment.api), _NAMES)
        await all_of(lambda name: add_source(environment.api, name, environment.alive.domain), _NAMES)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        swept = time.monotonic()
        for number in range(1 + options.runs * ROUNDS_PER_RUN):
            if time.monotonic() - swept > SWEEP_SECONDS:
                swept = time.monotonic()
                async with FunctionClient(served.url) as client:
                    await client.ping()
            measured = await _round(environment, nodes, served, script, number)
            if number:  # connections are opened in the first
                for ours, taken in measured:
                    seconds[ours].append(taken)
    options.say(f"latency: {len(seconds[True])} Events for each")
    for percent, target in TARGETS.items():
        value, baseline = (percentile(seconds[ours], percent) for ours in (True, False))
        yield Result(
            figure=f"{NAME}: Event to patch, p{percent}", unit="s", value=value, baseline=baseline, target=target
        )


async def _round(
    environment: SimulatedEnvironment, nodes: Child, served: ServedFunction, script: Child, number: int
) -> list[tuple[bool, float]]:
    """Have a workload fail in each namespace, move them one by one, and return who took how many seconds."""
    path = "/apis/apps/v1/namespaces/{}/deployments"
    name = f"web-{number}"
    await all_of(lambda namespace: environment.api.post(path.format(namespace), workload(name, 1)), _NAMES)
    events = {namespace: await failure_of(environment.api, namespace) for namespace in _NAMES}
    measured = []
    async with FunctionClient(served.url) as client:
        with still(environment, nodes):
            for index, (namespace, event) in enumerate(events.items()):
                ours = (index + number) % 2 == 0
                mark, began = environment.audit.mark(), time.time()
                if ours:
                    await client.post(event)  # which waits, so that the script has the API server for itself
                else:
                    pod = event["involvedObject"]["name"]
                    await script.ask(do="move", namespace=namespace, pod=pod, before=OLD, after=environment.alive.new)
                measured.append((ours, patched_at(environment, mark) - began))
    await all_of(
        lambda deployment: environment.api.delete(path_of(deployment)), await deployments(environment.api, _NAMES)
    )
    await until(functools.partial(_is_empty, environment))
    return measured


async def _is_empty(environment: SimulatedEnvironment) -> bool:
    """Say whether no pod is left in any namespace."""
    return not (await environment.api.get("/api/v1/pods", limit="1"))["items"]
