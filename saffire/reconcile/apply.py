"""
Applies patches until it is clear what became of each.

A patch is its own lock (`policy.patch`): whatever happens on the way, it is done once or not at all. If the object
changed, what is left to do is looked for once more. A request that got no clear answer is sent again: if it had been
done after all, its guards fail, and the history that it wrote is found.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime

from saffire.concurrency import gather_in_order
from saffire.errors import ConflictError, DeniedError, RefusedError, SaffireError, TransientError
from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.resources import Cluster
from saffire.kube.workload import describe
from saffire.policy.history import History, timestamp
from saffire.policy.patch import Patch, images_not_taken, render, render_again
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step
from saffire.pulls.failure import PullFailure
from saffire.record.outcome import PodOutcome, Refusal, WorkloadOutcome

# Seconds before a patch without a clear answer is sent again.
_WAITS = (0.1, 0.5)
# If the API server asks for more patience, it gets so many seconds of it: the event source waits meanwhile.
_MOST_PATIENCE = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """The failovers that a patch carried out, and its object as it was last seen; `None` where that is gone."""

    failovers: tuple[Failover, ...] = ()
    target: Manifest | None = None


async def apply_failovers(
    cluster: Cluster, verdicts: tuple[PodOutcome, ...], *, now: datetime, places: asyncio.Semaphore
) -> tuple[WorkloadOutcome, tuple[Manifest, ...]]:
    """
    Apply the failovers of pods of one controller, no more patches at once than there are `places`.

    Return what became of them, and the workloads as they are by now. A refused patch does not keep the others from
    being tried, a missing answer does.
    """
    applied: list[tuple[_Key, Step]] = []
    refusals: list[Refusal] = []
    fault: SaffireError | None = None
    workloads: list[Manifest] = []
    for stage in render(((verdict.pod, _failovers(verdict)) for verdict in verdicts), now=now):
        outcomes = await gather_in_order([_try(cluster, patch, now=now, places=places) for patch in stage])
        for patch, outcome in zip(stage, outcomes, strict=True):
            if isinstance(outcome, Applied):
                applied += [(_key(patch, failover), patch.step) for failover in outcome.failovers]
                workloads += [outcome.target] if patch.step is Step.TEMPLATE and outcome.target else []
            elif isinstance(outcome, RefusedError):
                refusals.append(Refusal(patch=patch, why=str(outcome), is_denial=isinstance(outcome, DeniedError)))
            else:
                fault = outcome
        if fault:
            break
    refused = {_key(refusal.patch, failover) for refusal in refusals for failover in refusal.patch.failovers}
    tried = None if fault else refused
    done = tuple(
        replace(verdict, plans=tuple(_taken(plan, verdict.pod, applied, tried) for plan in verdict.plans))
        for verdict in verdicts
    )
    return WorkloadOutcome(pods=done, refusals=tuple(refusals), fault=fault), tuple(workloads)


async def _try(cluster: Cluster, patch: Patch, *, now: datetime, places: asyncio.Semaphore) -> Applied | SaffireError:
    """Apply one patch; what stands in its way is an outcome too."""
    async with places:
        try:
            return await apply_patch(cluster, patch, now=now)
        except SaffireError as error:
            return error


async def apply_patch(cluster: Cluster, patch: Patch, *, now: datetime) -> Applied:
    """Apply one patch, made at `now`; raise a `SaffireError` where the API server does not take it."""
    unclear = False
    for wait in (*_WAITS, None):
        try:
            return Applied(failovers=patch.failovers, target=await _send(cluster, patch))
        except ConflictError:
            break
        except TransientError as error:
            if wait is None:
                raise
            unclear = True
            await asyncio.sleep(max(wait, min(error.retry_after, _MOST_PATIENCE)))
    return await _apply_rest(cluster, patch, now=now, unclear=unclear)


async def _apply_rest(cluster: Cluster, patch: Patch, *, now: datetime, unclear: bool) -> Applied:
    """Read the object whose guards failed, and apply what is left to do."""
    target = await cluster.read_again(patch.target)
    if target is None:
        return Applied()
    done = tuple(one for one in patch.failovers if unclear and _is_ours(one, patch.step, target, now=now))
    again = render_again(patch, target, now=now)
    if again is None:
        return Applied(failovers=done, target=target)
    return Applied(failovers=(*done, *again.failovers), target=await _send(cluster, again))


async def _send(cluster: Cluster, patch: Patch) -> Manifest:
    """Send a patch; raise `RefusedError` where admission took it and put another image in its place."""
    target = await cluster.apply(patch.target, patch.operations)
    if instead := images_not_taken(patch, target):
        raise DeniedError(f"admission put {', '.join(instead)} in place of the alternative")
    return target


def _is_ours(failover: Failover, step: Step, target: Manifest, *, now: datetime) -> bool:
    """Tell whether the object's history holds this very failover: its patch was applied, and its answer lost."""
    key = (failover.failure.container, failover.images(step)[1], timestamp(now))
    return any((entry.container, entry.after, timestamp(entry.at)) == key for entry in History.of(target).entries)


_Key = tuple[str, str, str, str]
"""What a patch does: to the template (`""`) or to the pod of that uid; and section, name and image of the container."""


def _key(patch: Patch, failover: Failover) -> _Key:
    return _key_of(failover.failure, "" if patch.step is Step.TEMPLATE else uid_of(patch.target))


def _key_of(failure: PullFailure, pod_uid: str) -> _Key:
    return pod_uid, failure.section, failure.container, failure.image


def _taken(plan: Plan, pod: Manifest, applied: list[tuple[_Key, Step]], tried: set[_Key] | None) -> Plan:
    """
    Return the plan with the steps that were taken; without any that were tried, nothing was left to do.

    `tried` are those that were refused; `None` where any may have been.
    """
    if not isinstance(plan, Failover) or plan.observed:
        return plan
    keys = {_key_of(plan.failure, uid_of(pod) if step is Step.PODS else "") for step in plan.steps}
    steps = tuple(step for key, step in applied if key in keys)
    if steps or tried is None or keys & tried:
        return replace(plan, steps=steps)
    return Leave(reason=Reason.ALREADY_MOVED, detail=describe(plan.workload), failure=plan.failure)


def _failovers(verdict: PodOutcome) -> tuple[Failover, ...]:
    return tuple(plan for plan in verdict.plans if isinstance(plan, Failover))
