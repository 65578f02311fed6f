"""
Rollouts: whose old news are answered, since the template above them has been moved.

When a registry dies, a workload is moved as soon as its first pod fails. Of its others there may be Events already,
whose status said nothing yet: all that a look could find is that the rollout is about to replace them. What comes
later is news again, since somebody may have put the template back at once.
"""

from collections.abc import Iterable
from datetime import datetime

from saffire.kinds import Step
from saffire.manifest import Manifest
from saffire.memory import Image, Memory
from saffire.outcome import Treated
from saffire.plan import Failover
from saffire.workload import controller_of, told_uid


class Rollouts:
    """The pods that one repair has seen, by who controls them."""

    def __init__(self) -> None:
        self._pods: dict[str, list[str]] = {}

    def see(self, pod: Manifest) -> None:
        """Take note of a pod."""
        owner = controller_of(pod)
        if owner:
            self._pods.setdefault(owner.uid, []).append(told_uid(pod))

    def keep(self, done: Iterable[Treated], memory: Memory, *, now: datetime) -> frozenset[str]:
        """Have `memory` know the pods that are to be replaced because of what was done; return these."""
        kept: set[str] = set()
        for treated in done:
            images = _moved(treated)
            owner = controller_of(treated.verdicts[0].pod) if images else None
            for uid in self._pods.get(owner.uid, ()) if owner else ():
                memory.saw_pod(uid, images, now)
                kept.add(uid)
        return frozenset(kept)


def _moved(treated: Treated) -> frozenset[Image]:
    """Return what was moved in a template alone, so that its rollout does the rest."""
    return frozenset(
        (plan.failure.container, plan.failure.image)
        for plan in treated.plans
        if isinstance(plan, Failover) and plan.steps == (Step.TEMPLATE,) and not plan.observed and not treated.fault
    )
