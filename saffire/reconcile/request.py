"""
Requests and their answers; and work items: what is to be repaired.

Triage makes a request of a CloudEvent. The dispatcher makes a work item of a request, for the work queue. Requests and
work items name pods and namespaces that Saffire has to read. They say nothing about the state of these.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

# A pod's status lags its Events by up to a second on a real node, and the times of Events are whole seconds.
_LAG = timedelta(seconds=2)
# A work item names so many failed pods. If more pods fail while a repair runs, one list of the namespace is cheaper
# than the names, and strangers can send any number of names.
_MAX_FAILED_PODS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class PodFailed:
    """
    An Event reports that a pod failed, so Saffire has to read the pod.

    `container` and `image` are `""` if the Event names none. `event` is the name of the Event. `at` is when the kubelet
    last wrote the Event, in UTC; `None` if the Event has no time. Every name is valid in a URL.
    """

    namespace: str
    pod: str
    pod_uid: str
    container: str
    event: str
    image: str = ""
    at: datetime | None = None

    def is_shown_at(self, read_at: datetime) -> bool:
        """
        Tell whether a read of the pod at `read_at`, or later, shows what the Event reports.

        It does if the kubelet wrote the Event at least 2 seconds before `read_at`. If the Event has no time, return
        `False`.
        """
        return self.at is not None and read_at - self.at >= _LAG


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceChanged:
    """The source named `source` changed, so Saffire has to repair its whole namespace."""

    namespace: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSourceChanged:
    """The cluster-wide source named `source` changed, so Saffire has to repair every namespace that it selects."""

    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepDue:
    """A minute has passed, so Saffire has to repair every namespace to which a source applies."""


RepairRequest = PodFailed | SourceChanged | ClusterSourceChanged | SweepDue


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """
    Saffire's answer to a request.

    Args:
        status: the HTTP status.
        line: the body of the HTTP response, one line of text.
        plans: the plans for the pod that an Event names, as log fields; empty for other requests.
        notice: the type of the CloudEvent that tells others what Saffire did; `""` if there is nothing to tell.
        is_redundant: a repair that has ended, runs now or will run covers the request. So Saffire repaired nothing for
            the request alone.

    """

    status: int
    line: str
    plans: tuple[dict[str, str], ...] = ()
    notice: str = ""
    is_redundant: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkItem:
    """
    What one repair of a namespace reads.

    The repair reads the pods of `failed_pods`; with `whole_namespace`, every pod. With `audit`, the repair also checks
    whether earlier failovers are complete and recorded. With `many_failed`, more than 64 pods failed: `failed_pods` is
    empty, and the repair reads every pod and the Events of the namespace instead.
    """

    namespace: str
    failed_pods: tuple[PodFailed, ...] = ()
    whole_namespace: bool = False
    audit: bool = False
    many_failed: bool = False

    @property
    def reads_events(self) -> bool:
        """
        Whether the repair reads the Events of pods whose status lags behind.

        A sweep leaves these pods to the Events that are delivered.
        """
        return not self.audit or self.many_failed

    def merged(self, other: "WorkItem") -> "WorkItem":
        """
        Return one work item that asks for all that this work item and `other` ask for.

        The time that this takes does not grow with the number of work items that were merged before.
        """
        failed_pods: tuple[PodFailed, ...] = ()
        many_failed = self.many_failed or other.many_failed
        if not many_failed:
            failed_pods = tuple(dict.fromkeys((*self.failed_pods, *other.failed_pods)))
            many_failed = len(failed_pods) > _MAX_FAILED_PODS
        return WorkItem(
            namespace=self.namespace,
            failed_pods=() if many_failed else failed_pods,
            whole_namespace=self.whole_namespace or other.whole_namespace or many_failed,
            audit=self.audit or other.audit,
            many_failed=many_failed,
        )
