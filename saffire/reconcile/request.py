"""
Requests and work items: what is to be repaired.

Triage makes a request of a CloudEvent. The dispatcher makes a work item of a request, for the work queue. Requests and
work items name pods and namespaces that Saffire has to read. They say nothing about the state of these.
"""

from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class PodFailed:
    """
    Read a pod, since an Event reports that the pod failed.

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


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceChanged:
    """Repair a whole namespace, since the source named `source` in it changed."""

    namespace: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSourceChanged:
    """Repair every namespace that the cluster-wide source named `source` selects, since that source changed."""

    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepDue:
    """Repair every namespace to which a source applies."""


RepairRequest = PodFailed | SourceChanged | ClusterSourceChanged | SweepDue


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkItem:
    """
    What one repair of a namespace reads.

    The repair reads the pods of `failed_pods`; with `whole_namespace`, every pod. With `audit`, the repair also checks
    whether earlier failovers are complete and recorded.
    """

    namespace: str
    failed_pods: tuple[PodFailed, ...] = ()
    whole_namespace: bool = False
    audit: bool = False

    def merged(self, other: "WorkItem") -> "WorkItem":
        """Return one work item that asks for all that this work item and `other` ask for."""
        failed_pods = tuple(dict.fromkeys((*self.failed_pods, *other.failed_pods)))
        whole_namespace, audit = self.whole_namespace or other.whole_namespace, self.audit or other.audit
        return replace(self, failed_pods=failed_pods, whole_namespace=whole_namespace, audit=audit)
