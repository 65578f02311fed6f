"""
What the rest of Saffire is asked to do: the requests that triage makes of CloudEvents, and the work items of a queue.

A request names a place to look. It claims nothing about what is there.
"""

from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class PodFailed:
    """
    Where to look: a pod, and the Event that told of it.

    `container` and `image` are `""` where the Event names none, and `at` is when it was last written, `None` where it
    does not say. Every name is valid in a URL.
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
    """Look at a whole namespace: the source of that name has changed there."""

    namespace: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSourceChanged:
    """Look at every namespace for which the cluster-wide source of that name speaks: it has changed."""

    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepDue:
    """Look at every namespace for which a source speaks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkItem:
    """
    What a repair of a namespace is to look at.

    That is the pods of `hints`; with `wide` every pod, and with `thorough` also whether earlier failovers are complete
    and recorded.
    """

    namespace: str
    failed_pods: tuple[PodFailed, ...] = ()
    whole_namespace: bool = False
    audit: bool = False

    def merged(self, other: "WorkItem") -> "WorkItem":
        """Return one order for both."""
        hints = tuple(dict.fromkeys((*self.failed_pods, *other.failed_pods)))
        wide, thorough = self.whole_namespace or other.whole_namespace, self.audit or other.audit
        return replace(self, failed_pods=hints, whole_namespace=wide, audit=thorough)
