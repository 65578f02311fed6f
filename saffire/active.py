"""
Active: the list, in a source's status, of who runs on an alternative, and what each thing that happens makes of it.

It is kept by container: whose it is, where it came from, where it is and since when. What is known of its original is
added by `health`.
"""

from collections.abc import Iterable
from typing import Any

from saffire.health import is_unproven, unproven
from saffire.manifest import Manifest, text
from saffire.reference import same_image

_ACTIVE = 100

Container = tuple[str, str]
"""The uid of a workload, or where another writer left none what it is called, and the name of one of its containers."""


def whose(entry: Manifest) -> Container:
    """Return whose container an entry of `switches` or `active` is about."""
    called = (("target", "type", "kind"), ("target", "namespace"), ("target", "name"))
    uid = text(entry, "target", "uid") or "/".join(text(entry, *path) for path in called)
    return uid, text(entry, "target", "container") or text(entry, "container")


class Active:
    """Who runs on an alternative: one entry of each container, the last where another writer left several."""

    def __init__(self, entries: Iterable[Manifest]) -> None:
        self._entries: dict[Container, Manifest] = {}
        for entry in entries:
            key = whose(entry)
            self._entries.pop(key, None)
            self._entries[key] = entry

    @property
    def entries(self) -> list[Manifest]:
        """The list, those who moved last at its end."""
        return list(self._entries.values())

    def of(self, container: Container) -> Manifest | None:
        """Return the entry of a container; `None` where it runs on no alternative."""
        return self._entries.get(container)

    def fail_over(self, switch: dict[str, Any]) -> None:
        """
        Take note of a failover; whoever is back at the original leaves the list.

        Something fails: nobody of that namespace returns until every original has been healthy for as long again.
        """
        key = whose(switch)
        before = self._entries.pop(key, {})
        where = text(switch, "target", "namespace")
        for other, entry in self._entries.items():
            if not is_unproven(entry) and text(entry, "target", "namespace") == where:
                self._entries[other] = unproven(entry)
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

    def had_failed_over(self, switch: dict[str, Any]) -> None:
        """Take note of a failover that is told late: whoever has moved on since came from there first."""
        entry = self._entries.get(whose(switch))
        if entry and same_image(text(entry, "from"), switch["newImage"]):
            self._entries[whose(switch)] = {**entry, "from": switch["oldImage"], "since": switch["time"]}

    def fail_back(self, switch: dict[str, Any]) -> None:
        """Take note that a container is back."""
        self._entries.pop(whose(switch), None)
