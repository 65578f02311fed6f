"""
The story of one repair: gather, decide, act, record.

Nothing here decides; `plan` does. Nothing here knows HTTP; `function` does. The cluster is the only store: a second
delivery, a second instance or a crash finds each patch either done or not done. Where a crash falls between the two
patches of one failover, the next pod that fails completes it.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from saffire.alternates import InvalidSource, Source, parse_source
from saffire.cluster import Cluster
from saffire.errors import ConflictError, RefusedError, TransientError
from saffire.event import read_event
from saffire.failure import PullFailure, find, lags
from saffire.history import History, timestamp
from saffire.kinds import Step
from saffire.leave import Leave, Reason
from saffire.manifest import Manifest, annotation, name_of, uid_of
from saffire.patch import Patch, kept, render, render_again
from saffire.plan import Failover, Plan, Scene, decide, screen
from saffire.record import Record, explain, failover_event, leave_event, refusal_event
from saffire.recorder import Recorder
from saffire.triage import Hint
from saffire.workload import describe, is_static

# What the kubelet calls the uid of a static pod in its Events: the hash of its file, not the uid of its mirror.
_CONFIG_HASH = "kubernetes.io/config.hash"
# Seconds before a patch without a clear answer is sent again.
_WAITS = (0.1, 0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The API server refused `patch` and said `why`."""

    patch: Patch
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """
    What became of one hint.

    `plans` is what was decided, one per pull failure of `pod`; a `Failover` among them has the steps that were applied.
    `refusals` are the patches that the API server refused, and `fault` is what kept the rest from being tried.
    """

    plans: tuple[Plan, ...]
    pod: Manifest = field(default_factory=dict)
    sources: tuple[Manifest, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    fault: TransientError | None = None

    def __str__(self) -> str:
        """Return the outcome in one line."""
        refused = (f"{describe(refusal.patch.target)} refused: {refusal.why}" for refusal in self.refusals)
        fault = (str(self.fault),) if self.fault else ()
        return "; ".join([*map(explain, self.plans), *refused, *fault])


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """One repair, of what `hint` points at, at the time `now`."""

    cluster: Cluster
    recorder: Recorder
    hint: Hint
    now: datetime

    async def run(self) -> Outcome:
        """Repair; raise a `SaffireError` where the API server does not let it begin."""
        sources = await self.cluster.sources(self.hint.namespace)
        if not sources:
            return _nothing(Reason.NO_SOURCE, "the namespace has no AlternateImageSource")
        scene = await self._gather(tuple(_valid(sources)))
        if scene is None:
            return replace(_nothing(Reason.NO_SUCH_POD), sources=sources)
        failures = await self._failures(scene.pod)
        if not failures:
            return replace(_nothing(Reason.NO_FAILURE), sources=sources)
        plans = await self._decide(failures, scene)
        return replace(await self._act(plans, scene.pod), sources=sources)

    async def record(self, outcome: Outcome) -> None:
        """Leave the record behind: status of the sources, Events on workload, source and pod."""
        records = [
            Record(failover=plan, at=self.now)
            for plan in outcome.plans
            if isinstance(plan, Failover) and (plan.observed or plan.steps)
        ]
        writes = []
        for source in outcome.sources:
            mine = [record for record in records if record.failover.candidate.source.name == name_of(source)]
            writes.append(self.recorder.update(source, mine, now=self.now))
            writes += [self.recorder.post(failover_event(record, source)) for record in mine]
        for record in records:
            told_at = record.failover.workload if _concerns_workload(record.failover) else outcome.pod
            writes.append(self.recorder.post(failover_event(record, told_at)))
        writes += [self.recorder.post(event) for event in self._complaints(outcome)]
        await asyncio.gather(*writes)

    async def _gather(self, sources: tuple[Source, ...]) -> Scene | None:
        """Read the pod and its namespace; `None` where the pod that the hint means is gone."""
        pod, namespace = await asyncio.gather(
            self.cluster.pod(self.hint.namespace, self.hint.pod), self.cluster.namespace(self.hint.namespace)
        )
        if pod is None or namespace is None:
            return None
        known_as = annotation(pod, _CONFIG_HASH) if is_static(pod) else uid_of(pod)
        return Scene(namespace=namespace, pod=pod, sources=sources) if known_as == self.hint.pod_uid else None

    async def _failures(self, pod: Manifest) -> tuple[PullFailure, ...]:
        """Find the pull failures; while the status lags behind the Event, read the Event too."""
        if not lags(pod, self.hint.container):
            return find(pod)
        event = await self.cluster.event(self.hint.namespace, self.hint.event)
        return find(pod, read_event(event) if event else None)

    async def _decide(self, failures: Iterable[PullFailure], scene: Scene) -> tuple[Plan, ...]:
        """Decide about each failure; the owners are read only if they matter."""
        left = {failure: screen(failure, scene) for failure in failures}
        if not all(left.values()):
            scene = replace(scene, owners=await self.cluster.owners(scene.pod))
        return tuple(leave or decide(failure, scene, now=self.now) for failure, leave in left.items())

    async def _act(self, plans: tuple[Plan, ...], pod: Manifest) -> Outcome:
        """Apply the failovers; a refused patch does not keep the others from being tried."""
        applied: dict[PullFailure, tuple[Step, ...]] = {}
        refusals: list[Refusal] = []
        fault = None
        for patch in render((plan for plan in plans if isinstance(plan, Failover)), pod, now=self.now):
            try:
                for failover in await self._apply(patch):
                    applied[failover.failure] = (*applied.get(failover.failure, ()), patch.step)
            except RefusedError as error:
                refusals.append(Refusal(patch=patch, why=str(error)))
            except TransientError as error:
                fault = error
                break
        refused = {failover.failure for refusal in refusals for failover in refusal.patch.failovers}
        return Outcome(
            plans=tuple(_applied(plan, applied, tried=bool(fault) or plan.failure in refused) for plan in plans),
            pod=pod,
            refusals=tuple(refusals),
            fault=fault,
        )

    async def _apply(self, patch: Patch) -> tuple[Failover, ...]:
        """
        Apply one patch and return what it did.

        If the object moved, look once more what is left to do. A request that got no clear answer is sent again: should
        it have been done after all, its guards fail, and the history that it wrote is found.
        """
        unclear = False
        for wait in (*_WAITS, None):
            try:
                await self._send(patch)
            except ConflictError:
                return await self._apply_again(patch, unclear=unclear)
            except TransientError:
                if wait is None:
                    raise
                unclear = True
                await asyncio.sleep(wait)
            else:
                break
        return patch.failovers

    async def _apply_again(self, patch: Patch, *, unclear: bool) -> tuple[Failover, ...]:
        """Read the object whose guards failed, and apply what is left to do."""
        target = await self.cluster.read_again(patch.target)
        if target is None:
            return ()
        done = tuple(
            failover for failover in patch.failovers if unclear and self._is_ours(failover, patch.step, target)
        )
        again = render_again(patch, target, now=self.now)
        if again is None:
            return done
        await self._send(again)
        return (*done, *again.failovers)

    async def _send(self, patch: Patch) -> None:
        """Send a patch; raise `RefusedError` where admission took it and put another image in its place."""
        if instead := kept(patch, await self.cluster.apply(patch)):
            raise RefusedError(f"admission put {', '.join(instead)} in place of the alternative")

    def _is_ours(self, failover: Failover, step: Step, target: Manifest) -> bool:
        """Tell whether the object's history holds this very failover: its patch was applied, and its answer lost."""
        key = (failover.failure.container, failover.images(step)[1], timestamp(self.now))
        return any((entry.container, entry.after, timestamp(entry.at)) == key for entry in History.of(target).entries)

    def _complaints(self, outcome: Outcome) -> Iterator[Manifest]:
        """Yield the Events that tell an operator why something was not done."""
        for plan in outcome.plans:
            event = None if isinstance(plan, Failover) else leave_event(plan, outcome.pod, now=self.now)
            if event:
                yield event
        for refusal in outcome.refusals:
            yield refusal_event(refusal.why, refusal.patch.target, now=self.now)


def _concerns_workload(failover: Failover) -> bool:
    """Tell whether the workload is where an operator would look, rather than the one pod that was patched."""
    return failover.observed or Step.TEMPLATE in failover.steps


def _valid(manifests: Iterable[Manifest]) -> Iterator[Source]:
    """Yield the sources that can be used; the record says what is wrong with the others."""
    for manifest in manifests:
        try:
            yield parse_source(manifest)
        except InvalidSource:
            continue


def _applied(plan: Plan, applied: dict[PullFailure, tuple[Step, ...]], *, tried: bool) -> Plan:
    """Return the plan with the steps that were applied; without any, unless `tried`, nothing was left to do."""
    if not isinstance(plan, Failover) or plan.observed:
        return plan
    steps = applied.get(plan.failure, ())
    if steps or tried:
        return replace(plan, steps=steps)
    return Leave(reason=Reason.ALREADY_MOVED, detail=describe(plan.workload), failure=plan.failure)


def _nothing(reason: Reason, detail: str = "") -> Outcome:
    """Return the outcome of a hint that led nowhere."""
    return Outcome(plans=(Leave(reason=reason, detail=detail),))
