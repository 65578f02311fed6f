"""
Status: what an AlternateImageSource says of itself and of the failovers that were made on its word.

`conditions` tell whether the source can be used; `switches` are the newest failovers; `active` lists who runs on an
alternative now. The whole is a summary for people: the truth about a workload is the workload's own annotation.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from saffire.active import failed_back, failed_over, whose
from saffire.alternates import InvalidSource, parse_source
from saffire.history import History, timestamp
from saffire.kinds import Step
from saffire.manifest import InvalidManifest, Manifest, name_of, number, text, uid_of
from saffire.plan import FailBack, Failover
from saffire.readiness import Inspection, ready_condition, summary
from saffire.record import Record, plain

SWITCHES = 50
# What is patched pod by pod is one failover for that long; later it is another outage.
_OUTAGE = timedelta(hours=1)


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


ALL_TRUE = Review()
"""Nobody has looked."""


def status_after(
    source: Manifest,
    records: Iterable[Record],
    *,
    now: datetime,
    review: Review = ALL_TRUE,
    inspection: Inspection | None = None,
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
    before = _before(source)
    status: dict[str, Any] = deepcopy(dict(before))
    if "active" in status:
        status["active"] = [review.revised(entry) for entry in _readable(status, "active") if review.is_active(entry)]
        status["activeCount"] = len(status["active"])
    for record in records:
        _add(status, record)
    _renew(status, source, inspection)
    status["observedGeneration"] = number(source, "metadata", "generation")
    conditions = _conditions(source, status.get("readiness"))
    status["conditions"] = [_kept(before, condition, now) for condition in conditions]
    return None if status == before else status


def news(source: Manifest, records: Iterable[Record]) -> tuple[Record, ...]:
    """Return those of `records` that the status of a source does not tell of yet, nor one of them twice."""
    status: dict[str, Any] = deepcopy(dict(_before(source)))
    return tuple(record for record in records if _add(status, record))


def switches_of(source: Manifest) -> list[Manifest]:
    """Return the failovers that the status of a source tells of, oldest first, those that can be read."""
    return _readable(_before(source), "switches")


def active_of(source: Manifest) -> list[Manifest]:
    """Return who runs on an alternative, as the status of a source tells, those that can be read."""
    return _readable(_before(source), "active")


def _before(source: Manifest) -> Manifest:
    """Return the status that the source has; none where another writer left something else."""
    status = source.get("status")
    return status if isinstance(status, Mapping) else {}


def _add(status: dict[str, Any], record: Record) -> bool:
    """Add one failover to `switches` and, if it was done, to `active`; return whether it is news."""
    failover = record.failover
    # As the template spells them, if that is what was moved: a Knative Service has a tag where its pods have a digest.
    before, after = failover.images(Step.TEMPLATE if Step.TEMPLATE in failover.steps else Step.PODS)
    switch = {
        "time": timestamp(record.at),
        "oldImage": before,
        "newImage": after,
        "target": _target(failover),
        "reason": failover.failure.reason,
        "proof": failover.proof,
        "observed": failover.observed,
        **({"note": plain(failover.note)} if failover.note else {}),
    }
    switches, active = _readable(status, "switches"), _readable(status, "active")
    if _is_told(record, switch, switches, active):
        return False
    # What is recorded late takes its place by its time: what falls out is the oldest, and is not missed by the ledger.
    status["switches"] = sorted([*switches, switch], key=lambda one: text(one, "time"))[-SWITCHES:]
    if not failover.observed:
        is_back = isinstance(failover, FailBack)
        status["active"] = failed_back(active, switch, switches) if is_back else failed_over(active, switch)
        status["activeCount"] = len(status["active"])
        if not is_back:
            latest, moment = status.get("lastFailoverTime"), timestamp(record.at)
            status["lastFailoverTime"] = max(latest, moment) if isinstance(latest, str) else moment
    return True


def _is_told(record: Record, switch: Manifest, switches: list[Manifest], active: list[Manifest]) -> bool:
    """Tell whether `switch` would say nothing new."""
    failover = record.failover
    # A source that observes decides the same at every event; where more is observed than fits, the first tell enough.
    if failover.observed:
        if len(switches) >= SWITCHES and text(switches[0], "time") > timestamp(record.at - _OUTAGE):
            return True
        return any(_move(other) == _move(switch) for other in switches if other.get("observed"))
    done = [*active, *(other for other in switches if not other.get("observed"))]
    # Somebody put the template back, and it was moved again. Else each pod of a workload is freed by the same failover,
    # whether that was recorded before its template was moved, or afterwards, or by whoever found it unrecorded.
    moved_before = History.of(failover.workload).has_moved(failover.failure.container, switch["newImage"])
    if Step.TEMPLATE in failover.steps and moved_before:
        return False
    if any(_said(other) == _said(switch) for other in done):
        return True
    latest = next((other for other in reversed(done) if whose(other) == whose(switch)), None)
    if latest is None or _move(latest) != _move(switch) or _is_noted_anew(switch, latest):
        return False
    return (text(latest, "time") or text(latest, "since")) >= timestamp(record.at - _OUTAGE)


def _said(switch: Manifest) -> tuple[tuple[str, str, str], str, str]:
    """Return what makes two switches one."""
    return _move(switch), text(switch, "time"), text(switch, "note")


def _is_noted_anew(switch: Manifest, latest: Manifest) -> bool:
    """Tell whether `switch` has something to say that the latest one did not; an entry of `active` says nothing."""
    return "note" in switch and "newImage" in latest and text(latest, "note") != switch["note"]


def _readable(status: Manifest, field: str) -> list[Manifest]:
    """Return the entries of a list of the status, without those that another writer left in a shape we cannot read."""
    readable = []
    for entry in _listed(status, field):
        try:
            _move(entry)
            for path in (("target", "namespace"), ("target", "type", "kind")):
                text(entry, *path)  # for its error
            for key in ("from", "since", "time", "note"):
                text(entry, key)  # for its error
        except InvalidManifest:
            continue
        readable.append(entry)
    return readable


def _listed(status: Manifest, field: str) -> list[Manifest]:
    """Return the objects of a list of the status; a schema older than this one may have let anything pass."""
    entries = status.get(field)
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _move(entry: Manifest) -> tuple[str, str, str]:
    """Return what tells a repetition from another failover: whose container, and where to."""
    return (*whose(entry), text(entry, "newImage") or text(entry, "to"))


def _target(failover: Failover) -> dict[str, Any]:
    """Return `target` of a switch, in the shape of the original schema."""
    workload = failover.workload
    group, _, version = text(workload, "apiVersion").rpartition("/")
    return {
        "name": name_of(workload),
        "namespace": text(workload, "metadata", "namespace"),
        "type": {"group": group, "version": version, "kind": text(workload, "kind")},
        "container": failover.failure.container,
        "uid": uid_of(workload),
    }


def _renew(status: dict[str, Any], source: Manifest, inspection: Inspection | None) -> None:
    """Bring `readiness` up to date, if that was looked at; what speaks of another spec goes."""
    if inspection and not inspection.is_of(source):
        inspection = None
    if not inspection and status.get("observedGeneration") == number(source, "metadata", "generation"):
        return
    before = status.pop("readiness", None)
    if inspection and (found := summary(source, inspection, before)):
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
        "message": plain(message),
        "observedGeneration": generation,
    }


def _kept(before: Manifest, condition: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the condition with its time: the old one's unless its status changed, as the API conventions ask."""
    for old in _listed(before, "conditions"):
        if (old.get("type"), old.get("status")) == (condition["type"], condition["status"]):
            return {**condition, "lastTransitionTime": old.get("lastTransitionTime") or timestamp(now)}
    return {**condition, "lastTransitionTime": timestamp(now)}
