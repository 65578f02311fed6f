"""
Dispatches requests: answers a request from recent reads, or queues a repair or a sweep.

The dispatcher holds the state of one instance: its clients, the repairs that run, wait or are due later, and which
pods and namespaces were read lately. This state can be lost at any time, since the cluster has everything that matters.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Self

from saffire import logs
from saffire.clients import Clients
from saffire.errors import SaffireError, TransientError
from saffire.kube.workload import event_uid
from saffire.metrics import NUMBERS
from saffire.periodic.failback_run import run_failback
from saffire.periodic.sweep import SweepQueue, SweepSkipped
from saffire.policy.plan import Leave, Reason, Wait
from saffire.reconcile.candidate_lookup import Lookup
from saffire.reconcile.queue import AnswerLimit, CoalescingQueue, ReadsUnderWay, Run, within
from saffire.reconcile.recent_reads import RecentReads
from saffire.reconcile.repair import Repair
from saffire.reconcile.request import (
    Answer,
    ClusterSourceChanged,
    PodFailed,
    RepairRequest,
    SourceChanged,
    SweepDue,
    WorkItem,
)
from saffire.record.events import explain, log_fields
from saffire.record.outcome import RepairOutcome, Totals
from saffire.record.status import state_of
from saffire.settings import Settings
from saffire.sources.spec import CLUSTER_WIDE, is_cluster_wide, log_name

# So many changed sources may wait until the limit allows to list them. The next sweep makes up for the others.
_MAX_POSTPONED = 1024
_POSTPONED_AT_ONCE = 4
# Events for which it is not known yet whether a source applies, also those whose sender has gone.
_MAX_ENQUEUING = 512
# If Events of a namespace get no repair of their own, Saffire repairs the whole namespace after this time.
_LATER_SECONDS = 5.0
# After an answer with such a status or a higher one, the event source delivers the event again.
_DELIVERED_AGAIN = 503
# Plans in one log line. The plans for the pods of one controller differ little.
_MAX_LOGGED_PLANS = 16

_GONE = Answer(status=200, line=explain(Leave(reason=Reason.NO_SOURCE, detail="the source is gone")))
_KNOWN = Answer(status=200, line="ignored: the source has not changed since the last look at it", is_redundant=True)
_LATER = Answer(status=200, line="ignored: among many others; a look at its namespace follows", is_redundant=True)
_UNDER_WAY = Answer(status=200, line="ignored: its namespace is being looked at", is_redundant=True)


class Dispatcher:
    """
    Answers requests: pods that failed, sources that changed, and sweeps that are due.

    Args:
        settings: the settings of this instance.
        clients: the clients of this instance.
        clock: returns the time, in UTC.

    """

    def __init__(self, settings: Settings, clients: Clients, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clients = clients
        self._clock = clock
        self._recent = RecentReads()
        self._queue: CoalescingQueue[RepairOutcome] = CoalescingQueue(
            self._process, may_start_next=lambda so_far: not so_far.patches_template
        )
        self._answer_limit = AnswerLimit(2 * settings.repair_timeout_seconds)
        self._reads: ReadsUnderWay[RepairOutcome] = ReadsUnderWay()
        self._sweeps = SweepQueue(
            index=clients.index,
            writer=clients.writer,
            prober=clients.prober,
            repair=self._queue.submit,
            seconds=settings.sweep_seconds,
            interval=settings.sweep_interval_seconds,
            clock=clock,
        )
        self._enqueuing: set[asyncio.Task[Run[RepairOutcome] | Answer]] = set()
        self._postponed: set[SourceChanged | ClusterSourceChanged] = set()
        self._postponed_tasks: set[asyncio.Task[None]] = set()
        self._postponed_slots = asyncio.Semaphore(_POSTPONED_AT_ONCE)

    @classmethod
    async def open(cls, settings: Settings, clock: Callable[[], datetime]) -> Self:
        """Connect to the cluster; raise `TransientError` if no cluster is configured yet."""
        return cls(settings, await Clients.open(settings), clock)

    async def close(self) -> None:
        """Close all connections. A served function does not call this, since its process ends anyway."""
        self._queue.close()
        for task in self._postponed_tasks:
            task.cancel()
        await self._clients.close()

    async def dispatch(self, request: RepairRequest, *, wait: bool = False) -> Answer:
        """
        Answer a request; raise a `SaffireError` if that is not possible.

        Without `wait`, `PodFailed` is answered when its own pod is repaired, and `ClusterSourceChanged` when the
        repairs of the selected namespaces begin. If that takes too long (`AnswerLimit`), a request is answered before.
        With `wait`, a request is answered when everything is repaired and recorded. In both cases, a change of a source
        is answered at once if sources were listed too often lately; its repairs follow.
        """
        return await self._answer(request, wait=wait, may_postpone=True)

    async def _answer(self, request: RepairRequest, *, wait: bool, may_postpone: bool) -> Answer:
        match request:
            case PodFailed():
                return await self._pod_failed(request, wait=wait)
            case SourceChanged():
                return await self._source_changed(request, wait=wait, may_postpone=may_postpone)
            case ClusterSourceChanged():
                return await self._cluster_source_changed(request, wait=wait, may_postpone=may_postpone)
            case SweepDue():
                # The status is 200 even if there were faults, which the line names. With another status, a PingSource
                # would ask for five more sweeps at once. The next sweep is due in a minute anyway.
                result = await self._sweeps.sweep()
                if isinstance(result, SweepSkipped):
                    return Answer(status=200, line=str(result), is_redundant=True)
                if self._clients.lookup_cache.is_blind:
                    logs.failed("No registry answers Saffire, so no outage can be proven", {})
                return Answer(status=200, line=str(result), notice=result.totals.notice)

    def _rely_on(self, run: Run[RepairOutcome], namespace: str) -> Answer:
        """
        Answer now, since a repair that runs or waits covers what the request reports.

        The event source does not deliver the Event again. So if the repair fails, another one follows. If this instance
        ends before, the next sweep does the repair.
        """
        if not run.is_relied_on:
            run.is_relied_on = True
            run.task.add_done_callback(partial(self._repeat_if_failed, namespace))
        return _UNDER_WAY

    def _repeat_if_failed(self, namespace: str, repair: asyncio.Task[RepairOutcome]) -> None:
        if repair.cancelled():
            return
        fault = repair.exception()
        if isinstance(fault, SaffireError):
            logs.failed("Could not look at every pod of a namespace", {"namespace": namespace, "error": str(fault)})
        elif fault:
            logs.crashed(fault, {"namespace": namespace})
        if fault or repair.result().http_status >= _DELIVERED_AGAIN:
            self._repair_later(namespace, _LATER_SECONDS)

    async def _source_changed(self, request: SourceChanged, *, wait: bool, may_postpone: bool) -> Answer:
        index = self._clients.index
        if may_postpone and index.is_busy(request.namespace):
            return self._postpone(request)
        version = await index.version_of(request.namespace, request.source)
        if version is None or self._recent.has_repaired(request.namespace, request.source, version):
            return _GONE if version is None else _KNOWN
        run = self._queue.enqueue(WorkItem(namespace=request.namespace, whole_namespace=True))
        outcome = await self._answer_limit.wait_for(request.namespace, self._queue.outcome(run), wait=wait)
        if outcome is None or outcome.http_status < _DELIVERED_AGAIN:
            self._recent.source_repaired(request.namespace, request.source, version)
        if outcome is None:
            return self._rely_on(run, request.namespace)
        is_short = outcome.nothing_to_do or outcome.fault
        line = str(outcome) if is_short else f"looked at {request.namespace}: {Totals.of(outcome)}"
        return Answer(status=outcome.http_status, line=line, notice=Totals.of(outcome).notice)

    async def _cluster_source_changed(self, request: ClusterSourceChanged, *, wait: bool, may_postpone: bool) -> Answer:
        if may_postpone and self._clients.index.is_busy(""):
            return self._postpone(request)
        version = await self._clients.index.version_of("", request.source)
        if version is None or self._recent.has_repaired("", request.source, version):
            return _GONE if version is None else _KNOWN
        repairs = self._sweeps.source_changed(request.source, whole=wait)
        result = await self._answer_limit.wait_for(f"{CLUSTER_WIDE}/{request.source}", repairs, wait=wait)
        if result is None:
            return _LATER
        self._recent.source_repaired("", request.source, version)
        line = str(result) if wait else f"begins to look at {result.namespaces} namespaces"
        return Answer(status=200, line=line, notice=result.totals.notice)

    def _postpone(self, request: SourceChanged | ClusterSourceChanged) -> Answer:
        """
        Answer now, and repair what a changed source applies to once the limit allows to list the sources.

        The event source sends no other Event while it waits, so no answer may wait for a limit. If many sources wait
        already, the next sweep repairs what this one applies to.
        """
        if request not in self._postponed and len(self._postponed) < _MAX_POSTPONED:
            self._postponed.add(request)
            self._postponed_tasks.add(task := asyncio.create_task(self._answer_postponed(request)))
            task.add_done_callback(self._postponed_tasks.discard)
        return _LATER

    async def _answer_postponed(self, request: SourceChanged | ClusterSourceChanged) -> None:
        name = f"{request.namespace if isinstance(request, SourceChanged) else CLUSTER_WIDE}/{request.source}"
        try:
            async with self._postponed_slots:
                self._postponed.discard(request)  # the source may change again once the look has begun
                await self._answer(request, wait=False, may_postpone=False)
        except SaffireError as error:
            logs.failed("Could not look at a source that changed", {"source": name, "error": str(error)})
        except Exception as fault:  # noqa: BLE001 - no caller waits, so only the log can name the fault
            logs.crashed(fault, {"source": name})

    async def _pod_failed(self, request: PodFailed, *, wait: bool) -> Answer:
        if self._recent.covers(request):
            return Answer(status=200, line="ignored: older than the last look at it", is_redundant=True)
        if not wait and (reader := self._reads.reader_for(request)):
            return self._rely_on(reader, request.namespace)
        if len(self._enqueuing) >= _MAX_ENQUEUING:
            raise TransientError("too many Events wait for the API server", retry_after=1)
        # If the sender disconnects meanwhile, the repair is queued all the same.
        self._enqueuing.add(enqueuing := asyncio.create_task(self._enqueue(request)))
        enqueuing.add_done_callback(self._enqueuing.discard)
        run = await asyncio.shield(enqueuing)
        if isinstance(run, Answer):
            return run
        of_pod = self._queue.outcome(run, is_enough=lambda so_far: not wait and so_far.covers(request.pod_uid))
        outcome = await self._answer_limit.wait_for(request.namespace, of_pod, wait=wait)
        if outcome is None:
            run.is_answered_early = True
            return self._rely_on(run, request.namespace)
        pod_outcome = outcome.about(request.pod_uid)
        plans = tuple(map(log_fields, pod_outcome.plans))
        notice = Totals.of(pod_outcome).notice or pod_outcome.refusal_notice
        return Answer(status=pod_outcome.http_status, line=str(pod_outcome), plans=plans, notice=notice)

    async def _enqueue(self, request: PodFailed) -> Run[RepairOutcome] | Answer:
        """Queue the repair of a pod, and return the run; return the answer if nothing is to be repaired now."""
        if not await within(self._settings.repair_timeout_seconds, self._clients.index.has_source(request.namespace)):
            plan = Leave(reason=Reason.NO_SOURCE, detail="the namespace has no AlternateImageSource")
            return Answer(status=200, line=explain(plan), plans=(log_fields(plan),))
        if self._recent.is_flooded(request.namespace, now=self._clock()):
            self._repair_later(request.namespace, _LATER_SECONDS)
            return _LATER
        return self._queue.enqueue(WorkItem(namespace=request.namespace, failed_pods=(request,)))

    async def _process(self, item: WorkItem, run: Run[RepairOutcome]) -> RepairOutcome:
        """
        Repair the pods or the namespace of a work item, let workloads return (fail back), and record the outcome.

        Each of these limits its own time. If the repair goes on after the pods of the work item, `run` has reported an
        outcome before the record is written.
        """
        if item.failed_pods and not item.whole_namespace and all(map(self._recent.covers, item.failed_pods)):
            leave = Leave(reason=Reason.ALREADY_MOVED, detail="by the repair that was under way")
            return RepairOutcome(nothing_to_do=leave)
        clients, now, seconds = self._clients, self._clock(), self._settings.repair_timeout_seconds
        lookup = Lookup(cache=clients.lookup_cache, namespace=item.namespace)
        repair = Repair(
            cluster=clients.cluster,
            index=clients.index,
            recent=self._recent,
            reads=self._reads,
            lookup=lookup,
            item=item,
            now=now,
            seconds=seconds,
            stalls_after=timedelta(seconds=self._settings.stalled_seconds),
        )
        outcome = await repair.perform(run)
        for seconds in outcome.waits(until=self._clock()):
            NUMBERS.recovered(seconds)
        outcome = await run_failback(outcome, cluster=clients.cluster, lookup=lookup, now=now, seconds=seconds)
        if repair.continues:
            run.report_early(outcome)
        try:
            await self._record(run, repair, outcome)
        except Exception as fault:
            if run.early_report.done():  # the request may be answered already, so only the log can name the fault
                logs.crashed(fault, {"namespace": item.namespace})
            raise
        if not item.audit and not any(workload.has_moved for workload in outcome.workloads):
            self._recent.moved_nothing(item.namespace, self._clock())
        return outcome

    async def _record(self, run: Run[RepairOutcome], repair: Repair, outcome: RepairOutcome) -> None:
        """
        Log and record the outcome of a repair.

        If the whole namespace was read and no pod in it fails, also record the readiness of its sources.
        """
        clients, item, now = self._clients, repair.item, repair.now
        # The answer to an Event says what came of its pod. If the Event was answered before, only the log can say it.
        _log_outcome(replace(item, failed_pods=()) if run.is_answered_early else item, outcome)
        self._await_next_try(item.namespace, outcome, now)
        probe_results = None
        if item.whole_namespace and outcome.is_calm:
            images_in_use = repair.lookup.images_in_use.uses()
            probe_results = await clients.prober.count(item.namespace, outcome.sources, images_in_use)
        registry_answers = clients.lookup_cache.registry_answers(item.namespace, now) if outcome.audit else None
        sources = outcome.sources
        try:
            async with asyncio.timeout(self._settings.repair_timeout_seconds):
                sources = await clients.writer.write(
                    outcome, now=now, probe_results=probe_results, registry_answers=registry_answers
                )
        except TimeoutError:
            logs.failed("Could not write the record in time", {"source": ", ".join(map(log_name, sources))})
        if outcome.audit:
            own = [source for source in sources if not is_cluster_wide(source)]
            NUMBERS.read(item.namespace, Counter(state_of(own)) + Counter(outcome.faulty_nodes))
        if probe_results and item.audit:
            clients.prober.enqueue(item.namespace, sources, probe_results)

    def _await_next_try(self, namespace: str, outcome: RepairOutcome, now: datetime) -> None:
        """
        If the outcome waits for the kubelet's own next try of a pull, repair the whole namespace after that try.

        The kubelet's next Event mostly comes earlier. If this instance ends before, the next sweep does the repair.
        """
        if due := [plan.until for plan in outcome.plans if isinstance(plan, Wait) and plan.reason is Reason.NEXT_TRY]:
            self._repair_later(namespace, (min(due) - now).total_seconds())

    def _repair_later(self, namespace: str, seconds: float) -> None:
        """Repair a whole namespace in so many seconds, or earlier if another call has said so."""
        self._queue.enqueue_later(WorkItem(namespace=namespace, whole_namespace=True), seconds)


def _log_outcome(item: WorkItem, outcome: RepairOutcome) -> None:
    """
    Log the repaired workloads of which no Event of the work item names a pod, and the fault if there is one.

    For a workload that an Event names, `function` logs the answer to the Event instead.
    """
    if outcome.fault:
        fields = {"namespace": item.namespace, "error": str(outcome.fault)}
        logs.failed("Could not look at every pod of a namespace", fields)
    named_uids = {request.pod_uid for request in item.failed_pods}
    for workload in outcome.workloads:
        if workload.is_news and named_uids.isdisjoint(event_uid(pod_outcome.pod) for pod_outcome in workload.pods):
            plans = {str(fields): fields for fields in map(log_fields, workload.plans)}
            logs.repaired(item.namespace, tuple(plans.values())[:_MAX_LOGGED_PLANS], str(workload.fault or ""))
