"""
Outages: if a registry is down, every pull from that registry fails.

If a registry drops packets, each pull waits for half a minute, and a node pulls one image after the other. If the error
of one pull says that the registry is down, and the registry does not answer Saffire either, Saffire *anticipates* the
failure of every container that waits to pull from that registry.

A registry may accept connections and never answer. Then an older container runtime waits, and the kubelet writes no
Event at all; containerd 2.3 gives up after 30 to 60 s. If a pull lasts for minutes, and its registry does not answer
Saffire either, the pull is *stalled*.

If only a layer stalls after its beginning, the registry answers, and the pull counts as slow until the runtime gives
up. containerd 2.3 does so after five minutes, but a pull whose layer had 1 MB did not end before the experiment did. To
find such a pull sooner, Saffire would have to read, at each sweep, the manifest of every image whose pull is slow. A
registry counts that as a pull.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from saffire.kube.manifest import Manifest, items, mapping, moment, number, text
from saffire.pulls.cause import Cause
from saffire.pulls.failure import Container, PullFailure, Section, unstarted
from saffire.registry.reference import domain_of

# Within this time many pulls succeed, or fail on their own. So Saffire anticipates no failure earlier.
_SOON = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryDown:
    """
    Why every pull from one registry fails or hangs.

    `reason` and `cause` are those of the pull failure of each container that waits for an image from the registry.
    """

    reason: str
    cause: Cause


def registries_reported_down(failures: Iterable[PullFailure]) -> dict[str, PullFailure]:
    """
    Return the registries that are down according to a container runtime's error text, by domain.

    The value is one of the registry's pull failures.
    """
    down = (failure for failure in failures if failure.cause.is_down)
    return {domain: failure for failure in down if (domain := domain_of(failure.image))}


def containers_pulling(pod: Manifest) -> tuple[Container, ...]:
    """
    Return the containers whose images the pod's node may be pulling now, by the pod's status.

    `()` if the scheduler has not chosen a node yet. Init containers start one after the other. So the first init
    container that is not done delays all later init containers, and all containers.
    """
    if not text(pod, "spec", "nodeName"):
        return ()
    waiting = tuple(unstarted(pod))
    statuses = {text(status, "name"): status for status in items(pod, "status", "initContainerStatuses")}
    for container in items(pod, "spec", "initContainers"):
        name = text(container, "name")
        if not _is_done(container, statuses.get(name, {})):
            return tuple(entry for entry in waiting if (entry.section, entry.name) == (Section.INIT_CONTAINERS, name))
    return tuple(entry for entry in waiting if entry.section is Section.CONTAINERS)


def may_wait_for_sandbox(pod: Manifest) -> bool:
    """
    Tell whether a pod may not pull yet, but wait for a volume, a Secret or its network.

    If so, the condition `PodReadyToStartContainers` is `False`. But kubelets write `True` only after the first pull has
    ended (measured with 1.34), so it is `False` during that pull too. Kubelets before 1.29 do not write the condition;
    then the result is false.
    """
    conditions = items(pod, "status", "conditions")
    return ("PodReadyToStartContainers", "False") in {
        (text(condition, "type"), text(condition, "status")) for condition in conditions
    }


def _is_done(container: Manifest, status: Manifest) -> bool:
    """Tell whether an init container no longer delays later containers: it succeeded, or is a running sidecar."""
    if text(container, "restartPolicy") == "Always" and mapping(status, "state", "running"):
        return True
    ended = mapping(status, "state", "terminated")
    return bool(ended) and number(ended, "exitCode") == 0


def pulling_since(pod: Manifest) -> datetime | None:
    """
    Return the earliest time at which the pod's current pull can have begun, in UTC; `None` if it has not begun.

    It is the latest of `status.startTime` and the ends of the init containers. If one of these times cannot be read,
    the result is `None` too.
    """
    ended = (mapping(status, "state", "terminated") for status in items(pod, "status", "initContainerStatuses"))
    times = [text(pod, "status", "startTime"), *(text(state, "finishedAt") for state in ended)]
    moments = {moment(time) for time in times if time}
    return None if None in moments else max(filter(None, moments), default=None)


def waiting_since(pod: Manifest) -> datetime | None:
    """
    Return since when a pod has waited for its images, in UTC; `None` if its containers are ready, or if nothing tells.

    It is the later of `pulling_since` and the time of the condition `ContainersReady`: a pod may have run for long
    before the image of a container could not be pulled any more. No pull fails before that time.
    """
    unready = [
        moment(text(condition, "lastTransitionTime"))
        for condition in items(pod, "status", "conditions")
        if (text(condition, "type"), text(condition, "status")) == ("ContainersReady", "False")
    ]
    return max(filter(None, (*unready, pulling_since(pod))), default=None) if unready else None


def images_maybe_stalled(pod: Manifest, *, now: datetime, after: timedelta) -> Iterator[str]:
    """
    Yield the images for which the pod has waited at least as long as `after`.

    Their registry may hang: it may accept connections and never answer.
    """
    since = pulling_since(pod)
    if since is not None and now - since >= after:
        yield from (container.image for container in containers_pulling(pod))


def anticipate(pod: Manifest, down: Mapping[str, RegistryDown], *, now: datetime) -> tuple[PullFailure, ...]:
    """
    Return the pull failures that a pod will have; `()` if it is not pulling from a registry in `down`.

    `down` has the registries that are down, by domain. A container that will pull from one of them later has a failure
    in the result too: if Saffire moved that container later, the workload would have another rollout. If the pull
    began less than 10 s ago by `pulling_since`, the result is `()`.
    """
    since = pulling_since(pod)
    if since is None or now - since < _SOON:
        return ()
    is_affected = any(domain_of(container.image) in down for container in containers_pulling(pod))
    return other_images_from(pod, down) if is_affected else ()


def other_images_from(pod: Manifest, down: Mapping[str, RegistryDown]) -> tuple[PullFailure, ...]:
    """Return a pull failure for each container that has not started yet and whose image is in a registry in `down`."""
    return tuple(
        PullFailure(
            section=container.section,
            container=container.name,
            image=container.image,
            reason=outage.reason,
            cause=outage.cause,
        )
        for container in unstarted(pod)
        if (outage := down.get(domain_of(container.image)))
    )
