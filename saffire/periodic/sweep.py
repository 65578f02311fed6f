"""
The sweep: if a CloudEvent is lost, late or never sent, a sweep does within a minute what the CloudEvent asks for.

A PingSource asks for a sweep every minute. `SweepQueue` runs one sweep at a time, and at most one in 20 seconds: any
pod that reaches the function can ask for sweeps too. A sweep has three parts:

1. It writes the status of the cluster-wide sources. So if a source selects no namespace, its status also says what is
   wrong with the source.
2. `NamespaceSweeper` repairs every namespace to which a source applies, with the code that also runs for Events. It
   repairs some namespaces at the same time, and starts no further repair when its time is up. The next sweep begins
   with the namespaces that are left. If a repair is slow, it goes on beside those of other namespaces.
3. If no namespace is left and there is time, Saffire sends the readiness probes.

If a cluster-wide source changes, Saffire does the first two parts for this source and the namespaces that it selects.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from saffire import logs
from saffire.errors import INTERNAL_ERROR, SaffireError, TransientError
from saffire.kube.manifest import name_of
from saffire.periodic.readiness_prober import ReadinessProber
from saffire.reconcile.queue import CoalescingQueue, Run
from saffire.reconcile.request import WorkItem
from saffire.record.outcome import RepairOutcome, Totals
from saffire.record.status import Review
from saffire.record.writer import RecordWriter
from saffire.sources.index import ClusterSelection, SourceIndex
from saffire.sources.spec import log_name

RepairItem = Callable[[WorkItem], Awaitable[RepairOutcome]]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResult:
    """
    How many `namespaces` a sweep had, how many it `left` for the next sweep, and the totals of the others.

    `stuck` names containers that hang and were not moved, and says why. `more_stuck` counts those that it does not
    name.
    """

    namespaces: int
    left: int
    totals: Totals
    stuck: tuple[str, ...] = ()
    more_stuck: int = 0

    def __str__(self) -> str:
        """Return the result in one line."""
        more = f", and {self.more_stuck} more" if self.more_stuck else ""
        stuck = f"; stuck: {', '.join(self.stuck)}{more}" if self.stuck else ""
        left = f"; {self.left} left for the next sweep" if self.left else ""
        return f"swept {self.namespaces - self.left} of {self.namespaces} namespaces: {self.totals}{stuck}{left}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSkipped:
    """No sweep was started, since the last sweep began `seconds` ago."""

    seconds: float

    def __str__(self) -> str:
        """Return the reason in one line."""
        return f"ignored: the last sweep began {self.seconds:.0f} s ago"


# One sweep over namespaces

_AT_ONCE = 4
# If a repair takes longer, it is slow: it goes on, and the sweep takes the next namespace. So many repairs are under
# way at most. The next sweep takes slow namespaces last, as if they had been repaired a minute later.
_QUICK_SECONDS = 2.0
_MAX_UNDER_WAY = 32
_SLOW_PENALTY_SECONDS = 60.0
# If a repair takes longer, it goes on, but the sweep does not wait for its end: a sweep has to answer in a minute.
_MAX_WAIT_SECONDS = 25
# The result of a sweep, which is one line of the log, names so many containers that hang.
_MOST_NAMED = 8


@dataclass(kw_only=True, slots=True)
class NamespaceSweeper:
    """
    Repairs namespaces, and remembers when it did so: the namespace that has waited longest comes first.

    A namespace whose repairs are slow delays others little: while its repair goes on, others begin, and in the next
    sweep it comes after them.

    Args:
        repair: repairs what a work item names.
        seconds: for how many seconds a sweep starts repairs.
        audit: whether a repair also checks that earlier failovers are complete and recorded.
        when_all_begun: is called as soon as every repair has begun, if the sweep still has time.

    """

    repair: RepairItem
    seconds: float
    audit: bool = True
    when_all_begun: Callable[[], Awaitable[None]] | None = None
    _repaired_at: dict[str, float] = field(default_factory=dict, init=False)

    async def sweep(self, namespaces: Iterable[str]) -> SweepResult:
        """Repair the namespaces, those that have waited longest first, until the time for starting repairs is up."""
        clock = asyncio.get_running_loop().time
        names = list(namespaces)
        current = frozenset(names)
        random.shuffle(names)  # an instance that has just started does not know which namespaces others repaired last
        queue = deque(sorted(names, key=lambda name: self._repaired_at.get(name, 0.0)))
        self._repaired_at = {name: at for name, at in self._repaired_at.items() if name in current}
        totals, stuck_count = Totals(), 0
        stuck: list[str] = []
        under_way: set[asyncio.Task[None]] = set()
        end = clock() + self.seconds

        async def repair(namespace: str) -> None:
            nonlocal stuck, stuck_count
            outcome = await self._repair(namespace)
            totals.update(Totals.of(outcome))
            containers = outcome.left.containers if outcome.left else ()
            stuck = sorted([*stuck, *map(str, containers)])[:_MOST_NAMED]
            stuck_count += len(containers)

        async def repair_next() -> None:
            while queue and clock() < end:
                namespace = queue.popleft()
                under_way.add(task := asyncio.create_task(repair(namespace)))
                task.add_done_callback(under_way.discard)
                await asyncio.wait([task], timeout=_QUICK_SECONDS)
                self._repaired_at[namespace] = clock() + (0 if task.done() else _SLOW_PENALTY_SECONDS)
                while len(under_way) >= _MAX_UNDER_WAY:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

        await asyncio.gather(*(repair_next() for _ in range(_AT_ONCE)))
        if self.when_all_begun and not queue and clock() < end:
            await self.when_all_begun()
        if under_way:
            await asyncio.wait(under_way)
        return SweepResult(
            namespaces=len(names),
            left=len(queue),
            totals=totals,
            stuck=tuple(stuck),
            more_stuck=stuck_count - len(stuck),
        )

    async def _repair(self, namespace: str) -> RepairOutcome:
        """Repair one namespace; an error there does not keep the sweep from the other namespaces."""
        try:
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                return await self.repair(WorkItem(namespace=namespace, whole_namespace=True, audit=self.audit))
        except SaffireError as fault:
            return RepairOutcome(fault=fault)
        except TimeoutError:
            return RepairOutcome(fault=TransientError("the repair took too long"))
        except Exception as fault:  # noqa: BLE001 - no object that a user can write stops the sweep of other namespaces
            logs.crashed(fault, {"namespace": namespace})
            return RepairOutcome(fault=TransientError(INTERNAL_ERROR))


# All sweeps of an instance

# If a sweep fails, because the API server does not list the sources, the next one may start so many seconds later.
_AFTER_FAILURE_SECONDS = 1.0


@dataclass(kw_only=True, slots=True)
class SweepQueue:
    """
    The sweeps of one instance: one at a time, and at most one in `interval` seconds.

    The repairs after changes of one cluster-wide source are a `CoalescingQueue`: one runs, and one more waits and
    absorbs what arrives.

    Args:
        index: knows which sources apply to which namespaces.
        writer: writes the status of sources.
        prober: sends the readiness probes after a sweep.
        repair: repairs what a work item names.
        seconds: for how many seconds a sweep starts repairs.
        interval: the shortest time from the start of one sweep to the start of the next, in seconds.
        clock: returns the time, in UTC.

    """

    index: SourceIndex
    writer: RecordWriter
    prober: ReadinessProber
    repair: RepairItem
    seconds: float
    interval: float
    clock: Callable[[], datetime]
    _sweeper: NamespaceSweeper = field(init=False)
    _sweep_under_way: asyncio.Task[SweepResult] | None = field(default=None, init=False)
    _began_at: float = field(default=float("-inf"), init=False)
    _next_at: float = field(default=float("-inf"), init=False)
    _source_changes: CoalescingQueue[SweepResult] = field(init=False)

    def __post_init__(self) -> None:
        self._sweeper = NamespaceSweeper(repair=self.repair, seconds=self.seconds, when_all_begun=self._probe)
        self._source_changes = CoalescingQueue(self._source_changed)

    async def sweep(self) -> SweepResult | SweepSkipped:
        """
        Repair and audit every namespace to which a source applies.

        If a sweep runs, or if the last one began less than `interval` seconds ago, start no sweep and do not wait. If
        the caller stops waiting, the sweep goes on.
        """
        now = asyncio.get_running_loop().time()
        if self._sweep_under_way or now < self._next_at:
            return SweepSkipped(seconds=now - self._began_at)
        self._began_at, self._next_at = now, now + self.interval
        self._sweep_under_way = asyncio.create_task(self._sweep())
        self._sweep_under_way.add_done_callback(self._sweep_ended)
        return await asyncio.shield(self._sweep_under_way)

    def _sweep_ended(self, sweep: asyncio.Task[SweepResult]) -> None:
        self._sweep_under_way = None
        # To retrieve the error also keeps asyncio from logging it if no caller waits.
        if not sweep.cancelled() and sweep.exception():
            self._next_at = min(self._next_at, asyncio.get_running_loop().time() + _AFTER_FAILURE_SECONDS)

    async def source_changed(self, source: str, *, whole: bool) -> SweepResult:
        """
        Repair every namespace that a cluster-wide source selects; `source` is its name.

        Return when the repairs begin, with every namespace counted as `left`. With `whole`, return when they end.
        """
        # The queue's key is the name of the source here.
        return await self._source_changes.submit(WorkItem(namespace=source), is_enough=lambda _: not whole)

    async def _sweep(self) -> SweepResult:
        own, selected = await asyncio.gather(self.index.namespaces_with_own(), self._selected_namespaces())
        return await self._sweeper.sweep(own | selected)

    async def _probe(self) -> None:
        await self.prober.run(self.clock())

    async def _selected_namespaces(self) -> frozenset[str]:
        """
        Write the status of the cluster-wide sources, and return the namespaces that they select.

        If the API server does not list the sources or the namespaces, log the error, and return the empty set.
        """
        try:
            return await self._write_statuses(await self.index.cluster_selections())
        except SaffireError as error:
            logs.failed("Could not list what cluster-wide sources select", {"error": str(error)})
            return frozenset()

    async def _source_changed(self, item: WorkItem, run: Run[SweepResult]) -> SweepResult:
        selections = await self.index.cluster_selections()
        changed = [selection for selection in selections if name_of(selection.source) == item.namespace]
        namespaces = await self._write_statuses(changed)
        run.report_early(SweepResult(namespaces=len(namespaces), left=len(namespaces), totals=Totals()))
        return await NamespaceSweeper(repair=self.repair, seconds=self.seconds, audit=False).sweep(namespaces)

    async def _write_statuses(self, cluster_selections: Iterable[ClusterSelection]) -> frozenset[str]:
        """Bring the status of cluster-wide sources up to date, and return the namespaces that they select."""
        selections, now = list(cluster_selections), self.clock()
        # If the source does not select a namespace any more, its workloads are removed from `active` and `left`: no
        # sweep looks at them.
        updates = (
            self.writer.write_status(selection.source, (), now=now, review=Review(covers=selection.covers))
            for selection in selections
        )
        for selection, result in zip(selections, await asyncio.gather(*updates, return_exceptions=True), strict=True):
            if isinstance(result, Exception):  # no object that a user can write stops the sweep
                logs.crashed(result, {"source": log_name(selection.source)})
        return frozenset().union(*(selection.namespaces for selection in selections))
