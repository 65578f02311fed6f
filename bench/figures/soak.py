"""
The soak: for many minutes, workloads fail one after the other. Saffire has to move each, and its memory must not grow.

A tenth of `rate` are failures. Each workload that fails causes further Events, of its pods, of the rollout that Saffire
starts and of Saffire itself; so the delivered Events are counted. A ping asks for a sweep every minute, as in
production. A workload that is not moved within two minutes is counted as missed.
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.harness.delivery_log import DeliveryLog
from bench.harness.env_simulated import SimulatedEnvironment, for_all, open_environment
from bench.harness.fixtures import add_source, open_namespace, path_of, workload
from bench.harness.percentiles import percentile
from bench.report.latest import FOLDER
from playground.cluster.api import ApiError
from playground.environment import NAMESPACE
from playground.eventsource.apiserversource import ApiServerSource
from playground.function_process import FunctionProcess
from testkit.api.function_client import FunctionClient
from testkit.memory import resident

FILE = "soak.json"
NAMESPACES = 20
NODES = 4
SWEEP_SECONDS = 60
MISSED_SECONDS = 120
SAMPLE_SECONDS = 2
FLAT = 1.1
"""By how much the memory of the last quarter may exceed that of the second quarter, in which all caches are filled."""

_FASTER = 10
_NAMES = [f"shop-{number}" for number in range(NAMESPACES)]
WorkloadKey = tuple[str, str]


@dataclass(slots=True)
class Soak:
    """What is known so far. `failed` holds the creation time of each workload until it is moved."""

    minutes: float
    rate: float
    created: int = 0
    moved: int = 0
    missed: int = 0
    seconds: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    events: int = 0
    failed: dict[WorkloadKey, float] = field(default_factory=dict)

    @property
    def growth(self) -> float:
        """The memory of the last quarter divided by that of the second."""
        quarter = max(len(self.memory) // 4, 1)
        sizes = [size for _, size in self.memory]
        return percentile(sizes[-quarter:], 50) / percentile(sizes[quarter : 2 * quarter] or sizes, 50)

    @property
    def is_well(self) -> bool:
        """Whether no workload was missed, and the memory did not grow."""
        return self.moved == self.created > 0 and not self.missed and self.growth <= FLAT

    def lines(self) -> Iterator[str]:
        """Yield the lines of the summary."""
        p50, p99 = (percentile(self.seconds or [0.0], percent) for percent in (50, 99))
        sizes = [size for _, size in self.memory] or [0.0]
        yield f"{self.created} workloads failed, {self.moved} were moved, {self.missed} were missed"
        yield f"{self.events / self.minutes / 60:.1f} Events a second were delivered"
        yield f"from the creation of a workload to its patch: p50 {p50:.2f} s, p99 {p99:.2f} s"
        yield f"memory: {sizes[0]:.1f} MiB idle, {max(sizes):.1f} MiB at most, {sizes[-1]:.1f} MiB in the end"
        yield f"memory of the last quarter by that of the second: {self.growth:.3f}, at most {FLAT} is flat"


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench soak",
        description="Has workloads fail for many minutes, and watches the memory of Saffire.",
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=50, help="Events a second, of which a tenth are failures")
    parser.add_argument(
        "--into", type=Path, default=FOLDER, metavar="FOLDER", help="where soak.json is written; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    soak = Soak(minutes=options.minutes, rate=options.rate)
    asyncio.run(run_soak(soak, print))
    print(*soak.lines(), sep="\n")
    options.into.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in asdict(soak).items() if key not in {"failed", "seconds"}}
    (options.into / FILE).write_text(json.dumps(kept | {"growth": soak.growth}, indent=1) + "\n")
    return 0 if soak.is_well else 1


async def run_soak(soak: Soak, say: Callable[[str], None]) -> None:
    """Run the soak, and write what is measured into `soak`."""
    async with open_environment() as environment, environment.nodes(NODES, faster=_FASTER) as nodes:
        await environment.lose(nodes)
        await for_all(functools.partial(open_namespace, environment.api), _NAMES)
        await for_all(lambda name: add_source(environment.api, name, environment.alive.domain), _NAMES)
        log = DeliveryLog(environment.audit)
        events = await environment.plane.api_for(NAMESPACE, "saffire-source")
        async with environment.saffire() as served:
            soak.memory.append((0.0, resident(served.pid)))
            async with events, ApiServerSource(events, served.url, namespace=NAMESPACE, on_delivery=log.on_delivery):
                tasks = (
                    _fail(soak, environment),
                    _watch(soak, environment, log, say),
                    _sample(soak, served),
                    _sweep(served),
                )
                await _all_until_over(soak, *map(asyncio.ensure_future, tasks))
        soak.events = len(log.delivered)


async def _all_until_over(soak: Soak, *tasks: "asyncio.Future[None]") -> None:
    """Run tasks, of which the first comes to an end by itself, until the last workload is moved or missed."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while soak.failed and not any(task.done() for task in tasks[1:]):  # noqa: ASYNC110 -- the log is a file
            await asyncio.sleep(SAMPLE_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(done, Exception):
                raise done


async def _fail(soak: Soak, environment: SimulatedEnvironment) -> None:
    """Create workloads that fail, at the rate and for the time of the soak."""
    began = time.monotonic()
    for number, namespace in enumerate(itertools.cycle(_NAMES)):
        after = number * 10 / soak.rate
        if after > soak.minutes * 60:
            break
        await asyncio.sleep(max(0.0, began + after - time.monotonic()))
        name = f"web-{number}"
        soak.failed[namespace, name] = time.time()
        soak.created += 1
        await environment.api.post(f"/apis/apps/v1/namespaces/{namespace}/deployments", workload(name, 1))


async def _watch(soak: Soak, environment: SimulatedEnvironment, log: DeliveryLog, say: Callable[[str], None]) -> None:
    """Note which workloads are moved, and delete them; every minute, report the progress."""
    said_at = time.monotonic()
    while True:
        await asyncio.sleep(SAMPLE_SECONDS / 4)
        log.read_audit_log()
        moved = [key for key in soak.failed if key in log.patched]
        for key in moved:
            soak.seconds.append(log.patched.pop(key) - soak.failed.pop(key))
            soak.moved += 1
        for key in [key for key, at in soak.failed.items() if time.time() - at > MISSED_SECONDS]:
            say(f"missed: {'/'.join(key)}")
            del soak.failed[key]
            soak.missed += 1
        await for_all(functools.partial(_delete, environment), moved)
        if time.monotonic() - said_at > SWEEP_SECONDS:
            said_at = time.monotonic()
            say(f"{soak.moved} of {soak.created} moved; {soak.memory[-1][1]:.1f} MiB; {len(log.delivered)} Events")


async def _delete(environment: SimulatedEnvironment, key: WorkloadKey) -> None:
    metadata = {"namespace": key[0], "name": key[1]}
    with contextlib.suppress(ApiError):
        await environment.api.delete(path_of({"metadata": metadata}), propagationPolicy="Background")


async def _sample(soak: Soak, served: FunctionProcess) -> None:
    """Read the memory of the function every two seconds."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        soak.memory.append((round(time.monotonic() - began, 1), round(resident(served.pid), 2)))


async def _sweep(served: FunctionProcess) -> None:
    """Ask for a sweep every minute."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        async with FunctionClient(served.url) as client:
            await client.ping()
