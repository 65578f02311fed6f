"""
Failovers that somebody undid together with the history annotation: the list `status.reversions` of a source.

`kubectl rollout undo` and `kubectl replace` write the annotations of a workload anew, and an operator may delete a pod
whose image differs, and make it again. So the history annotation, which counts reversions otherwise, is gone. A
decision finds such a reversion if an object has its old image, and `status.switches` has a failover that the object's
history lacks. Saffire keeps it for an hour from the failover. If one failover more of the container is undone, Saffire
leaves the container alone (`policy.target`).

If the list is full, the namespace with the most entries loses its oldest (`status_lists`).
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from saffire.kube.manifest import Manifest, mapping, moment, printable, text
from saffire.policy.history import MOST_REVERSIONS, WINDOW, Entry, RecordedMove, RecordedMoves, WorkloadKey, timestamp
from saffire.policy.plan import Reversion
from saffire.record.failover_log import in_order, pods_of
from saffire.record.status_lists import bounded, container_key, namespace_of, readable_entries, status_of, target_of
from saffire.sources.spec import record_name

_MAX_REVERSIONS = 100

_Moved = tuple[str, str, str, str]
"""
The namespace and the uid of a workload, its container, and the name of the pod that was moved in place.

The name is `""` if the template was moved.
"""


def reversions_after(
    status: Manifest, reversions: Iterable[Reversion], lost_opt_outs: Iterable[Manifest], *, now: datetime
) -> dict[str, Any]:
    """
    Return the fields of a status that are about reversions, as they are after `reversions`; `{}` if none ever was.

    `lost_opt_outs` are entries of `status.active` whose workload had opted out until its annotations were lost.
    """
    entries = {_identity(entry): entry for entry in _readable(status)}
    lost = [_without_opt_out(entry, now) for entry in lost_opt_outs]
    for entry in (*(_entry_of(reversion, now) for reversion in reversions), *lost):
        # What is known of a reversion stays. Only an opt-out is added.
        entries[_identity(entry)] = {**entry, **entries.get(_identity(entry), {})}
    recent = (entry for entry in entries.values() if _is_recent(entry, now))
    kept = bounded(sorted(recent, key=lambda entry: text(entry, "time")), _MAX_REVERSIONS, namespace_of)
    if not kept and "reversions" not in status:
        return {}
    return {"reversions": kept, "revertedCount": _count_given_up(kept, now)}


def _readable(status: Manifest) -> list[Manifest]:
    """Return those entries of `status.reversions` that Saffire can read."""
    entries = readable_entries(status, "reversions")
    return [entry for entry in entries if isinstance(entry.get("optedOut", ""), str)]


def _entry_of(reversion: Reversion, now: datetime) -> dict[str, Any]:
    """Return a reversion that was found `now` as an entry of `status.reversions`."""
    return {
        "time": timestamp(reversion.at),
        "oldImage": reversion.before,
        "newImage": reversion.after,
        "target": target_of(reversion.workload, reversion.container),
        "by": printable(reversion.by),
        **({"pod": reversion.pod} if reversion.pod else {}),
        **({"optedOut": timestamp(now)} if reversion.opted_out else {}),
    }


def _without_opt_out(entry: Manifest, now: datetime) -> dict[str, Any]:
    """Return an entry of `status.active` as one of `status.reversions`; its workload has lost its opt-out `now`."""
    return {
        "time": text(entry, "since"),
        "oldImage": text(entry, "from"),
        "newImage": text(entry, "to"),
        "target": {**mapping(entry, "target"), "container": container_key(entry)[2]},
        "by": "",
        "optedOut": timestamp(now),
    }


def _moved(entry: Manifest) -> _Moved:
    """
    Return what the failover moved that an entry of `reversions` or `switches` is about.

    If the status names a pod as the workload, the pod is known by its name: a pod that is made anew has another uid.
    """
    namespace, uid, container = container_key(entry)
    is_pod = text(entry, "target", "type", "kind") == "Pod"
    return namespace, text(entry, "target", "name") if is_pod else uid, container, text(entry, "pod")


def _identity(entry: Manifest) -> tuple[_Moved, str, str]:
    """Return what two entries have in common if they are about the same failover."""
    return _moved(entry), text(entry, "newImage"), text(entry, "time")


def _is_recent(entry: Manifest, now: datetime) -> bool:
    """Tell whether a reversion still counts: Saffire moved the container, or found the opt-out lost, in an hour."""
    times = (text(entry, key) for key in ("time", "optedOut"))
    return any(timestamp(now - WINDOW) <= time <= timestamp(now + WINDOW) for time in times)


def _count_given_up(entries: Iterable[Manifest], now: datetime) -> int:
    """Count the containers that Saffire leaves alone, since two failovers of the last hour were undone."""
    since = timestamp(now - WINDOW)
    counts = Counter((_moved(entry), text(entry, "oldImage")) for entry in entries if text(entry, "time") >= since)
    return len({(moved[:3], image) for (moved, image), count in counts.items() if count >= MOST_REVERSIONS})


def recorded_moves(sources: Iterable[Manifest]) -> RecordedMoves:
    """Return the failovers that the status of sources has, by which decisions find failovers that somebody undid."""
    moves: list[RecordedMove] = []
    opted_out: list[tuple[WorkloadKey, Entry]] = []
    for source in sources:
        status, name = status_of(source), record_name(source)
        undone = _readable(status)
        for switch in (*in_order(status), *undone):
            entry = _entry(switch, name)
            if entry is None or switch.get("observed"):
                continue
            pod = text(switch, "pod")
            moves.append(
                RecordedMove(
                    entry=entry,
                    uid=text(switch, "target", "uid"),
                    kind=text(switch, "target", "type", "kind"),
                    namespace=namespace_of(switch),
                    pods=(pod,) if pod else pods_of(switch),
                    was_undone="by" in switch,
                )
            )
        for other in (*readable_entries(status, "active"), *undone):
            entry = _entry(other, name)
            if entry and other.get("optedOut"):
                opted_out.append(((namespace_of(other), text(other, "target", "uid")), entry))
    return RecordedMoves(moves, opted_out)


def _entry(switch: Manifest, source: str) -> Entry | None:
    """
    Return an entry of `switches`, `reversions` or `active` as the entry of a history.

    `None` if its time cannot be read. `source` is the name of the source that has the entry.
    """
    at = moment(text(switch, "time") or text(switch, "since"))
    if at is None:
        return None
    return Entry(
        container=container_key(switch)[2],
        before=text(switch, "oldImage") or text(switch, "from"),
        after=text(switch, "newImage") or text(switch, "to"),
        at=at,
        source=source,
        proof="",
        reason=text(switch, "reason"),
    )
