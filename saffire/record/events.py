"""
The texts about decisions: Kubernetes Events as manifests, and the fields of log lines. Nothing is sent from here.

A failover is recorded in four places, each for other readers: in the history annotation of the workload
(`policy.history`, as part of the patch), in the status of the source (`status`), in Events about the workload and about
the source, and in a log line.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saffire.kube.manifest import Manifest, name_of, text, uid_of
from saffire.kube.workload import describe
from saffire.logs import printable
from saffire.policy.history import timestamp
from saffire.policy.plan import FailBack, Failover, Leave, Plan, Reason, Step, Wait
from saffire.pulls.failure import PullFailure
from saffire.registry.availability import Proof
from saffire.sources.spec import Verification, display_name

COMPONENT = "saffire"
_EVENT_NAME = 200
# The API server wants Events about objects without a namespace here.
_NAMESPACE_OF_CLUSTER_EVENTS = "default"
# Up to so many failovers of one repair have an Event each about their source.
_MAX_SINGLE_EVENTS = 3
_PROOFS = {
    Proof.EQUAL: "has the same digest",
    Proof.PRESENT: "is there",
    Proof.UNVERIFIED: "not verified",
}
# The reasons that an operator would look for at the pod; the others are common and need no action.
REPORTED_AT_POD = frozenset(
    {
        Reason.STATIC_POD,
        Reason.EPHEMERAL_CONTAINER,
        Reason.IMAGE_VOLUME,
        Reason.OWNER_UNSEEN,
        Reason.UNPROVEN,
        Reason.UNREADABLE,
        Reason.EXHAUSTED,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailoverRecord:
    """A failover that was applied or observed `at` a time in UTC."""

    failover: Failover
    at: datetime


def failover_event(record: FailoverRecord, regarding: Manifest) -> Manifest:
    """
    Return the Event about a failover; `regarding` is the workload, pod or source that it is about.

    A failover has one Event, however many pods of the workload are patched for it, and however often it is observed.
    """
    failover = record.failover
    is_back = isinstance(failover, FailBack)
    verb = "would move" if failover.observed else "moved"
    message = (
        f"{verb} {failover.failure.container} of {describe(failover.workload)} {'back ' if is_back else ''}"
        f"from {failover.failure.image} to {failover.candidate.image}: {_why_moved(failover)}; "
        f"by {display_name(failover.candidate.source.name)}"
    )
    if failover.note:
        message += f"; {failover.note}"
    return _event(regarding, ("Normal", _reason(failover), message), *_key(record), at=record.at)


def _why_moved(failover: Failover) -> str:
    """Return why a container was moved, and how its new image was verified."""
    if isinstance(failover, FailBack):
        registry = failover.candidate.reference.repository.domain
        return f"the original is healthy again at {registry}; original {_PROOFS[failover.proof]}"
    # Without verification, no registry is asked. Otherwise a registry did not tell, or not in time.
    is_unchecked = failover.candidate.source.verification is Verification.OFF
    return f"{failover.failure.why}; alternative {'not checked' if is_unchecked else _PROOFS[failover.proof]}"


def failover_events(records: Sequence[FailoverRecord], source: Manifest) -> Iterator[Manifest]:
    """
    Yield the Events about a source's failovers: up to three Events for as many failovers, else one for all.

    Each failover also has an Event about its workload, and a place in the source's status.
    """
    if len(records) <= _MAX_SINGLE_EVENTS:
        yield from (failover_event(record, source) for record in records)
        return
    first = records[0].failover
    failovers = [record.failover for record in records]
    names = ", ".join(f"{failover.failure.container} of {describe(failover.workload)}" for failover in failovers)
    back = " back" if isinstance(first, FailBack) else ""
    message = f"{'would move' if first.observed else 'moved'} {len(records)} containers{back}: {names}"
    key = (part for record in records for part in _key(record))
    yield _event(source, ("Normal", _reason(first), message), *key, at=records[0].at)


def _reason(failover: Failover) -> str:
    return f"{type(failover).__name__}{'Observed' if failover.observed else ''}"


def _key(record: FailoverRecord) -> tuple[str, ...]:
    """Return the texts by which two records are of one failover."""
    failover = record.failover
    key = (uid_of(failover.workload), failover.failure.container, failover.failure.image, failover.candidate.image)
    moment = (timestamp(record.at),) if Step.TEMPLATE in failover.steps and not failover.observed else ()
    return (*key, *moment)


def leave_event(plan: Wait | Leave, pod: Manifest, *, now: datetime) -> Manifest | None:
    """Return the Event about a pod that says why it was not moved; `None` if the reason needs no Event."""
    if plan.reason not in REPORTED_AT_POD or plan.failure is None:
        return None
    return _event(pod, ("Warning", plan.reason, explain(plan)), plan.failure.container, plan.failure.image, at=now)


def refusal_event(refusal: str, target: Manifest, *, now: datetime) -> Manifest:
    """Return the Event about `target` that says that the API server refused a patch, with the API server's words."""
    return _event(target, ("Warning", "FailoverRefused", refusal), refusal, at=now)


def explain(plan: Plan) -> str:
    """Return a plan in one line, with its reason."""
    match plan:
        case Failover():
            verb = "would move" if plan.observed else "moved" if plan.steps else "could not move"
            back = "back " if isinstance(plan, FailBack) else ""
            return f"{verb} {plan.failure.container} of {describe(plan.workload)} {back}to {plan.candidate.image}"
        case Wait():
            detail = f"every alternative failed lately; the next try is due at {timestamp(plan.until)}"
            return f"{_left(plan.failure)}{plan.reason}: {detail}"
        case Leave():
            return f"{_left(plan.failure)}{plan.reason}{f': {plan.detail}' if plan.detail else ''}"


def _left(failure: PullFailure | None) -> str:
    """Return which container was left with which image; `""` if there was no pull failure."""
    return f"left {failure.container} with {failure.image}: " if failure else ""


def log_fields(plan: Plan) -> dict[str, str]:
    """Return a plan as the fields of a log line. Their names are a contract with those who read logs."""
    fields = {"plan": type(plan).__name__}
    if plan.failure:
        fields |= {"container": plan.failure.container, "image": plan.failure.image}
    if plan.failure and not isinstance(plan, FailBack):
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
                "note": plan.note,
            }
        case Wait():
            fields |= {"reason": plan.reason, "until": timestamp(plan.until)}
        case Leave():
            fields |= {"reason": plan.reason, "detail": plan.detail}
    return {key: printable(value) for key, value in fields.items() if value}


def _event(regarding: Manifest, content: tuple[str, str, str], *key: str, at: datetime) -> dict[str, Any]:
    """
    Return an Event of core/v1 about `regarding`; `content` is its type, reason and message.

    Its name has a hash of the object, the reason and the key. So the same Event has the same name, and to post it again
    is a conflict.
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
