"""
What this instance read, or was denied, lately. All of it can be lost: an instance without it reads once more.

A registry that is down makes thousands of Events. The event source delivers them one by one, and most are about pods
that a repair has read already. `RecentReads` remembers which pods and namespaces were read, so that older Events are
answered without a request. It also remembers which patches RBAC or admission denied. `Rollouts` settles the pods that
a patched template replaces.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.workload import controller_of, describe, event_uid
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step
from saffire.reconcile.request import PodFailed
from saffire.record.outcome import PodOutcome, WorkloadOutcome

# What was read

Image = tuple[str, str]
"""The name of a container of a pod, and the reference that it cannot pull."""
# A pod's status lags its Events by up to a second on a real node, and their times are whole seconds.
_LAG = timedelta(seconds=2)
# A patch that was denied is sent again by the next sweep.
_DENIED = timedelta(seconds=50)
_KEPT_PODS = 20_000
_KEPT_NAMESPACES = 2_000
_NEVER: tuple[datetime, frozenset[Any]] = (datetime.min.replace(tzinfo=UTC), frozenset())


class RecentReads:
    """
    The latest reads of pods and of whole namespaces, the reads that run now, and the patches that were denied lately.

    Times are in UTC. Pods are given by the uid that Events use for them. The number of entries is limited.
    """

    def __init__(self) -> None:
        self._pods: OrderedDict[str, tuple[datetime, frozenset[Image]]] = OrderedDict()
        self._gone: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._namespaces: OrderedDict[str, tuple[datetime, frozenset[str]]] = OrderedDict()
        self._denied: OrderedDict[tuple[str, str], tuple[datetime, str]] = OrderedDict()
        self._under_way: dict[str, tuple[datetime, frozenset[str]]] = {}

    def pod_settled(self, uid: str, failing: frozenset[Image], at: datetime) -> None:
        """Remember that a pod was read `at` this time, and that these failing images of it are settled."""
        _keep(self._pods, uid, (at, failing), _KEPT_PODS)

    def pod_gone(self, pod_failed: PodFailed) -> None:
        """
        Remember that there is no pod of that name and uid.

        That stays true. The uid alone is not enough: a pod of that uid may be alive under another name.
        """
        _keep(self._gone, _pod_key(pod_failed), None, _KEPT_PODS)

    @contextmanager
    def reading(self, namespace: str, at: datetime, *, unsettled: frozenset[str]) -> Iterator[None]:
        """Remember, inside this context, that every pod of a namespace but the unsettled is read, `at` or later."""
        self._under_way[namespace] = at, unsettled
        try:
            yield
        finally:
            self._under_way.pop(namespace, None)

    def will_cover(self, pod_failed: PodFailed) -> bool:
        """Tell whether a read that runs now covers this pod, since the Event is older than the read."""
        at, unsettled = self._under_way.get(pod_failed.namespace, _NEVER)
        return pod_failed.at is not None and pod_failed.pod_uid not in unsettled and at - pod_failed.at >= _LAG

    def namespace_settled(self, namespace: str, at: datetime, *, unsettled: frozenset[str]) -> None:
        """Remember that every pod of a namespace was read, `at` or later, and that all but these are settled."""
        _keep(self._namespaces, namespace, (at, unsettled), _KEPT_NAMESPACES)

    def covers(self, pod_failed: PodFailed) -> bool:
        """Tell whether the pod was read, or its failing image settled, after the Event was written."""
        if _pod_key(pod_failed) in self._gone:
            return True
        if pod_failed.at is None:
            return False
        listed_at, unsettled = self._namespaces.get(pod_failed.namespace, _NEVER)
        if pod_failed.pod_uid in unsettled:
            return False
        if listed_at - pod_failed.at >= _LAG:
            return True
        read_at, failing = self._pods.get(pod_failed.pod_uid, _NEVER)
        if pod_failed.at > read_at:
            return False
        return any(
            container == pod_failed.container and pod_failed.image in {"", image} for container, image in failing
        )

    def patch_denied(self, uid: str, image: str, at: datetime, *, why: str) -> None:
        """Remember that the object of that uid may not be patched to have this image, in the API server's words."""
        _keep(self._denied, (uid, image), (at, why), _KEPT_PODS)

    def denial(self, uid: str, image: str, *, now: datetime) -> str:
        """Return why such a patch was denied within the last 50 seconds; `""` if it was not."""
        at, why = self._denied.get((uid, image), (_NEVER[0], ""))
        return why if now - at < _DENIED else ""


def _pod_key(pod_failed: PodFailed) -> tuple[str, str, str]:
    return pod_failed.namespace, pod_failed.pod, pod_failed.pod_uid


K = TypeVar("K")
T = TypeVar("T")


def _keep(entries: OrderedDict[K, T], key: K, value: T, max_entries: int) -> None:
    """Keep a value as the newest entry, and drop the oldest if there are more than `max_entries`."""
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > max_entries:
        entries.popitem(last=False)


# What was denied
#
# A patch that RBAC or admission denied is not sent again with every Event. The object that may not be patched cannot
# hold a note of that, so this instance remembers it. The next sweep sends the patch again: somebody may have lifted the
# denial.


def keep_denied(outcome: WorkloadOutcome, recent: RecentReads, *, now: datetime) -> None:
    """Remember which patches of a workload the API server denied."""
    for refusal in outcome.refusals:
        for failover in refusal.patch.failovers if refusal.is_denial else ():
            image = failover.images(refusal.patch.step)[1]
            recent.patch_denied(uid_of(refusal.patch.target), image, now, why=refusal.why)


def without_denied(outcome: PodOutcome, recent: RecentReads, *, now: datetime) -> PodOutcome:
    """Return the outcome of a pod without the steps that were denied lately."""
    return replace(outcome, plans=tuple(_allowed(plan, outcome.pod, recent, now) for plan in outcome.plans))


def _allowed(plan: Plan, pod: Manifest, recent: RecentReads, now: datetime) -> Plan:
    """Return the plan with the steps that were not denied lately; `Leave` if all were."""
    if not isinstance(plan, Failover) or plan.observed:
        return plan
    targets = {Step.TEMPLATE: uid_of(plan.workload), Step.PODS: uid_of(pod)}
    denied = {step: recent.denial(targets[step], plan.images(step)[1], now=now) for step in plan.steps}
    steps = tuple(step for step in plan.steps if not denied[step])
    if steps:
        return replace(plan, steps=steps) if steps != plan.steps else plan
    detail = f"{describe(plan.workload)} less than a minute ago: {denied[plan.steps[0]]}"
    return Leave(reason=Reason.DENIED, detail=detail, failure=plan.failure)


# What a rollout replaces
#
# When a registry goes down, a workload is patched as soon as its first pod fails. There may be Events of its other pods
# already whose status showed no failure yet. To read those pods would only show that the rollout is about to replace
# them. Later Events count again: somebody may have put the template back.


class Rollouts:
    """The pods that one repair has listed, by the uid of their controller."""

    def __init__(self) -> None:
        self._pods: dict[str, list[str]] = {}

    def observe(self, pod: Manifest) -> None:
        """Take note of a pod that was listed."""
        owner = controller_of(pod)
        if owner:
            self._pods.setdefault(owner.uid, []).append(event_uid(pod))

    def settle(self, outcomes: Iterable[WorkloadOutcome], recent: RecentReads, *, now: datetime) -> frozenset[str]:
        """Settle in `recent_reads` the pods that a rollout replaces, and return them by the uid that Events use."""
        replaced: set[str] = set()
        for outcome in outcomes:
            images = _moved_by_rollout(outcome)
            owner = controller_of(outcome.pods[0].pod) if images else None
            for uid in self._pods.get(owner.uid, ()) if owner else ():
                recent.pod_settled(uid, images, now)
                replaced.add(uid)
        return frozenset(replaced)


def _moved_by_rollout(outcome: WorkloadOutcome) -> frozenset[Image]:
    """Return the images that were moved in the template alone, so that its rollout does the rest."""
    return frozenset(
        (plan.failure.container, plan.failure.image)
        for plan in outcome.plans
        if isinstance(plan, Failover) and plan.steps == (Step.TEMPLATE,) and not plan.observed and not outcome.fault
    )
