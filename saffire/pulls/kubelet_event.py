"""
Events: what a kubelet says in passing about images that it cannot pull.

An Event is a hint, or evidence when the API server holds it; it is never the truth about a pod, which only the pod is.
The wording is the kubelet's (pkg/kubelet/images/image_manager.go, pkg/kubelet/kuberuntime/kuberuntime_container.go),
unchanged from Kubernetes 1.20 to 1.35.
"""

import re
from dataclasses import dataclass

from saffire.kube.manifest import InvalidManifest, Manifest, mapping, text

# `state.waiting.reason` of a container whose pull failed (pkg/kubelet/images/types.go): another repository may help.
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
# The message of an Event, and since Kubernetes 1.32 of the container's status too, with the last error behind it.
BACK_OFF = re.compile(r'Back-off pulling image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
# Enough of the error for its end, where the reason is, behind the reference that a runtime repeats.
_CLIP = 8192
_COMBINED = "(combined from similar events): "
_FAILED_TO_PULL = re.compile(r'Failed to pull image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
_ERROR = re.compile(r"Error: (?P<reason>\w+)")
_FIELD_PATH = re.compile(r"spec\.(?:containers|initContainers|ephemeralContainers)\{(?P<container>[^{}]+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PullReport:
    """
    What one kubelet Event says: in this pod an image could not be pulled.

    `image` is as the pod's spec writes it, `container` the one the Event's `fieldPath` names, and `at` when that was
    last so, by the node's clock; each is `""` where the Event does not say.
    """

    pod_uid: str
    container: str
    image: str
    error: str
    at: str = ""


def read_event(event: Manifest) -> PullReport | None:
    """
    Read an Event of core/v1 or events.k8s.io/v1; `None` unless type, reason and message tell of a pull.

    Reason alone would not do: `Failed` also tells of containers that cannot start, and `BackOff` of crash loops.
    """
    reason = text(event, "reason")
    message = (text(event, "message") or text(event, "note")).removeprefix(_COMBINED)
    match (text(event, "type"), reason):
        case ("Warning", "Failed"):
            found = _FAILED_TO_PULL.match(message) or _pull_error(message)
        case ("Normal", "BackOff"):
            found = BACK_OFF.match(message)
        case _:
            found = None
    if found is None:
        return None
    said = found.groupdict()
    pod = pod_of(event)
    field = _FIELD_PATH.fullmatch(text(pod, "fieldPath"))
    return PullReport(
        pod_uid=text(pod, "uid"),
        container=field["container"] if field else "",
        image=said.get("image") or "",
        error=(said.get("error") or "")[:_CLIP],
        at=_last_at(event),
    )


def _last_at(event: Manifest) -> str:
    """Return when an Event was last true, as it is written; `""` where that is no text."""
    try:
        return text(event, "lastTimestamp") or text(event, "series", "lastObservedTime") or text(event, "eventTime")
    except InvalidManifest:
        return ""


def pod_of(event: Manifest) -> Manifest:
    """Return the ObjectReference of what an Event is about: `involvedObject`, or `regarding` in events.k8s.io/v1."""
    return mapping(event, "involvedObject") or mapping(event, "regarding")


def _pull_error(message: str) -> re.Match[str] | None:
    """Match `Error: ErrImagePull` and its like, but not `Error: CreateContainerError`."""
    found = _ERROR.fullmatch(message)
    return found if found and found["reason"] in PULL_REASONS else None
