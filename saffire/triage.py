"""
Triage: turns a CloudEvent into a request, or ignores the CloudEvent.

Knative's ApiServerSource cannot filter Events by their message, so Saffire ignores nearly all CloudEvents that arrive.
Triage is pure and sends nothing to the API server. A request says that a pod failed, that a source changed, or that a
sweep is due.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saffire.errors import RejectedEvent
from saffire.kube.manifest import InvalidManifest, is_label, is_subdomain, items, moment, name_of, number, text
from saffire.pulls.kubelet_event import PullReport, pod_of, read_event
from saffire.reconcile.request import ClusterSourceChanged, PodFailed, SourceChanged, SweepDue
from saffire.sources.spec import is_cluster_wide

_RESOURCE = "dev.knative.apiserver.resource."
_REFERENCE = "dev.knative.apiserver.ref."
_PING = "dev.knative.sources.ping"
_SOURCES = "saffire.fairwinds.com/"
_EVENT_APIS = frozenset({"v1", "events.k8s.io/v1"})
_MAX_UID = 128
# No reference of an image is longer, and no name of a container.
_MAX_TEXT = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    """Saffire ignores a CloudEvent for this reason, so there is no request."""

    reason: str


def triage(ce_type: str, data: Any) -> PodFailed | SourceChanged | ClusterSourceChanged | SweepDue | Ignored:
    """
    Return the request of a CloudEvent with type `ce_type` and decoded `data`, or why Saffire ignores the CloudEvent.

    Raise `RejectedEvent` if the CloudEvent is malformed. The types are those of ApiServerSource and PingSource
    (knative.dev/eventing, pkg/apis/sources).
    """
    if ce_type == _PING:
        return SweepDue()
    if ce_type.startswith(_REFERENCE):
        raise RejectedEvent("the ApiServerSource sends references: set `mode: Resource` in its spec")
    if not ce_type.startswith(_RESOURCE):
        return Ignored(reason="not an event of an ApiServerSource or a PingSource")
    if not isinstance(data, dict):
        raise RejectedEvent("the CloudEvent's data is not a JSON object")
    if ce_type == f"{_RESOURCE}delete":
        return Ignored(reason="the object was deleted")
    try:
        return _triage_source(data) if text(data, "apiVersion").startswith(_SOURCES) else _triage_event(data)
    except InvalidManifest as error:
        raise RejectedEvent(f"not an Event of Kubernetes: {error}") from error


def _triage_source(source: dict[str, Any]) -> SourceChanged | ClusterSourceChanged | Ignored:
    """
    Return the request for a source that changed, an AlternateImageSource or a ClusterAlternateImageSource.

    If the source's spec did not change, Saffire ignores the change, which is mostly the status that Saffire wrote.
    """
    generation = number(source, "metadata", "generation")
    if generation and generation == number(source, "status", "observedGeneration"):
        return Ignored(reason="the spec of the AlternateImageSource is known")
    namespace, name = text(source, "metadata", "namespace"), name_of(source)
    if is_cluster_wide(source) and is_subdomain(name):
        return ClusterSourceChanged(source=name)
    if not is_label(namespace) or not is_subdomain(name):
        raise RejectedEvent("not an AlternateImageSource: metadata: no name and namespace of Kubernetes")
    return SourceChanged(namespace=namespace, source=name)


def _triage_event(event: dict[str, Any]) -> PodFailed | Ignored:
    """Return the request for an Event; `Ignored` if the Event is not about a failed pull of a pod's image."""
    if text(event, "kind") != "Event" or text(event, "apiVersion") not in _EVENT_APIS:
        return Ignored(reason="not an Event of Kubernetes")
    regarding = pod_of(event)
    if text(regarding, "kind") != "Pod" or text(regarding, "apiVersion") not in {"", "v1"}:
        return Ignored(reason="not about a Pod")
    report = read_event(event)
    if report is None:
        return Ignored(reason="tells of no failed pull")
    return _pod_failed(event, text(regarding, "namespace"), text(regarding, "name"), report)


def _pod_failed(event: dict[str, Any], namespace: str, pod: str, report: PullReport) -> PodFailed:
    """Return the request for an Event about a failed pull; raise `RejectedEvent` if a name is not valid in a URL."""
    pod_uid = report.pod_uid
    if not is_label(namespace):
        raise RejectedEvent("not an Event of Kubernetes: involvedObject.namespace: not a namespace's name")
    if not is_subdomain(pod):
        raise RejectedEvent("not an Event of Kubernetes: involvedObject.name: not a pod's name")
    if not is_subdomain(name_of(event)):
        raise RejectedEvent("not an Event of Kubernetes: metadata.name: not an Event's name")
    if text(event, "metadata", "namespace") not in {"", namespace}:
        raise RejectedEvent("not an Event of Kubernetes: metadata.namespace: not the pod's")
    if not pod_uid or len(pod_uid) > _MAX_UID:
        raise RejectedEvent("not an Event of Kubernetes: involvedObject.uid: not a uid")
    return PodFailed(
        namespace=namespace,
        pod=pod,
        pod_uid=pod_uid,
        container=report.container[:_MAX_TEXT],
        event=name_of(event),
        image=report.image[:_MAX_TEXT],
        at=_written_at(event),
    )


def _written_at(event: dict[str, Any]) -> datetime | None:
    """
    Return when an Event was last written, in UTC; `None` if the Event has no readable time.

    The time is by the API server's clock (`metadata.managedFields[].time`). If the Event has no such field, the time is
    by the clock of the node (`lastTimestamp`).
    """
    try:
        times = [text(entry, "time") for entry in items(event, "metadata", "managedFields")]
        return moment(max(times, default="") or text(event, "lastTimestamp"))
    except InvalidManifest:
        return None
