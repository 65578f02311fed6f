"""
What a sweep costs while all is well: it has to depend on the namespaces with sources, and not on the cluster.

Ten namespaces of ten pods have a source. All further pods are somewhere else, and the smallest cluster is the
yardstick.
"""

import asyncio
import contextlib
import functools
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus

from bench.percentiles import percentile
from bench.playhouse import Playhouse, all_of, opened
from bench.registries import OLD
from bench.result import Options, Result
from bench.scenery import add_source, open_namespace
from playground.api import Manifest
from playground.kubelet_api import LEASE_SECONDS, KubeletApi
from playground.kubelet_images import Image
from playground.served import ServedFunction
from testkit.api.function_client import Answer, Door

NAME = "sweep"
SIZES = (100, 1000, 10_000)
FLAT = 1.2
SOURCED = 10
PODS = 10
NODE = "node-1"
_PER_NAMESPACE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a sweep took: seconds, the median of some, and requests, the most of any."""

    seconds: float
    requests: int


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure in a cluster that grows."""
    async with opened() as house, _node(house), house.saffire() as served:
        numbers = itertools.count()
        least: Cost | None = None
        before = 0
        for size in SIZES:
            await _grow(house, before, size, numbers)
            before = size
            cost = await _sweep(house, served, options.runs)
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
            yardstick=least.requests if compared else None,
            target=FLAT if compared else None,
        ),
        Result(
            figure=f"{about}, seconds",
            unit="s",
            value=cost.seconds,
            yardstick=least.seconds if compared else None,
            target=FLAT if compared else None,
        ),
    ]


async def _grow(house: Playhouse, before: int, size: int, numbers: "itertools.count[int]") -> None:
    """Add pods; the first hundred are those of the namespaces with a source."""
    if not before:
        names = [f"shop-{number}" for number in range(SOURCED)]
        await all_of(functools.partial(open_namespace, house.api), names)
        await all_of(lambda name: add_source(house.api, name, house.alive.domain), names)
        places = [name for name in names for _ in range(PODS)]
    else:
        names = [f"other-{next(numbers)}" for _ in range(0, size - before, _PER_NAMESPACE)]
        await all_of(functools.partial(open_namespace, house.api), names)
        places = list(itertools.islice(itertools.cycle(names), size - before))
    await all_of(functools.partial(_add_pod, house), enumerate(places))


@contextlib.asynccontextmanager
async def _node(house: Playhouse) -> AsyncIterator[None]:
    """Have a node that is alive: pods of no node are collected."""
    kubelet = KubeletApi(house.api)
    await kubelet.register(NODE, "10.0.0.1")

    async def live() -> None:
        while True:
            await kubelet.renew(NODE)
            await asyncio.sleep(LEASE_SECONDS / 4)

    task = asyncio.create_task(live())
    yield
    task.cancel()


async def _add_pod(house: Playhouse, place: tuple[int, str]) -> None:
    """Write a pod that runs, as the scheduler and a kubelet would have."""
    number, namespace = place
    path = f"/api/v1/namespaces/{namespace}/pods"
    await house.api.post(path, _pod(f"web-{number}"))
    await house.api.patch(f"{path}/web-{number}/status", {"status": _RUNNING})


async def _sweep(house: Playhouse, served: ServedFunction, runs: int) -> Cost:
    """Sweep a few times; the first, in which connections are opened and kinds discovered, does not count."""
    seconds, requests = [], []
    async with Door(served.url) as door:
        await _ping(door)
        for _ in range(runs):
            mark, began = house.audit.mark(), time.perf_counter()
            await _ping(door)
            seconds.append(time.perf_counter() - began)
            requests.append(len(house.audit.entries(mark)))
    return Cost(seconds=percentile(seconds, 50), requests=max(requests))


async def _ping(door: Door) -> None:
    answer: Answer = await door.ping()
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
