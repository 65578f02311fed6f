"""
The failovers in a source's status: `switches`, the newest 50, and `active`, which containers run on an alternative.

`FailoverLog` adds failovers to both, and knows which of them the status already has. A storm adds a thousand at once,
so both lists are read once, and the entries of a container are found without looking at all others. An entry of
`active` says which container, from which image, to which image, and since when; `policy.original_health` adds what is
known of the original.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from saffire.kube.manifest import InvalidManifest, Manifest, name_of, text, uid_of
from saffire.logs import printable
from saffire.policy.history import History, timestamp
from saffire.policy.original_health import is_unproven, without_proof
from saffire.policy.plan import FailBack, Failover, Step
from saffire.record.events import FailoverRecord
from saffire.registry.reference import same_image

_ACTIVE = 100
ContainerKey = tuple[str, str]
"""The uid of a workload, or where another writer left none what it is called, and the name of one of its containers."""


def container_key(entry: Manifest) -> ContainerKey:
    """Return whose container an entry of `switches` or `active` is about."""
    called = (("target", "type", "kind"), ("target", "namespace"), ("target", "name"))
    uid = text(entry, "target", "uid") or "/".join(text(entry, *path) for path in called)
    return uid, text(entry, "target", "container") or text(entry, "container")


class ActiveFailovers:
    """Who runs on an alternative: one entry of each container, the last where another writer left several."""

    def __init__(self, entries: Iterable[Manifest]) -> None:
        self._entries: dict[ContainerKey, Manifest] = {}
        for entry in entries:
            key = container_key(entry)
            self._entries.pop(key, None)
            self._entries[key] = entry

    @property
    def entries(self) -> list[Manifest]:
        """The list, those who moved last at its end."""
        return list(self._entries.values())

    def of(self, container: ContainerKey) -> Manifest | None:
        """Return the entry of a container; `None` where it runs on no alternative."""
        return self._entries.get(container)

    def add(self, switch: dict[str, Any]) -> None:
        """
        Take note of a failover; whoever is back at the original leaves the list.

        Something fails: nobody of that namespace returns until every original has been healthy for as long again.
        """
        key = container_key(switch)
        before = self._entries.pop(key, {})
        where = text(switch, "target", "namespace")
        for other, entry in self._entries.items():
            if not is_unproven(entry) and text(entry, "target", "namespace") == where:
                self._entries[other] = without_proof(entry)
        origin = text(before, "from") or switch["oldImage"]
        if same_image(switch["newImage"], origin):
            return
        self._entries[key] = {
            "target": switch["target"],
            "container": switch["target"]["container"],
            "from": origin,
            "to": switch["newImage"],
            "since": text(before, "since") or switch["time"],
            "proof": switch["proof"],
        }
        while len(self._entries) > _ACTIVE:
            del self._entries[next(iter(self._entries))]

    def add_late(self, switch: dict[str, Any]) -> None:
        """Take note of a failover that is told late: whoever has moved on since came from there first."""
        entry = self._entries.get(container_key(switch))
        if entry and same_image(text(entry, "from"), switch["newImage"]):
            self._entries[container_key(switch)] = {**entry, "from": switch["oldImage"], "since": switch["time"]}

    def remove(self, switch: dict[str, Any]) -> None:
        """Take note that a container is back."""
        self._entries.pop(container_key(switch), None)


SWITCHES = 50
# What is patched pod by pod is one failover for that long; later it is another outage.
_OUTAGE = timedelta(hours=1)


class FailoverLog:
    """What a status tells of failovers, while more are added."""

    def __init__(self, status: Manifest) -> None:
        self._switches = _in_order(status)
        self._of: defaultdict[ContainerKey, list[Manifest]] = defaultdict(list)
        for switch in self._switches:
            self._of[container_key(switch)].append(switch)
        self._active = ActiveFailovers(readable_entries(status, "active"))
        latest = status.get("lastFailoverTime")
        self._latest = latest if isinstance(latest, str) else ""
        self._has_moved = False

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the status that tell of failovers; what was only observed moves nobody."""
        fields: dict[str, Any] = {"switches": list(self._switches)}
        if self._has_moved:
            active = self._active.entries
            fields |= {"active": active, "activeCount": len(active)}
        if self._has_moved and self._latest:
            fields["lastFailoverTime"] = self._latest
        return fields

    def add(self, record: FailoverRecord) -> bool:
        """Add a failover, unless the status would say nothing new by that; return whether it is news."""
        switch = _switch(record)
        mine = self._of[container_key(switch)]
        if self._is_recorded(record, switch, mine):
            return False
        if not switch["observed"]:
            self._move(record, switch, mine)
        # What is recorded late takes its place by its time: what falls out is the oldest, and the ledger misses none.
        insort(self._switches, switch, key=_time)
        insort(mine, switch, key=_time)
        while len(self._switches) > SWITCHES:
            self._of[container_key(self._switches.pop(0))].pop(0)
        return True

    def _move(self, record: FailoverRecord, switch: dict[str, Any], mine: list[Manifest]) -> None:
        """Bring the list of who runs on an alternative up to date."""
        self._has_moved = True
        is_back = isinstance(record.failover, FailBack)
        if not is_back:
            self._latest = max(self._latest, timestamp(record.at))
        # It may have moved again since, and only that was told in time.
        if any(_time(other) > _time(switch) and not other.get("observed") for other in mine):
            if not is_back:
                self._active.add_late(switch)
        elif is_back:
            self._active.remove(switch)
        else:
            self._active.add(switch)

    def _is_recorded(self, record: FailoverRecord, switch: Manifest, mine: list[Manifest]) -> bool:
        """Tell whether `switch` would say nothing new; `mine` are those of its container."""
        failover = record.failover
        # A source that observes decides the same at every event; of more than fits, the first tell enough.
        if failover.observed:
            if len(self._switches) >= SWITCHES and _time(self._switches[0]) > timestamp(record.at - _OUTAGE):
                return True
            return any(_move_key(other) == _move_key(switch) for other in mine if other.get("observed"))
        active = self._active.of(container_key(switch))
        done = [*((active,) if active else ()), *(other for other in mine if not other.get("observed"))]
        latest = done[-1] if done else None
        # It was written, and the answer was lost.
        if latest and _identity(latest) == _identity(switch):
            return True
        # Somebody put the template back, and it was moved again. Else each pod of a workload is freed by the same
        # failover, whether that was recorded before its template was moved, or afterwards, or by whoever found it
        # unrecorded.
        moved_before = History.of(failover.workload).has_moved(failover.failure.container, switch["newImage"])
        if Step.TEMPLATE in failover.steps and moved_before:
            return False
        if any(_identity(other) == _identity(switch) for other in done):
            return True
        if latest is None or _move_key(latest) != _move_key(switch) or _is_noted_anew(switch, latest):
            return False
        return (_time(latest) or text(latest, "since")) >= timestamp(record.at - _OUTAGE)


def switches_of(source: Manifest) -> list[Manifest]:
    """Return the failovers that the status of a source tells of, oldest first, those that can be read."""
    return _in_order(status_of(source))


def active_of(source: Manifest) -> list[Manifest]:
    """Return who runs on an alternative, as the status of a source tells, those that can be read."""
    return readable_entries(status_of(source), "active")


def status_of(source: Manifest) -> Manifest:
    """Return the status that the source has; none where another writer left something else."""
    status = source.get("status")
    return status if isinstance(status, Mapping) else {}


def readable_entries(status: Manifest, field: str) -> list[Manifest]:
    """Return the entries of a list of the status, without those that another writer left in a shape we cannot read."""
    kept = []
    for entry in list_entries(status, field):
        try:
            container_key(entry)
            for path in (("target", "namespace"), ("target", "type", "kind")):
                text(entry, *path)  # for its error
            for key in ("container", "newImage", "to", "from", "since", "time", "note"):
                text(entry, key)  # for its error
        except InvalidManifest:
            continue
        kept.append(entry)
    return kept


def list_entries(status: Manifest, field: str) -> list[Manifest]:
    """Return the objects of a list of the status; a schema older than this one may have let anything pass."""
    entries = status.get(field)
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _in_order(status: Manifest) -> list[Manifest]:
    """Return the failovers that a status tells of, oldest first; another writer may have left them in any order."""
    return sorted(readable_entries(status, "switches"), key=_time)


def _switch(record: FailoverRecord) -> dict[str, Any]:
    """Return the entry of `switches` that tells of a failover."""
    failover = record.failover
    # As the template spells them, if that is what was moved: a Knative Service has a tag where its pods have a digest.
    before, after = failover.images(Step.TEMPLATE if Step.TEMPLATE in failover.steps else Step.PODS)
    return {
        "time": timestamp(record.at),
        "oldImage": before,
        "newImage": after,
        "target": _target(failover),
        "reason": failover.failure.reason,
        "proof": failover.proof,
        "observed": failover.observed,
        **({"note": printable(failover.note)} if failover.note else {}),
    }


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


def _time(switch: Manifest) -> str:
    """Return when a failover was made, in a form whose order is that of time."""
    return text(switch, "time")


def _move_key(entry: Manifest) -> tuple[ContainerKey, str]:
    """Return what tells a repetition from another failover: whose container, and where to."""
    return container_key(entry), text(entry, "newImage") or text(entry, "to")


def _identity(switch: Manifest) -> tuple[tuple[ContainerKey, str], str, str]:
    """Return what makes two switches one."""
    return _move_key(switch), _time(switch), text(switch, "note")


def _is_noted_anew(switch: Manifest, latest: Manifest) -> bool:
    """Tell whether `switch` has something to say that the latest one did not; an entry of `active` says nothing."""
    return "note" in switch and "newImage" in latest and text(latest, "note") != switch["note"]
