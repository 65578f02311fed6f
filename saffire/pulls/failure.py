"""
Pull failures: which containers of a pod wait because their image cannot be pulled.

The pod's status is the truth, but it *lags*. The kubelet's first Event reaches the API server about 0.7 s before the
status does. After a patch, the status may be about the old image for seconds. Until the status is about the image in
the spec, the Event object counts as well, if the API server has the Event and the Event names this very pod, container
and image.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from saffire.kube.manifest import Manifest, items, mapping, moment, number, text, uid_of
from saffire.pulls.cause import Cause
from saffire.pulls.kubelet_event import BACK_OFF, PULL_REASONS, PullReport
from saffire.pulls.wording import REASONS, classify, names_part
from saffire.registry.reference import domain_of, mentions, same_image, same_repository

# A pull failure

# So many characters of an error are kept.
_CLIP = 1024
# The `reason` of a failure that the kubelet does not report: the pull has lasted for minutes, and its registry does not
# answer Saffire either.
STALLED = "stalled"
# The `reason` of a failure that Saffire expects, since another pull from the same registry has failed.
ANTICIPATED = "anticipated"
_WHY_SUFFIXES = {
    STALLED: ", and the pull has stalled",
    ANTICIPATED: ", so this pull will fail as another did",
}
_WHY_WITHOUT_CAUSE = {
    STALLED: "the pull from {} has stalled",
    ANTICIPATED: "another pull from {} failed, so this pull will fail too",
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

    `section` is a list in the pod's spec, and `container` is the name of the container or of the image volume in that
    list. `image` is the image reference as the spec has it. `reason` is `state.waiting.reason`, `STALLED`,
    `ANTICIPATED`, or `FailedBack` in a fail back. `error` is the first 1024 characters of the runtime's error text.
    `cause` is the cause by the reason and the error text, or that of the registry's outage. `in_status` is false if the
    pod's status does not show the failure yet, so that only the kubelet's Event says so.
    """

    section: Section
    container: str
    image: str
    reason: str
    error: str = ""
    cause: Cause = Cause.UNKNOWN
    in_status: bool = True

    @property
    def is_of_part(self) -> bool:
        """
        Whether the pull failed at a part of the image: the manifest of a platform, the config or a layer.

        False if the registry throttles, whatever it throttles: it does so for the whole image.
        """
        return self.cause is Cause.PARTIAL or (self.cause is not Cause.THROTTLED and names_part(self.error))

    @property
    def why(self) -> str:
        """Why the image cannot be pulled, as a clause whose subject is the registry, the image or the node."""
        registry = domain_of(self.image) or "the registry"
        # An entry of a history annotation keeps the reason, but not the runtime's text.
        if self.cause is Cause.UNKNOWN and not self.error:
            return _WHY_WITHOUT_CAUSE.get(self.reason, "the pull from {} failed").format(registry)
        return f"{self.cause.in_words(registry)}{_WHY_SUFFIXES.get(self.reason, '')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingPod:
    """A pod, and its pull failures."""

    pod: Manifest
    failures: tuple[PullFailure, ...]


# The failures of a pod


def find_pull_failures(pod: Manifest, report: PullReport | None = None) -> tuple[PullFailure, ...]:
    """
    Return every pull failure of a live pod, by its status and by the kubelet's Event in `report`.

    The Event counts only while the status of its container lags. Saffire must have read the Event from the API server:
    an Event that was delivered to Saffire proves nothing, since anybody can send one.
    """
    failures = tuple({(failure.section, failure.container): failure for failure in _from_status(pod)}.values())
    # Ignore an Event without an error text. The kubelet wrote an Event with the error text before it, and that text may
    # show that the node itself is at fault, for instance by its own limit of pulls.
    if report is None or report.pod_uid != uid_of(pod) or not (report.image and report.error):
        return failures
    in_status = {failure.container for failure in failures}
    return failures + tuple(failure for failure in _from_event(pod, report) if failure.container not in in_status)


# What else the status of a pod tells


def unstarted(pod: Manifest) -> Iterator["Container"]:
    """
    Yield the containers of a pod that never ran, and whose status shows no failure: the kubelet pulls now, or later.

    Containers come before init containers, and each list is in the order of the spec. Ephemeral containers are left
    out, and so are containers whose image the kubelet never pulls (`imagePullPolicy: Never`): nodes have that image
    under its name, and under no other.
    """
    for container in containers_of(pod):
        state, reason = mapping(container.status, "state"), text(container.waiting, "reason")
        waits = container.never_ran and ("waiting" in state or not state) and reason in _NOT_STARTED
        if waits and container.is_pulled and container.section is not Section.EPHEMERAL_CONTAINERS:
            yield container


def status_lags(pod: Manifest, container: str) -> bool:
    """
    Tell whether the status of the container named `container` says nothing yet about the image in the spec.

    With `container=""`, tell so of any container. An Event names none if it is about the image of a volume, whose
    failure only the statuses of containers show.
    """
    return any(entry.lags for entry in containers_of(pod) if container in {entry.name, ""})


def images_maybe_failing(pod: Manifest) -> tuple[str, ...]:
    """
    Return the images whose pull may have failed, while the pod's status does not say so.

    These are the images of the containers whose status lags, and if there are any, those of the image volumes, too.
    """
    images = tuple(container.image for container in containers_of(pod) if container.lags)
    return images + tuple(_mounted(volume) for volume in _image_volumes(pod)) if images else ()


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
class Container:
    """
    A container of a pod's spec, with its status; `status` is `{}` if the pod has no status of this container yet.

    `is_pulled` is false if the kubelet never pulls its image (`imagePullPolicy: Never`).
    """

    section: Section
    name: str
    image: str
    is_pulled: bool
    status: Manifest

    @property
    def waiting(self) -> Manifest:
        """`state.waiting` of the status."""
        return mapping(self.status, "state", "waiting")

    @property
    def never_ran(self) -> bool:
        """Whether the container has not run yet. Once it has run, the kubelet sets `imageID` or `lastState`."""
        ended = mapping(self.status, "lastState") or "terminated" in mapping(self.status, "state")
        return not text(self.status, "imageID") and not ended

    @property
    def digest(self) -> str:
        """
        The digest of the image, if the container runs, or ran; `""` if its status does not tell.

        It is the text after `@` in `status.containerStatuses[].imageID`. The name before the `@` may be the name of
        another image, but the digest is right.
        """
        _, at, digest = text(self.status, "imageID").rpartition("@")
        return digest if at and not self.is_about_other_image else ""

    @property
    def is_about_other_image(self) -> bool:
        """
        Whether the status is about another image than the spec names: about the image before a patch.

        If `state.waiting.message` names an image, that image decides. The field `image` of the status does not decide
        then: the kubelet writes the new image there, beside the last error of the old one.
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
        """
        Whether the status says nothing about the pull of the image in the spec.

        It says only that the container has not started, or has ended, or it reports a failed pull of another image.
        """
        state, reason = mapping(self.status, "state"), text(self.waiting, "reason")
        if reason in PULL_REASONS:
            return self.is_about_other_image
        return "terminated" in state or (("waiting" in state or not state) and reason in _NOT_STARTED)

    def began_before(self, time: datetime | None) -> bool:
        """Tell whether the container's last run that has ended began before `time`, both by the node's clock."""
        ended = mapping(self.status, "state", "terminated") or mapping(self.status, "lastState", "terminated")
        began = moment(text(ended, "startedAt"))
        return began is not None and time is not None and began < time

    def failure(self, reason: str, error: str) -> PullFailure:
        """Return the container's pull failure with this reason and error text; the text is clipped."""
        return PullFailure(
            section=self.section,
            container=self.name,
            image=self.image,
            reason=reason,
            error=error[:_CLIP],
            cause=classify(reason, error),
        )


def containers_of(pod: Manifest) -> Iterator[Container]:
    """Yield every container of the pod's spec with its status; image volumes are no containers."""
    for section, field in _STATUSES.items():
        statuses = {text(status, "name"): status for status in items(pod, "status", field)}
        for container in items(pod, "spec", section):
            name = text(container, "name")
            yield Container(
                section=section,
                name=name,
                image=text(container, "image"),
                is_pulled=text(container, "imagePullPolicy") != "Never",
                status=statuses.get(name, {}),
            )


def _from_status(pod: Manifest) -> Iterator[PullFailure]:
    """Yield the pull failures that the pod's status shows."""
    volumes = _image_volumes(pod)
    for container in containers_of(pod):
        reason, message = text(container.waiting, "reason"), text(container.waiting, "message")
        if reason not in PULL_REASONS | REASONS.keys():
            continue
        back_off = BACK_OFF.match(message)
        image = back_off["image"] if back_off else _volume_in_error(message, container, map(_mounted, volumes))
        mounted = [volume for volume in volumes if image == _mounted(volume) != container.image]
        for volume in mounted:
            # The kubelet shows the failure of an image volume in the status of every container that mounts the volume.
            failure = container.failure(reason, message)
            yield replace(failure, section=Section.VOLUMES, container=text(volume, "name"), image=image)
        if not mounted and _is_current(container, pod):
            yield container.failure(reason, (back_off["error"] if back_off else message) or "")


def _image_volumes(pod: Manifest) -> list[Manifest]:
    return [volume for volume in items(pod, "spec", "volumes") if _mounted(volume)]


def _mounted(volume: Manifest) -> str:
    """Return the image of an image volume; `""` if the volume is of another type."""
    return text(volume, "image", "reference")


def _volume_in_error(error: str, container: Container, volume_images: Iterable[str]) -> str:
    """
    Return the image of the volume that an error text names.

    `""` if the text names the container's own image, or the image of no volume.
    """
    if mentions(error, container.image):
        return ""
    return next((image for image in sorted(volume_images) if mentions(error, image)), "")


def _from_event(pod: Manifest, report: PullReport) -> Iterator[PullFailure]:
    """
    Yield the pull failure that the API server's Event proves, if the status of its container lags.

    An Event about the image of a volume names no container: it counts if the status of any container lags.
    """
    # If a container ran, the Event must be younger than the start of that run. The node's clock gives both times, in
    # whole seconds.
    containers = tuple(containers_of(pod))
    lagging = [
        container
        for container in containers
        if container.lags and (container.never_ran or container.began_before(report.last))
    ]
    for container in lagging:
        if (container.name, container.image) == (report.container, report.image):
            yield replace(container.failure("ErrImagePull", report.error), in_status=False)
    # If a container has the image of the volume, too, its own failure follows.
    if report.container or not lagging or report.image in {container.image for container in containers}:
        return
    for volume in _image_volumes(pod):
        if _mounted(volume) == report.image:
            failure = lagging[0].failure("ErrImagePull", report.error)
            name = text(volume, "name")
            yield replace(failure, section=Section.VOLUMES, container=name, image=report.image, in_status=False)


def _is_current(container: Container, pod: Manifest) -> bool:
    """Tell whether the container's status is about the image in the spec, and not about the image before a patch."""
    if container.is_about_other_image:
        return False
    message = text(container.waiting, "message")
    if container.never_ran or BACK_OFF.match(message) or _ERROR_NAMING_IMAGE.search(message):
        return True
    # Since Kubernetes 1.33, `status.observedGeneration` is lower than `metadata.generation` until the kubelet has seen
    # the patch.
    return not 0 < number(pod, "status", "observedGeneration") < number(pod, "metadata", "generation")
