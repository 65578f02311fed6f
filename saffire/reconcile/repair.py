"""
One repair of a namespace: gather, decide, apply.

A repair reads the failed pods of its work item first. If it plans a failover for one of them, or if the work item asks
for the whole namespace, the repair then reads every other pod: a registry that is down seldom affects one workload
alone.

`policy.decide` makes the decisions, and `function` handles HTTP; this module does neither. The cluster is the only
store. So after a second delivery of an Event, a crash, or a repair by a second instance, each patch is either done or
not done.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from saffire import logs
from saffire.concurrency import Turn, in_turns, with_pauses, yield_to_loop
from saffire.errors import INTERNAL_ERROR, SaffireError, TransientError
from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.resources import Cluster
from saffire.kube.workload import OwnerReference, controller_of, event_uid, is_ending
from saffire.policy.decide import Gathered
from saffire.policy.plan import Leave, Reason
from saffire.pulls.failure import FailingPod, PullFailure, find_pull_failures, images_maybe_failing, status_lags
from saffire.pulls.kubelet_event import read_event
from saffire.reconcile.apply import apply_failovers
from saffire.reconcile.candidate_lookup import Lookup
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.reconcile.gather import Decisions, is_next_try
from saffire.reconcile.outage_detector import OutageDetector, with_images_of_same_registry
from saffire.reconcile.queue import ReadsUnderWay, Run
from saffire.reconcile.recent_reads import (
    RecentReads,
    Rollouts,
    denied_images,
    keep_denied,
    with_others,
    without_denied,
)
from saffire.reconcile.request import PodFailed, WorkItem
from saffire.record.history_audit import Audit
from saffire.record.left import left_in_steps
from saffire.record.outcome import PodOutcome, RepairOutcome, WorkloadOutcome
from saffire.record.reversions import recorded_moves
from saffire.record.status import answered_at
from saffire.sources.candidates import parse_valid
from saffire.sources.index import SourceIndex

# If a work item names more failed pods than these, to list the namespace is cheaper than to read each of them.
_MAX_SINGLE_READS = 4
# One repair works on so many workloads, and sends so many patches, at the same time.
_AT_ONCE = 16
# A repair that keeps no more pods than these takes little memory: about 26 KiB each, in 64 repairs at once.
_FEW_PODS = 50
# If the API server has denied so many candidates, further ones are not tried.
_MAX_DENIED = 8


@dataclass(kw_only=True, slots=True)
class Repair:
    """
    One repair of a namespace.

    Args:
        cluster: reads and patches.
        index: knows which sources apply to the namespace.
        recent: remembers which pods were read, and for which of them nothing is left to do.
        reads: gives repairs their turns and places to read whole namespaces.
        lookup: looks up platforms, pull secrets, registries' answers and digests.
        item: the pods to read.
        now: the time of the repair, in UTC.
        seconds: how long the repair of the failed pods may take, and how long that of all others; to wait for a turn or
            a place does not count.
        stalls_after: how long a pull may take before it counts as stalled, if its registry does not answer.

    """

    cluster: Cluster
    index: SourceIndex
    recent: RecentReads
    reads: ReadsUnderWay[RepairOutcome]
    lookup: Lookup
    item: WorkItem
    now: datetime
    seconds: float
    stalls_after: timedelta = timedelta(minutes=2)
    continues: bool = field(default=False, init=False)
    """Whether the other pods of the namespace have to be read, once the failed pods of the work item are repaired."""
    _decisions: Decisions = field(init=False)
    _audit: Audit | None = field(default=None, init=False)
    _sources: tuple[Manifest, ...] = field(default=(), init=False)
    _faults: FaultLookup = field(init=False)
    _has_unproven: bool = field(default=False, init=False)
    _owners: OwnerLookup = field(init=False)
    _outcomes: list[WorkloadOutcome] = field(default_factory=list, init=False)
    _deferred: list[FailingPod] = field(default_factory=list, init=False)
    _gone: list[str] = field(default_factory=list, init=False)
    _unclear: dict[str, Manifest] = field(default_factory=dict, init=False)
    _rollouts: Rollouts = field(default_factory=Rollouts, init=False)
    _workload_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)
    _patch_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)

    async def perform(self, run: Run[RepairOutcome]) -> RepairOutcome:
        """
        Repair the failed pods of the work item, and if the repair `continues`, every other pod; return the outcome.

        In between, `run` reports the outcome for the failed pods, unless the work item names none or is of a sweep. If
        the code crashes after that, return the outcome of the patches that were sent, so that they are recorded.

        Raises:
            SaffireError: nothing was done, since the API server gave no response, refused, or took too long.

        """
        outcome = await self._repair_pods()
        if not self.continues:
            return outcome
        if outcome.workloads and not self.item.audit:
            run.report_early(outcome)
        must = self.item.whole_namespace or self._has_deferred or not outcome.workloads
        try:
            # If another repair waits to read the same namespace, it repairs the other pods too, and this one ends.
            whole = await self.reads.in_turn(
                self.item.namespace, lambda: self._read_all(run), must=must, is_whole=lambda read: read.fault is None
            )
        except Exception as fault:  # noqa: BLE001 - the patches that were sent have to be recorded
            logs.crashed(fault, {"namespace": self.item.namespace})
            return replace(self._so_far, fault=TransientError(INTERNAL_ERROR))
        return whole or outcome

    async def _repair_pods(self) -> RepairOutcome:
        try:
            async with asyncio.timeout(self.seconds):
                has_source = await self._repair_failed_pods()
        except TimeoutError as error:
            late = TransientError("the repair took too long")
            if not self._outcomes:
                raise late from error
            return replace(self._so_far, fault=late)
        if not has_source:
            return RepairOutcome(
                nothing_to_do=Leave(reason=Reason.NO_SOURCE, detail="the namespace has no AlternateImageSource")
            )
        has_unread = len(self.item.failed_pods) > _MAX_SINGLE_READS
        has_moved = any(outcome.has_moved for outcome in self._outcomes)
        self.continues = self.item.whole_namespace or has_unread or self._has_deferred or has_moved
        return self._so_far

    @property
    def _so_far(self) -> RepairOutcome:
        """The outcome of what this repair has done until now."""
        return RepairOutcome(workloads=tuple(self._outcomes), sources=self._sources, gone=frozenset(self._gone))

    async def _repair_failed_pods(self) -> bool:
        """Repair the failed pods of the work item; tell whether a source applies to the namespace."""
        failed_pods = self.item.failed_pods if len(self.item.failed_pods) <= _MAX_SINGLE_READS else ()
        reading_sources = self.index.sources_for(self.item.namespace, fresh=self.item.whole_namespace)
        reading_pods = asyncio.gather(*map(self._read_pod, failed_pods))
        (sources, namespace), failing_pods = await asyncio.gather(reading_sources, reading_pods)
        if not sources or namespace is None:
            return False
        self._sources, parsed = sources, parse_valid(sources)
        self.lookup.images_in_use.namespace = namespace
        self._owners = OwnerLookup(self.cluster, self.item.namespace)
        if self.item.audit:
            self._audit = Audit(sources, parsed, self.cluster.kinds, namespace=self.item.namespace)
        recorded = recorded_moves(sources)
        gathered = Gathered(namespace=namespace, pod={}, sources=parsed, recorded=recorded)
        self._faults = FaultLookup(lookup=self.lookup, answered_at=answered_at(sources), now=self.now)
        self._decisions = Decisions(
            gathered=gathered, owners=self._owners, lookup=self.lookup, faults=self._faults, now=self.now
        )
        failing = [failing_pod for failing_pod in failing_pods if failing_pod]
        self._faults.observe(failing)
        await self._repair(failing, alone=True)
        return True

    async def _read_pod(self, pod_failed: PodFailed) -> FailingPod | None:
        """
        Return a failed pod with its pull failures; `None` if the pod is gone, or if it has no pull failure.

        If the registry of a failed image is down, the pod's other images from that registry count as failures too.
        """
        pod = await self.cluster.pod(self.item.namespace, pod_failed.pod)
        if pod is None or event_uid(pod) != pod_failed.pod_uid:
            self.recent.pod_gone(pod_failed)
            self._gone.append(pod_failed.pod_uid)
            return None
        failures = await self._failures(pod, pod_failed)
        return (
            await with_images_of_same_registry(FailingPod(pod=pod, failures=failures), self.lookup)
            if failures
            else None
        )

    async def _failures(self, pod: Manifest, pod_failed: PodFailed | None) -> tuple[PullFailure, ...]:
        """Find the pull failures of a pod. If its status lags behind the Event about the pod, read the Event too."""
        if pod_failed is None or not status_lags(pod, pod_failed.container):
            return find_pull_failures(pod)
        event = await self.cluster.event(self.item.namespace, pod_failed.event)
        return find_pull_failures(pod, read_event(event) if event else None)

    @property
    def _has_deferred(self) -> bool:
        """
        Whether failed pods of the work item are deferred until the other pods of the namespace are read.

        Saffire has to free all stuck pods of a controller before it patches the template. Or no outage is proven, and
        what the other pods show decides how far the repair may reach.
        """
        return bool(self._deferred) or self._has_unproven

    async def _read_all(self, run: Run[RepairOutcome]) -> RepairOutcome:
        """
        Repair every other pod of the namespace, and let Events rely on that meanwhile; return the outcome for all pods.

        There are two exceptions. A sweep does not read the Events of pods whose status lags behind, so no Event relies
        on it. If the repair of a pod is not settled, the next delivery of the pod's Event repeats the repair.
        """
        unsettled = frozenset(uid for outcome in self._outcomes for uid in outcome.unsettled)
        reading = self.reads.reading(self.item.namespace, run, at=self.now, unsettled=unsettled)
        with reading if self.item.reads_events else nullcontext():
            async with self.reads.repairing:
                return await self._repair_namespace()

    async def _repair_namespace(self) -> RepairOutcome:
        """
        Repair every other pod of the namespace, and return the outcome for all pods.

        Registries and webhooks of a namespace may be slow. So unless many pods fail, other namespaces may be listed as
        soon as the pods of this one are.
        """
        failing_pods, fault = list(self._deferred), None
        detector = OutageDetector(
            self._faults, now=self.now, stalls_after=self.stalls_after if self.item.audit else None
        )
        try:
            async with AsyncExitStack() as place, asyncio.timeout(None) as limit:
                await place.enter_async_context(
                    self.reads.listing_for_sweeps if self.item.audit else self.reads.listing
                )
                limit.reschedule(asyncio.get_running_loop().time() + self.seconds)
                try:
                    async for failing_pod in self._other_failing_pods(detector):
                        failing_pods.append(failing_pod)  # noqa: PERF401 - what was read until a fault counts too
                except SaffireError as error:
                    fault = error
                if len(failing_pods) + len(self._unclear) <= _FEW_PODS:
                    await place.aclose()
                repaired = [plan.failure for outcome in self._outcomes for plan in outcome.plans if plan.failure]
                if self.item.reads_events:
                    failures = (*repaired, *(failure for failing in failing_pods for failure in failing.failures))
                    failing_pods += await self._faults.failures_only_in_events(
                        failing_pods, self._unclear, None if self.item.many_failed else failures
                    )
                failing_pods = await detector.extend(failing_pods, repaired)
                async for failing_pod in with_pauses(failing_pods):
                    self._faults.observe([failing_pod])
                await self._owners.list_owners(failing_pod.pod for failing_pod in failing_pods)
                await self._repair(failing_pods)
        except TimeoutError:
            fault = TransientError("there was no time to look at every pod of the namespace")
        replaced = self._rollouts.settle(self._outcomes, self.recent, now=self.now)
        if not fault and not any(outcome.fault for outcome in self._outcomes):
            unsettled = frozenset(uid for outcome in self._outcomes for uid in outcome.unsettled)
            self.recent.namespace_settled(
                self.item.namespace, self.now, unsettled=unsettled | (self._unclear.keys() - replaced)
            )
        if fault:
            return replace(self._so_far, fault=fault)
        outcome = replace(self._so_far, audit=self._audit)
        steps = left_in_steps(outcome.decided, self._sources, namespace=self.item.namespace, now=self.now)
        return replace(outcome, left=await in_turns(steps))

    async def _other_failing_pods(self, detector: OutageDetector) -> AsyncIterator[FailingPod]:
        """
        List the namespace, and yield the failing pods that this repair has not read before, but none that is ending.

        With an audit, also yield a pod of each workload whose earlier failover is not complete.
        """
        read_before = {uid_of(pod_outcome.pod) for outcome in self._outcomes for pod_outcome in outcome.pods}
        read_before |= {uid_of(deferred.pod) for deferred in self._deferred}
        pods_failed = {pod_failed.pod_uid: pod_failed for pod_failed in self.item.failed_pods}
        failing, turn = set(read_before), Turn()
        async for pod in self.cluster.pods(self.item.namespace):
            self.lookup.observe(pod)
            self._rollouts.observe(pod)
            if self._audit:
                self._audit.observe_pod(pod)
            if uid_of(pod) not in read_before and not is_ending(pod):
                detector.observe(pod)
                failures = await self._failures(pod, pods_failed.get(event_uid(pod)))
                if failures:
                    failing.add(uid_of(pod))
                    yield FailingPod(pod=pod, failures=failures)
                elif images_maybe_failing(pod):
                    self._unclear[event_uid(pod)] = pod
            await turn.give_way()
        self.lookup.all_pods_observed()
        if self._audit:
            unlisted, missed = self._audit.unlisted(), self._audit.miss_kind
            async for workload in self.cluster.workloads(self.item.namespace, unlisted, missed=missed):
                self._audit.observe_workload(workload)
            for unfinished in self._audit.unfinished(now=self.now):
                if uid_of(unfinished.pod) not in failing:
                    yield unfinished

    async def _repair(self, failing_pods: Iterable[FailingPod], *, alone: bool = False) -> None:
        """
        Repair failing pods: those of one controller together, those of different controllers at the same time.

        `alone` says that the other pods of their controllers were not read.
        """
        by_controller: dict[OwnerReference | str, list[FailingPod]] = {}
        async for failing_pod in with_pauses(failing_pods):
            controller = controller_of(failing_pod.pod) or uid_of(failing_pod.pod)
            by_controller.setdefault(controller, []).append(failing_pod)
        if len(by_controller) == 1:
            [group] = by_controller.values()
            await self._repair_workload(group, alone=alone)
            return
        async with asyncio.TaskGroup() as tasks:
            for group in by_controller.values():
                tasks.create_task(self._repair_workload(group, alone=alone))
                await yield_to_loop()

    async def _repair_workload(self, failing_pods: list[FailingPod], *, alone: bool) -> None:
        """
        Decide about failing pods of one controller, and apply the decisions.

        If Saffire has to free all stuck pods of the controller before it patches the template, and only these were read
        (`alone`), defer the pods until the others are read. If no outage is proven, leave the pods to the read of the
        whole namespace.
        """
        async with self._workload_slots:
            try:
                pod_outcomes = await decide_allowed(self._decisions, failing_pods, self.recent, alone=alone)
                if alone and any(is_next_try(plan) for pod_outcome in pod_outcomes for plan in pod_outcome.plans):
                    self._has_unproven = True
                    return
                if alone and any(pod_outcome.wants_siblings for pod_outcome in pod_outcomes):
                    self._deferred.extend(failing_pods)
                    return
                outcome = await self._apply(failing_pods, pod_outcomes)
            except SaffireError as error:
                outcome = WorkloadOutcome.failed(failing_pods, error)
            except Exception as fault:  # noqa: BLE001 - a workload that makes Saffire crash does not stop the others
                logs.crashed(fault, {"namespace": self.item.namespace})
                outcome = WorkloadOutcome.failed(failing_pods, TransientError(INTERNAL_ERROR))
        self._outcomes.append(outcome)
        async for failing_pod, pod_outcome in with_pauses(zip(failing_pods, outcome.pods, strict=True)):
            if pod_outcome.is_settled and not outcome.fault:
                failing = frozenset((failure.container, failure.image) for failure in failing_pod.failures)
                self.recent.pod_settled(self.item.namespace, event_uid(failing_pod.pod), failing, self.now)

    async def _apply(self, failing_pods: list[FailingPod], pod_outcomes: tuple[PodOutcome, ...]) -> WorkloadOutcome:
        """Apply decisions about failing pods; if the API server denies all that moves a pod, try its next candidate."""
        outcome, workloads = await apply_failovers(self.cluster, pod_outcomes, now=self.now, slots=self._patch_slots)
        self._owners.update(workloads)
        keep_denied(outcome, self.recent, now=self.now)
        if outcome.fault or not any(refusal.is_denial for refusal in outcome.refusals):
            return outcome
        stuck = [failing for failing, of_pod in zip(failing_pods, outcome.pods, strict=True) if not of_pod.was_patched]
        try:
            # What was denied is kept, so that this ends: each further decision is about other candidates.
            further = await self._apply(stuck, await decide_allowed(self._decisions, stuck, self.recent))
        except SaffireError as error:
            return replace(outcome, fault=error)  # what was applied before is recorded
        moved = {uid_of(pod_outcome.pod): pod_outcome for pod_outcome in further.pods if pod_outcome.was_patched}
        pods = tuple(moved.get(uid_of(pod_outcome.pod), pod_outcome) for pod_outcome in outcome.pods)
        return replace(outcome, pods=pods, refusals=(*outcome.refusals, *further.refusals), fault=further.fault)


async def decide_allowed(
    decisions: Decisions, failing_pods: Sequence[FailingPod], recent: RecentReads, *, alone: bool = False
) -> tuple[PodOutcome, ...]:
    """Decide without the patches that the API server denied lately; if a failover has no other, try the next one."""
    decided = await decisions.decide(failing_pods, alone=alone)
    allowed = tuple([without_denied(outcome, recent, now=decisions.now) async for outcome in with_pauses(decided)])
    before = decisions.gathered.denied
    denied = denied_images(decided, allowed)
    if not denied or len(before) >= _MAX_DENIED:
        return allowed
    others = replace(decisions, gathered=replace(decisions.gathered, denied=before | denied))
    return tuple(map(with_others, allowed, await decide_allowed(others, failing_pods, recent, alone=alone)))
