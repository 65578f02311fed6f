"""
The failovers in a source's status.

`switches` lists the newest 50 failovers. `active` lists the containers that run on an alternative now: which image they
had, which image they have, and since when. `policy.original_health` adds to these entries whether the original is
healthy.

`FailoverLog` adds failovers to both lists, but none that the status already has. A storm adds a thousand at once. So
both lists are read once, and the entries of a container are found by its key.
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

# One entry

ContainerKey = tuple[str, str]
"""The uid of a workload and the name of one of its containers. An entry without uid has kind, namespace and name."""


def container_key(entry: Manifest) -> ContainerKey:
    """Return the container that an entry of `switches` or `active` is about; another writer may have left no uid."""
    names = (("target", "type", "kind"), ("target", "namespace"), ("target", "name"))
    uid = text(entry, "target", "uid") or "/".join(text(entry, *path) for path in names)
    return uid, text(entry, "target", "container") or text(entry, "container")


def _time(switch: Manifest) -> str:
    """Return the time of a switch as RFC 3339 text in UTC; the order of such texts is that of their times."""
    return text(switch, "time")


def _move_key(entry: Manifest) -> tuple[ContainerKey, str]:
    """Return the container and the new image of an entry: a repetition of a failover has the same."""
    return container_key(entry), text(entry, "newImage") or text(entry, "to")


def _identity(switch: Manifest) -> tuple[tuple[ContainerKey, str], str, str]:
    """Return the parts of a switch that are the same if two switches are one."""
    return _move_key(switch), _time(switch), text(switch, "note")


def _has_new_note(switch: Manifest, latest: Manifest) -> bool:
    """Tell whether `switch` has a note that the latest switch has not; an entry of `active` has no note."""
    return "note" in switch and "newImage" in latest and text(latest, "note") != switch["note"]


def _switch(record: FailoverRecord) -> dict[str, Any]:
    """Return a failover as an entry of `switches`."""
    failover = record.failover
    # If the template was patched, spell images as it does: a Knative Service has a tag where its pods have a digest.
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
    """Return the `target` of a switch, in the shape of the Go project's schema."""
    workload = failover.workload
    group, _, version = text(workload, "apiVersion").rpartition("/")
    return {
        "name": name_of(workload),
        "namespace": text(workload, "metadata", "namespace"),
        "type": {"group": group, "version": version, "kind": text(workload, "kind")},
        "container": failover.failure.container,
        "uid": uid_of(workload),
    }


# Containers that run on an alternative

# The last so many containers that were moved are listed.
_MAX_ACTIVE = 100


class ActiveFailovers:
    """The entries of `active`, one a container; if another writer left several for a container, the last counts."""

    def __init__(self, entries: Iterable[Manifest]) -> None:
        self._entries: dict[ContainerKey, Manifest] = {}
        for entry in entries:
            key = container_key(entry)
            self._entries.pop(key, None)
            self._entries[key] = entry

    @property
    def entries(self) -> list[Manifest]:
        """The entries, in the order in which their containers were moved."""
        return list(self._entries.values())

    def of(self, container: ContainerKey) -> Manifest | None:
        """Return the entry of a container; `None` if it runs on no alternative."""
        return self._entries.get(container)

    def add(self, switch: dict[str, Any]) -> None:
        """
        Add a failover. If it leads back to the container's original, remove the container instead.

        A failover means that something fails. So every entry of that namespace loses its proof: no container returns
        until its original has been healthy for the whole of `spec.failBack.after` again.
        """
        key = container_key(switch)
        before = self._entries.pop(key, {})
        namespace = text(switch, "target", "namespace")
        for other, entry in self._entries.items():
            if not is_unproven(entry) and text(entry, "target", "namespace") == namespace:
                self._entries[other] = without_proof(entry)
        original = text(before, "from") or switch["oldImage"]
        if same_image(switch["newImage"], original):
            return
        self._entries[key] = {
            "target": switch["target"],
            "container": switch["target"]["container"],
            "from": original,
            "to": switch["newImage"],
            "since": text(before, "since") or switch["time"],
            "proof": switch["proof"],
        }
        while len(self._entries) > _MAX_ACTIVE:
            del self._entries[next(iter(self._entries))]

    def add_late(self, switch: dict[str, Any]) -> None:
        """Add a failover that is recorded after a later one: the container came from its image first."""
        entry = self._entries.get(container_key(switch))
        if entry and same_image(text(entry, "from"), switch["newImage"]):
            self._entries[container_key(switch)] = {**entry, "from": switch["oldImage"], "since": switch["time"]}

    def remove(self, switch: dict[str, Any]) -> None:
        """Remove a container that is back at its original."""
        self._entries.pop(container_key(switch), None)


# Both lists

SWITCHES = 50
"""How many failovers `switches` lists."""
# Patches of a workload's pods within this time are one failover; later it is another outage.
_OUTAGE = timedelta(hours=1)


class FailoverLog:
    """The failovers in one status, to which more are added."""

    def __init__(self, status: Manifest) -> None:
        self._switches = _in_order(status)
        self._by_container: defaultdict[ContainerKey, list[Manifest]] = defaultdict(list)
        for switch in self._switches:
            self._by_container[container_key(switch)].append(switch)
        self._active = ActiveFailovers(readable_entries(status, "active"))
        latest = status.get("lastFailoverTime")
        self._latest = latest if isinstance(latest, str) else ""
        self._has_moved = False

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the status with the failovers; those of `active` only if a container was moved."""
        fields: dict[str, Any] = {"switches": list(self._switches)}
        if self._has_moved:
            active = self._active.entries
            fields |= {"active": active, "activeCount": len(active)}
        if self._has_moved and self._latest:
            fields["lastFailoverTime"] = self._latest
        return fields

    def add(self, record: FailoverRecord) -> bool:
        """Add a failover, unless the status has it already; return whether it was added."""
        switch = _switch(record)
        of_container = self._by_container[container_key(switch)]
        if self._is_recorded(record, switch, of_container):
            return False
        if not switch["observed"]:
            self._move(record, switch, of_container)
        # A failover that is recorded late is inserted by its time. So the oldest is dropped. The audit takes failovers
        # that are older than the oldest switch as recorded, so it misses none.
        insort(self._switches, switch, key=_time)
        insort(of_container, switch, key=_time)
        while len(self._switches) > SWITCHES:
            self._by_container[container_key(self._switches.pop(0))].pop(0)
        return True

    def _move(self, record: FailoverRecord, switch: dict[str, Any], of_container: list[Manifest]) -> None:
        """Bring `active` up to date."""
        self._has_moved = True
        is_back = isinstance(record.failover, FailBack)
        if not is_back:
            self._latest = max(self._latest, timestamp(record.at))
        # The container may have moved again since, and only the later failover was recorded in time.
        if any(_time(other) > _time(switch) and not other.get("observed") for other in of_container):
            if not is_back:
                self._active.add_late(switch)
        elif is_back:
            self._active.remove(switch)
        else:
            self._active.add(switch)

    def _is_recorded(self, record: FailoverRecord, switch: Manifest, of_container: list[Manifest]) -> bool:
        """Tell whether the status already has `switch`; `of_container` are the switches of its container."""
        failover = record.failover
        # A source in mode Observe decides the same at every Event. If more failovers are observed than fit, the first
        # are enough.
        if failover.observed:
            if len(self._switches) >= SWITCHES and _time(self._switches[0]) > timestamp(record.at - _OUTAGE):
                return True
            return any(_move_key(other) == _move_key(switch) for other in of_container if other.get("observed"))
        active = self._active.of(container_key(switch))
        moves = [*((active,) if active else ()), *(other for other in of_container if not other.get("observed"))]
        latest = moves[-1] if moves else None
        # The status was written, and the answer to that was lost.
        if latest and _identity(latest) == _identity(switch):
            return True
        # If somebody put the template back and it was moved again, that is another failover. Otherwise all pods of a
        # workload are freed by the same failover, whether it was recorded before the template was patched, after that,
        # or by an audit.
        moved_before = History.of(failover.workload).has_moved(failover.failure.container, switch["newImage"])
        if Step.TEMPLATE in failover.steps and moved_before:
            return False
        if any(_identity(other) == _identity(switch) for other in moves):
            return True
        if latest is None or _move_key(latest) != _move_key(switch) or _has_new_note(switch, latest):
            return False
        return (_time(latest) or text(latest, "since")) >= timestamp(record.at - _OUTAGE)


# Reading a status


def switches_of(source: Manifest) -> list[Manifest]:
    """Return the readable entries of `switches` of a source, oldest first."""
    return _in_order(status_of(source))


def active_of(source: Manifest) -> list[Manifest]:
    """Return the readable entries of `active` of a source."""
    return readable_entries(status_of(source), "active")


def status_of(source: Manifest) -> Manifest:
    """Return the status of a source; `{}` if it has none, or if another writer left no mapping."""
    status = source.get("status")
    return status if isinstance(status, Mapping) else {}


def readable_entries(status: Manifest, field: str) -> list[Manifest]:
    """Return the entries of a list of the status that can be read; another writer may have left any shape."""
    readable = []
    for entry in list_entries(status, field):
        try:
            container_key(entry)
            for path in (("target", "namespace"), ("target", "type", "kind")):
                text(entry, *path)  # for its error
            for key in ("container", "newImage", "to", "from", "since", "time", "note"):
                text(entry, key)  # for its error
        except InvalidManifest:
            continue
        readable.append(entry)
    return readable


def list_entries(status: Manifest, field: str) -> list[Manifest]:
    """Return the mappings in a list of the status; an older schema may have let other values pass."""
    entries = status.get(field)
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _in_order(status: Manifest) -> list[Manifest]:
    """Return the readable switches of a status, oldest first; another writer may have left them in any order."""
    return sorted(readable_entries(status, "switches"), key=_time)
