"""
The texts about decisions: Kubernetes Events as manifests, and the fields of log lines. `record.writer` posts Events.

A *failover* moves a container of a workload to another image. Saffire records each failover in four places, each for
other readers: in the history annotation of the patched object (`policy.history`, as part of the patch), in the status
of the source (`record.status`), in Events about the workload and about the source, and in a log line.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saffire.kube.manifest import Manifest, name_of, printable, text, uid_of
from saffire.kube.workload import describe
from saffire.policy.history import timestamp
from saffire.policy.plan import Failover, Leave, Plan, Reason, Step, Wait
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure
from saffire.registry.availability import Proof
from saffire.sources.spec import Verification, display_name

COMPONENT = "saffire"
_EVENT_NAME = 200
# The API server accepts an Event about an object without a namespace in this namespace.
_NAMESPACE_OF_CLUSTER_EVENTS = "default"
# If a source has at most so many failovers in one repair, each of them has its own Event about the source.
_MAX_SINGLE_EVENTS = 3
_PROOFS = {
    Proof.EQUAL: "has the same digest",
    Proof.PRESENT: "is there",
    Proof.UNVERIFIED: "not verified",
}
# For these reasons, Saffire posts an Event about the pod, where operators look for it. The other reasons need no
# action, or have an Event of their own, as a refused patch has.
REPORTED_AT_POD = frozenset(
    {
        Reason.CANNOT_HELP,
        Reason.INVALID_REFERENCE,
        Reason.NOT_LISTED,
        Reason.PAUSED,
        Reason.OPTED_OUT,
        Reason.STATIC_POD,
        Reason.EPHEMERAL_CONTAINER,
        Reason.IMAGE_VOLUME,
        Reason.OWNER_UNSEEN,
        Reason.UNPROVEN,
        Reason.UNREADABLE,
        Reason.EXHAUSTED,
        Reason.NODE_FAULT,
        Reason.TAKEN_DOWN,
        Reason.REVERTED,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailoverRecord:
    """
    A failover that Saffire made, or only observed (mode Observe), and the time `at` which it did so, in UTC.

    `regarding` is the object at which operators look for the Event about the failover: the workload, or one of the pods
    if Saffire patched only pods. `pods` are the names of these pods; empty if Saffire patched the template.
    """

    failover: Failover
    at: datetime
    regarding: Manifest
    pods: tuple[str, ...] = ()


def failover_event(record: FailoverRecord, regarding: Manifest) -> Manifest:
    """
    Return the Event about a failover; `regarding` is the workload, pod or source that it is about.

    About one object, a failover has one Event, however many pods of the workload Saffire patches for it, and however
    often Saffire observes it (mode Observe).
    """
    failover = record.failover
    verb = "would move" if failover.observed else "moved"
    message = (
        f"{verb} {failover.failure.container} of {describe(failover.workload)} {'back ' if failover.is_back else ''}"
        f"from {failover.failure.image} to {failover.candidate.image}: {_why_moved(failover)}; "
        f"by {display_name(failover.candidate.source.name)}"
    )
    if failover.note:
        message += f"; {failover.note}"
    return _event(regarding, ("Normal", _reason(failover), message), *_key(record), at=record.at)


def _why_moved(failover: Failover) -> str:
    """Return the part of a message that says why Saffire moved a container, and how it verified the new image."""
    if failover.is_back:
        registry = failover.candidate.reference.repository.domain
        return f"the original is healthy again at {registry}; original {_PROOFS[failover.proof]}"
    # With `verification: Off`, Saffire asks no registry. Otherwise `Proof.UNVERIFIED` means that the registry did not
    # say whether the image is there, or not in time.
    is_unchecked = failover.candidate.source.verification is Verification.OFF
    return f"{failover.failure.why}; alternative {'not checked' if is_unchecked else _PROOFS[failover.proof]}"


def failover_events(records: Sequence[FailoverRecord], source: Manifest) -> Iterator[Manifest]:
    """
    Yield the Events about a source for its failovers: one for each of up to three failovers, else one for all.

    Each failover also has an Event about its workload or pod, and an entry in the source's `status.switches`.
    """
    if len(records) <= _MAX_SINGLE_EVENTS:
        yield from (failover_event(record, source) for record in records)
        return
    first = records[0].failover
    failovers = [record.failover for record in records]
    names = ", ".join(f"{failover.failure.container} of {describe(failover.workload)}" for failover in failovers)
    back = " back" if first.is_back else ""
    message = f"{'would move' if first.observed else 'moved'} {len(records)} containers{back}: {names}"
    key = (part for record in records for part in _key(record))
    yield _event(source, ("Normal", _reason(first), message), *key, at=records[0].at)


def _reason(failover: Failover) -> str:
    return f"{_name(failover)}{'Observed' if failover.observed else ''}"


def _name(plan: Plan) -> str:
    """Return the name of a plan in Events and log lines, which is a contract with users who read them."""
    return "FailBack" if isinstance(plan, Failover) and plan.is_back else type(plan).__name__


def _key(record: FailoverRecord) -> tuple[str, ...]:
    """
    Return texts that are equal for two records if both are of one failover.

    The time is one of these texts only if Saffire patched the template: a later patch of it is another failover.
    """
    failover = record.failover
    workload = (text(failover.workload, "metadata", "namespace"), uid_of(failover.workload))
    key = (*workload, failover.failure.container, failover.failure.image, failover.candidate.image)
    moment = (timestamp(record.at),) if Step.TEMPLATE in failover.steps and not failover.observed else ()
    return (*key, *moment)


def leave_event(plan: Wait | Leave, pod: Manifest, *, now: datetime) -> Manifest | None:
    """Return the Event about a pod that says why Saffire did not move it; `None` if the reason needs no Event."""
    if plan.failure is None or not is_reported(plan):
        return None
    return _event(pod, ("Warning", plan.reason, explain(plan)), plan.failure.container, plan.failure.image, at=now)


def is_reported(plan: Wait | Leave) -> bool:
    """Tell whether an operator has to see to the pod of a plan, so that it has an Event."""
    return plan.reason in REPORTED_AT_POD and not is_node_limit(plan)


def is_node_limit(plan: Wait | Leave) -> bool:
    """Tell whether a plan leaves a pod whose node has reached a limit of its own, which mostly passes by itself."""
    return plan.reason is Reason.CANNOT_HELP and plan.failure is not None and plan.failure.cause is Cause.NODE


def node_fault_event(plan: Leave, source: Manifest, *, now: datetime) -> Manifest:
    """Return the Event about a source that names a node which cannot pull from registries that answer Saffire."""
    return _event(source, ("Warning", plan.reason, plan.detail), plan.detail, at=now)


def refusal_event(refusal: str, target: Manifest, *, now: datetime) -> Manifest:
    """Return the Event about an object that the API server refused to patch; `refusal` is why it refused."""
    return _event(target, ("Warning", "FailoverRefused", refusal), refusal, at=now)


def explain(plan: Plan) -> str:
    """Return what a plan does, or why it does nothing, in one line of text."""
    match plan:
        case Failover():
            verb = "would move" if plan.observed else "moved" if plan.steps else "could not move"
            back = "back " if plan.is_back else ""
            return f"{verb} {plan.failure.container} of {describe(plan.workload)} {back}to {plan.candidate.image}"
        case Wait():
            why = plan.detail or "every alternative failed lately or will not do"
            return f"{_left(plan.failure)}{plan.reason}: {why}; the next try is due at {timestamp(plan.until)}"
        case Leave():
            return f"{_left(plan.failure)}{plan.reason}{f': {plan.detail}' if plan.detail else ''}"


def _left(failure: PullFailure | None) -> str:
    """Return words for the container that Saffire left with its image; `""` if the plan has no pull failure."""
    return f"left {failure.container} with {failure.image}: " if failure else ""


def log_fields(plan: Plan) -> dict[str, str]:
    """Return a plan as the fields of a log line. The names of the fields are a contract with users who read logs."""
    fields = {"plan": _name(plan)}
    if plan.failure:
        fields |= {"container": plan.failure.container, "image": plan.failure.image}
    if plan.failure and not (isinstance(plan, Failover) and plan.is_back):
        fields |= {"waiting": plan.failure.reason, "cause": plan.failure.cause, "error": plan.failure.error}
    match plan:
        case Failover():
            fields |= {
                "workload": describe(plan.workload),
                "candidate": plan.candidate.image,
                "source": plan.candidate.source.name,
                "proof": plan.proof,
                "steps": ", ".join(step.name.lower() for step in plan.steps),
                "mode": plan.candidate.source.mode,
                "fault": plan.fault or "",
                "note": plan.note,
            }
        case Wait():
            fields |= {"reason": plan.reason, "detail": plan.detail, "until": timestamp(plan.until)}
        case Leave():
            fields |= {"reason": plan.reason, "detail": plan.detail}
    return {key: printable(value) for key, value in fields.items() if value}


def _event(regarding: Manifest, content: tuple[str, str, str], *key: str, at: datetime) -> dict[str, Any]:
    """
    Return an Event of core/v1 about the object `regarding`; `content` is the Event's type, reason and message.

    The Event's name has a hash of the object's uid, the reason and the `key`. So the same Event has the same name. If
    Saffire posts an Event again, the API server answers with a conflict.
    """
    kind, reason, message = content
    digest = hashlib.sha256("\0".join((uid_of(regarding), reason, *key)).encode(errors="surrogatepass")).hexdigest()[
        :16
    ]
    namespace, moment = text(regarding, "metadata", "namespace"), timestamp(at)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{name_of(regarding)[:_EVENT_NAME].rstrip('-.')}.{digest}",
            "namespace": namespace or _NAMESPACE_OF_CLUSTER_EVENTS,
        },
        "involvedObject": {
            "apiVersion": text(regarding, "apiVersion"),
            "kind": text(regarding, "kind"),
            "namespace": namespace,
            "name": name_of(regarding),
            "uid": uid_of(regarding),
        },
        "type": kind,
        "reason": reason,
        "message": printable(message),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
