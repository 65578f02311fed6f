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
from saffire.concurrency import give_way, in_turns
from saffire.errors import OWN_FAULT, SaffireError, TransientError
from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.owners import Lineage
from saffire.kube.resources import Cluster
from saffire.kube.workload import OwnerReference, controller_of, told_uid
from saffire.policy.decide import Scene
from saffire.policy.plan import Leave, Reason
from saffire.pulls.failure import Case, PullFailure, find, lags, waits_for
from saffire.pulls.kubelet_event import read_event
from saffire.reconcile.apply import act
from saffire.reconcile.decisions import Decisions
from saffire.reconcile.lookup import Survey
from saffire.reconcile.outages import Lookout, together, told
from saffire.reconcile.recent import Memory, Rollouts, keep_denied, without_denied
from saffire.reconcile.request import Hint, Order
from saffire.record.audit import Ledger
from saffire.record.outcome import Outcome, Treated
from saffire.sources.candidates import usable
from saffire.sources.index import Sources

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
    sources: Sources
    memory: Memory
    survey: Survey
    order: Order
    now: datetime
    seconds: float
    stalls_after: timedelta = timedelta(minutes=2)
    goes_on: bool = field(default=False, init=False)
    """Whether the rest of the namespace is to be looked at."""
    _decisions: Decisions = field(init=False)
    _ledger: Ledger | None = field(default=None, init=False)
    _sources: tuple[Manifest, ...] = field(default=(), init=False)
    _lineage: Lineage = field(init=False)
    _done: list[Treated] = field(default_factory=list, init=False)
    _put_off: list[Case] = field(default_factory=list, init=False)
    _gone: list[str] = field(default_factory=list, init=False)
    _unclear: dict[str, Manifest] = field(default_factory=dict, init=False)
    _rollouts: Rollouts = field(default_factory=Rollouts, init=False)
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)
    _patches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE), init=False)

    async def begin(self) -> Outcome:
        """Treat the pods that were pointed at; raise a `SaffireError` where the API server does not let it begin."""
        try:
            async with asyncio.timeout(self.seconds):
                is_ours = await self._begin()
        except TimeoutError as error:
            late = TransientError("the repair took too long")
            if not self._done:
                raise late from error
            return replace(self.so_far, fault=late)
        if not is_ours:
            return Outcome(nothing=Leave(reason=Reason.NO_SOURCE, detail="the namespace has no AlternateImageSource"))
        many = len(self.order.hints) > _FEW
        has_moved = any(treated.has_moved for treated in self._done)
        self.goes_on = self.order.wide or many or self.has_put_off or has_moved
        return self.so_far

    @property
    def so_far(self) -> Outcome:
        """What was done until now."""
        return Outcome(treated=tuple(self._done), sources=self._sources, gone=frozenset(self._gone))

    async def _begin(self) -> bool:
        """Treat the pods that were pointed at; tell whether the namespace has a source."""
        hints = self.order.hints if len(self.order.hints) <= _FEW else ()
        who = self.sources.of(self.order.namespace, anew=self.order.thorough, in_haste=not self.order.wide)
        (sources, namespace), cases = await asyncio.gather(who, asyncio.gather(*map(self._pointed_at, hints)))
        if not sources or namespace is None:
            return False
        self._sources, parsed = sources, usable(sources)
        self.survey.census.namespace = namespace
        self._lineage = Lineage(self.cluster, self.order.namespace)
        if self.order.thorough:
            self._ledger = Ledger(sources, parsed, self.cluster.kinds, namespace=self.order.namespace)
        scene = Scene(namespace=namespace, pod={}, sources=parsed)
        self._decisions = Decisions(scene=scene, lineage=self._lineage, survey=self.survey, now=self.now)
        await self._treat([case for case in cases if case], alone=True)
        return True

    async def _pointed_at(self, hint: Hint) -> Case | None:
        """Read the pod that a hint means; `None` where that is gone, or waits for no image."""
        pod = await self.cluster.pod(self.order.namespace, hint.pod)
        if pod is None or told_uid(pod) != hint.pod_uid:
            self.memory.saw_gone(hint)
            self._gone.append(hint.pod_uid)
            return None
        failures = await self._failures(pod, hint)
        return await together(Case(pod=pod, failures=failures), self.survey) if failures else None

    async def _failures(self, pod: Manifest, hint: Hint | None) -> tuple[PullFailure, ...]:
        """Find the pull failures; while the status lags behind the Event that was pointed to, read that too."""
        if hint is None or not lags(pod, hint.container):
            return find(pod)
        event = await self.cluster.event(self.order.namespace, hint.event)
        return find(pod, read_event(event) if event else None)

    @property
    def has_put_off(self) -> bool:
        """Whether some that were pointed at wait for the rest of the namespace to be looked at."""
        return bool(self._put_off)

    async def go_on(self) -> Outcome:
        """Treat every other pod of the namespace, and return what became of all."""
        cases, fault = list(self._put_off), None
        lookout = Lookout(self.survey, now=self.now, stalls_after=self.stalls_after if self.order.thorough else None)
        try:
            async with asyncio.timeout(self.seconds):
                try:
                    async for case in self._others(lookout):
                        cases.append(case)  # noqa: PERF401 - what was read until a fault counts too
                except SaffireError as error:
                    fault = error
                known = [plan.failure for treated in self._done for plan in treated.plans if plan.failure]
                if not self.order.thorough:  # a sweep leaves those whose status lags to Events of their own
                    failures = (*known, *(failure for case in cases for failure in case.failures))
                    cases += await told(self.cluster, self.order.namespace, self._unclear, failures)
                cases = await lookout.extend(cases, known)
                await self._lineage.list_for(case.pod for case in cases)
                await self._treat(cases)
        except TimeoutError:
            fault = TransientError("there was no time to look at every pod of the namespace")
        replaced = self._rollouts.keep(self._done, self.memory, now=self.now)
        if not fault and not any(treated.fault for treated in self._done):
            unsettled = frozenset(uid for treated in self._done for uid in treated.unsettled)
            self.memory.saw_all(self.order.namespace, self.now, but=unsettled | (self._unclear.keys() - replaced))
        return replace(self.so_far, fault=fault, ledger=None if fault else self._ledger)

    async def _others(self, lookout: Lookout) -> AsyncIterator[Case]:
        """Yield the pods of the namespace that wait for an image, but for those that were pointed at."""
        known = {uid_of(verdict.pod) for treated in self._done for verdict in treated.verdicts}
        known |= {uid_of(case.pod) for case in self._put_off}
        hints = {hint.pod_uid: hint for hint in self.order.hints}
        failing = set(known)
        async for pod in in_turns(self.cluster.pods(self.order.namespace)):
            self.survey.saw(pod)
            self._rollouts.see(pod)
            if self._ledger:
                self._ledger.see_pod(pod)
            if uid_of(pod) not in known:
                lookout.see(pod)
                failures = await self._failures(pod, hints.get(told_uid(pod)))
                if failures:
                    failing.add(uid_of(pod))
                    yield Case(pod=pod, failures=failures)
                elif waits_for(pod):
                    self._unclear[told_uid(pod)] = pod
        self.survey.saw_all()
        if self._ledger:
            async for workload in self.cluster.workloads(self.order.namespace, missed=self._ledger.miss):
                self._ledger.see_workload(workload)
            for case in self._ledger.unfinished(now=self.now):
                if uid_of(case.pod) not in failing:
                    yield case

    async def _treat(self, cases: Iterable[Case], *, alone: bool = False) -> None:
        """Treat pods, those of one controller together and different ones side by side; `alone`, without siblings."""
        groups: dict[OwnerReference | str, list[Case]] = {}
        for case in cases:
            groups.setdefault(controller_of(case.pod) or uid_of(case.pod), []).append(case)
        if len(groups) == 1:
            [group] = groups.values()
            await self._treat_alike(group, alone=alone)
            return
        async with asyncio.TaskGroup() as tasks:
            for group in groups.values():
                tasks.create_task(self._treat_alike(group, alone=alone))
                await give_way()

    async def _treat_alike(self, cases: list[Case], *, alone: bool) -> None:
        """Decide about pods of one controller, and act, unless their siblings have to be freed before the template."""
        async with self._places:
            try:
                decided = await self._decisions.about(cases)
                verdicts = tuple(without_denied(verdict, self.memory, now=self.now) for verdict in decided)
                if alone and any(verdict.wants_siblings for verdict in verdicts):
                    self._put_off.extend(cases)
                    return
                treated, workloads = await act(self.cluster, verdicts, now=self.now, places=self._patches)
                self._lineage.saw(workloads)
            except SaffireError as error:
                treated = Treated.failed(cases, error)
            except Exception as fault:  # noqa: BLE001 - what one workload makes us trip over is not to stop the others
                logs.crashed(fault, {"namespace": self.order.namespace})
                treated = Treated.failed(cases, TransientError(OWN_FAULT))
        self._done.append(treated)
        keep_denied(treated, self.memory, now=self.now)
        for case, verdict in zip(cases, treated.verdicts, strict=True):
            if verdict.is_settled and not treated.fault:
                failing = frozenset((failure.container, failure.image) for failure in case.failures)
                self.memory.saw_pod(told_uid(case.pod), failing, self.now)
