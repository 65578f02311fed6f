"""
One repair of a namespace: gather, decide, apply.

The pods that were pointed at come first. If one of them was moved, or the work item says so, every pod of the namespace
is looked at: a dead registry seldom stops one workload alone. Nothing here decides (`policy.decide` does), and nothing
here knows HTTP (`function` does). The cluster is the only store: a second delivery, a second instance or a crash finds
each patch either done or not done.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from saffire import logs
from saffire.concurrency import yield_to_loop, yielding
from saffire.errors import INTERNAL_ERROR, SaffireError, TransientError
from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.resources import Cluster
from saffire.kube.workload import OwnerReference, controller_of, event_uid
from saffire.policy.decide import Gathered
from saffire.policy.plan import Leave, Reason
from saffire.pulls.failure import FailingPod, PullFailure, find_pull_failures, images_maybe_failing, status_lags
from saffire.pulls.kubelet_event import read_event
from saffire.reconcile.apply import apply_failovers
from saffire.reconcile.decisions import Decisions
from saffire.reconcile.lookup import Lookup
from saffire.reconcile.outages import OutageDetector, failures_only_in_events, with_images_of_same_registry
from saffire.reconcile.recent import RecentReads, Rollouts, keep_denied, without_denied
from saffire.reconcile.request import PodFailed, WorkItem
from saffire.record.audit import Audit
from saffire.record.outcome import RepairOutcome, WorkloadOutcome
from saffire.sources.candidates import parse_valid
from saffire.sources.index import SourceIndex

# More pods than these are cheaper to list.
_FEW = 4
# Workloads at work at once, and patches of pods of each.
_AT_ONCE = 16


@dataclass(kw_only=True, slots=True)
class Repair:
    """
    One repair, of what `order` says, at the time `now`.

    Args: seconds: how long each half of it may take. stalls_after: how long a pull may, if its registry is silent.
    """

    cluster: Cluster
    index: SourceIndex
    recent: RecentReads
    lookup: Lookup
    item: WorkItem
    now: datetime
    seconds: float
    stalls_after: timedelta = timedelta(minutes=2)
    continues: bool = field(default=False, init=False)
    """Whether the rest of the namespace is to be looked at."""
    _decisions: Decisions = field(init=False)
    _audit: Audit | None = field(default=None, init=False)
    _sources: tuple[Manifest, ...] = field(default=(), init=False)
    _owners: OwnerLookup = field(init=False)
    _outcomes: list[WorkloadOutcome] = field(default_factory=list, init=False)
    _deferred: list[FailingPod] = field(default_factory=list, init=False)
    _gone: list[str] = field(default_factory=list, init=False)
    _unclear: dict[str, Manifest] = field(default_factory=dict, init=False)
    _rollouts: Rollouts = field(default_factory=Rollouts, init=False)
    _workload_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)
    _patch_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)

    async def repair_pods(self) -> RepairOutcome:
        """Treat the pods that were pointed at; raise a `SaffireError` where the API server does not let it begin."""
        try:
            async with asyncio.timeout(self.seconds):
                is_ours = await self._repair_pods()
        except TimeoutError as error:
            late = TransientError("the repair took too long")
            if not self._outcomes:
                raise late from error
            return replace(self.so_far, fault=late)
        if not is_ours:
            return RepairOutcome(
                nothing=Leave(reason=Reason.NO_SOURCE, detail="the namespace has no AlternateImageSource")
            )
        many = len(self.item.failed_pods) > _FEW
        has_moved = any(treated.has_moved for treated in self._outcomes)
        self.continues = self.item.whole_namespace or many or self.has_deferred or has_moved
        return self.so_far

    @property
    def so_far(self) -> RepairOutcome:
        """What was done until now."""
        return RepairOutcome(workloads=tuple(self._outcomes), sources=self._sources, gone=frozenset(self._gone))

    async def _repair_pods(self) -> bool:
        """Treat the pods that were pointed at; tell whether the namespace has a source."""
        hints = self.item.failed_pods if len(self.item.failed_pods) <= _FEW else ()
        who = self.index.applying_to(
            self.item.namespace, fresh=self.item.audit, may_be_stale=not self.item.whole_namespace
        )
        (sources, namespace), cases = await asyncio.gather(who, asyncio.gather(*map(self._read_pod, hints)))
        if not sources or namespace is None:
            return False
        self._sources, parsed = sources, parse_valid(sources)
        self.lookup.images_in_use.namespace = namespace
        self._owners = OwnerLookup(self.cluster, self.item.namespace)
        if self.item.audit:
            self._audit = Audit(sources, parsed, self.cluster.kinds, namespace=self.item.namespace)
        scene = Gathered(namespace=namespace, pod={}, sources=parsed)
        self._decisions = Decisions(gathered=scene, owners=self._owners, lookup=self.lookup, now=self.now)
        await self._repair([case for case in cases if case], alone=True)
        return True

    async def _read_pod(self, hint: PodFailed) -> FailingPod | None:
        """Read the pod that a hint means; `None` where that is gone, or waits for no image."""
        pod = await self.cluster.pod(self.item.namespace, hint.pod)
        if pod is None or event_uid(pod) != hint.pod_uid:
            self.recent.pod_gone(hint)
            self._gone.append(hint.pod_uid)
            return None
        failures = await self._failures(pod, hint)
        return (
            await with_images_of_same_registry(FailingPod(pod=pod, failures=failures), self.lookup)
            if failures
            else None
        )

    async def _failures(self, pod: Manifest, hint: PodFailed | None) -> tuple[PullFailure, ...]:
        """Find the pull failures; while the status lags behind the Event that was pointed to, read that too."""
        if hint is None or not status_lags(pod, hint.container):
            return find_pull_failures(pod)
        event = await self.cluster.event(self.item.namespace, hint.event)
        return find_pull_failures(pod, read_event(event) if event else None)

    @property
    def has_deferred(self) -> bool:
        """Whether some that were pointed at wait for the rest of the namespace to be looked at."""
        return bool(self._deferred)

    async def repair_namespace(self) -> RepairOutcome:
        """Treat every other pod of the namespace, and return what became of all."""
        cases, fault = list(self._deferred), None
        lookout = OutageDetector(self.lookup, now=self.now, stalls_after=self.stalls_after if self.item.audit else None)
        try:
            async with asyncio.timeout(self.seconds):
                try:
                    async for case in self._other_failing_pods(lookout):
                        cases.append(case)  # noqa: PERF401 - what was read until a fault counts too
                except SaffireError as error:
                    fault = error
                known = [plan.failure for treated in self._outcomes for plan in treated.plans if plan.failure]
                if not self.item.audit:  # a sweep leaves those whose status lags to Events of their own
                    failures = (*known, *(failure for case in cases for failure in case.failures))
                    cases += await failures_only_in_events(self.cluster, self.item.namespace, self._unclear, failures)
                cases = await lookout.extend(cases, known)
                await self._owners.list_owners(case.pod for case in cases)
                await self._repair(cases)
        except TimeoutError:
            fault = TransientError("there was no time to look at every pod of the namespace")
        replaced = self._rollouts.settle(self._outcomes, self.recent, now=self.now)
        if not fault and not any(treated.fault for treated in self._outcomes):
            unsettled = frozenset(uid for treated in self._outcomes for uid in treated.unsettled)
            self.recent.namespace_settled(
                self.item.namespace, self.now, but=unsettled | (self._unclear.keys() - replaced)
            )
        return replace(self.so_far, fault=fault, audit=None if fault else self._audit)

    async def _other_failing_pods(self, lookout: OutageDetector) -> AsyncIterator[FailingPod]:
        """Yield the pods of the namespace that wait for an image, but for those that were pointed at."""
        known = {uid_of(verdict.pod) for treated in self._outcomes for verdict in treated.pods}
        known |= {uid_of(case.pod) for case in self._deferred}
        hints = {hint.pod_uid: hint for hint in self.item.failed_pods}
        failing = set(known)
        async for pod in yielding(self.cluster.pods(self.item.namespace)):
            self.lookup.observe(pod)
            self._rollouts.observe(pod)
            if self._audit:
                self._audit.observe_pod(pod)
            if uid_of(pod) not in known:
                lookout.observe(pod)
                failures = await self._failures(pod, hints.get(event_uid(pod)))
                if failures:
                    failing.add(uid_of(pod))
                    yield FailingPod(pod=pod, failures=failures)
                elif images_maybe_failing(pod):
                    self._unclear[event_uid(pod)] = pod
        self.lookup.all_pods_observed()
        if self._audit:
            async for workload in self.cluster.workloads(self.item.namespace, missed=self._audit.miss_kind):
                self._audit.observe_workload(workload)
            for case in self._audit.unfinished(now=self.now):
                if uid_of(case.pod) not in failing:
                    yield case

    async def _repair(self, cases: Iterable[FailingPod], *, alone: bool = False) -> None:
        """Treat pods, those of one controller together and different ones side by side; `alone`, without siblings."""
        groups: dict[OwnerReference | str, list[FailingPod]] = {}
        for case in cases:
            groups.setdefault(controller_of(case.pod) or uid_of(case.pod), []).append(case)
        if len(groups) == 1:
            [group] = groups.values()
            await self._repair_workload(group, alone=alone)
            return
        async with asyncio.TaskGroup() as tasks:
            for group in groups.values():
                tasks.create_task(self._repair_workload(group, alone=alone))
                await yield_to_loop()

    async def _repair_workload(self, cases: list[FailingPod], *, alone: bool) -> None:
        """Decide about pods of one controller, and act, unless their siblings have to be freed before the template."""
        async with self._workload_slots:
            try:
                decided = await self._decisions.decide(cases)
                verdicts = tuple(without_denied(verdict, self.recent, now=self.now) for verdict in decided)
                if alone and any(verdict.wants_siblings for verdict in verdicts):
                    self._deferred.extend(cases)
                    return
                treated, workloads = await apply_failovers(
                    self.cluster, verdicts, now=self.now, places=self._patch_slots
                )
                self._owners.update(workloads)
            except SaffireError as error:
                treated = WorkloadOutcome.failed(cases, error)
            except Exception as fault:  # noqa: BLE001 - what one workload makes us trip over is not to stop the others
                logs.crashed(fault, {"namespace": self.item.namespace})
                treated = WorkloadOutcome.failed(cases, TransientError(INTERNAL_ERROR))
        self._outcomes.append(treated)
        keep_denied(treated, self.recent, now=self.now)
        for case, verdict in zip(cases, treated.pods, strict=True):
            if verdict.is_settled and not treated.fault:
                failing = frozenset((failure.container, failure.image) for failure in case.failures)
                self.recent.pod_settled(event_uid(case.pod), failing, self.now)
