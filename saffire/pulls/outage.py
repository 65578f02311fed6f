"""
Outages: if a registry is down, every pull from it fails.

If a registry drops packets, each pull from it waits for half a minute, and a node pulls one image after the other. If
one pull has failed by such a cause, and the registry does not answer Saffire either, Saffire *anticipates* the failure
of every container that waits to pull from it. If a registry accepts connections and never answers, there is no Event at
all. If a pull lasts for minutes, and its registry does not answer Saffire either, the pull is *stalled*.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from saffire.kube.manifest import Manifest, items, mapping, number, text
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section, Unstarted, unstarted
from saffire.registry.reference import domain_of

# By then a pull has often succeeded, or has failed on its own.
_SOON = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryDown:
    """Why the pulls from a registry fail: `reason` and `cause` for the failures of its waiting containers."""

    reason: str
    cause: Cause


def registries_reported_down(failures: Iterable[PullFailure]) -> dict[str, PullFailure]:
    """Return one failure for each registry that is down according to a runtime's error, by registry."""
    down = (failure for failure in failures if failure.cause.is_down)
    return {domain: failure for failure in down if (domain := domain_of(failure.image))}


def containers_pulling(pod: Manifest) -> tuple[Unstarted, ...]:
    """
    Return the containers whose images the pod's node may be pulling now, by the pod's status.

    Init containers start one after the other: the first that has not ended holds up all later containers.
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


def _is_done(container: Manifest, status: Manifest) -> bool:
    """Tell whether an init container no longer holds up others: it succeeded, or is a running sidecar."""
    if text(container, "restartPolicy") == "Always" and mapping(status, "state", "running"):
        return True
    ended = mapping(status, "state", "terminated")
    return bool(ended) and number(ended, "exitCode") == 0


def pulling_since(pod: Manifest) -> datetime | None:
    """
    Return the earliest time at which the pod's current pull can have begun; `None` if it has not begun.

    It is `status.startTime`, or when the last init container before ended.
    """
    ended = (mapping(status, "state", "terminated") for status in items(pod, "status", "initContainerStatuses"))
    times = [text(pod, "status", "startTime"), *(text(state, "finishedAt") for state in ended)]
    try:
        return max(datetime.fromisoformat(time).astimezone(UTC) for time in times if time)
    except (ValueError, OverflowError):
        return None


def images_maybe_stalled(pod: Manifest, *, now: datetime, after: timedelta) -> Iterator[str]:
    """Yield the images that the pod has waited for at least `after`, so that their registry may hang."""
    since = pulling_since(pod)
    if since is not None and now - since >= after:
        yield from (container.image for container in containers_pulling(pod))


def anticipate(pod: Manifest, down: Mapping[str, RegistryDown], *, now: datetime) -> tuple[PullFailure, ...]:
    """
    Return the failures that a pod will have, if it is pulling from a registry that is down.

    Later pulls from such registries are returned too: otherwise each of them would cost a rollout of its own.
    """
    since = pulling_since(pod)
    if since is None or now - since < _SOON:
        return ()
    is_affected = any(domain_of(container.image) in down for container in containers_pulling(pod))
    return other_images_from(pod, down) if is_affected else ()


def other_images_from(pod: Manifest, down: Mapping[str, RegistryDown]) -> tuple[PullFailure, ...]:
    """Return a failure for each container that has not started yet and whose image is in a registry that is down."""
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
