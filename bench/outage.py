"""
An outage, played: everything runs, its registry dies, and Saffire moves it.

The yardsticks are of the same play. Before, the registry dies once where a function does nothing, and comes back. And
afterwards the bare script patches the same workloads, while controllers and nodes stand still, so that nothing is
slower than it has to be.
"""

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from api.audit import Audit
from api.cluster import stopped

from bench.bare import operations
from bench.child import Child
from bench.ear import Ear
from bench.memory import peak, resident
from bench.playhouse import Playhouse, answered_at, opened
from bench.registries import ALIVE, NEW
from bench.scenery import Size, deployments, path_of, set_up, until_up
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
        delivery: from the first Event until that of every pod was delivered, where a function does nothing.
        answered: the same with Saffire, of every pod that told of a failure.
        patches: what the patches of all workloads take the bare script.
        events: how many Events there were a second with Saffire, and
        empty_events: without.
        requests: how many Saffire has sent, by verb and resource.
        elsewhere: how many of them were about namespaces without a source.
        memory: peak over idle, in MiB.
        again: how many patches there were beyond one for each workload.

    """

    seconds: float
    delivery: float
    answered: float
    patches: float
    events: float
    empty_events: float
    requests: Counter[str]
    elsewhere: int
    memory: float
    again: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """What was heard of one death of the registry, and when its first Event was written."""

    ear: Ear
    began: float

    @property
    def seconds(self) -> float:
        """Seconds until the last pod's failure was delivered."""
        return max(self.ear.failed.values()) - self.began

    @property
    def rate(self) -> float:
        """How many Events were delivered a second, until then."""
        end = self.began + self.seconds
        return sum(at <= end for at in self.ear.delivered) / self.seconds


async def play(size: Size, say: Callable[[str], None] = lambda _: None, *, nodes: int = NODES) -> Storm:
    """Play a storm; raise `TimeoutError` if it does not end well."""
    async with opened() as house, house.nodes(nodes) as played:
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await set_up(house.api, size)
            await until_up(house.api, size)
        say(f"{size.all_pods} pods run after {time.monotonic() - began:.0f} s")
        async with ServedFunction(house.kubeconfig, source=EMPTY) as empty:
            idle_wave = await _blow(house, played, empty, lambda ear: len(ear.failed) >= size.all_pods)
        say(f"the Events of all pods to an empty function: {idle_wave.seconds:.1f} s, {idle_wave.rate:.0f} a second")
        await house.revive(played)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await until_up(house.api, size)
        async with house.saffire() as served:
            idle = resident(served.pid)
            wave = await _blow(house, played, served, functools.partial(_is_over, size))
            memory = peak(served.pid) - idle
        entries = house.audit.entries(wave.ear.mark)
        last = max(wave.ear.patched.values())
        say(f"moved after {last - wave.began:.1f} s; {wave.rate:.0f} Events a second")
        with _still(house, played):
            patches = await _patch_by_hand(house, size)
        say(f"patches by hand: {patches:.1f} s")
        without = set(size.names) - set(size.names_with_source)
        return Storm(
            seconds=last - wave.began,
            delivery=idle_wave.seconds,
            answered=wave.seconds,
            patches=patches,
            events=wave.rate,
            empty_events=idle_wave.rate,
            requests=Counter(f"{entry['verb']} {entry['objectRef']['resource']}" for entry in entries),
            elsewhere=sum(entry["objectRef"].get("namespace") in without for entry in entries),
            memory=memory,
            again=wave.ear.again,
        )


def _is_over(size: Size, ear: Ear) -> bool:
    """Say whether all is moved, and no failed pull is told of any more."""
    ear.listen()
    return len(ear.patched) >= size.moving and time.time() - max(ear.failed.values(), default=0) > QUIET_SECONDS


async def _blow(house: Playhouse, nodes: Child, sink: ServedFunction, is_over: Callable[[Ear], bool]) -> Wave:
    """Have the registry die, and return what was heard until it was over."""
    ear = Ear(house.audit)
    events = await house.plane.api_for(NAMESPACE, "saffire-source")
    async with events, EventSource(events, sink.url, namespace=NAMESPACE, on_delivery=ear.on_delivery):
        await house.lose(nodes)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not is_over(ear):  # noqa: ASYNC110 -- the audit log is a file
                await asyncio.sleep(_POLL_SECONDS)
    if ear.refused:
        raise ValueError(f"{ear.refused} Events were not taken")
    return Wave(ear=ear, began=_first_event(house, ear))


def _first_event(house: Playhouse, ear: Ear) -> float:
    """Return when the nodes wrote the first Event of the storm."""
    nodes = Audit(house.plane.audit, "admin")
    written = (entry for entry in nodes.entries(ear.mark) if entry["objectRef"]["resource"] == "events")
    return min(map(answered_at, written))


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
