"""
What Saffire left: the list `status.left` of a source.

A container is *left* if it hangs on a pull, Saffire did not move it, and somebody has to act. Only a repair that read
every pod of a namespace knows which containers hang there: what it found replaces the entries of that namespace. So an
entry goes away once no pod hangs any more, or once Saffire moved the container. A status is written for that with the
failovers of such a repair, and by each sweep.

Some states mostly end without anybody. If Saffire waits for the kubelet's next try, or if a rollout replaces the pod,
Saffire decides otherwise within a minute or two, so the container is not left. If Saffire waits for a cooldown, or if a
node has reached one of its own limits, the container is left once the pod has waited for a minute. Until then, and
while an error keeps Saffire from a decision, an earlier entry of the same workload stays.

An entry belongs to the source that lists the image. If none does, it belongs to the first of the namespace's own
sources by name, or to the first cluster-wide one by name if the namespace has no own source. In a namespace without any
source, nothing is left.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from saffire.kube.manifest import Manifest, mapping, moment, name_of, printable, text
from saffire.kube.workload import (
    OwnerReference,
    controller_of,
    deployment_of,
    find_image_field,
    is_static,
    reference_of,
)
from saffire.policy.history import timestamp
from saffire.policy.plan import Failover, Leave, Plan, Reason, Wait
from saffire.pulls.failure import PullFailure, containers_of
from saffire.pulls.outage import pulling_since
from saffire.record.events import is_node_limit
from saffire.record.status_lists import bounded, container_key, namespace_of, readable_entries, target_of
from saffire.registry.reference import Reference
from saffire.sources.candidates import applicable, first_candidate, parse_valid
from saffire.sources.spec import IGNORE, Source, display_name, is_cluster_wide, record_name

OBSERVED = "FailoverObserved"
"""The reason of a container that Saffire would move, if a source did more than observe; its Event has it, too."""
# How many containers `left` lists.
_MOST_LEFT = 50
# A state that may pass has lasted if a pod has waited for so long: at least one sweep has seen it before.
_LASTS = timedelta(minutes=1)
# Saffire decides otherwise soon, without anybody's help.
_PASSING = frozenset({Reason.NEXT_TRY, Reason.ROLLOUT, Reason.ALREADY_MOVED})
# The pod waits for no image, or ends.
_NOT_HANGING = frozenset({Reason.NO_SUCH_POD, Reason.NO_FAILURE, Reason.NO_SOURCE, Reason.TERMINATING, Reason.FINISHED})
# What an operator may do. `{repository}` is that of the image, `{source}` the source to which the entry belongs,
# `{detail}` the fact behind the reason, and `{last}` its last clause: there, `policy.verification` says what to do.
_NEXT_STEPS = {
    Reason.NOT_LISTED: "list {repository} with an equivalent repository in {source}",
    Reason.PAUSED: "set spec.mode of {source} to Enforce",
    Reason.OPTED_OUT: f"remove the annotation {IGNORE} from {{detail}}",
    Reason.CANNOT_HELP: "mend the image or the node, since no other repository can help: {detail}",
    Reason.INVALID_REFERENCE: "correct the image: {detail}",
    Reason.STATIC_POD: "edit the pod's file on its node, since nobody can change a static pod through the API server",
    Reason.EPHEMERAL_CONTAINER: "debug with a new container, since the image of this one cannot be changed",
    Reason.IMAGE_VOLUME: "recreate the pod from a template that names an equivalent image: {detail}",
    Reason.OWNER_UNSEEN: "let Saffire read the pod's owner, or change the image by hand: {detail}",
    Reason.UNPROVEN: "{last}",
    Reason.UNREADABLE: "the pod lacks a pull secret for the alternative: {last}",
    Reason.EXHAUSTED: "repair one of the registries, or list a further repository in {source}",
    Reason.NODE_FAULT: "look at the network, DNS, proxy and firewall of the node: {detail}",
    Reason.TAKEN_DOWN: "ask who owns the image, or set spec.trigger of {source} to AnyFailure",
    Reason.REVERTED: "change the image where it is put back, or opt out: {detail}",
    Reason.DENIED: "allow the patch that the Event FailoverRefused at the pod or its workload names",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftContainer:
    """
    A container that Saffire left.

    `source` is the name in records of the source to which the entry belongs. `owner` is the workload, as far as Saffire
    knows it, in `namespace`. `message` names the next step for an operator. `since` is the time since which the pod
    has waited, or the earliest if several pods of the workload wait.
    """

    source: str
    namespace: str
    owner: OwnerReference
    container: str
    image: str
    reason: str
    message: str
    since: datetime

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of `status.left`."""
        names = {"name": self.owner.name, "namespace": self.namespace, "uid": self.owner.uid}
        workload = {"apiVersion": self.owner.api_version, "kind": self.owner.kind, "metadata": names}
        # Of a Deployment that nobody has read, the uid is not known.
        target = {key: value for key, value in target_of(workload, self.container).items() if value or key != "uid"}
        return {
            "target": target,
            "container": self.container,
            "image": self.image,
            "reason": self.reason,
            "message": self.message,
            "since": timestamp(self.since),
        }

    def __str__(self) -> str:
        """Return the container and the reason, as the log line of a sweep names them."""
        return f"{self.container} of {self.owner.kind}/{self.owner.name} in {self.namespace} ({self.reason})"


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftInNamespace:
    """
    What one repair left in a namespace of which it read every pod.

    `containers` are the newest 50 of each source, oldest first. `undecided` are the kinds and names of workloads with a
    pod of which nothing is known yet: their earlier entries stay.
    """

    namespace: str
    containers: tuple[LeftContainer, ...] = ()
    undecided: frozenset[tuple[str, str]] = frozenset()


Decided = tuple[Manifest, OwnerReference | None, Plan | None]
"""
A pod, its workload if Saffire has read it, and the plan for one of its pull failures.

The plan is `None` if an error kept Saffire from it.
"""


def left_in_steps(
    decided: Iterable[Decided], sources: Iterable[Manifest], *, namespace: str, now: datetime
) -> Generator[None, None, LeftInNamespace]:
    """
    Return what the plans of a repair left in a namespace; yield before each plan, so that other tasks may run.

    Args:
        decided: a pod and a plan, for each plan of a repair that read every pod of the namespace.
        sources: the sources that apply to the namespace, as they are stored; at least one.
        namespace: the name of the namespace.
        now: the time of the repair, in UTC.

    """
    by_name = sorted(sources, key=lambda source: (is_cluster_wide(source), name_of(source)))
    first, parsed = record_name(by_name[0]), parse_valid(by_name)
    containers: dict[_Key, LeftContainer] = {}
    undecided = set()
    for pod, workload, plan in decided:
        yield
        owner = workload or _owner_of(pod)
        failure = plan.failure if plan else None
        if plan and (failure is None or not hangs_on(pod, failure)):
            continue
        since = min((_waiting_since(pod, failure.container) if failure else None) or now, now)
        reason = _reason(plan, has_lasted=now - since >= _LASTS) if plan else None
        if reason is None:
            undecided.add((owner.kind, owner.name))
        elif plan and failure and reason:
            key = namespace, owner.kind, owner.name, failure.container, printable(failure.image)
            if key in containers:
                containers[key] = replace(containers[key], since=min(since, containers[key].since))
                continue
            source = _source_of(plan, failure.image, parsed) or first
            containers[key] = LeftContainer(
                source=source,
                namespace=namespace,
                owner=owner,
                container=failure.container,
                image=printable(failure.image),
                reason=reason,
                message=printable(_next_step(reason, plan, failure.image, display_name(source))),
                since=since,
            )
    newest = _newest(containers.values())
    return LeftInNamespace(namespace=namespace, containers=newest, undecided=frozenset(undecided))


def hangs_on(pod: Manifest, failure: PullFailure) -> bool:
    """
    Tell whether a pod still names the failing image.

    A sweep also decides about pods that were moved in place, and whose template was to follow: they hang no more.
    """
    field = find_image_field(pod, (), failure.section, failure.container)
    return field is not None and field.image == failure.image


def left_after(
    status: Manifest,
    source: str,
    left: LeftInNamespace | None,
    *,
    covers: Callable[[Manifest], bool] = lambda _: True,
) -> dict[str, Any]:
    """
    Return the fields of a status that say what was left; `{}` if nothing ever was.

    An entry that stays keeps its `since`. If the list is full, the namespace with the most entries loses its oldest.

    Args:
        status: the status of the source, as it is stored.
        source: the name of the source in records.
        left: what a repair left in one namespace; `None` if nothing is known: then the entries stay.
        covers: tells whether the source still applies to the namespace of an entry.

    """
    before = [entry for entry in readable_entries(status, "left") if covers(entry)]
    entries = before
    if left:
        entries = [entry for entry in before if namespace_of(entry) != left.namespace]
        earlier = {_key(entry): entry for entry in before if namespace_of(entry) == left.namespace}
        for container in left.containers:
            known = earlier.pop(_key(container.entry), {})
            if container.source == source:
                entries.append(container.entry | ({"since": known["since"]} if moment(text(known, "since")) else {}))
        entries += [entry for entry in earlier.values() if _key(entry)[1:3] in left.undecided]
    if not entries and "left" not in status:
        return {}
    kept = bounded(sorted(entries, key=lambda entry: text(entry, "since")), _MOST_LEFT, namespace_of)
    return {"left": kept, "leftCount": len(kept)}


def is_left_news(status: Manifest, source: str, left: LeftInNamespace | None) -> bool:
    """Tell whether a status does not say yet what a repair left; the other arguments are those of `left_after`."""
    return left is not None and not left_after(status, source, left).items() <= status.items()


def count_running(active: Iterable[Manifest], left: Iterable[Manifest]) -> int:
    """Return how many entries of `status.active` run on their alternative: without those that hang there, too."""
    hanging = {_key(entry)[:4] for entry in left}
    return sum(_key(entry)[:4] not in hanging for entry in active)


# One container


_Key = tuple[str, str, str, str, str]
"""The namespace of a container, the kind and name of its workload, its own name, and its image."""


def _key(entry: Manifest) -> _Key:
    """
    Return the key of an entry of `left` or `active`.

    It needs no uid: at one time, a name belongs to one workload. And the uid of a Deployment is not always known.
    """
    kind, name = text(entry, "target", "type", "kind"), text(entry, "target", "name")
    return namespace_of(entry), kind, name, container_key(entry)[2], text(entry, "image")


def _owner_of(pod: Manifest) -> OwnerReference:
    """Return the workload that a pod names itself, with its texts in printable characters; the pod if it names none."""
    owner = (None if is_static(pod) else deployment_of(pod) or controller_of(pod)) or reference_of(pod)
    return replace(owner, **{field: printable(getattr(owner, field)) for field in ("api_version", "kind", "name")})


def _newest(containers: Iterable[LeftContainer]) -> tuple[LeftContainer, ...]:
    """Return the newest 50 containers of each source, oldest first: a status has no place for more."""
    in_order = sorted(containers, key=lambda container: (container.since, str(container)))
    by_source: dict[str, list[LeftContainer]] = {}
    for container in in_order:
        by_source.setdefault(container.source, []).append(container)
    return tuple(container for of_source in by_source.values() for container in of_source[-_MOST_LEFT:])


def _waiting_since(pod: Manifest, container: str) -> datetime | None:
    """Return when a container began to wait: when its last run ended, else when its pod began to pull images."""
    statuses = (other.status for other in containers_of(pod) if other.name == container)
    ended = text(mapping(next(statuses, {}), "lastState", "terminated"), "finishedAt")
    return moment(ended) if ended else pulling_since(pod)


def _reason(plan: Plan, *, has_lasted: bool) -> str | None:
    """
    Return why a plan leaves a container that hangs.

    Return `""` if the plan does not leave it, and `None` if Saffire decides otherwise soon. `has_lasted` says that the
    pod has waited for a minute.
    """
    match plan:
        case Failover(is_back=True):
            return ""
        case Failover(observed=True):
            return OBSERVED
        case Failover(steps=()):
            return Reason.DENIED
        case Failover():
            return plan.pod_leave.reason if plan.pod_leave else ""
        case Wait() | Leave() if plan.reason in _PASSING:
            return None
        case Wait():
            return plan.reason if has_lasted else None
        case Leave():
            if plan.reason in _NOT_HANGING:
                return ""
            return plan.reason if has_lasted or not is_node_limit(plan) else None


def _next_step(reason: str, plan: Plan, image: str, source: str) -> str:
    """Return the next step for an operator in one sentence; `source` is `Kind/name` of the source of the entry."""
    if isinstance(plan, Failover) and plan.observed:
        return f"set spec.mode of {source} to Enforce, so that Saffire moves it to {plan.candidate.image}"
    leave = plan.pod_leave if isinstance(plan, Failover) else plan
    detail = leave.detail if leave else ""
    if reason == Reason.OPTED_OUT and isinstance(leave, Leave) and leave.reversions:
        return f"change the image by hand, or wait for an hour: {detail}"
    reference = Reference.parse_if_valid(image)
    repository = reference.repository if reference else image
    last = detail.rpartition("; ")[2]
    return _NEXT_STEPS[Reason(reason)].format(repository=repository, source=source, detail=detail, last=last)


def _source_of(plan: Plan, image: str, sources: tuple[Source, ...]) -> str:
    """Return the name in records of the source that lists an image; `""` if none does."""
    if isinstance(plan, Failover):
        return plan.candidate.source.name
    reference = Reference.parse_if_valid(image)
    first = first_candidate(reference, applicable(reference, sources)) if reference else None
    return first.source.name if first else ""
