"""
What a sweep costs when no workload fails.

It must depend on the namespaces with sources, not on the size of the cluster.

Ten namespaces of ten pods have a source. All further pods are in other namespaces. The smallest cluster is the
baseline.
"""

import asyncio
import contextlib
import functools
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus

from bench.harness.env_simulated import SimulatedEnvironment, for_all, open_environment
from bench.harness.fixtures import add_source, open_namespace
from bench.harness.percentiles import percentile
from bench.harness.registries import OLD
from bench.report.result import Options, Result
from playground.cluster.api import Manifest
from playground.function_process import FunctionProcess
from playground.simulated.api import LEASE_SECONDS, KubeletApi
from playground.simulated.images import Image
from testkit.api.function_client import Answer, FunctionClient

NAME = "sweep"
SIZES = (100, 1000, 10_000)
FLAT = 1.2
SOURCED = 10
PODS = 10
NODE = "node-1"
_PER_NAMESPACE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What sweeps cost: the median of their seconds, and the most requests that any of them sent."""

    seconds: float
    requests: int


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure in a cluster that grows."""
    async with open_environment() as environment, _node(environment), environment.saffire() as served:
        numbers = itertools.count()
        least: Cost | None = None
        before = 0
        for size in SIZES:
            await _grow(environment, before, size, numbers)
            before = size
            cost = await _sweep(environment, served, options.runs)
            options.say(f"sweep of {size} pods: {cost.seconds * 1000:.0f} ms, {cost.requests} requests")
            least = least or cost
            for result in _results(size, cost, least):
                yield result


def _results(size: int, cost: Cost, least: Cost) -> list[Result]:
    about = f"{NAME}: {size:,} pods"
    compared = cost is not least
    return [
        Result(
            figure=f"{about}, API requests",
            unit="",
            value=cost.requests,
            baseline=least.requests if compared else None,
            target=FLAT if compared else None,
        ),
        Result(
            figure=f"{about}, seconds",
            unit="s",
            value=cost.seconds,
            baseline=least.seconds if compared else None,
            target=FLAT if compared else None,
        ),
    ]


async def _grow(environment: SimulatedEnvironment, before: int, size: int, numbers: "itertools.count[int]") -> None:
    """Add pods. The first hundred are in the namespaces with a source."""
    if not before:
        names = [f"shop-{number}" for number in range(SOURCED)]
        await for_all(functools.partial(open_namespace, environment.api), names)
        await for_all(lambda name: add_source(environment.api, name, environment.alive.domain), names)
        places = [name for name in names for _ in range(PODS)]
    else:
        names = [f"other-{next(numbers)}" for _ in range(0, size - before, _PER_NAMESPACE)]
        await for_all(functools.partial(open_namespace, environment.api), names)
        places = list(itertools.islice(itertools.cycle(names), size - before))
    await for_all(functools.partial(_add_pod, environment), enumerate(places))


@contextlib.asynccontextmanager
async def _node(environment: SimulatedEnvironment) -> AsyncIterator[None]:
    """Keep a node alive: the garbage collector deletes pods of a node that does not exist."""
    kubelet = KubeletApi(environment.api)
    await kubelet.register(NODE, "10.0.0.1")

    async def live() -> None:
        while True:
            await kubelet.renew(NODE)
            await asyncio.sleep(LEASE_SECONDS / 4)

    task = asyncio.create_task(live())
    yield
    task.cancel()


async def _add_pod(environment: SimulatedEnvironment, place: tuple[int, str]) -> None:
    """Create a running pod, as the scheduler and a kubelet would."""
    number, namespace = place
    path = f"/api/v1/namespaces/{namespace}/pods"
    await environment.api.post(path, _pod(f"web-{number}"))
    await environment.api.patch(f"{path}/web-{number}/status", {"status": _RUNNING})


async def _sweep(environment: SimulatedEnvironment, served: FunctionProcess, runs: int) -> Cost:
    """Sweep a few times. The first does not count: in it, connections are opened and kinds are discovered."""
    seconds, requests = [], []
    async with FunctionClient(served.url) as client:
        await _ping(client)
        for _ in range(runs):
            mark, began = environment.audit.mark(), time.perf_counter()
            await _ping(client)
            seconds.append(time.perf_counter() - began)
            requests.append(len(environment.audit.entries(mark)))
    return Cost(seconds=percentile(seconds, 50), requests=max(requests))


async def _ping(client: FunctionClient) -> None:
    answer: Answer = await client.ping()
    if answer.status != HTTPStatus.OK or "all is well" not in answer.text:
        raise ValueError(answer.text)


def _pod(name: str) -> Manifest:
    container = {"name": "web", "image": OLD}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": NODE, "containers": [container], "terminationGracePeriodSeconds": 0},
    }


_RUNNING: Manifest = {
    "phase": "Running",
    "containerStatuses": [
        {
            "name": "web",
            "image": OLD,
            "imageID": Image.parse(OLD).id,
            "containerID": f"containerd://{'0' * 64}",
            "ready": True,
            "restartCount": 0,
            "started": True,
            "lastState": {},
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }
    ],
}
