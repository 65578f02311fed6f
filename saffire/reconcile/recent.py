"""
What this instance read, or was refused, lately. All of it can be lost: an instance without it reads once more.

`RecentReads` remembers which pods and namespaces were read, so that older Events are answered without a request. A
registry's death makes thousands of Events, and the event source delivers them one by one: most are about what a repair
has seen already.

Patches that RBAC or admission denied are not sent again with every Event. The object that may not be patched cannot
keep a note of that, so this instance does. The next sweep tries again, since somebody may have lifted the denial.

`Rollouts` settles the pods that a patched template replaces. When a registry dies, a workload is moved as soon as its
first pod fails. There may be Events of its other pods already, while their status said nothing: a look would only find
that the rollout is about to replace them. Later Events count again, since somebody may have put the template back.
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

Image = tuple[str, str]
"""A container of a pod, and the reference that it cannot pull."""
K = TypeVar("K")
T = TypeVar("T")
# A pod's status lags its Events by up to a second on a real node, and their times are whole seconds.
_LAG = timedelta(seconds=2)
# A patch that was denied is tried again with the next sweep.
_DENIED = timedelta(seconds=50)
_KEPT_PODS = 20_000
_KEPT_NAMESPACES = 2_000
_NEVER: tuple[datetime, frozenset[Any]] = (datetime.min.replace(tzinfo=UTC), frozenset())


class RecentReads:
    """The newest looks at pods, and at namespaces as a whole, those under way, and what was denied; bounded."""

    def __init__(self) -> None:
        self._pods: OrderedDict[str, tuple[datetime, frozenset[Image]]] = OrderedDict()
        self._gone: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._namespaces: OrderedDict[str, tuple[datetime, frozenset[str]]] = OrderedDict()
        self._denied: OrderedDict[tuple[str, str], tuple[datetime, str]] = OrderedDict()
        self._under_way: dict[str, tuple[datetime, frozenset[str]]] = {}

    def pod_settled(self, uid: str, failing: frozenset[Image], at: datetime) -> None:
        """Keep that a pod was read at that time, and that it was settled what to do about these images of it."""
        _keep(self._pods, uid, (at, failing), _KEPT_PODS)

    def pod_gone(self, hint: PodFailed) -> None:
        """Keep that there is no pod of that name and uid, which stays so; a uid under another name may be alive."""
        _keep(self._gone, _named(hint), None, _KEPT_PODS)

    @contextmanager
    def reading(self, namespace: str, at: datetime, *, but: frozenset[str]) -> Iterator[None]:
        """Keep for as long that every pod of a namespace `but` these is being looked at, as of that time or later."""
        self._under_way[namespace] = at, but
        try:
            yield
        finally:
            self._under_way.pop(namespace, None)

    def will_cover(self, hint: PodFailed) -> bool:
        """Tell whether a look is under way that finds whatever a hint points to, since the hint is older."""
        at, but = self._under_way.get(hint.namespace, _NEVER)
        return hint.at is not None and hint.pod_uid not in but and at - hint.at >= _LAG

    def namespace_settled(self, namespace: str, at: datetime, *, but: frozenset[str]) -> None:
        """Keep that every pod of a namespace was looked at, from that time on, and all is settled `but` about these."""
        _keep(self._namespaces, namespace, (at, but), _KEPT_NAMESPACES)

    def patch_denied(self, uid: str, image: str, at: datetime, *, why: str) -> None:
        """Keep that the object of that uid may not be patched to have this image, in the API server's words."""
        _keep(self._denied, (uid, image), (at, why), _KEPT_PODS)

    def denial(self, uid: str, image: str, *, now: datetime) -> str:
        """Return why such a patch was denied lately; `""` if it was not."""
        at, why = self._denied.get((uid, image), (_NEVER[0], ""))
        return why if now - at < _DENIED else ""

    def covers(self, hint: PodFailed) -> bool:
        """Tell whether a hint is older than the look at what it points to."""
        if _named(hint) in self._gone:
            return True
        if hint.at is None:
            return False
        listed_at, unsettled = self._namespaces.get(hint.namespace, _NEVER)
        if hint.pod_uid in unsettled:
            return False
        if listed_at - hint.at >= _LAG:
            return True
        seen_at, failing = self._pods.get(hint.pod_uid, _NEVER)
        if hint.at > seen_at:
            return False
        return any(container == hint.container and hint.image in {"", image} for container, image in failing)


def _named(hint: PodFailed) -> tuple[str, str, str]:
    return hint.namespace, hint.pod, hint.pod_uid


def _keep(kept: OrderedDict[K, T], key: K, value: T, most: int) -> None:
    """Keep a value as the newest, and forget the oldest beyond `most`."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def keep_denied(treated: WorkloadOutcome, memory: RecentReads, *, now: datetime) -> None:
    """Keep in memory which patches were denied."""
    for refusal in treated.refusals:
        for failover in refusal.patch.failovers if refusal.is_denial else ():
            image = failover.images(refusal.patch.step)[1]
            memory.patch_denied(uid_of(refusal.patch.target), image, now, why=refusal.why)


def without_denied(verdict: PodOutcome, memory: RecentReads, *, now: datetime) -> PodOutcome:
    """Return the verdict without the steps that were denied lately."""
    return replace(verdict, plans=tuple(_allowed(plan, verdict.pod, memory, now) for plan in verdict.plans))


def _allowed(plan: Plan, pod: Manifest, memory: RecentReads, now: datetime) -> Plan:
    if not isinstance(plan, Failover) or plan.observed:
        return plan
    targets = {Step.TEMPLATE: uid_of(plan.workload), Step.PODS: uid_of(pod)}
    denied = {step: memory.denial(targets[step], plan.images(step)[1], now=now) for step in plan.steps}
    steps = tuple(step for step in plan.steps if not denied[step])
    if steps:
        return replace(plan, steps=steps) if steps != plan.steps else plan
    detail = f"{describe(plan.workload)} less than a minute ago: {denied[plan.steps[0]]}"
    return Leave(reason=Reason.DENIED, detail=detail, failure=plan.failure)


class Rollouts:
    """The pods that one repair has seen, by who controls them."""

    def __init__(self) -> None:
        self._pods: dict[str, list[str]] = {}

    def observe(self, pod: Manifest) -> None:
        """Take note of a pod."""
        owner = controller_of(pod)
        if owner:
            self._pods.setdefault(owner.uid, []).append(event_uid(pod))

    def settle(self, done: Iterable[WorkloadOutcome], memory: RecentReads, *, now: datetime) -> frozenset[str]:
        """Have `memory` know the pods that are to be replaced because of what was done; return these."""
        kept: set[str] = set()
        for treated in done:
            images = _moved(treated)
            owner = controller_of(treated.pods[0].pod) if images else None
            for uid in self._pods.get(owner.uid, ()) if owner else ():
                memory.pod_settled(uid, images, now)
                kept.add(uid)
        return frozenset(kept)


def _moved(treated: WorkloadOutcome) -> frozenset[Image]:
    """Return what was moved in a template alone, so that its rollout does the rest."""
    return frozenset(
        (plan.failure.container, plan.failure.image)
        for plan in treated.plans
        if isinstance(plan, Failover) and plan.steps == (Step.TEMPLATE,) and not plan.observed and not treated.fault
    )
