"""
Kubelet Events: what they say about an image that cannot be pulled.

If an Event is delivered to Saffire, it only says where Saffire has to look. If Saffire reads the Event from the API
server, the Event counts. The truth about a pod is in the pod alone. The patterns here match the texts of the kubelet
(pkg/kubelet/images/image_manager.go, pkg/kubelet/kuberuntime/kuberuntime_container.go), which are the same from
Kubernetes 1.20 to 1.37.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from saffire.kube.manifest import InvalidManifest, Manifest, mapping, moment, number, text

# The `state.waiting.reason` of a container whose pull failed, where another repository may help
# (pkg/kubelet/images/types.go).
PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
# The message of an Event. Since Kubernetes 1.32 the container's status has the same message, with the last error after
# it.
BACK_OFF = re.compile(r'Back-off pulling image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
# So many characters of the error text are kept. A runtime first repeats the reference several times and writes the
# reason last, so the end of the text has to be among them.
_CLIP = 8192
_COMBINED = "(combined from similar events): "
_FAILED_TO_PULL = re.compile(r'Failed to pull image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
_ERROR = re.compile(r"Error: (?P<reason>\w+)")
_FIELD_PATH = re.compile(r"spec\.(?:containers|initContainers|ephemeralContainers)\{(?P<container>[^{}]+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PullReport:
    """
    What one kubelet Event says: an image of the pod with this uid could not be pulled.

    `container` is the name of the container in the Event's `fieldPath`. `image` is spelled as in the pod's spec, and
    `error` is the runtime's error text. If the Event lacks one of these values, that value is `""`.

    `tries` is how often the pull has failed, and `first` and `last` are the times of the first and the last failure, by
    the node's clock; `None` if the Event does not tell. A kubelet counts in one Event what happens again, also after
    the container has run in between.
    """

    pod_uid: str
    container: str
    image: str
    error: str
    tries: int = 1
    first: datetime | None = None
    last: datetime | None = None


def read_event(event: Manifest) -> PullReport | None:
    """
    Return what an Event of core/v1 or events.k8s.io/v1 says about a failed pull; `None` if it tells of none.

    The Event's type, reason and message together tell of a failed pull. The reason alone does not: `Failed` is also the
    reason if a container cannot start, and `BackOff` is also the reason if a container crashes again and again.
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
    tries, first, last = _tries(event)
    return PullReport(
        pod_uid=text(pod, "uid"),
        container=field["container"] if field else "",
        image=parts.get("image") or "",
        error=(parts.get("error") or "")[:_CLIP],
        tries=tries,
        first=first,
        last=last,
    )


def _tries(event: Manifest) -> tuple[int, datetime | None, datetime | None]:
    """Return how often an Event happened, with the first and the last time; once, if its fields have other types."""
    try:
        tries = max(1, number(event, "count"), number(event, "series", "count"))
        made = text(event, "eventTime")
        last = text(event, "lastTimestamp") or text(event, "series", "lastObservedTime") or made
        return tries, moment(text(event, "firstTimestamp") or made), moment(last)
    except InvalidManifest:
        return 1, None, None


def pod_of(event: Manifest) -> Manifest:
    """Return the reference to an Event's object: `involvedObject` in core/v1, `regarding` in events.k8s.io/v1."""
    return mapping(event, "involvedObject") or mapping(event, "regarding")


def _pull_error(message: str) -> re.Match[str] | None:
    """Match `Error: ErrImagePull` and other reasons of a failed pull, and not `Error: CreateContainerError`."""
    matched = _ERROR.fullmatch(message)
    return matched if matched and matched["reason"] in PULL_REASONS else None
