"""
What this instance read, repaired or was denied lately. If all of that is lost, the instance reads once more.

If a registry is down, kubelets write thousands of Events. The event source delivers them one by one, and most are about
pods that a repair has read already. `RecentReads` remembers which pods and namespaces were read, so that Saffire
answers older Events without a request. It also remembers for which version of a source a repair ran, in which
namespaces repairs moved nothing, and which patches RBAC or admission denied.

A pod is *settled* if Saffire has nothing left to do for it. `Rollouts` settles the pods that a patched template
replaces.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from saffire.kube.manifest import Manifest, text, uid_of
from saffire.kube.workload import controller_of, describe, event_uid
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step
from saffire.reconcile.request import PodFailed
from saffire.record.outcome import PodOutcome, WorkloadOutcome

# What was read

Image = tuple[str, str]
"""The name of a container of a pod, and the reference of the image that the node cannot pull for it."""
# The next sweep sends a patch again that was denied.
_DENIED = timedelta(seconds=50)
_KEPT_PODS = 20_000
_KEPT_NAMESPACES = 2_000
_KEPT_SOURCES = 10_000
_KEPT_COUNTS = 10_000
# Repairs of a namespace that move nothing: 100 at once, then 5 a second.
_FRUITLESS_PAUSE = timedelta(seconds=0.2)
_FRUITLESS_BURST = timedelta(seconds=20)
_NEVER: tuple[datetime, frozenset[Any]] = (datetime.min.replace(tzinfo=UTC), frozenset())


class RecentReads:
    """
    The latest reads of pods and of whole namespaces, and what the module's docstring names.

    Times are in UTC. Pods are given by their namespace and the uid that Events use for them. The uid alone is not
    enough: a user may write the uid of another namespace's pod into an annotation (`event_uid`). The oldest entries are
    dropped: 20,000 pods, 20,000 denied patches, 2,000 namespaces and 10,000 sources are kept, and counts of repairs
    that moved nothing for 10,000 namespaces.
    """

    def __init__(self) -> None:
        self._pods: OrderedDict[tuple[str, str], tuple[datetime, frozenset[Image]]] = OrderedDict()
        self._gone: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._namespaces: OrderedDict[str, tuple[datetime, frozenset[str]]] = OrderedDict()
        self._denied: OrderedDict[tuple[str, str, str], tuple[datetime, str]] = OrderedDict()
        self._fruitless: OrderedDict[str, datetime] = OrderedDict()
        self._sources: OrderedDict[tuple[str, str], str] = OrderedDict()

    def pod_settled(self, namespace: str, uid: str, failing: frozenset[Image], at: datetime) -> None:
        """Remember that a pod was read at the time `at`, and that nothing is left to do for its `failing` images."""
        _keep(self._pods, (namespace, uid), (at, failing), _KEPT_PODS)

    def pod_gone(self, pod_failed: PodFailed) -> None:
        """
        Remember that no pod has the name and the uid of `pod_failed`.

        Once there is none, there never will be one. The uid alone is not enough, since a pod of that uid may be alive
        under another name.
        """
        _keep(self._gone, _pod_key(pod_failed), None, _KEPT_PODS)

    def namespace_settled(self, namespace: str, at: datetime, *, unsettled: frozenset[str]) -> None:
        """
        Remember that every pod of a namespace was read at the time `at` or later.

        All pods but those in `unsettled` are settled: Saffire has nothing left to do for them.
        """
        _keep(self._namespaces, namespace, (at, unsettled), _KEPT_NAMESPACES)

    def covers(self, pod_failed: PodFailed) -> bool:
        """
        Tell whether Saffire need not read the pod of an Event.

        That is so if the pod is gone, or if Saffire read the pod, or settled its failing image, after the kubelet wrote
        the Event.
        """
        if _pod_key(pod_failed) in self._gone:
            return True
        if pod_failed.at is None:
            return False
        listed_at, unsettled = self._namespaces.get(pod_failed.namespace, _NEVER)
        if pod_failed.pod_uid in unsettled:
            return False
        if pod_failed.is_shown_at(listed_at):
            return True
        read_at, failing = self._pods.get((pod_failed.namespace, pod_failed.pod_uid), _NEVER)
        if pod_failed.at > read_at:
            return False
        return any(
            container == pod_failed.container and pod_failed.image in {"", image} for container, image in failing
        )

    def moved_nothing(self, namespace: str, at: datetime) -> None:
        """Count a repair of a namespace that moved nothing, and that began at the time `at`."""
        _keep(self._fruitless, namespace, max(self._fruitless.get(namespace, at), at) + _FRUITLESS_PAUSE, _KEPT_COUNTS)

    def is_flooded(self, namespace: str, *, now: datetime) -> bool:
        """
        Tell whether so many repairs of a namespace moved nothing that no single Event is worth a repair.

        Anybody can make up Events about pods that do not exist, or do not fail.
        """
        return self._fruitless.get(namespace, now) - now > _FRUITLESS_BURST

    def source_repaired(self, namespace: str, name: str, version: str) -> None:
        """
        Remember the `version` of a source when the repair of all that it applies to began.

        `namespace` is empty for a cluster-wide source.
        """
        _keep(self._sources, (namespace, name), version, _KEPT_SOURCES)

    def has_repaired(self, namespace: str, name: str, version: str) -> bool:
        """Tell whether the last repair that `source_repaired` names had this `version` of the source."""
        return self._sources.get((namespace, name)) == version

    def patch_denied(self, target: Manifest, image: str, at: datetime, *, why: str) -> None:
        """Remember that the API server denied a patch of the object `target` to `image`, and `why`."""
        _keep(self._denied, (_namespace(target), uid_of(target), image), (at, why), _KEPT_PODS)

    def denial(self, target: Manifest, image: str, *, now: datetime) -> str:
        """Return why the API server denied a patch of `target` to `image` in the last 50 s; `""` if it denied none."""
        at, why = self._denied.get((_namespace(target), uid_of(target), image), (_NEVER[0], ""))
        return why if now - at < _DENIED else ""


def _namespace(manifest: Manifest) -> str:
    return text(manifest, "metadata", "namespace")


def _pod_key(pod_failed: PodFailed) -> tuple[str, str, str]:
    return pod_failed.namespace, pod_failed.pod, pod_failed.pod_uid


K = TypeVar("K")
T = TypeVar("T")


def _keep(entries: OrderedDict[K, T], key: K, value: T, max_entries: int) -> None:
    """Keep a value as the newest entry, and drop the oldest entry if there are more than `max_entries`."""
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > max_entries:
        entries.popitem(last=False)


# What was denied
#
# If RBAC or admission denied a patch, Saffire does not send the patch again with every Event. It cannot write that into
# the object, which it may not patch, so this instance remembers the denial. The next sweep sends the patch again, since
# an administrator may have lifted the denial.


def keep_denied(outcome: WorkloadOutcome, recent: RecentReads, *, now: datetime) -> None:
    """Remember which patches of a workload the API server denied."""
    for refusal in outcome.refusals:
        for failover in refusal.patch.failovers if refusal.is_denial else ():
            image = failover.images(refusal.patch.step)[1]
            recent.patch_denied(refusal.patch.target, image, now, why=refusal.why)


def without_denied(outcome: PodOutcome, recent: RecentReads, *, now: datetime) -> PodOutcome:
    """Return the outcome of a pod without the patches of its plans that the API server denied lately."""
    return replace(outcome, plans=tuple(_allowed(plan, outcome.pod, recent, now) for plan in outcome.plans))


def denied_images(decided: Iterable[PodOutcome], allowed: Iterable[PodOutcome]) -> frozenset[str]:
    """
    Return the candidates' images that the API server denied, for the template and the pods alike.

    `decided` has the plans as they were made, and `allowed` has the same plans, in the same order, after the denials.
    """
    planned, left = ([plan for outcome in outcomes for plan in outcome.plans] for outcomes in (decided, allowed))
    pairs = zip(planned, left, strict=True)
    return frozenset(
        plan.candidate.image for plan, after in pairs if isinstance(plan, Failover) and isinstance(after, Leave)
    )


def with_others(outcome: PodOutcome, other: PodOutcome) -> PodOutcome:
    """Return the outcome of a pod, with each failover of `other` in place of a plan that was denied."""
    plans = [
        after if _is_denied(plan) and isinstance(after, Failover) and not after.observed else plan
        for plan, after in zip(outcome.plans, other.plans, strict=True)
    ]
    return replace(outcome, plans=tuple(plans))


def _is_denied(plan: Plan) -> bool:
    return isinstance(plan, Leave) and plan.reason is Reason.DENIED


def _allowed(plan: Plan, pod: Manifest, recent: RecentReads, now: datetime) -> Plan:
    """
    Return the plan without the patches that the API server denied lately; a `Leave` if none is left.

    If the API server denied the patch of the template, the pod is patched in place instead.
    """
    if not isinstance(plan, Failover) or plan.observed:
        return plan
    targets = {Step.TEMPLATE: plan.workload, Step.PODS: pod}
    denied = {step: recent.denial(targets[step], plan.images(step)[1], now=now) for step in Step}
    why = denied[Step.TEMPLATE] if Step.TEMPLATE in plan.steps else ""
    allowed = plan.after_denial(why) if why else plan
    steps = tuple(step for step in allowed.steps if not denied[step])
    if steps:
        return replace(allowed, steps=steps) if steps != allowed.steps else allowed
    detail = f"{describe(plan.workload)} less than a minute ago: {why or denied[plan.steps[0]]}"
    return Leave(reason=Reason.DENIED, detail=detail, failure=plan.failure)


# What a rollout replaces
#
# If a registry goes down, Saffire patches a workload as soon as the first pod of it fails. Kubelets may have written
# Events already about other pods, whose status showed no failure yet. To read those pods would only show that the
# rollout is about to replace them. Later Events count again, since a user may have put the template back.


class Rollouts:
    """The pods that one repair has listed, by the uid of their controller."""

    def __init__(self) -> None:
        self._pods: dict[str, list[str]] = {}

    def observe(self, pod: Manifest) -> None:
        """Take note of a pod that the repair has listed."""
        owner = controller_of(pod)
        if owner:
            self._pods.setdefault(owner.uid, []).append(event_uid(pod))

    def settle(self, outcomes: Iterable[WorkloadOutcome], recent: RecentReads, *, now: datetime) -> frozenset[str]:
        """Settle in `recent` the pods that a rollout replaces, and return the uids that Events use for these pods."""
        replaced: set[str] = set()
        for outcome in outcomes:
            images = _moved_by_rollout(outcome)
            owner = controller_of(outcome.pods[0].pod) if images else None
            for uid in self._pods.get(owner.uid, ()) if owner else ():
                recent.pod_settled(_namespace(outcome.pods[0].pod), uid, images, now)
                replaced.add(uid)
        return frozenset(replaced)


def _moved_by_rollout(outcome: WorkloadOutcome) -> frozenset[Image]:
    """Return the failing images for which Saffire patched only the template: the rollout replaces their pods."""
    return frozenset(
        (plan.failure.container, plan.failure.image)
        for plan in outcome.plans
        if isinstance(plan, Failover) and plan.steps == (Step.TEMPLATE,) and not plan.observed and not outcome.fault
    )
