"""
Pull failures: which containers of a pod wait because their image cannot be pulled.

The pod's status is the truth, but it lags: the first Event reaches the API server about 0.7 s before the status, and
after a patch the status may speak of the old image for seconds. Until it has caught up, the live Event object is the
evidence, if it speaks of this very pod, container and image.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from saffire.kube.manifest import Manifest, items, mapping, number, text, uid_of
from saffire.pulls.cause import REASONS, Cause, classify
from saffire.pulls.kubelet_event import BACK_OFF, PULL_REASONS, PullReport
from saffire.registry.reference import domain_of, mentions, same_image, same_repository

_CLIP = 1024
# The reason of what has been pulling for minutes from a registry that does not answer us either.
STALLED = "stalled"
# The reason of what is going to fail, since another pull from that registry did.
ANTICIPATED = "anticipated"
_ADDED = {
    STALLED: ", and the pull has stalled",
    ANTICIPATED: ", so this pull will fail as another did",
}


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
_NOT_STARTED = frozenset({"", "ContainerCreating", "PodInitializing"})
# How containerd, and CRI-O, name the image in an error.
_NAMED = re.compile(r'(?:image|reference) "(?P<quoted>[^"]+)"|docker://(?P<url>[^\s"]+)')


@dataclass(frozen=True, kw_only=True, slots=True)
class PullFailure:
    """
    One image of a pod that cannot be pulled.

    `container` names the container, or the volume, in `section` of the pod's spec, `image` is the reference as written
    there, `reason` the waiting reason, `error` the runtime's text, clipped, and `cause` what both say.
    """

    section: Section
    container: str
    image: str
    reason: str
    error: str = ""
    cause: Cause = Cause.UNKNOWN

    @property
    def why(self) -> str:
        """Why the image cannot be pulled, in words whose subject is its registry, the image or the node."""
        words = self.cause.in_words(domain_of(self.image) or "the registry")
        return f"{words}{_ADDED.get(self.reason, '')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingPod:
    """A pod, and what is known of its failed pulls."""

    pod: Manifest
    failures: tuple[PullFailure, ...]


def find_pull_failures(pod: Manifest, evidence: PullReport | None = None) -> tuple[PullFailure, ...]:
    """
    Return every pull failure of a live pod: those its status shows, and the one `evidence` proves while that lags.

    Evidence is what the live Event says; the delivered one proves nothing, since anybody can send it.
    """
    failures = tuple({(failure.section, failure.container): failure for failure in _from_status(pod)}.values())
    # An Event that does not say why follows one that did: a node's own limit of pulls would be taken for a registry's.
    if evidence is None or evidence.pod_uid != uid_of(pod) or not (evidence.image and evidence.error):
        return failures
    known = {failure.container for failure in failures}
    return failures + tuple(failure for failure in _from_event(pod, evidence) if failure.container not in known)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unstarted:
    """A container that never ran and shows no failure: its image may be being pulled, or will be."""

    section: Section
    name: str
    image: str


def unstarted(pod: Manifest) -> Iterator[Unstarted]:
    """Yield the containers of a pod that never ran and show no failure, in the order of the spec."""
    for container in _containers(pod):
        state, reason = mapping(container.status, "state"), text(container.waiting, "reason")
        waits = container.never_ran and ("waiting" in state or not state) and reason in _NOT_STARTED
        if waits and container.section is not Section.EPHEMERAL_CONTAINERS:
            yield Unstarted(section=container.section, name=container.name, image=container.image)


def image_digests(pod: Manifest) -> Iterator[tuple[str, str]]:
    """
    Yield each image that the pod's spec names and that runs, or ran, with its digest.

    That is the one behind `@` in `status.containerStatuses[].imageID`: a runtime's name of the image may be another's,
    its digest is right.
    """
    for container in _containers(pod):
        _, at, digest = text(container.status, "imageID").rpartition("@")
        if at and not container.is_about_another:
            yield container.image, digest


def status_lags(pod: Manifest, container: str) -> bool:
    """Tell whether the status of `container` says nothing yet of the image that its spec names."""
    return any(one.is_behind for one in _containers(pod) if one.name == container)


def images_maybe_failing(pod: Manifest) -> tuple[str, ...]:
    """Return the images of containers that may have failed to pull, while their status does not say so yet."""
    return tuple(one.image for one in _containers(pod) if one.is_behind)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Container:
    """A container of a pod, with what its status says."""

    section: Section
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
        ended = mapping(self.status, "lastState") or "terminated" in mapping(self.status, "state")
        return not text(self.status, "imageID") and not ended

    @property
    def is_about_another(self) -> bool:
        """
        Whether the status speaks of another image than the spec, one before a patch.

        Its `image` is no witness: a kubelet writes the new one beside the last error of the old one.
        """
        message = text(self.waiting, "message")
        said = BACK_OFF.match(message)
        if said:
            return not same_image(said["image"], self.image)
        named = _NAMED.search(message)
        if named:
            return not same_repository(named["quoted"] or named["url"].strip(":,"), self.image)
        image = text(self.status, "image") if self.never_ran else ""
        return bool(image) and not same_image(image, self.image)

    @property
    def is_behind(self) -> bool:
        """Whether the status says nothing yet, only that the container is to be started, or speaks of another image."""
        state, reason = mapping(self.status, "state"), text(self.waiting, "reason")
        if reason in PULL_REASONS:
            return self.is_about_another
        return "terminated" in state or (("waiting" in state or not state) and reason in _NOT_STARTED)

    @property
    def started_at(self) -> str:
        """When it was last started, by the node's clock; `""` where it never was."""
        ended = mapping(self.status, "state", "terminated") or mapping(self.status, "lastState", "terminated")
        return text(ended, "startedAt")

    def failure(self, reason: str, error: str) -> PullFailure:
        """Return its pull failure."""
        return PullFailure(
            section=self.section,
            container=self.name,
            image=self.image,
            reason=reason,
            error=error[:_CLIP],
            cause=classify(reason, error),
        )


def _containers(pod: Manifest) -> Iterator[_Container]:
    """Yield every container of the pod."""
    for section, field in _STATUSES.items():
        statuses = {text(status, "name"): status for status in items(pod, "status", field)}
        for container in items(pod, "spec", section):
            name = text(container, "name")
            yield _Container(
                section=section,
                name=name,
                image=text(container, "image"),
                status=statuses.get(name, {}),
            )


def _from_status(pod: Manifest) -> Iterator[PullFailure]:
    """Yield the failures that the pod's status shows."""
    volumes = [volume for volume in items(pod, "spec", "volumes") if _mounted(volume)]
    for container in _containers(pod):
        reason, message = text(container.waiting, "reason"), text(container.waiting, "message")
        if reason not in PULL_REASONS | REASONS.keys():
            continue
        said = BACK_OFF.match(message)
        image = said["image"] if said else _named(message, container, map(_mounted, volumes))
        mounted = [volume for volume in volumes if image == _mounted(volume) != container.image]
        for volume in mounted:
            # The kubelet shows the failure of an image volume at every container that mounts it.
            failure = container.failure(reason, message)
            yield replace(failure, section=Section.VOLUMES, container=text(volume, "name"), image=image)
        if not mounted and _is_current(container, pod):
            yield container.failure(reason, (said["error"] if said else message) or "")


def _mounted(volume: Manifest) -> str:
    """Return the image of an image volume; `""` for any other volume."""
    return text(volume, "image", "reference")


def _named(message: str, container: _Container, volumes: Iterable[str]) -> str:
    """Return the image volume that a runtime's error names, unless it names the container's own image; else `""`."""
    if mentions(message, container.image):
        return ""
    return next((volume for volume in sorted(volumes) if mentions(message, volume)), "")


def _from_event(pod: Manifest, evidence: PullReport) -> Iterator[PullFailure]:
    """Yield the failure that a live Event proves, of an image about which the status says nothing yet."""
    for container in _containers(pod):
        is_meant = (container.name, container.image) == (evidence.container, evidence.image)
        # Of one that ran, the Event must be about what came afterwards; both times are the node's, in whole seconds.
        is_news = container.never_ran or evidence.at > container.started_at > ""
        if container.is_behind and is_meant and is_news:
            yield container.failure("ErrImagePull", evidence.error)


def _is_current(container: _Container, pod: Manifest) -> bool:
    """Tell whether the status speaks of the image in the spec, and not of one before a patch."""
    if container.is_about_another:
        return False
    message = text(container.waiting, "message")
    if container.never_ran or BACK_OFF.match(message) or _NAMED.search(message):
        return True
    # `status.observedGeneration`, since Kubernetes 1.33, is older than the spec until the kubelet has seen the patch.
    return not 0 < number(pod, "status", "observedGeneration") < number(pod, "metadata", "generation")
