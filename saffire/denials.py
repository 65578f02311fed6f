"""
Denials: patches that RBAC or admission forbids are not sent again with every Event.

The object that may not be patched cannot keep a note of it, so this instance's memory does. The next sweep tries again,
since whoever reads of the denial may lift it.
"""

from dataclasses import replace
from datetime import datetime

from saffire.kinds import Step
from saffire.leave import Leave, Reason
from saffire.manifest import Manifest, uid_of
from saffire.memory import Memory
from saffire.outcome import Treated, Verdict
from saffire.plan import Failover, Plan
from saffire.workload import describe


def keep_denied(treated: Treated, memory: Memory, *, now: datetime) -> None:
    """Keep in memory which patches were denied."""
    for refusal in treated.refusals:
        for failover in refusal.patch.failovers if refusal.is_denial else ():
            image = failover.images(refusal.patch.step)[1]
            memory.was_denied(uid_of(refusal.patch.target), image, now, why=refusal.why)


def without_denied(verdict: Verdict, memory: Memory, *, now: datetime) -> Verdict:
    """Return the verdict without the steps that were denied lately."""
    return replace(verdict, plans=tuple(_allowed(plan, verdict.pod, memory, now) for plan in verdict.plans))


def _allowed(plan: Plan, pod: Manifest, memory: Memory, now: datetime) -> Plan:
    if not isinstance(plan, Failover) or plan.observed:
        return plan
    targets = {Step.TEMPLATE: uid_of(plan.workload), Step.PODS: uid_of(pod)}
    denied = {step: memory.denial(targets[step], plan.images(step)[1], now=now) for step in plan.steps}
    steps = tuple(step for step in plan.steps if not denied[step])
    if steps:
        return replace(plan, steps=steps) if steps != plan.steps else plan
    detail = f"{describe(plan.workload)} less than a minute ago: {denied[plan.steps[0]]}"
    return Leave(reason=Reason.DENIED, detail=detail, failure=plan.failure)
