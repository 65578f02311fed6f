"""
Dispatches what triage lets through: answers it from memory, or has it repaired.

The dispatcher holds what one instance has while it runs: its clients, the repairs that run and wait, and what it read
lately. All of that can be lost at any time; the cluster has everything that matters.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from saffire import logs
from saffire.clients import Clients
from saffire.errors import INTERNAL_ERROR, TransientError
from saffire.kube.workload import event_uid
from saffire.periodic.failback import run_failback
from saffire.periodic.sweep import Sweeps
from saffire.policy.plan import Failover, Leave, Reason, Step
from saffire.reconcile.lookup import Lookup
from saffire.reconcile.queue import CoalescingLock, CoalescingQueue, ReportEarly
from saffire.reconcile.recent import RecentReads
from saffire.reconcile.repair import Repair
from saffire.reconcile.request import ClusterSourceChanged, PodFailed, SourceChanged, SweepDue, WorkItem
from saffire.record.events import explain, log_fields
from saffire.record.outcome import RepairOutcome, Totals
from saffire.settings import Settings
from saffire.sources.index import NamespaceIndex

# Namespaces whose pods are looked at, at once: each takes some megabytes. Most Events are answered before that.
_AROUND_AT_ONCE = 4
# Plans in one line of the log: pods of one controller differ in little.
_LOGGED = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An HTTP status, one line of text, and for the log the plans in fields; `is_redundant` if nothing was asked."""

    status: int
    line: str
    plans: tuple[dict[str, str], ...] = ()
    is_redundant: bool = False


class Dispatcher:
    """
    Answers hints, looks and sweeps.

    Args:
        settings: of this instance.
        clock: tells the time, in UTC.

    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._recent = RecentReads()
        self._queue: CoalescingQueue[RepairOutcome] = CoalescingQueue(self._process, may_start_next=_moved_no_template)
        self._namespace_lock = CoalescingLock()
        self._listing = asyncio.Semaphore(_AROUND_AT_ONCE)
        self._opening = asyncio.Lock()
        self._clients: Clients | None = None
        self._namespaces = NamespaceIndex(self._list_namespaces, self._is_selected)
        self._sweeps: Sweeps | None = None

    async def close(self) -> None:
        """Close all connections; a served function leaves that to the end of its process."""
        if self._clients:
            await self._clients.close()

    async def dispatch(
        self, found: PodFailed | SourceChanged | ClusterSourceChanged | SweepDue, *, whole: bool = False
    ) -> Answer:
        """
        Answer what triage found worth a look; raise a `SaffireError` that says why that was not possible.

        A hint is answered when its pod is taken care of, and a look around when it begins; with `whole`, at their end.
        """
        match found:
            case PodFailed():
                return await self._in_time(self._pod_failed(found, whole=whole))
            case SourceChanged():
                return await self._in_time(self._source_changed(found))
            case ClusterSourceChanged():
                return await self._in_time(self._cluster_source_changed(found, whole=whole))
            case SweepDue():
                # Faults are in the line: the next sweep comes in a minute, and a PingSource would ask for five at once.
                return Answer(status=200, line=str(await (await self._open_sweeps()).sweep()))

    async def _in_time(self, answering: Awaitable[Answer]) -> Answer:
        """
        Answer before Knative gives up on us, with time for a repair that is under way and for the event's own.

        A repair that is not waited for any more goes on.
        """
        try:
            async with asyncio.timeout(2 * self._settings.repair_timeout_seconds):
                return await answering
        except TimeoutError as error:
            raise TransientError("the repair took too long") from error

    async def _source_changed(self, look: SourceChanged) -> Answer:
        outcome = await self._queue.submit(WorkItem(namespace=look.namespace, whole_namespace=True))
        is_short = outcome.nothing_to_do or outcome.fault
        line = str(outcome) if is_short else f"looked at {look.namespace}: {Totals.of(outcome)}"
        return Answer(status=outcome.http_status, line=line)

    async def _cluster_source_changed(self, look: ClusterSourceChanged, *, whole: bool) -> Answer:
        swept = await (await self._open_sweeps()).source_changed(look.source, whole=whole)
        return Answer(status=200, line=str(swept) if whole else f"begins to look at {swept.namespaces} namespaces")

    async def _pod_failed(self, hint: PodFailed, *, whole: bool) -> Answer:
        if self._recent.covers(hint):
            return Answer(status=200, line="ignored: older than the last look at it", is_redundant=True)
        if self._recent.will_cover(hint) and not whole:
            return Answer(status=200, line="ignored: its namespace is being looked at", is_redundant=True)
        if not await self._has_source(hint.namespace):
            nothing = Leave(reason=Reason.NO_SOURCE, detail="the namespace has no AlternateImageSource")
            return Answer(status=200, line=explain(nothing), plans=(log_fields(nothing),))
        order = WorkItem(namespace=hint.namespace, failed_pods=(hint,))
        outcome = await self._queue.submit(order, is_enough=lambda so_far: not whole and so_far.covers(hint.pod_uid))
        mine = outcome.about(hint.pod_uid)
        return Answer(status=mine.http_status, line=str(mine), plans=tuple(map(log_fields, mine.plans)))

    async def _has_source(self, namespace: str) -> bool:
        try:
            async with asyncio.timeout(self._settings.repair_timeout_seconds):
                return await self._namespaces.has_source(namespace)
        except TimeoutError as error:
            raise TransientError("the repair took too long") from error

    async def _process(self, order: WorkItem, tell: ReportEarly[RepairOutcome]) -> RepairOutcome:
        """Repair and record; the repair bounds its own time, and recovery does not wait for records for ever."""
        if order.failed_pods and not order.whole_namespace and all(map(self._recent.covers, order.failed_pods)):
            return RepairOutcome(
                nothing_to_do=Leave(reason=Reason.ALREADY_MOVED, detail="by the repair that was under way")
            )
        connection, now = await self._open_clients(), self._clock()
        survey = Lookup(cache=connection.lookup_cache, namespace=order.namespace)
        repair = self._repair(connection, survey, order, now)
        begun = await repair.repair_pods()
        if not repair.continues:
            return await self._record(connection, order, begun, survey, now)
        is_early = bool(begun.workloads) and not order.audit
        if is_early:
            tell(begun)
        try:
            whole = await self._finish(order, repair, begun, survey, now)
            if not is_early:
                tell(whole)
            return await self._record(connection, order, whole, survey, now)
        except Exception as fault:
            if is_early:  # whoever asked has an answer already, and hears of nothing more
                logs.crashed(fault, {"namespace": order.namespace})
            raise

    async def _finish(
        self, order: WorkItem, repair: Repair, begun: RepairOutcome, survey: Lookup, now: datetime
    ) -> RepairOutcome:
        """Have the rest done, and return all that was done, to be recorded whatever goes wrong."""
        seconds = self._settings.repair_timeout_seconds
        try:
            whole = await self._repair_namespace(order, repair, begun, now)
            return await run_failback(whole, cluster=repair.cluster, survey=survey, now=now, seconds=seconds)
        except Exception as fault:  # noqa: BLE001 - what is done is done
            logs.crashed(fault, {"namespace": order.namespace})
            return replace(repair.so_far, fault=TransientError(INTERNAL_ERROR))

    def _repair(self, connection: Clients, survey: Lookup, order: WorkItem, now: datetime) -> Repair:
        return Repair(
            cluster=connection.cluster,
            index=connection.index,
            recent=self._recent,
            lookup=survey,
            item=order,
            now=now,
            seconds=self._settings.repair_timeout_seconds,
            stalls_after=timedelta(seconds=self._settings.stalled_seconds),
        )

    async def _record(
        self, connection: Clients, order: WorkItem, outcome: RepairOutcome, survey: Lookup, now: datetime
    ) -> RepairOutcome:
        """Log and record what became of an order; where a whole namespace is calm, also what is in use there."""
        _log(order, outcome)
        inspection = None
        if order.whole_namespace and outcome.is_calm:
            inspection = connection.prober.count(order.namespace, outcome.sources, survey.images_in_use.uses())
        sources = await connection.record(outcome, now=now, inspection=inspection)
        if inspection and order.audit:
            connection.prober.enqueue(order.namespace, sources, inspection)
        return outcome

    async def _repair_namespace(
        self, order: WorkItem, repair: Repair, begun: RepairOutcome, now: datetime
    ) -> RepairOutcome:
        """Have the rest of a namespace looked at, when there is room for its pods, unless another repair does."""

        async def look() -> RepairOutcome:
            # A sweep does not read the Events of pods whose status lags, and what has failed is for the next delivery.
            unsettled = frozenset(uid for treated in begun.workloads for uid in treated.unsettled)
            with self._recent.reading(order.namespace, now, unsettled=unsettled) if not order.audit else nullcontext():
                async with self._listing:
                    return await repair.repair_namespace()

        must = order.whole_namespace or repair.has_deferred or not begun.workloads
        return await self._namespace_lock.run(order.namespace, look, must=must) or begun

    async def _list_namespaces(self) -> tuple[str, ...]:
        return await (await self._open_clients()).store.namespaces()

    async def _is_selected(self, namespace: str) -> bool:
        return await (await self._open_clients()).index.apply_to(namespace)

    async def _open_sweeps(self) -> Sweeps:
        """Return what looks at many namespaces; there is one of it, so that sweeps do not overlap."""
        connection = await self._open_clients()
        if self._sweeps is None:
            self._sweeps = Sweeps(
                namespaces=self._namespaces,
                index=connection.index,
                writer=connection.writer,
                prober=connection.prober,
                repair=self._queue.submit,
                seconds=self._settings.sweep_seconds,
                clock=self._clock,
            )
        return self._sweeps

    async def _open_clients(self) -> Clients:
        """Return the way to the cluster; connect on first use, since framework and server fork after import."""
        async with self._opening:
            if self._clients is None:
                self._clients = await Clients.open(self._settings)
            return self._clients


def _moved_no_template(begun: RepairOutcome) -> bool:
    """Tell whether no template was moved: then the next pod that fails needs a patch of its own, if any."""
    steps = {step for plan in begun.plans if isinstance(plan, Failover) for step in plan.steps}
    return Step.TEMPLATE not in steps


def _log(order: WorkItem, outcome: RepairOutcome) -> None:
    """Log what was done to others than those that were pointed at, whose events have lines of their own."""
    if outcome.fault:
        fields = {"namespace": order.namespace, "error": str(outcome.fault)}
        logs.failed("Could not look at every pod of a namespace", fields)
    pointed_at = {hint.pod_uid for hint in order.failed_pods}
    for treated in outcome.workloads:
        if treated.is_news and pointed_at.isdisjoint(event_uid(verdict.pod) for verdict in treated.pods):
            plans = {str(fields): fields for fields in map(log_fields, treated.plans)}
            logs.repaired(order.namespace, tuple(plans.values())[:_LOGGED], str(treated.fault or ""))
