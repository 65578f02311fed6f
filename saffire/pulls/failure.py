"""
Pull failures: which containers of a pod wait because their image cannot be pulled.

The pod's status is the truth, but it lags: the first Event reaches the API server about 0.7 s before the status, and
after a patch the status may be about the old image for seconds. Until the status has caught up, the live Event object
is the evidence, if it names this very pod, container and image.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from saffire.kube.manifest import Manifest, items, mapping, number, text, uid_of
from saffire.pulls.cause import REASONS, Cause, classify
from saffire.pulls.kubelet_event import BACK_OFF, PULL_REASONS, PullReport
from saffire.registry.reference import domain_of, mentions, same_image, same_repository

# A pull failure

# So many characters of an error are kept.
_CLIP = 1024
# The reason of a pull that has lasted for minutes, from a registry that does not answer Saffire either.
STALLED = "stalled"
# The reason of a pull that is expected to fail, since another pull from its registry did.
ANTICIPATED = "anticipated"
_WHY_SUFFIXES = {
    STALLED: ", and the pull has stalled",
    ANTICIPATED: ", so this pull will fail as another did",
}


class Section(StrEnum):
    """The list of the pod's spec in which the image is named."""

    CONTAINERS = "containers"
    INIT_CONTAINERS = "initContainers"
    EPHEMERAL_CONTAINERS = "ephemeralContainers"
    VOLUMES = "volumes"


@dataclass(frozen=True, kw_only=True, slots=True)
class PullFailure:
    """
    One image of a pod that cannot be pulled.

    `container` is the name of the container, or of the volume, in `section` of the pod's spec. `image` is the reference
    as it is written there. `reason` is the waiting reason, `error` the first 1024 characters of the runtime's text, and
    `cause` is classified from both.
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
        cause = self.cause.in_words(domain_of(self.image) or "the registry")
        return f"{cause}{_WHY_SUFFIXES.get(self.reason, '')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingPod:
    """A pod with its pull failures."""

    pod: Manifest
    failures: tuple[PullFailure, ...]


# The failures of a pod


def find_pull_failures(pod: Manifest, evidence: PullReport | None = None) -> tuple[PullFailure, ...]:
    """
    Return every pull failure of a live pod: those in its status, and while that lags the one that `evidence` proves.

    `evidence` must be read from the API server's Event. A delivered Event proves nothing, since anybody can send one.
    """
    failures = tuple({(failure.section, failure.container): failure for failure in _from_status(pod)}.values())
    # Ignore an Event without an error text: one with the text came before it, and may show that the node itself is at
    # fault, for instance by its own limit of pulls.
    if evidence is None or evidence.pod_uid != uid_of(pod) or not (evidence.image and evidence.error):
        return failures
    in_status = {failure.container for failure in failures}
    return failures + tuple(failure for failure in _from_event(pod, evidence) if failure.container not in in_status)


# What else the status of a pod tells


@dataclass(frozen=True, kw_only=True, slots=True)
class Unstarted:
    """A container that never ran and shows no failure: its image is being pulled, or will be."""

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
    Yield each image of the pod's spec that runs, or ran, with its digest.

    The digest is the one after `@` in `status.containerStatuses[].imageID`. The name before it may be another image's,
    but the digest is right.
    """
    for container in _containers(pod):
        _, at, digest = text(container.status, "imageID").rpartition("@")
        if at and not container.is_about_other_image:
            yield container.image, digest


def status_lags(pod: Manifest, container: str) -> bool:
    """Tell whether the status of `container` says nothing yet about the image that its spec names."""
    return any(entry.lags for entry in _containers(pod) if entry.name == container)


def images_maybe_failing(pod: Manifest) -> tuple[str, ...]:
    """Return the images of the containers whose status lags, so that their pull may have failed."""
    return tuple(container.image for container in _containers(pod) if container.lags)


# A container and its status

_STATUSES = {
    Section.CONTAINERS: "containerStatuses",
    Section.INIT_CONTAINERS: "initContainerStatuses",
    Section.EPHEMERAL_CONTAINERS: "ephemeralContainerStatuses",
}
_NOT_STARTED = frozenset({"", "ContainerCreating", "PodInitializing"})
# An error of containerd, or of CRI-O, that names the image.
_ERROR_NAMING_IMAGE = re.compile(r'(?:image|reference) "(?P<quoted>[^"]+)"|docker://(?P<url>[^\s"]+)')


@dataclass(frozen=True, kw_only=True, slots=True)
class _Container:
    """A container of a pod, with its status."""

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
        """Whether the container has not run yet; once it has, the kubelet sets `imageID` and `lastState`."""
        ended = mapping(self.status, "lastState") or "terminated" in mapping(self.status, "state")
        return not text(self.status, "imageID") and not ended

    @property
    def is_about_other_image(self) -> bool:
        """
        Whether the status is about another image than the spec's: the one before a patch.

        If the message names an image, that decides. The status's own `image` does not: beside the last error of the old
        image, a kubelet writes the new one.
        """
        message = text(self.waiting, "message")
        back_off = BACK_OFF.match(message)
        if back_off:
            return not same_image(back_off["image"], self.image)
        error = _ERROR_NAMING_IMAGE.search(message)
        if error:
            return not same_repository(error["quoted"] or error["url"].strip(":,"), self.image)
        image = text(self.status, "image") if self.never_ran else ""
        return bool(image) and not same_image(image, self.image)

    @property
    def lags(self) -> bool:
        """Whether the status says only that the container has not started or has ended, or is about another image."""
        state, reason = mapping(self.status, "state"), text(self.waiting, "reason")
        if reason in PULL_REASONS:
            return self.is_about_other_image
        return "terminated" in state or (("waiting" in state or not state) and reason in _NOT_STARTED)

    @property
    def started_at(self) -> str:
        """The last start of the container that has ended, by the node's clock; `""` if none has."""
        ended = mapping(self.status, "state", "terminated") or mapping(self.status, "lastState", "terminated")
        return text(ended, "startedAt")

    def failure(self, reason: str, error: str) -> PullFailure:
        """Return the container's pull failure."""
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
        back_off = BACK_OFF.match(message)
        image = back_off["image"] if back_off else _volume_in_error(message, container, map(_mounted, volumes))
        mounted = [volume for volume in volumes if image == _mounted(volume) != container.image]
        for volume in mounted:
            # The kubelet shows the failure of an image volume in the status of every container that mounts it.
            failure = container.failure(reason, message)
            yield replace(failure, section=Section.VOLUMES, container=text(volume, "name"), image=image)
        if not mounted and _is_current(container, pod):
            yield container.failure(reason, (back_off["error"] if back_off else message) or "")


def _mounted(volume: Manifest) -> str:
    """Return the image of an image volume; `""` for any other volume."""
    return text(volume, "image", "reference")


def _volume_in_error(error: str, container: _Container, volume_images: Iterable[str]) -> str:
    """Return the image of a volume that an error names; `""` if it names none, or the container's own image."""
    if mentions(error, container.image):
        return ""
    return next((image for image in sorted(volume_images) if mentions(error, image)), "")


def _from_event(pod: Manifest, evidence: PullReport) -> Iterator[PullFailure]:
    """Yield the failure that a live Event proves, if the status says nothing yet about its image."""
    for container in _containers(pod):
        is_named = (container.name, container.image) == (evidence.container, evidence.image)
        # If the container ran, the Event must be younger than its start. Both times are the node's, in whole seconds.
        is_newer = container.never_ran or evidence.at > container.started_at > ""
        if container.lags and is_named and is_newer:
            yield container.failure("ErrImagePull", evidence.error)


def _is_current(container: _Container, pod: Manifest) -> bool:
    """Tell whether the status is about the image in the spec, and not about the one before a patch."""
    if container.is_about_other_image:
        return False
    message = text(container.waiting, "message")
    if container.never_ran or BACK_OFF.match(message) or _ERROR_NAMING_IMAGE.search(message):
        return True
    # Since Kubernetes 1.33, `status.observedGeneration` is lower than the spec's until the kubelet has seen the patch.
    return not 0 < number(pod, "status", "observedGeneration") < number(pod, "metadata", "generation")
