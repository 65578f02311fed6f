"""
Outcomes: what became of the pods that a repair looked at, by pod, by workload and by namespace.

Pods of one controller are patched together, since one template patch frees them all. What went wrong with one workload
says nothing of the others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from saffire.errors import RefusedError, SaffireError
from saffire.kube.manifest import Manifest, uid_of
from saffire.kube.workload import describe, event_uid
from saffire.policy.patch import Patch
from saffire.policy.plan import FailBack, Failover, Leave, Plan, Reason, Step, Wait
from saffire.pulls.cause import Cause
from saffire.pulls.failure import FailingPod
from saffire.record.audit import Audit
from saffire.record.events import FailoverRecord, explain


@dataclass(frozen=True, kw_only=True, slots=True)
class PodOutcome:
    """A pod, and one plan for each of its pull failures; a `Failover` that was carried out has the steps it took."""

    pod: Manifest
    plans: tuple[Plan, ...]

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for the pod, until it has news of its own."""
        return all(map(_is_settled, self.plans))

    @property
    def wants_siblings(self) -> bool:
        """Whether all stuck pods of its controller are to be patched before the template is."""
        order = (Step.PODS, Step.TEMPLATE)
        return any(isinstance(plan, Failover) and plan.steps == order and not plan.observed for plan in self.plans)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The API server refused `patch` and said `why`; `is_denial` tells that it will do so again."""

    patch: Patch
    why: str
    is_denial: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadOutcome:
    """
    What became of pods that have one controller.

    `refusals` are the patches that the API server refused, and `fault` is what kept the rest from being tried.
    """

    pods: tuple[PodOutcome, ...]
    refusals: tuple[Refusal, ...] = ()
    fault: SaffireError | None = None

    @property
    def unsettled(self) -> Iterator[str]:
        """The pods about which another look may decide otherwise, by the uids that Events call them by."""
        return (event_uid(verdict.pod) for verdict in self.pods if not verdict.is_settled)

    @classmethod
    def failed(cls, cases: Iterable[FailingPod], fault: SaffireError) -> Self:
        """Return that nothing could be decided about the pods."""
        return cls(pods=tuple(PodOutcome(pod=case.pod, plans=()) for case in cases), fault=fault)

    @property
    def has_moved(self) -> bool:
        """Whether a failover was made, or would have been."""
        return any(isinstance(plan, Failover) for plan in self.plans)

    @property
    def plans(self) -> Iterator[Plan]:
        """Every plan, pod by pod."""
        return (plan for verdict in self.pods for plan in verdict.plans)

    @property
    def is_news(self) -> bool:
        """Whether something was done, or went wrong."""
        done = any(isinstance(plan, Failover) and (plan.observed or plan.steps) for plan in self.plans)
        return done or bool(self.refusals) or self.fault is not None

    def about(self, pod_uid: str) -> "WorkloadOutcome":
        """Return the same for one pod alone, by the uid that Events call it by."""
        verdicts = tuple(verdict for verdict in self.pods if event_uid(verdict.pod) == pod_uid)
        others = {uid_of(verdict.pod) for verdict in self.pods if event_uid(verdict.pod) != pod_uid}
        refusals = tuple(refusal for refusal in self.refusals if uid_of(refusal.patch.target) not in others)
        return replace(self, pods=verdicts, refusals=refusals)

    def __str__(self) -> str:
        """Return it in one line."""
        refused = (f"{describe(refusal.patch.target)} refused: {refusal.why}" for refusal in self.refusals)
        fault = (str(self.fault),) if self.fault else ()
        return "; ".join([*map(explain, self.plans), *refused, *fault])


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairOutcome:
    """
    What became of one order.

    `nothing` says why there was nothing to treat, `gone` which pods are not there any more, by the uid that Events call
    them by, and `fault` what kept the repair from looking at every pod.
    """

    workloads: tuple[WorkloadOutcome, ...] = ()
    sources: tuple[Manifest, ...] = ()
    gone: frozenset[str] = frozenset()
    nothing: Leave | None = None
    fault: SaffireError | None = None
    audit: Audit | None = None

    def about(self, pod_uid: str) -> "RepairOutcome":
        """Return what became of the pod that Events call by that uid."""
        mine = tuple(treated.about(pod_uid) for treated in self.workloads)
        found = tuple(treated for treated in mine if treated.pods)
        if found:
            return RepairOutcome(workloads=found)
        reason = Reason.NO_SUCH_POD if pod_uid in self.gone else Reason.NO_FAILURE
        is_known = self.nothing or pod_uid in self.gone
        return RepairOutcome(nothing=self.nothing or Leave(reason=reason), fault=None if is_known else self.fault)

    def covers(self, pod_uid: str) -> bool:
        """Tell whether it says what became of the pod that Events call by that uid."""
        return pod_uid in self.gone or any(
            event_uid(verdict.pod) == pod_uid for treated in self.workloads for verdict in treated.pods
        )

    def records(self, *, at: datetime) -> tuple[tuple[FailoverRecord, Manifest], ...]:
        """Return a record, and a pod, of each failover of a workload's container, however many pods it freed."""
        found: dict[tuple[str, ...], tuple[Failover, Manifest]] = {}
        for verdict in (verdict for treated in self.workloads for verdict in treated.pods):
            for plan in verdict.plans:
                if isinstance(plan, Failover) and (plan.observed or plan.steps):
                    key = (uid_of(plan.workload), plan.failure.container, plan.failure.image, plan.candidate.image)
                    first, pod = found.get(key, (plan, verdict.pod))
                    steps = tuple(dict.fromkeys((*first.steps, *plan.steps)))
                    found[key] = replace(first, steps=steps), pod
        return tuple((FailoverRecord(failover=failover, at=at), pod) for failover, pod in found.values())

    @property
    def is_calm(self) -> bool:
        """Whether it was looked at the whole namespace, and nothing there fails that has to do with a registry."""
        is_at_work = self.nothing or self.fault or any(one.fault or one.refusals for one in self.workloads)
        return not is_at_work and all(isinstance(plan, Leave) and not _is_incident(plan) for plan in self.plans)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Every plan; the reason why there is none is one too."""
        return (
            *(plan for treated in self.workloads for plan in treated.plans),
            *([self.nothing] if self.nothing else ()),
        )

    @property
    def http_status(self) -> int:
        """The HTTP status that it deserves."""
        faults = [treated.fault for treated in self.workloads if treated.fault] + ([self.fault] if self.fault else [])
        if faults:
            return max(fault.http_status for fault in faults)
        return RefusedError.http_status if any(treated.refusals for treated in self.workloads) else 200

    def __str__(self) -> str:
        """Return it in one line."""
        if self.nothing and not self.fault:
            return explain(self.nothing)
        return "; ".join([*map(str, self.workloads), *([str(self.fault)] if self.fault else ())])


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """How many pull failures were moved, wait, were left alone or refused, or could not be looked at; who is back."""

    moved: int = 0
    back: int = 0
    waiting: int = 0
    left: int = 0
    refused: int = 0
    faults: int = 0

    @classmethod
    def of(cls, outcome: RepairOutcome) -> "Totals":
        """Count what became of an order."""
        plans = [plan for treated in outcome.workloads for plan in treated.plans]
        moved = [plan for plan in plans if isinstance(plan, Failover) and (plan.observed or plan.steps)]
        back = sum(isinstance(plan, FailBack) for plan in moved)
        return cls(
            moved=len(moved) - back,
            back=back,
            waiting=sum(isinstance(plan, Wait) for plan in plans),
            left=sum(isinstance(plan, Leave) for plan in plans),
            refused=sum(len(treated.refusals) for treated in outcome.workloads),
            faults=sum(treated.fault is not None for treated in outcome.workloads) + (outcome.fault is not None),
        )

    def __add__(self, other: "Totals") -> "Totals":
        """Return both together."""
        return Totals(
            moved=self.moved + other.moved,
            back=self.back + other.back,
            waiting=self.waiting + other.waiting,
            left=self.left + other.left,
            refused=self.refused + other.refused,
            faults=self.faults + other.faults,
        )

    def __str__(self) -> str:
        """Return what was counted, in words."""
        counted = {
            "moved": self.moved,
            "moved back": self.back,
            "waiting": self.waiting,
            "left alone": self.left,
            "refused": self.refused,
            "failed": self.faults,
        }
        return ", ".join(f"{number} {words}" for words, number in counted.items() if number) or "all is well"


def _is_settled(plan: Plan) -> bool:
    """Tell a failover that was made, or was none of ours to make, from what another look may decide otherwise."""
    match plan:
        case Failover():
            return bool(plan.steps) and not plan.observed and not plan.left
        case Wait():
            return False
        case Leave():
            return plan.reason in {Reason.ALREADY_MOVED, Reason.ROLLOUT}


def _is_incident(leave: Leave) -> bool:
    """Tell whether what is left alone may be part of a registry's outage, and no fault of its own."""
    cause = leave.failure.cause if leave.failure else Cause.UNKNOWN
    return cause.is_down or cause is Cause.THROTTLED
