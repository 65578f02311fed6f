"""
Outages: if a registry itself is down, every pull from it fails for the same reason.

A registry that drops packets lets each pull wait for half a minute, and a node pulls one image after the other. If a
pull failed for that reason, and the registry does not answer us either, every container that waits to pull from it is
*anticipated* to fail. A registry that accepts connections and never answers makes no Event at all: a pull that has
lasted for minutes, from a registry that does not answer us either, is *stalled*.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from saffire.kube.manifest import Manifest, items, mapping, number, text
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section, Unstarted, unstarted
from saffire.registry.reference import domain_of

# A pull that works is often over by then, or has failed by itself.
_SOON = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryDown:
    """Why containers that wait for a registry are moved: `reason` for the record, and the cause."""

    reason: str
    cause: Cause


def registries_reported_down(failures: Iterable[PullFailure]) -> dict[str, PullFailure]:
    """Return one failure for each registry that is down in the runtime's words."""
    down = (failure for failure in failures if failure.cause.is_down)
    return {domain: failure for failure in down if (domain := domain_of(failure.image))}


def containers_pulling(pod: Manifest) -> tuple[Unstarted, ...]:
    """
    Return the containers whose images the pod's node pulls, as far as its status tells.

    Init containers come one after the other: the first that is not done holds up all that follow.
    """
    if not text(pod, "spec", "nodeName"):
        return ()
    waiting = tuple(unstarted(pod))
    statuses = {text(status, "name"): status for status in items(pod, "status", "initContainerStatuses")}
    for container in items(pod, "spec", "initContainers"):
        name = text(container, "name")
        if not _is_done(container, statuses.get(name, {})):
            return tuple(one for one in waiting if (one.section, one.name) == (Section.INIT_CONTAINERS, name))
    return tuple(one for one in waiting if one.section is Section.CONTAINERS)


def _is_done(container: Manifest, status: Manifest) -> bool:
    """Tell whether an init container has ended well, or goes on beside the others (`restartPolicy: Always`)."""
    if text(container, "restartPolicy") == "Always" and mapping(status, "state", "running"):
        return True
    ended = mapping(status, "state", "terminated")
    return bool(ended) and number(ended, "exitCode") == 0


def pulling_since(pod: Manifest) -> datetime | None:
    """
    Return since when the pod's node can have been pulling what it pulls now; `None` where it has not begun.

    That is `status.startTime`, or the end of the last init container before.
    """
    ended = (mapping(one, "state", "terminated") for one in items(pod, "status", "initContainerStatuses"))
    times = [text(pod, "status", "startTime"), *(text(one, "finishedAt") for one in ended)]
    try:
        return max(datetime.fromisoformat(time).astimezone(UTC) for time in times if time)
    except (ValueError, OverflowError):
        return None


def images_maybe_stalled(pod: Manifest, *, now: datetime, after: timedelta) -> Iterator[str]:
    """Yield the images that the pod has been waiting for so long that the registry may hang."""
    since = pulling_since(pod)
    if since is not None and now - since >= after:
        yield from (one.image for one in containers_pulling(pod))


def anticipate(pod: Manifest, down: Mapping[str, RegistryDown], *, now: datetime) -> tuple[PullFailure, ...]:
    """
    Return the pull failures that a pod is going to have, since it is at a pull from a registry that is down.

    With that pull come all the others that it would wait for later: otherwise each would cost a rollout of its own.
    """
    since = pulling_since(pod)
    if since is None or now - since < _SOON or not any(domain_of(one.image) in down for one in containers_pulling(pod)):
        return ()
    return other_images_from(pod, down)


def other_images_from(pod: Manifest, down: Mapping[str, RegistryDown]) -> tuple[PullFailure, ...]:
    """Return the pull failures of all that the pod has not started yet and needs from a registry that is down."""
    return tuple(
        PullFailure(section=one.section, container=one.name, image=one.image, reason=found.reason, cause=found.cause)
        for one in unstarted(pod)
        if (found := down.get(domain_of(one.image)))
    )
