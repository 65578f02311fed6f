"""
The time from the delivery of an Event to the patch of the workload.

The baseline is a script that sends the same requests. One workload fails at a time, for Saffire and for the script by
turns. Meanwhile nodes and controllers are paused; a sweep comes every minute, as in production. The API server's audit
log says when a patch was answered, for both.
"""

import functools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.harness.child_process import Child
from bench.harness.env_simulated import SimulatedEnvironment, for_all, open_environment, patched_at, paused
from bench.harness.fixtures import add_source, deployments, failure_of, open_namespace, path_of, workload
from bench.harness.percentiles import percentile
from bench.harness.registries import OLD
from bench.report.result import Options, Result
from playground.cluster.polling import until
from playground.function_process import FunctionProcess
from testkit.api.function_client import FunctionClient

NAME = "latency"
TARGETS = {50: 1.5, 99: 3.0}
NAMESPACES = 20
ROUNDS_PER_RUN = 2
SWEEP_SECONDS = 60

_NAMES = [f"shop-{number}" for number in range(NAMESPACES)]
_FASTER = 20


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure in rounds, and yield the percentiles of Saffire beside those of the script."""
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(open_environment())
        nodes = await stack.enter_async_context(environment.nodes(1, faster=_FASTER))
        await environment.lose(nodes)
        served = await stack.enter_async_context(environment.saffire())
        script = await stack.enter_async_context(environment.baseline())
        await for_all(functools.partial(open_namespace, environment.api), _NAMES)
        await for_all(lambda name: add_source(environment.api, name, environment.alive.domain), _NAMES)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        swept = time.monotonic()
        for number in range(1 + options.runs * ROUNDS_PER_RUN):
            if time.monotonic() - swept > SWEEP_SECONDS:
                swept = time.monotonic()
                async with FunctionClient(served.url) as client:
                    await client.ping()
            measured = await _round(environment, nodes, served, script, number)
            if number:  # the first round opens the connections
                for ours, taken in measured:
                    seconds[ours].append(taken)
    options.say(f"latency: {len(seconds[True])} Events each for Saffire and the baseline")
    for percent, target in TARGETS.items():
        value, baseline = (percentile(seconds[ours], percent) for ours in (True, False))
        yield Result(
            figure=f"{NAME}: Event to patch, p{percent}", unit="s", value=value, baseline=baseline, target=target
        )


async def _round(
    environment: SimulatedEnvironment, nodes: Child, served: FunctionProcess, script: Child, number: int
) -> list[tuple[bool, float]]:
    """Have one workload fail in each namespace, repair one after the other, and return the seconds of each repair."""
    path = "/apis/apps/v1/namespaces/{}/deployments"
    name = f"web-{number}"
    await for_all(lambda namespace: environment.api.post(path.format(namespace), workload(name, 1)), _NAMES)
    events = {namespace: await failure_of(environment.api, namespace) for namespace in _NAMES}
    measured = []
    async with FunctionClient(served.url) as client:
        with paused(environment, nodes):
            for index, (namespace, event) in enumerate(events.items()):
                ours = (index + number) % 2 == 0
                mark, began = environment.audit.mark(), time.time()
                if ours:
                    await client.post(
                        event
                    )  # it returns after the repair, so that the script has the API server for itself
                else:
                    pod = event["involvedObject"]["name"]
                    await script.ask(do="move", namespace=namespace, pod=pod, before=OLD, after=environment.alive.new)
                measured.append((ours, patched_at(environment, mark) - began))
    await for_all(
        lambda deployment: environment.api.delete(path_of(deployment)), await deployments(environment.api, _NAMES)
    )
    await until(functools.partial(_is_empty, environment))
    return measured


async def _is_empty(environment: SimulatedEnvironment) -> bool:
    """Say whether no namespace has a pod any more."""
    return not (await environment.api.get("/api/v1/pods", limit="1"))["items"]
