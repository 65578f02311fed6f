"""
Outcomes: what a repair did, by pod, by workload and by namespace; and totals of them.

Saffire patches the pods of one controller together, since one patch of their template frees them all. If an error ends
the repair of one workload, the outcomes for the other workloads stay as they are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

from saffire.errors import RefusedError, SaffireError
from saffire.kube.manifest import Manifest, name_of, uid_of
from saffire.kube.workload import OwnerReference, describe, event_uid
from saffire.policy.patch import Patch
from saffire.policy.plan import Failover, Leave, Plan, Reason, Reversion, Step, Wait
from saffire.pulls.cause import Cause
from saffire.pulls.failure import FailingPod
from saffire.record.events import FailoverRecord, explain, is_reported
from saffire.record.history_audit import Audit
from saffire.record.left import Decided, LeftInNamespace

FAILOVER_NOTICE: Final = "com.fairwinds.saffire.failover.v1"
"""The type of a CloudEvent: at least one container was moved, or would be moved (mode Observe)."""
FAIL_BACK_NOTICE: Final = "com.fairwinds.saffire.failback.v1"
"""The type of a CloudEvent: at least one container returned to its original image, or would return."""
REFUSAL_NOTICE: Final = "com.fairwinds.saffire.refusal.v1"
"""The type of a CloudEvent: a container was left with an image that cannot be pulled, and an operator has to act."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PodOutcome:
    """
    A pod, and one plan for each of its pull failures; `workload` is its workload if Saffire has read it, else `None`.

    Once Saffire has sent the patches, a `Failover` has only the steps that were carried out.
    """

    pod: Manifest
    plans: tuple[Plan, ...]
    workload: OwnerReference | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the pod is settled: Saffire has nothing left to do for it until a newer Event is about it."""
        return all(map(_is_settled, self.plans))

    @property
    def was_patched(self) -> bool:
        """Whether the API server accepted at least one patch that moves the pod, or its workload."""
        return any(isinstance(plan, Failover) and plan.steps and not plan.observed for plan in self.plans)

    @property
    def wants_siblings(self) -> bool:
        """Whether Saffire has to patch all stuck pods of the pod's controller before it patches the template."""
        pods_first = (Step.PODS, Step.TEMPLATE)
        return any(isinstance(plan, Failover) and plan.steps == pods_first and not plan.observed for plan in self.plans)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The API server refused `patch`, for the reason `why`; with `is_denial`, it would refuse the same patch again."""

    patch: Patch
    why: str
    is_denial: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadOutcome:
    """
    The outcome for the pods of one controller.

    `refusals` are the patches that the API server refused. `fault` is the error after which Saffire sent no further
    patch; `None` if there was none.
    """

    pods: tuple[PodOutcome, ...]
    refusals: tuple[Refusal, ...] = ()
    fault: SaffireError | None = None

    @property
    def unsettled(self) -> Iterator[str]:
        """
        The pods that are not settled: a later repair may decide otherwise about them.

        They are given by the uid that Events use for them.
        """
        return (event_uid(pod_outcome.pod) for pod_outcome in self.pods if not pod_outcome.is_settled)

    @classmethod
    def failed(cls, failing_pods: Iterable[FailingPod], fault: SaffireError) -> Self:
        """Return the outcome for failing pods whose repair ended with an error, without any plan."""
        return cls(pods=tuple(PodOutcome(pod=failing.pod, plans=()) for failing in failing_pods), fault=fault)

    @property
    def has_moved(self) -> bool:
        """Whether at least one plan is a failover, whether or not Saffire carried it out."""
        return any(isinstance(plan, Failover) for plan in self.plans)

    @property
    def plans(self) -> Iterator[Plan]:
        """Every plan, pod by pod."""
        return (plan for pod_outcome in self.pods for plan in pod_outcome.plans)

    @property
    def is_news(self) -> bool:
        """Whether Saffire made or observed a failover, the API server refused a patch, or an error ended the repair."""
        return any(_failovers(self.plans)) or bool(self.refusals) or self.fault is not None

    def about(self, pod_uid: str) -> "WorkloadOutcome":
        """Return the outcome for one pod alone; `pod_uid` is the uid that Events use for the pod."""
        pods = tuple(pod_outcome for pod_outcome in self.pods if event_uid(pod_outcome.pod) == pod_uid)
        if not self.refusals:
            return replace(self, pods=pods)
        others = {uid_of(pod_outcome.pod) for pod_outcome in self.pods} - {
            uid_of(pod_outcome.pod) for pod_outcome in pods
        }
        refusals = tuple(refusal for refusal in self.refusals if uid_of(refusal.patch.target) not in others)
        return replace(self, pods=pods, refusals=refusals)

    def __str__(self) -> str:
        """Return the outcome in one line."""
        refused = (
            f"the API server refused to patch {describe(refusal.patch.target)}: {refusal.why}"
            for refusal in self.refusals
        )
        fault = (str(self.fault),) if self.fault else ()
        return "; ".join([*map(explain, self.plans), *refused, *fault])


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairOutcome:
    """
    The outcome of one work item.

    Args:
        workloads: the outcomes for the failing pods, one for each group of pods of one controller.
        sources: the sources that apply to the namespace, as they are stored.
        gone: the pods of the work item that do not exist any more, by the uid that Events use for them.
        nothing_to_do: why there was nothing to do, for instance since no source applies; `None` otherwise.
        fault: the error that kept the repair from reading every pod; `None` if there was none.
        audit: the audit of the namespace, if the work item asked for one and the repair could read every pod.
        left: what hangs in the namespace and was not moved, if the repair could read every pod.

    """

    workloads: tuple[WorkloadOutcome, ...] = ()
    sources: tuple[Manifest, ...] = ()
    gone: frozenset[str] = frozenset()
    nothing_to_do: Leave | None = None
    fault: SaffireError | None = None
    audit: Audit | None = None
    left: LeftInNamespace | None = None

    def about(self, pod_uid: str) -> "RepairOutcome":
        """Return the outcome for one pod alone; `pod_uid` is the uid that Events use for the pod."""
        narrowed = tuple(workload_outcome.about(pod_uid) for workload_outcome in self.workloads)
        of_pod = tuple(workload_outcome for workload_outcome in narrowed if workload_outcome.pods)
        if of_pod:
            return RepairOutcome(workloads=of_pod)
        reason = Reason.NO_SUCH_POD if pod_uid in self.gone else Reason.NO_FAILURE
        is_known = self.nothing_to_do or pod_uid in self.gone
        return RepairOutcome(
            nothing_to_do=self.nothing_to_do or Leave(reason=reason), fault=None if is_known else self.fault
        )

    def covers(self, pod_uid: str) -> bool:
        """Tell whether this outcome has that of one pod; `pod_uid` is the uid that Events use for the pod."""
        return pod_uid in self.gone or any(
            event_uid(pod_outcome.pod) == pod_uid
            for workload_outcome in self.workloads
            for pod_outcome in workload_outcome.pods
        )

    def records(self, *, at: datetime) -> tuple[FailoverRecord, ...]:
        """Return a record, of the time `at`, for each failover of a workload's container."""
        failovers: dict[tuple[str, ...], tuple[Failover, Manifest]] = {}
        names: dict[tuple[str, ...], list[str]] = {}
        of_pods = (pod_outcome for workload_outcome in self.workloads for pod_outcome in workload_outcome.pods)
        for pod_outcome in of_pods:
            for plan in _failovers(pod_outcome.plans):
                key = (uid_of(plan.workload), plan.failure.container, plan.failure.image, plan.candidate.image)
                first, pod = failovers.get(key, (plan, pod_outcome.pod))
                steps = tuple(dict.fromkeys((*first.steps, *plan.steps)))
                failovers[key] = replace(first, steps=steps), pod
                if Step.PODS in plan.steps and not plan.observed:
                    names.setdefault(key, []).append(name_of(pod_outcome.pod))
        records = []
        for of_failover, (failover, pod) in failovers.items():
            pods = () if Step.TEMPLATE in failover.steps else tuple(names.get(of_failover, ()))
            regarding = pod if pods else failover.workload
            records.append(FailoverRecord(failover=failover, at=at, regarding=regarding, pods=pods))
        return tuple(records)

    @property
    def reversions(self) -> tuple[Reversion, ...]:
        """
        The failovers that somebody undid, as the decisions found.

        If Saffire moves the container again, they count only once that is done.
        """
        return tuple(
            reversion
            for plan in self.plans
            if isinstance(plan, Leave) or (isinstance(plan, Failover) and plan.steps and not plan.observed)
            for reversion in plan.reversions
        )

    @property
    def patches_template(self) -> bool:
        """
        Whether the repair patched a pod template.

        If it patched none, no rollout replaces the next pod that fails, so the next repair may start at once.
        """
        return any(isinstance(plan, Failover) and Step.TEMPLATE in plan.steps for plan in self.plans)

    @property
    def is_calm(self) -> bool:
        """
        Whether nothing was moved, nothing went wrong, and no pull fails for which a registry may be to blame.

        Then the namespace is *calm*. If the repair has read every pod of a calm namespace, Saffire may probe the
        registries of its images (`periodic.readiness_prober`). With `nothing_to_do`, this is false.
        """
        is_at_work = (
            self.nothing_to_do
            or self.fault
            or any(workload_outcome.fault or workload_outcome.refusals for workload_outcome in self.workloads)
        )
        return not is_at_work and all(isinstance(plan, Leave) and not _is_incident(plan) for plan in self.plans)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Every plan for every pod. If there was nothing to do, `nothing_to_do` is among them."""
        return (
            *(plan for workload_outcome in self.workloads for plan in workload_outcome.plans),
            *([self.nothing_to_do] if self.nothing_to_do else ()),
        )

    @property
    def decided(self) -> Iterator[Decided]:
        """Every plan with its pod and workload. If an error kept Saffire from a plan, or from a patch, it is `None`."""
        for workload_outcome in self.workloads:
            for pod_outcome in workload_outcome.pods:
                for plan in pod_outcome.plans or (None,):
                    is_unclear = workload_outcome.fault and isinstance(plan, Failover) and not plan.steps
                    yield pod_outcome.pod, pod_outcome.workload, None if is_unclear else plan

    @property
    def refusal_notice(self) -> str:
        """The type of the CloudEvent that tells of a pod that operators have to see to; `""` if there is none."""
        left = (plan for plan in self.plans if isinstance(plan, Leave) and plan.failure)
        return REFUSAL_NOTICE if any(map(is_reported, left)) else ""

    @property
    def http_status(self) -> int:
        """The HTTP status of Saffire's answer: the highest of an error, else 403 if a patch was refused, else 200."""
        faults = [workload_outcome.fault for workload_outcome in self.workloads if workload_outcome.fault] + (
            [self.fault] if self.fault else []
        )
        if faults:
            return max(fault.http_status for fault in faults)
        return (
            RefusedError.http_status if any(workload_outcome.refusals for workload_outcome in self.workloads) else 200
        )

    def __str__(self) -> str:
        """Return the outcome in one line."""
        if self.nothing_to_do and not self.fault:
            return explain(self.nothing_to_do)
        return "; ".join([*map(str, self.workloads), *([str(self.fault)] if self.fault else ())])


class Totals(Counter[str]):
    """
    Totals of outcomes, by the words for them.

    `moved` and `moved back` count failovers and fail backs that Saffire made, or observed (mode Observe). `waiting`
    counts pull failures for which Saffire waits, since every alternative failed lately, and `left alone` those that it
    left alone. `refused` counts patches that the API server refused, and `failed` errors that ended the repair of a
    workload or of a namespace.
    """

    @classmethod
    def of(cls, outcome: RepairOutcome) -> Self:
        """Return the totals of one outcome."""
        plans = [plan for workload_outcome in outcome.workloads for plan in workload_outcome.plans]
        totals = cls("moved back" if failover.is_back else "moved" for failover in _failovers(plans))
        totals["waiting"] = sum(isinstance(plan, Wait) for plan in plans)
        totals["left alone"] = sum(isinstance(plan, Leave) for plan in plans)
        totals["refused"] = sum(len(workload_outcome.refusals) for workload_outcome in outcome.workloads)
        faults = (outcome.fault, *(workload_outcome.fault for workload_outcome in outcome.workloads))
        totals["failed"] = sum(fault is not None for fault in faults)
        return totals

    @property
    def notice(self) -> str:
        """The type of the CloudEvent that tells of a failover or a fail back; `""` if there was none."""
        return FAILOVER_NOTICE if self["moved"] else FAIL_BACK_NOTICE if self["moved back"] else ""

    def __str__(self) -> str:
        """Return the totals in words, without those that are 0; 'all is well' if every total is 0."""
        words = ("moved", "moved back", "waiting", "left alone", "refused", "failed")
        return ", ".join(f"{self[word]} {word}" for word in words if self[word]) or "all is well"


def _failovers(plans: Iterable[Plan]) -> Iterator[Failover]:
    """Yield the failovers that Saffire made or observed: those of which no step was carried out are left out."""
    return (plan for plan in plans if isinstance(plan, Failover) and (plan.observed or plan.steps))


def _is_settled(plan: Plan) -> bool:
    """
    Tell whether a plan settles its pull failure, so that no later repair would decide otherwise.

    That is so if this repair or another one made the failover, or if a rollout is about to replace the pod.
    """
    match plan:
        case Failover():
            return bool(plan.steps) and not plan.observed and not plan.pod_leave
        case Wait():
            return False
        case Leave():
            return plan.reason in {Reason.ALREADY_MOVED, Reason.ROLLOUT}


def _is_incident(leave: Leave) -> bool:
    """Tell whether a registry that is down or throttles may have caused the pull failure that Saffire left alone."""
    cause = leave.failure.cause if leave.failure else Cause.UNKNOWN
    return cause.is_down or cause is Cause.THROTTLED
