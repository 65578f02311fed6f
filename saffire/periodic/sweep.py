"""
The sweep: if an event is lost, late or never sent, the sweep does the same within a minute.

A PingSource asks for it every minute. It repairs each namespace to which a source applies, with the code that an event
runs too, some namespaces at a time, and for no longer than its budget. What it leaves out comes first the next time. If
a cluster-wide source changes, the namespaces that it selects are repaired in the same way. Both begin with the status
of the cluster-wide sources: it says what is wrong with a source even if that selects no namespace.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from saffire import logs
from saffire.errors import SaffireError
from saffire.kube.manifest import name_of
from saffire.periodic.readiness import ReadinessProber
from saffire.reconcile.queue import CoalescingQueue, ReportEarly
from saffire.reconcile.request import WorkItem
from saffire.record.outcome import RepairOutcome, Totals
from saffire.record.status import Review
from saffire.record.writer import RecordWriter
from saffire.sources.index import ClusterSelection, NamespaceIndex, SourceIndex
from saffire.sources.spec import log_name

_AT_ONCE = 4
# A namespace that takes longer is looked at to its end, but not waited for: a sweep is to be answered within a minute.
_PATIENCE_SECONDS = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResult:
    """How many `namespaces` there were, how many were `left` for the next sweep, and what became of the rest."""

    namespaces: int
    left: int
    tally: Totals

    def __str__(self) -> str:
        """Return it in one line."""
        left = f"; {self.left} left for the next sweep" if self.left else ""
        return f"swept {self.namespaces - self.left} of {self.namespaces} namespaces: {self.tally}{left}"


@dataclass(kw_only=True, slots=True)
class NamespaceSweep:
    """
    Sweeps, and remembers in which order.

    Args:
        look: has an order carried out.
        seconds: for how long a sweep goes on to further namespaces.
        thorough: whether earlier failovers are looked at as well.

    """

    repair: Callable[[WorkItem], Awaitable[RepairOutcome]]
    seconds: float
    audit: bool = True
    _looked_at: dict[str, float] = field(default_factory=dict, init=False)

    async def sweep(self, namespaces: Iterable[str]) -> SweepResult:
        """Look at the namespaces, beginning with the one that has waited longest."""
        clock = asyncio.get_running_loop().time
        wanted = list(namespaces)
        known = frozenset(wanted)
        random.shuffle(wanted)  # an instance that has just started knows nothing of those that others have looked at
        queue = deque(sorted(wanted, key=lambda name: self._looked_at.get(name, 0.0)))
        self._looked_at = {name: at for name, at in self._looked_at.items() if name in known}
        tallies: list[Totals] = []
        end = clock() + self.seconds

        async def go_on() -> None:
            while queue and clock() < end:
                namespace = queue.popleft()
                tallies.append(await self._look(namespace))
                self._looked_at[namespace] = clock()

        await asyncio.gather(*(go_on() for _ in range(_AT_ONCE)))
        return SweepResult(namespaces=len(wanted), left=len(queue), tally=sum(tallies, Totals()))

    async def _look(self, namespace: str) -> Totals:
        """Look at one namespace; what goes wrong there keeps nobody from looking at the others."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return Totals.of(
                    await self.repair(WorkItem(namespace=namespace, whole_namespace=True, audit=self.audit))
                )
        except (SaffireError, TimeoutError):
            return Totals(faults=1)
        except Exception as fault:  # noqa: BLE001 - nobody can write an object that keeps the sweep from everybody else
            logs.crashed(fault, {"namespace": namespace})
            return Totals(faults=1)


Look = Callable[[WorkItem], Awaitable[RepairOutcome]]


@dataclass(kw_only=True, slots=True)
class Sweeps:
    """
    The rounds of one instance: of each kind one at a time, and one more for all who ask meanwhile.

    Args:
        directory: knows the namespaces with sources of their own.
        sources: knows the cluster-wide ones.
        recorder: writes the status of sources.
        inspector: asks registries after a sweep.
        look: has an order carried out.
        seconds: for how long a round goes on to further namespaces.
        clock: tells the time, in UTC.

    """

    namespaces: NamespaceIndex
    index: SourceIndex
    writer: RecordWriter
    prober: ReadinessProber
    repair: Look
    seconds: float
    clock: Callable[[], datetime]
    _sweeper: NamespaceSweep = field(init=False)
    _sweeps: CoalescingQueue[SweepResult] = field(init=False)
    _changes: CoalescingQueue[SweepResult] = field(init=False)

    def __post_init__(self) -> None:
        self._sweeper = NamespaceSweep(repair=self.repair, seconds=self.seconds)
        self._sweeps = CoalescingQueue(self._sweep)
        self._changes = CoalescingQueue(self._source_changed)

    async def sweep(self) -> SweepResult:
        """Look thoroughly at every namespace for which a source speaks."""
        return await self._sweeps.submit(WorkItem(namespace=""))

    async def source_changed(self, source: str, *, whole: bool) -> SweepResult:
        """Look at every namespace for which a cluster-wide source speaks; but for `whole`, return when that begins."""
        return await self._changes.submit(WorkItem(namespace=source), is_enough=lambda _: not whole)

    async def _sweep(self, _: WorkItem, __: ReportEarly[SweepResult]) -> SweepResult:
        clock = asyncio.get_running_loop().time
        end = clock() + self.seconds
        own, wide = await asyncio.gather(self.namespaces.namespaces(), self._selected_namespaces())
        swept = await self._sweeper.sweep(own | wide)
        # In calm weather, where there is time left.
        if not swept.left and clock() < end:
            await self.prober.run(self.clock())
        return swept

    async def _selected_namespaces(self) -> frozenset[str]:
        """Return the namespaces that cluster-wide sources select; none while the API server does not tell."""
        try:
            return await self._write_statuses(await self.index.cluster_selections())
        except SaffireError as error:
            logs.failed("Could not list what cluster-wide sources select", {"error": str(error)})
            return frozenset()

    async def _source_changed(self, order: WorkItem, tell: ReportEarly[SweepResult]) -> SweepResult:
        mine = [one for one in await self.index.cluster_selections() if name_of(one.source) == order.namespace]
        namespaces = await self._write_statuses(mine)
        tell(SweepResult(namespaces=len(namespaces), left=len(namespaces), tally=Totals()))
        return await NamespaceSweep(repair=self.repair, seconds=self.seconds, audit=False).sweep(namespaces)

    async def _write_statuses(self, territories: Iterable[ClusterSelection]) -> frozenset[str]:
        """Bring the status of cluster-wide sources up to date, and return their namespaces."""
        found, now = list(territories), self.clock()
        # Whoever is in none of its namespaces any more is not looked after any more.
        updates = (
            self.writer.write_status(one.source, (), now=now, review=Review(is_active=one.covers)) for one in found
        )
        for one, end in zip(found, await asyncio.gather(*updates, return_exceptions=True), strict=True):
            if isinstance(end, Exception):  # nobody can write an object that keeps the round from everybody else
                logs.crashed(end, {"source": log_name(one.source)})
        return frozenset().union(*(one.namespaces for one in found))
