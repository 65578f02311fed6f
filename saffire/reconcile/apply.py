"""
Sends patches until the result of each is clear.

Each patch has guards (`policy.patch`), so the API server carries out a patch once or not at all. If the object has
changed since it was read, Saffire reads the object again, and patches what is left to do. If a request gets no clear
answer, Saffire sends the patch again. If the API server had carried out the first request after all, the guards of the
second fail, and the object's history annotation has the entry that the patch wrote.
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
from saffire.policy.patch import Patch, images_found_instead, render, render_again
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step
from saffire.pulls.failure import PullFailure
from saffire.record.outcome import PodOutcome, Refusal, WorkloadOutcome

# So many seconds Saffire waits before it sends a patch again that got no clear answer.
_WAITS = (0.1, 0.5)
# If the API server asks for a longer wait (`Retry-After`), Saffire waits so many seconds at most, since the event
# source waits for Saffire's answer meanwhile.
_MAX_WAIT = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """The failovers that a patch carried out, and the patched object as it is now; `target` is `None` if it is gone."""

    failovers: tuple[Failover, ...] = ()
    target: Manifest | None = None


async def apply_failovers(
    cluster: Cluster, pod_outcomes: tuple[PodOutcome, ...], *, now: datetime, slots: asyncio.Semaphore
) -> tuple[WorkloadOutcome, tuple[Manifest, ...]]:
    """
    Apply the failovers of the pods of one controller; each patch takes one of the `slots` while Saffire sends it.

    Return the outcome, and the patched workloads as they are now. If the API server refuses a patch, Saffire still
    sends the others. If the API server gives no answer to a patch, Saffire takes no further step.
    """
    applied: list[tuple[_Key, Step]] = []
    refusals: list[Refusal] = []
    fault: SaffireError | None = None
    workloads: list[Manifest] = []
    for stage in render(((outcome.pod, _failovers(outcome)) for outcome in pod_outcomes), now=now):
        results = await gather_in_order([_try(cluster, patch, now=now, slots=slots) for patch in stage])
        for patch, result in zip(stage, results, strict=True):
            if isinstance(result, Applied):
                applied += [(_key(patch, failover), patch.step) for failover in result.failovers]
                workloads += [result.target] if patch.step is Step.TEMPLATE and result.target else []
            elif isinstance(result, RefusedError):
                refusals.append(Refusal(patch=patch, why=str(result), is_denial=isinstance(result, DeniedError)))
            else:
                fault = result
        if fault:
            break
    refused = {_key(refusal.patch, failover) for refusal in refusals for failover in refusal.patch.failovers}
    refused_or_unknown = None if fault else refused
    pods = tuple(
        replace(
            outcome,
            plans=tuple(_with_steps_taken(plan, outcome.pod, applied, refused_or_unknown) for plan in outcome.plans),
        )
        for outcome in pod_outcomes
    )
    return WorkloadOutcome(pods=pods, refusals=tuple(refusals), fault=fault), tuple(workloads)


async def _try(cluster: Cluster, patch: Patch, *, now: datetime, slots: asyncio.Semaphore) -> Applied | SaffireError:
    """Apply one patch; if the API server does not accept it, return the error."""
    async with slots:
        try:
            return await apply_patch(cluster, patch, now=now)
        except SaffireError as error:
            return error


async def apply_patch(cluster: Cluster, patch: Patch, *, now: datetime) -> Applied:
    """Apply one patch, rendered for the time `now`; raise a `SaffireError` if the API server does not accept it."""
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
            await asyncio.sleep(max(wait, min(error.retry_after, _MAX_WAIT)))
    return await _apply_rest(cluster, patch, now=now, unclear=unclear)


async def _apply_rest(cluster: Cluster, patch: Patch, *, now: datetime, unclear: bool) -> Applied:
    """
    Read the object again, since the guards of the patch failed, and patch what is left to do.

    `unclear` says that an earlier request got no clear answer, so that the API server may have carried out the patch.
    """
    target = await cluster.read_again(patch.target)
    if target is None:
        return Applied()
    applied = tuple(
        failover for failover in patch.failovers if unclear and _is_ours(failover, patch.step, target, now=now)
    )
    rest = render_again(patch, target, now=now)
    if rest is None:
        return Applied(failovers=applied, target=target)
    return Applied(failovers=(*applied, *rest.failovers), target=await _send(cluster, rest))


async def _send(cluster: Cluster, patch: Patch) -> Manifest:
    """Send a patch; raise `DeniedError` if admission accepted it and put another image in place of the alternative."""
    target = await cluster.apply(patch.target, patch.operations)
    if instead := images_found_instead(patch, target):
        raise DeniedError(f"admission put {', '.join(instead)} in place of the alternative")
    return target


def _is_ours(failover: Failover, step: Step, target: Manifest, *, now: datetime) -> bool:
    """
    Tell whether the history annotation of `target` has this very failover.

    If so, the API server had applied the patch, and only its answer was lost.
    """
    key = (failover.failure.container, failover.images(step)[1], timestamp(now))
    return any((entry.container, entry.after, timestamp(entry.at)) == key for entry in History.of(target).entries)


_Key = tuple[str, str, str, str]
"""What a patch changes: the uid of the pod (`""` for a template), then section, name and image of the container."""


def _key(patch: Patch, failover: Failover) -> _Key:
    return _key_of(failover.failure, "" if patch.step is Step.TEMPLATE else uid_of(patch.target))


def _key_of(failure: PullFailure, pod_uid: str) -> _Key:
    return pod_uid, failure.section, failure.container, failure.image


def _with_steps_taken(plan: Plan, pod: Manifest, applied: list[tuple[_Key, Step]], refused: set[_Key] | None) -> Plan:
    """
    Return the plan with the steps that the API server carried out; a `Leave` if nothing was left to do.

    Nothing was left to do if the API server carried out no step and refused none. `refused` is `None` if the API server
    gave no answer to a patch. Then every step may still have to be done.
    """
    if not isinstance(plan, Failover) or plan.observed:
        return plan
    keys = {_key_of(plan.failure, uid_of(pod) if step is Step.PODS else "") for step in plan.steps}
    steps = tuple(step for key, step in applied if key in keys)
    if steps or refused is None or keys & refused:
        return replace(plan, steps=steps)
    return Leave(reason=Reason.ALREADY_MOVED, detail=describe(plan.workload), failure=plan.failure)


def _failovers(outcome: PodOutcome) -> tuple[Failover, ...]:
    return tuple(plan for plan in outcome.plans if isinstance(plan, Failover))
