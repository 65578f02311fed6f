"""
Kubelet Events: what they say about an image that cannot be pulled.

An Event that is delivered only says where to look. If the API server holds it, it is evidence. The truth about a pod is
in the pod alone. The wording is the kubelet's (pkg/kubelet/images/image_manager.go,
pkg/kubelet/kuberuntime/kuberuntime_container.go), unchanged from Kubernetes 1.20 to 1.35.
"""

import re
from dataclasses import dataclass

from saffire.kube.manifest import InvalidManifest, Manifest, mapping, text

# The `state.waiting.reason` of a container whose pull failed, where another repository may help
# (pkg/kubelet/images/types.go).
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
# The message of an Event. Since Kubernetes 1.32 it is in the container's status too, followed by the last error.
BACK_OFF = re.compile(r'Back-off pulling image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
# So many characters of the error are kept, so that its end is too: a runtime first repeats the reference several times,
# and gives the reason last.
_CLIP = 8192
_COMBINED = "(combined from similar events): "
_FAILED_TO_PULL = re.compile(r'Failed to pull image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
_ERROR = re.compile(r"Error: (?P<reason>\w+)")
_FIELD_PATH = re.compile(r"spec\.(?:containers|initContainers|ephemeralContainers)\{(?P<container>[^{}]+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PullReport:
    """
    What one kubelet Event says: an image of this pod could not be pulled.

    `image` is spelled as in the pod's spec, and `container` is the one that the Event's `fieldPath` names. `at` is when
    the pull last failed, by the node's clock. Each is `""` if the Event does not say.
    """

    pod_uid: str
    container: str
    image: str
    error: str
    at: str = ""


def read_event(event: Manifest) -> PullReport | None:
    """
    Read an Event of core/v1 or events.k8s.io/v1; `None` unless type, reason and message tell of a failed pull.

    The reason alone does not tell that: `Failed` is also the reason if a container cannot start, and `BackOff` if it
    crashes again and again.
    """
    reason = text(event, "reason")
    message = (text(event, "message") or text(event, "note")).removeprefix(_COMBINED)
    match (text(event, "type"), reason):
        case ("Warning", "Failed"):
            matched = _FAILED_TO_PULL.match(message) or _pull_error(message)
        case ("Normal", "BackOff"):
            matched = BACK_OFF.match(message)
        case _:
            matched = None
    if matched is None:
        return None
    parts = matched.groupdict()
    pod = pod_of(event)
    field = _FIELD_PATH.fullmatch(text(pod, "fieldPath"))
    return PullReport(
        pod_uid=text(pod, "uid"),
        container=field["container"] if field else "",
        image=parts.get("image") or "",
        error=(parts.get("error") or "")[:_CLIP],
        at=_last_at(event),
    )


def _last_at(event: Manifest) -> str:
    """Return when an Event last happened, as its text; `""` if that is not a text."""
    try:
        return text(event, "lastTimestamp") or text(event, "series", "lastObservedTime") or text(event, "eventTime")
    except InvalidManifest:
        return ""


def pod_of(event: Manifest) -> Manifest:
    """Return the ObjectReference of an Event: `involvedObject`, or `regarding` in events.k8s.io/v1."""
    return mapping(event, "involvedObject") or mapping(event, "regarding")


def _pull_error(message: str) -> re.Match[str] | None:
    """Match `Error:` with a reason of a failed pull, such as `ErrImagePull`, but not `CreateContainerError`."""
    matched = _ERROR.fullmatch(message)
    return matched if matched and matched["reason"] in PULL_REASONS else None
