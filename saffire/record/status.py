"""
Status: what an AlternateImageSource says of itself and of the failovers that were made on its word.

`conditions` tell whether the source can be used; `switches` are the newest failovers; `active` lists who runs on an
alternative now. The whole is a summary for people: the truth about a workload is the workload's own annotation.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saffire.kube.manifest import Manifest, number
from saffire.logs import printable
from saffire.policy.history import timestamp
from saffire.record.events import FailoverRecord
from saffire.record.failover_log import FailoverLog, list_entries, readable_entries, status_of
from saffire.record.readiness import ProbeResults, readiness_status, ready_condition
from saffire.sources.spec import InvalidSource, parse_source


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """
    What was seen of the entries of `status.active`.

    Args:
        is_active: tells whether one is still true, as far as was looked.
        revised: returns one with what is known by now of its original.

    """

    is_active: Callable[[Manifest], bool] = lambda _: True
    revised: Callable[[Manifest], Manifest] = lambda entry: entry


NOT_REVIEWED = Review()
"""Nobody has looked."""


def status_after(
    source: Manifest,
    records: Iterable[FailoverRecord],
    *,
    now: datetime,
    review: Review = NOT_REVIEWED,
    inspection: ProbeResults | None = None,
) -> Manifest | None:
    """
    Return the `status` that an AlternateImageSource should have after `records`; `None` where it has it already.

    Args:
        source: the live AlternateImageSource.
        records: what happened on its word, oldest first; may be empty.
        now: the time of a condition that changes.
        review: of the entries of `active`.
        inspection: which images are in use, if that was looked at.

    """
    before = status_of(source)
    status: dict[str, Any] = dict(before)
    if "active" in status:
        status["active"] = [
            review.revised(entry) for entry in readable_entries(status, "active") if review.is_active(entry)
        ]
        status["activeCount"] = len(status["active"])
    switches = FailoverLog(status)
    added = [record for record in records if switches.add(record)]
    if added:
        status |= switches.fields
    _renew(status, source, inspection)
    status["observedGeneration"] = number(source, "metadata", "generation")
    conditions = _conditions(source, status.get("readiness"))
    status["conditions"] = [_kept(before, condition, now) for condition in conditions]
    return None if status == before else status


def new_records(source: Manifest, records: Iterable[FailoverRecord]) -> tuple[FailoverRecord, ...]:
    """Return those of `records` that the status of a source does not tell of yet, nor one of them twice."""
    switches = FailoverLog(status_of(source))
    return tuple(record for record in records if switches.add(record))


def _renew(status: dict[str, Any], source: Manifest, inspection: ProbeResults | None) -> None:
    """Bring `readiness` up to date, if that was looked at; what speaks of another spec goes."""
    if inspection and not inspection.is_of(source):
        inspection = None
    if not inspection and status.get("observedGeneration") == number(source, "metadata", "generation"):
        return
    before = status.pop("readiness", None)
    if inspection and (found := readiness_status(source, inspection, before)):
        status["readiness"] = found


def _conditions(source: Manifest, readiness: object) -> tuple[dict[str, Any], ...]:
    """Return what `status.conditions` should say of the source, without the times."""
    try:
        parsed = parse_source(source)
    except InvalidSource as error:
        faults = str(error)
        return (
            _condition(source, "Accepted", "False", "Invalid", faults),
            _condition(source, "Ready", "False", "Invalid", "nothing fails over on its word until it is valid"),
        )
    return _condition(source, "Accepted", "True", "Valid", ""), _condition(
        source, "Ready", *ready_condition(parsed, readiness)
    )


def _condition(source: Manifest, kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    """Return a `metav1.Condition` without its time."""
    generation = number(source, "metadata", "generation")
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": printable(message),
        "observedGeneration": generation,
    }


def _kept(before: Manifest, condition: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the condition with its time: the old one's unless its status changed, as the API conventions ask."""
    for old in list_entries(before, "conditions"):
        if (old.get("type"), old.get("status")) == (condition["type"], condition["status"]):
            return {**condition, "lastTransitionTime": old.get("lastTransitionTime") or timestamp(now)}
    return {**condition, "lastTransitionTime": timestamp(now)}
