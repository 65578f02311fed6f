"""
Likeness: which pods share a plan.

A storm fails a workload's pods by the dozen, and all that tells one from the next is its name and what the runtime said
of its pull. So pods of one controller that are alike in everything that a plan looks at are decided about once.
"""

from collections.abc import Iterable
from dataclasses import replace

from saffire.failure import Case, PullFailure
from saffire.history import ANNOTATION
from saffire.leave import Leave
from saffire.manifest import Manifest, annotation, text, uid_of
from saffire.plan import Failover, Plan, Wait
from saffire.platforms import Platform
from saffire.pullsecrets import pull_secrets
from saffire.workload import controller_of, describe, is_static, opted_out

Likeness = tuple[object, ...]
"""All that a plan looks at in a pod, but for its name and the runtime's text."""


def likeness(case: Case, node: tuple[Platform, ...] | str) -> Likeness:
    """
    Return what pods that share a plan have in common.

    `node` is what a plan may know of the pod's node: its platform, or where that is not known its name.
    """
    pod = case.pod
    return (
        controller_of(pod) or uid_of(pod),
        tuple((one.section, one.container, one.image, one.reason, one.cause) for one in case.failures),
        node,
        pull_secrets(pod),
        annotation(pod, ANNOTATION),
        (opted_out(pod), is_static(pod)),
        (text(pod, "metadata", "deletionTimestamp"), text(pod, "status", "phase")),
    )


def is_shared(plans: Iterable[Plan], pod: Manifest) -> bool:
    """Tell whether the plans for a pod are those for all that are like it."""
    return not any(_is_its_own(plan, pod) for plan in plans)


def told_of(plans: Iterable[Plan], failures: Iterable[PullFailure]) -> tuple[Plan, ...]:
    """Return the plans for the failures of one pod as those for the same failures of a pod that is like it."""
    return tuple(replace(plan, failure=failure) for plan, failure in zip(plans, failures, strict=True))


def _is_its_own(plan: Plan, pod: Manifest) -> bool:
    """Tell whether a plan has the pod for its workload, gives a template what the pod was given, or quotes its name."""
    match plan:
        case Failover():
            return plan.workload is pod or plan.lack is not None
        case Wait():
            return False
        case Leave():
            return describe(pod) in plan.detail
