"""
The failovers in a source's status: the lists `status.switches` and `status.active`.

An entry of `switches`, here called a *switch*, is one failover or fail back; the list has the newest 50. An entry of
`active` is one container that runs on an alternative now. It names the original image, which the workload left, the
alternative, and since when the container is off its original. `policy.original_health` adds to the entries of `active`
whether the original is healthy.

`FailoverLog` adds failovers to both lists, but no failover that the status has already. If a registry goes down, it may
have to add a thousand at once. So it reads both lists once, and finds the entries of a container by a key.

If a list is full, the namespace with the most entries loses its oldest (`status_lists`).
"""

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from saffire.kube.manifest import Manifest, printable, text
from saffire.policy.history import Away, History, timestamp
from saffire.policy.original_health import is_unproven, without_proof
from saffire.policy.plan import Failover, Step
from saffire.record.events import FailoverRecord
from saffire.record.status_lists import (
    ContainerKey,
    bounded,
    container_key,
    index_to_lose,
    namespace_of,
    readable_entries,
    rival,
    status_of,
    target_of,
)
from saffire.registry.availability import Proof
from saffire.registry.reference import InvalidReference, Reference, same_image

# One entry


def _time(switch: Manifest) -> str:
    """Return the time of a switch as RFC 3339 text in UTC; the order of such texts is the order of the times."""
    return text(switch, "time")


def _move_key(entry: Manifest) -> tuple[ContainerKey, str]:
    """Return the container and the new image of an entry of `switches` or `active`; a repeated failover has both."""
    return container_key(entry), text(entry, "newImage") or text(entry, "to")


def _identity(switch: Manifest) -> tuple[tuple[ContainerKey, str], str, str]:
    """Return what two switches have in common if they are the same failover: container, new image, time and note."""
    return _move_key(switch), _time(switch), text(switch, "note")


def _has_new_note(switch: Manifest, latest: Manifest) -> bool:
    """
    Tell whether `switch` has a note that differs from the note of the container's latest switch.

    If `latest` is an entry of `active`, return false: such an entry has no note.
    """
    return "note" in switch and "newImage" in latest and text(latest, "note") != switch["note"]


# A switch names so many of the pods that were patched in place, those that were patched last.
_PODS = 16


def pods_of(switch: Manifest) -> tuple[str, ...]:
    """Return the names of the pods that a failover patched in place; `()` if it patched the template."""
    names = switch.get("pods")
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _switch(record: FailoverRecord) -> dict[str, Any]:
    """Return a recorded failover as an entry of `switches`."""
    failover = record.failover
    # If Saffire patched the template, spell images as the template does: a Knative Service has a tag where its pods
    # have a digest.
    before, after = failover.images(Step.TEMPLATE if Step.TEMPLATE in failover.steps else Step.PODS)
    return {
        "time": timestamp(record.at),
        "oldImage": before,
        "newImage": after,
        "target": target_of(failover.workload, failover.failure.container),
        "reason": failover.failure.reason,
        "proof": failover.proof,
        "observed": failover.observed,
        **({"pods": list(record.pods[-_PODS:])} if record.pods else {}),
        **({"note": printable(failover.note)} if failover.note else {}),
    }


def _container_of(failover: Failover) -> ContainerKey:
    return container_key({"target": target_of(failover.workload, failover.failure.container)})


# Containers that run on an alternative

# How many containers `active` lists.
_MAX_ACTIVE = 100


def active_entry(workload: Manifest, away: Away, proof: Proof) -> Manifest | None:
    """Return the entry of `active` for a container that is `away`; `None` if the texts of its history are no images."""
    before, container, after = away.first.before, away.latest.container, away.latest.after
    try:
        Reference.parse(before)
        Reference.parse(after)
    except InvalidReference:  # a user may write annotations
        return None
    return {
        "target": target_of(workload, container),
        "container": container,
        "from": before,
        "to": after,
        "since": timestamp(away.first.at),
        "proof": proof,
    }


class ActiveFailovers:
    """
    The entries of `active`, one for each container.

    If another writer left several entries for a container, the last of them counts.
    """

    def __init__(self, entries: Iterable[Manifest]) -> None:
        self._entries: dict[ContainerKey, Manifest] = {}
        for entry in entries:
            key = container_key(entry)
            self._entries.pop(key, None)
            self._entries[key] = entry

    @property
    def entries(self) -> list[Manifest]:
        """The entries of `active`, in the order in which Saffire moved their containers."""
        return list(self._entries.values())

    def of(self, container: ContainerKey) -> Manifest | None:
        """Return the entry of `active` for a container; `None` if the container runs on no alternative."""
        return self._entries.get(container)

    def add(self, switch: dict[str, Any]) -> None:
        """
        Add a failover to `active`. If its new image is the container's original, remove the container instead.

        A failover means that an image cannot be pulled. So every entry of that namespace loses the proof that its
        original is healthy. Saffire returns no container there until the container's original has been healthy for the
        whole of `spec.failBack.after` again.
        """
        key, namespace = container_key(switch), namespace_of(switch)
        before = self.remove(switch)
        for other, entry in self._entries.items():
            if not is_unproven(entry) and namespace_of(entry) == namespace:
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
        self._entries = _without_lost(self._entries)

    def add_late(self, switch: dict[str, Any]) -> None:
        """
        Add a failover of a container after a later failover of the same container was added.

        If the container's entry says that the container left the new image of `switch`, the old image of `switch` is
        the original.
        """
        entry = self._entries.get(container_key(switch))
        if entry and same_image(text(entry, "from"), switch["newImage"]):
            self._entries[container_key(switch)] = {**entry, "from": switch["oldImage"], "since": switch["time"]}

    def remove(self, switch: Manifest) -> Manifest:
        """Remove the entry of a container, for instance after a fail back; return the entry, `{}` if there was none."""
        return self._entries.pop(container_key(switch), {})

    def restore(self, entries: Iterable[Manifest]) -> bool:
        """
        Add entries of containers that have none, as long as the list has places; tell whether any was added.

        `entries` are of one namespace, in the order in which Saffire moved their containers. They count as older than
        those of the list.
        """
        missing = {container_key(entry): entry for entry in entries if self.of(container_key(entry)) is None}
        has_changed = False
        for key, entry in reversed(missing.items()):
            if rival(self.entries, _MAX_ACTIVE, namespace_of(entry)):
                break
            self._entries = _without_lost({key: entry, **self._entries})
            has_changed = True
        return has_changed


def _without_lost(entries: dict[ContainerKey, Manifest]) -> dict[ContainerKey, Manifest]:
    """Return the entries of `active` without those for which the list has no place; a key begins with the namespace."""
    return dict(bounded(entries.items(), _MAX_ACTIVE, lambda item: item[0][0]))


# Both lists

SWITCHES = 50
"""How many failovers `switches` lists."""
# If Saffire patches pods of a workload within this time, that is one failover. A later patch is about another outage.
_OUTAGE = timedelta(hours=1)


class FailoverLog:
    """The lists `switches` and `active` of one status, to which `add` adds failovers."""

    def __init__(self, status: Manifest) -> None:
        self._switches = in_order(status)
        self._by_container: defaultdict[ContainerKey, list[Manifest]] = defaultdict(list)
        for switch in self._switches:
            self._by_container[container_key(switch)].append(switch)
        self._active = ActiveFailovers(readable_entries(status, "active"))
        latest = status.get("lastFailoverTime")
        self._latest = latest if isinstance(latest, str) else ""
        self._has_moved = False
        self.has_changed = False
        """Whether `fields` differs from the status."""

    @property
    def fields(self) -> dict[str, Any]:
        """
        The fields of the status that record failovers, with all that were added.

        Only if `active` may have changed, `active` and `lastFailoverTime` are among them.
        """
        fields: dict[str, Any] = {"switches": list(self._switches)} if self._switches else {}
        if self._has_moved:
            fields["active"] = self._active.entries
        if self._has_moved and self._latest:
            fields["lastFailoverTime"] = self._latest
        return fields

    def add(self, record: FailoverRecord) -> bool:
        """
        Add a failover, unless the status has the failover already; tell whether the failover was added.

        If the status has it, and the failover patched further pods in place, add the names of these pods.
        """
        switch = _switch(record)
        of_container = self._by_container[container_key(switch)]
        if self._is_recorded(record, switch, of_container):
            self._update_pods(record, switch, of_container)
            return False
        self.has_changed = True
        if not switch["observed"]:
            self._move(record, switch, of_container)
        # If a failover is recorded late, it is inserted by its time, so that the oldest is lost. The audit takes a
        # failover for recorded that would be lost at once, so it reports none that was lost.
        insort(self._switches, switch, key=_time)
        insort(of_container, switch, key=_time)
        counts = Counter(map(namespace_of, self._switches))
        while len(self._switches) > SWITCHES:
            lost = self._switches.pop(index_to_lose(map(namespace_of, self._switches), counts))
            self._by_container[container_key(lost)].remove(lost)
            counts[namespace_of(lost)] -= 1
        return True

    def restore_active(self, entries: Iterable[Manifest], *, moved: Iterable[FailoverRecord]) -> None:
        """
        Add entries of `active` that the list has lost, or never had, as long as it has places.

        Args:
            entries: an entry for each container of one namespace that runs on an alternative.
            moved: the failovers that are added to the status together with these entries. They are newer, so the
                entries of their containers are ignored.

        """
        failovers = (record.failover for record in moved if not record.failover.observed)
        newer = {_container_of(failover) for failover in failovers}
        if self._active.restore(entry for entry in entries if container_key(entry) not in newer):
            self._has_moved = self.has_changed = True

    def _update_pods(self, record: FailoverRecord, switch: Manifest, of_container: list[Manifest]) -> None:
        """
        Bring the pods of the latest switch of a container up to date with a repeated failover.

        If that switch patched pods in place, add the pods of the repetition. If the repetition patched the template,
        remove the pods, and take over its note: only a switch without pods tells that the template was moved.
        """
        latest = of_container[-1] if of_container else {}
        before = pods_of(latest)
        names = list(dict.fromkeys((*before, *pods_of(switch))))[-_PODS:]
        has_template = Step.TEMPLATE in record.failover.steps
        if not before or _move_key(latest) != _move_key(switch) or (tuple(names) == before and not has_template):
            return
        self.has_changed = True
        if has_template:
            kept = {key: value for key, value in latest.items() if key not in {"pods", "note"}}
            of_container[-1] = kept | ({"note": switch["note"]} if "note" in switch else {})
        else:
            of_container[-1] = {**latest, "pods": names}
        self._switches[self._switches.index(latest)] = of_container[-1]

    def _move(self, record: FailoverRecord, switch: dict[str, Any], of_container: list[Manifest]) -> None:
        """Bring `active`, and the time of the latest failover, up to date with a failover that moved a container."""
        self._has_moved = True
        is_back = record.failover.is_back
        if not is_back:
            self._latest = max(self._latest, timestamp(record.at))
        # The container may have moved again since, if only the later failover could be recorded in time.
        if any(_time(other) > _time(switch) and not other.get("observed") for other in of_container):
            if not is_back:
                self._active.add_late(switch)
        elif is_back:
            self._active.remove(switch)
        else:
            self._active.add(switch)

    def _is_recorded(self, record: FailoverRecord, switch: Manifest, of_container: list[Manifest]) -> bool:
        """
        Tell whether the status has a failover already.

        Args:
            record: the failover.
            switch: the failover as an entry of `switches`.
            of_container: the entries of `switches` for the same container, oldest first.

        """
        failover = record.failover
        # In mode Observe, Saffire patches nothing, so it decides the same at every Event. If it observes more failovers
        # than the list has places for, the first of them are enough.
        if failover.observed:
            older = rival(self._switches, SWITCHES, namespace_of(switch))
            if older and _time(older) > timestamp(record.at - _OUTAGE):
                return True
            return any(_move_key(other) == _move_key(switch) for other in of_container if other.get("observed"))
        active = self._active.of(container_key(switch))
        moves = [*((active,) if active else ()), *(other for other in of_container if not other.get("observed"))]
        latest = moves[-1] if moves else None
        # Saffire may have written this failover, and lost the API server's answer to the write.
        if latest and _identity(latest) == _identity(switch):
            return True
        # If a user put the template back and Saffire moved it again, that is another failover. Otherwise all pods of a
        # workload are freed by the same failover, whether Saffire recorded it before it patched the template, after
        # that, or in an audit.
        moved_before = History.of(failover.workload).has_moved(failover.failure.container, switch["newImage"])
        if Step.TEMPLATE in failover.steps and (moved_before or failover.reversions):
            return False
        if any(_identity(other) == _identity(switch) for other in moves):
            return True
        if latest is None or _move_key(latest) != _move_key(switch):
            return False
        # If Saffire moved pods in place before, and moves the template now, it completes the same failover.
        completes = Step.TEMPLATE in failover.steps and bool(pods_of(latest))
        if _has_new_note(switch, latest) and not completes:
            return False
        # A pod that was moved in place, and is moved again, was made anew under its name.
        if any(set(record.pods) & set(pods_of(other)) for other in moves):
            return False
        return (_time(latest) or text(latest, "since")) >= timestamp(record.at - _OUTAGE)


# Reading a status


def switches_of(source: Manifest) -> list[Manifest]:
    """Return the entries of a source's `status.switches` that Saffire can read, oldest first."""
    return in_order(status_of(source))


def active_of(source: Manifest) -> list[Manifest]:
    """Return the entries of a source's `status.active` that Saffire can read."""
    return readable_entries(status_of(source), "active")


def in_order(status: Manifest) -> list[Manifest]:
    """
    Return the entries of `switches` in a status that Saffire can read, oldest first.

    Another writer may have left the entries in any order.
    """
    return sorted(readable_entries(status, "switches"), key=_time)
