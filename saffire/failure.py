"""
Pull failures: what a pod's status and the kubelet's Events say about images that cannot be pulled.

A *pull failure* is a container that waits because its image could not be pulled. Two sources tell of it. The pod's
status is the truth, but it lags: the first Event reaches the API server about 0.7 s before the status. Until then the
live Event object is the evidence, if it speaks of this very pod, container and image.

The wording is the kubelet's (pkg/kubelet/images/image_manager.go, pkg/kubelet/kuberuntime/kuberuntime_container.go),
unchanged from Kubernetes 1.20 to 1.35.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from saffire.manifest import Manifest, items, mapping, number, text, uid_of
from saffire.reference import mentions, same_image

_CLIP = 1024


class Section(StrEnum):
    """The list of the pod's spec that names the image."""

    CONTAINERS = "containers"
    INIT_CONTAINERS = "initContainers"
    EPHEMERAL_CONTAINERS = "ephemeralContainers"
    VOLUMES = "volumes"


_STATUSES = {
    Section.CONTAINERS: "containerStatuses",
    Section.INIT_CONTAINERS: "initContainerStatuses",
    Section.EPHEMERAL_CONTAINERS: "ephemeralContainerStatuses",
}

# `state.waiting.reason` of a container whose pull failed: another repository may have the image.
_PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"})
# The same list of pkg/kubelet/images/types.go, where the fault lies in the name, the policy, the signature or the node.
_HELPLESS_REASONS = frozenset(
    {"InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed", "ImageInspectError"}
)
_NOT_STARTED = frozenset({"", "ContainerCreating", "PodInitializing"})

# Words of a runtime's error after which another repository would fail too, and what they mean.
_HELPLESS_WORDS = (
    ("no match for platform", "the image has no build for the node's platform"),
    ("no space left on device", "the node's disk is full"),
    ("failed to extract layer", "the node cannot unpack the image"),
    ("SignatureValidationFailed", "the image's signature was refused"),
    ("signature validation failed", "the image's signature was refused"),
)

_COMBINED = "(combined from similar events): "
_FAILED_TO_PULL = re.compile(r'Failed to pull image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
_BACK_OFF = re.compile(r'Back-off pulling image "(?P<image>[^"]*)"(?:: (?P<error>.*))?', re.DOTALL)
_ERROR = re.compile(r"Error: (?P<reason>\w+)")
_FIELD_PATH = re.compile(r"spec\.(?P<section>containers|initContainers|ephemeralContainers)\{(?P<container>[^{}]+)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PullReport:
    """
    What one kubelet Event says: in this pod an image could not be pulled.

    `image` is as the pod's spec writes it and `container` the one the Event's `fieldPath` names; each is `""` where the
    Event does not say.
    """

    pod_uid: str
    container: str
    image: str
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PullFailure:
    """
    One image of a pod that cannot be pulled.

    `index` is its place in `section` of the pod's spec, `image` the reference as written there, `reason` the waiting
    reason, and `helpless` says why no other repository can help, or is `""`.
    """

    section: Section
    index: int
    container: str
    image: str
    reason: str
    error: str = ""
    helpless: str = ""


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
            found = _BACK_OFF.match(message)
        case _:
            found = None
    if found is None:
        return None
    said = found.groupdict()
    pod = pod_of(event)
    place = _FIELD_PATH.fullmatch(text(pod, "fieldPath"))
    return PullReport(
        pod_uid=text(pod, "uid"),
        container=place["container"] if place else "",
        image=said.get("image") or "",
        error=(said.get("error") or "")[:_CLIP],
    )


def find(pod: Manifest, evidence: PullReport | None = None) -> tuple[PullFailure, ...]:
    """
    Return every pull failure of a pod: those its status shows, and the one `evidence` proves while the status lags.

    Args:
        pod: the live Pod.
        evidence: what the live Event says; the delivered one proves nothing, since anybody can send it.

    """
    failures = tuple(_shown(pod))
    if evidence is None or evidence.pod_uid != uid_of(pod) or not evidence.image:
        return failures
    known = {failure.container for failure in failures}
    return failures + tuple(failure for failure in _proven(pod, evidence) if failure.container not in known)


def lags(pod: Manifest, container: str) -> bool:
    """Tell whether the status of `container` does not yet say more than that it is being created."""
    return any(candidate.is_fresh for candidate in _containers(pod) if candidate.name == container)


def pod_of(event: Manifest) -> Manifest:
    """Return the ObjectReference of what an Event is about: `involvedObject`, or `regarding` in events.k8s.io/v1."""
    return mapping(event, "involvedObject") or mapping(event, "regarding")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Container:
    """A container of a pod, with what its status says."""

    section: Section
    index: int
    name: str
    image: str
    status: Manifest

    @property
    def waiting(self) -> Manifest:
        """`state.waiting` of the status."""
        return mapping(self.status, "state", "waiting")

    @property
    def never_ran(self) -> bool:
        """Whether it has not run yet; the kubelet fills `imageID` and `lastState` once it has."""
        return not text(self.status, "imageID") and not mapping(self.status, "lastState")

    @property
    def is_fresh(self) -> bool:
        """Whether the status says nothing yet, or only that the container is being created."""
        state = mapping(self.status, "state")
        waits = "waiting" in state or not state
        return self.never_ran and waits and text(self.waiting, "reason") in _NOT_STARTED

    def failure(self, reason: str, error: str) -> PullFailure:
        """Return its pull failure, and whether another repository could help."""
        helpless = reason if reason in _HELPLESS_REASONS else ""
        for words, meaning in _HELPLESS_WORDS:
            if words in error:
                helpless = meaning
        return PullFailure(
            section=self.section,
            index=self.index,
            container=self.name,
            image=self.image,
            reason=reason,
            error=error[:_CLIP],
            helpless=helpless,
        )


def _containers(pod: Manifest) -> Iterator[_Container]:
    """Yield every container of the pod."""
    for section, field in _STATUSES.items():
        statuses = {text(status, "name"): status for status in items(pod, "status", field)}
        for index, container in enumerate(items(pod, "spec", section)):
            name = text(container, "name")
            yield _Container(
                section=section,
                index=index,
                name=name,
                image=text(container, "image"),
                status=statuses.get(name, {}),
            )


def _shown(pod: Manifest) -> Iterator[PullFailure]:
    """Yield the failures that the pod's status shows."""
    volumes = {text(volume, "image", "reference") for volume in items(pod, "spec", "volumes")} - {""}
    for container in _containers(pod):
        reason, message = text(container.waiting, "reason"), text(container.waiting, "message")
        if reason not in _PULL_REASONS | _HELPLESS_REASONS:
            continue
        said = _BACK_OFF.match(message)
        # Once a container ran, runtimes report its image under any name they know: then only the message can tell.
        failing = said["image"] if said else text(container.status, "image") if container.never_ran else ""
        mounted = said["image"] if said else _named(message, container, volumes)
        if mounted in volumes and mounted != container.image:
            # The kubelet shows the failure of an image volume at every container that mounts it.
            yield replace(container.failure(reason, message), section=Section.VOLUMES, image=mounted)
        elif same_image(failing, container.image) if failing else not _is_outdated(pod):
            yield container.failure(reason, (said["error"] if said else message) or "")
        # Else the status still speaks of the image before a patch: the kubelet has not looked since.


def _named(message: str, container: _Container, volumes: Iterable[str]) -> str:
    """Return the image volume that a runtime's error names, unless it names the container's own image; else `""`."""
    if mentions(message, container.image):
        return ""
    return next((volume for volume in sorted(volumes) if mentions(message, volume)), "")


def _proven(pod: Manifest, evidence: PullReport) -> Iterator[PullFailure]:
    """Yield the failure that a live Event proves, of a container about which the status says nothing yet."""
    for container in _containers(pod):
        if container.is_fresh and (container.name, container.image) == (evidence.container, evidence.image):
            yield container.failure("ErrImagePull", evidence.error)


def _pull_error(message: str) -> re.Match[str] | None:
    """Match `Error: ErrImagePull` and its like, but not `Error: CreateContainerError`."""
    found = _ERROR.fullmatch(message)
    return found if found and found["reason"] in _PULL_REASONS else None


def _is_outdated(pod: Manifest) -> bool:
    """Tell whether the status is older than the spec (`status.observedGeneration`, since Kubernetes 1.33)."""
    return 0 < number(pod, "status", "observedGeneration") < number(pod, "metadata", "generation")
