"""
Sends patches until the result of each is clear.

Each patch has guards (`policy.patch`), so the API server carries out a patch once or not at all. If the object has
changed since it was read, Saffire reads the object again, and patches what is left to do. If a request gets no clear
answer, Saffire sends the patch again. If the API server had carried out the first request after all, the guards of the
second fail, and the object's history annotation has the entry that the patch wrote.

If RBAC or admission denies the patch of a template, or if an admission webhook cannot be called, Saffire patches the
stuck pods in place. After any other refusal, the next sweep tries the template again.

Saffire also tries to adopt a stuck pod of a StatefulSet (`policy.adoption`). If it cannot, it patches the pod all the
same.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from saffire.concurrency import gather_in_order
from saffire.errors import ConflictError, DeniedError, RefusedError, SaffireError, TransientError, WebhookError
from saffire.kube.manifest import Manifest, text, uid_of
from saffire.kube.resources import Cluster
from saffire.kube.workload import describe, is_observed
from saffire.policy.adoption import adopting, may_adopt, revisions
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
# A controller makes the revision for a new template within some milliseconds; a busy one may take longer. So many
# seconds Saffire waits before it looks for the revision, and before each time that it looks again.
_REVISION_WAITS = (0.02, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """
    The failovers that a patch carried out, and the patched object as it is now; `target` is `None` if it is gone.

    `note` is a fact about the patch for the operator; `""` if there is none.
    """

    failovers: tuple[Failover, ...] = ()
    target: Manifest | None = None
    note: str = ""


async def apply_failovers(
    cluster: Cluster, pod_outcomes: tuple[PodOutcome, ...], *, now: datetime, slots: asyncio.Semaphore
) -> tuple[WorkloadOutcome, tuple[Manifest, ...]]:
    """
    Apply the failovers of the pods of one controller; each patch takes one of the `slots` while Saffire sends it.

    Return the outcome, and the patched workloads as they are now. If the API server refuses a patch, Saffire still
    sends the others, and patches the pods whose template was denied. If the API server gives no answer to a patch,
    Saffire takes no further step.
    """
    applied: list[tuple[_Key, Step, str]] = []
    refusals: list[Refusal] = []
    fault: SaffireError | None = None
    workloads: dict[str, Manifest] = {}
    stages = deque(render(((outcome.pod, _failovers(outcome)) for outcome in pod_outcomes), now=now))
    while stages and not fault:
        stage = stages.popleft()
        results = await gather_in_order([_try(cluster, patch, workloads, now=now, slots=slots) for patch in stage])
        for patch, result in zip(stage, results, strict=True):
            if isinstance(result, Applied):
                applied += [(_key(patch, failover), patch.step, result.note) for failover in result.failovers]
                if patch.step is Step.TEMPLATE and result.target:
                    workloads[uid_of(result.target)] = result.target
            elif isinstance(result, RefusedError):
                refusals.append(Refusal(patch=patch, why=str(result), is_denial=isinstance(result, DeniedError)))
                if patch.step is Step.TEMPLATE and refusals[-1].is_denial:
                    planned = pod_outcomes
                    pod_outcomes = tuple(_after_denial(outcome, refusals[-1]) for outcome in planned)
                    stages += render(map(_added_in_place, planned, pod_outcomes), now=now)
            else:
                fault = result
    refused = {_key(refusal.patch, failover) for refusal in refusals for failover in refusal.patch.failovers}
    refused_or_unknown = None if fault else refused
    pods = tuple(
        replace(
            outcome,
            plans=tuple(_with_steps_taken(plan, outcome.pod, applied, refused_or_unknown) for plan in outcome.plans),
        )
        for outcome in pod_outcomes
    )
    return WorkloadOutcome(pods=pods, refusals=tuple(refusals), fault=fault), tuple(workloads.values())


async def _try(
    cluster: Cluster, patch: Patch, workloads: Mapping[str, Manifest], *, now: datetime, slots: asyncio.Semaphore
) -> Applied | SaffireError:
    """
    Apply one patch; if the API server does not accept it, return the error.

    `workloads` are the workloads that Saffire has just patched, as they are now, by uid.
    """
    workload = patch.failovers[0].workload
    adoption = await _adoption(cluster, patch, workloads.get(uid_of(workload), workload))
    async with slots:
        try:
            if adoption:
                return await _adopt(cluster, adoption, patch, now=now)
            return await apply_patch(cluster, patch, now=now)
        except SaffireError as error:
            return error


async def _adopt(cluster: Cluster, adoption: Patch, patch: Patch, *, now: datetime) -> Applied:
    """Apply the `adoption` of a pod; if the API server refuses it, apply the `patch` without the revision label."""
    try:
        return await apply_patch(cluster, adoption, now=now)
    except RefusedError as error:
        note = f"its rollout starts the pod again, since the API server refused its new revision: {error}"
        return replace(await apply_patch(cluster, patch, now=now), note=note)


async def _adoption(cluster: Cluster, patch: Patch, workload: Manifest) -> Patch | None:
    """
    Return the patch of a pod that also makes it one of its StatefulSet's new revision; `None` if it must not.

    `workload` is the pod's workload. If Saffire has just patched its template, its controller needs a moment to make
    the revision. So Saffire reads the workload again, a few times.
    """
    if patch.step is not Step.PODS or not may_adopt(patch.target, workload):
        return None
    latest: Manifest | None = workload
    try:
        for wait in _REVISION_WAITS:
            if latest is None or is_observed(latest):
                break
            await asyncio.sleep(wait)
            latest = await cluster.read_again(workload)
        if latest is None or not is_observed(latest):
            return None
        namespace = text(workload, "metadata", "namespace")
        names = revisions(patch.target, latest)
        old, new = [await cluster.controller_revision(namespace, name) for name in names] if names else (None, None)
    except SaffireError:
        return None
    return adopting(patch, latest, old, new) if old and new else None


async def apply_patch(cluster: Cluster, patch: Patch, *, now: datetime) -> Applied:
    """
    Apply one patch, rendered for the time `now`; raise a `SaffireError` if the API server does not accept it.

    If an admission webhook cannot be called at the last try either, its own pods may wait for the registry that is
    down. So raise `DeniedError` if pods can be patched in place instead of their template.
    """
    unclear = False
    for wait in (*_WAITS, None):
        try:
            return Applied(failovers=patch.failovers, target=await _send(cluster, patch))
        except ConflictError:
            break
        except TransientError as error:
            if wait is None:
                if isinstance(error, WebhookError) and _leaves_pods(patch):
                    raise DeniedError(str(error)) from error
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


def _with_steps_taken(
    plan: Plan, pod: Manifest, applied: list[tuple[_Key, Step, str]], refused: set[_Key] | None
) -> Plan:
    """
    Return the plan with the steps that the API server carried out and their notes; a `Leave` if none was left to do.

    Nothing was left to do if the API server carried out no step and refused none. `refused` is `None` if the API server
    gave no answer to a patch. Then every step may still have to be done.
    """
    if not isinstance(plan, Failover) or plan.observed or not plan.steps:
        return plan
    keys = {_key_of(plan.failure, uid_of(pod) if step is Step.PODS else "") for step in plan.steps}
    steps = tuple(step for key, step, _ in applied if key in keys)
    if steps or refused is None or keys & refused:
        notes = (plan.note, *(note for key, _, note in applied if key in keys))
        return replace(plan, steps=steps, note="; ".join(filter(None, notes)))
    return Leave(reason=Reason.ALREADY_MOVED, detail=describe(plan.workload), failure=plan.failure)


def _failovers(outcome: PodOutcome) -> tuple[Failover, ...]:
    return tuple(plan for plan in outcome.plans if isinstance(plan, Failover))


def _after_denial(outcome: PodOutcome, refusal: Refusal) -> PodOutcome:
    """Return the outcome of a pod with what is left of its plans, since the patch of a template was denied."""
    workload = uid_of(refusal.patch.target)

    def revised(plan: Plan) -> Plan:
        if not isinstance(plan, Failover) or plan.observed or uid_of(plan.workload) != workload:
            return plan
        return plan.after_denial(refusal.why) if Step.TEMPLATE in plan.steps else plan

    return replace(outcome, plans=tuple(map(revised, outcome.plans)))


def _leaves_pods(patch: Patch) -> bool:
    """Tell whether pods can be patched in place if this patch of a template is denied."""
    return patch.step is Step.TEMPLATE and any(failover.after_denial("").steps for failover in patch.failovers)


def _added_in_place(planned: PodOutcome, outcome: PodOutcome) -> tuple[Manifest, tuple[Failover, ...]]:
    """Return a pod with those failovers of its outcome that patch the pod now, and were planned without that step."""
    pairs = zip(_failovers(planned), _failovers(outcome), strict=True)
    return outcome.pod, tuple(
        failover for before, failover in pairs if Step.PODS in failover.steps and Step.PODS not in before.steps
    )
