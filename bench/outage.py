"""
An outage, played: everything runs, its registry dies, and Saffire moves it.

The yardsticks are of the same play: the same Events are delivered to a function that does nothing, each no sooner than
it came, and a bare script patches the same workloads. Meanwhile controllers and nodes stand still, so that nothing is
slower than it has to be.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from api.cluster import stopped

from bench.bare import operations
from bench.child import Child
from bench.delivery import redelivered
from bench.ear import Ear
from bench.memory import peak, resident
from bench.playhouse import Playhouse, opened
from bench.registries import ALIVE, NEW
from bench.scenery import Size, deployments, path_of, set_up
from bench.targets import EMPTY
from playground.served import ServedFunction
from playground.source import EventSource
from playground.stage import NAMESPACE

NODES = 24
IN_FLIGHT = 16
QUIET_SECONDS = 3
DEADLINE_SECONDS = 900
_POLL_SECONDS = 0.25
_STILL = ("kube-controller-manager", "kube-scheduler")


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


async def play(size: Size, say: Callable[[str], None] = lambda _: None, *, nodes: int = NODES) -> Storm:
    """Play a storm; raise `TimeoutError` if it does not end well."""
    async with opened() as house, house.nodes(nodes) as played, house.saffire() as served:
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await set_up(house.api, size)
        say(f"{size.all_pods} pods run after {time.monotonic() - began:.0f} s")
        idle = resident(served.pid)
        ear = await _blow(house, played, served, size)
        memory = peak(served.pid) - idle
        entries = house.audit.entries(ear.mark)
        first, last, heard = min(ear.born.values()), max(ear.patched.values()), ear.heard()
        answered = max(ear.failed.values()) - first
        say(f"moved after {last - first:.1f} s; {len(heard)} Events answered after {answered:.1f} s")
        with _still(house, played):
            async with ServedFunction(house.kubeconfig, EMPTY) as empty:
                delivery = await redelivered(heard, empty.url, house.api.server)
            patches = await _patch_by_hand(house, size)
        say(f"the same Events to an empty function: {delivery:.1f} s; patches by hand: {patches:.1f} s")
        without = set(size.names) - set(size.names_with_source)
        return Storm(
            seconds=last - first,
            answered=answered,
            delivery=delivery,
            patches=patches,
            requests=Counter(f"{entry['verb']} {entry['objectRef']['resource']}" for entry in entries),
            elsewhere=sum(entry["objectRef"].get("namespace") in without for entry in entries),
            memory=memory,
            again=ear.again,
        )


def _is_over(size: Size, ear: Ear) -> bool:
    """Say whether all is moved, and no failed pull is told of any more."""
    ear.listen()
    return len(ear.patched) >= size.moving and time.time() - max(ear.failed.values(), default=0) > QUIET_SECONDS


async def _blow(house: Playhouse, nodes: Child, served: ServedFunction, size: Size) -> Ear:
    """Have the registry die, and return what was heard until it was over."""
    ear = Ear(house.audit)
    async with asyncio.TaskGroup() as group, await house.plane.api_for(NAMESPACE, "saffire-source") as events:
        watching = group.create_task(ear.watch(house.api))
        async with EventSource(events, served.url, namespace=NAMESPACE, on_delivery=ear.on_delivery):
            await house.lose(nodes)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not _is_over(size, ear):  # noqa: ASYNC110 -- the audit log is a file
                    await asyncio.sleep(_POLL_SECONDS)
        watching.cancel()
    if ear.refused:
        raise ValueError(f"{ear.refused} Events were not taken")
    return ear


@contextlib.contextmanager
def _still(house: Playhouse, nodes: Child) -> Iterator[None]:
    """Have nothing but the API server do anything for a while."""
    pids = house.plane.pids()
    with contextlib.ExitStack() as stack:
        for pid in (*(pids[name] for name in _STILL), nodes.pid):
            stack.enter_context(stopped(pid))
        yield


async def _patch_by_hand(house: Playhouse, size: Size) -> float:
    """Have the bare script patch all that was moved, and return how many seconds that took."""
    found = await deployments(house.api, size.names_with_source)
    another = f"{ALIVE}/acme/web:v2"
    patches = [{"path": path_of(one), "operations": operations(one, NEW, another)} for one in found]
    async with house.bare() as bare:
        began = time.perf_counter()
        await bare.ask(do="patch", patches=patches, at_once=IN_FLIGHT)
        return time.perf_counter() - began
