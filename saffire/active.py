"""
Active: the list, in a source's status, of who runs on an alternative, and what each thing that happens makes of it.

It is kept by container: whose it is, where it came from, where it is and since when. What is known of its original is
added by `health`.
"""

from collections.abc import Sequence
from typing import Any

from saffire.health import unproven
from saffire.manifest import Manifest, text
from saffire.reference import same_image

_ACTIVE = 100


def whose(entry: Manifest) -> tuple[str, str]:
    """Return whose container an entry of `switches` or `active` is about."""
    return text(entry, "target", "uid"), text(entry, "target", "container")


def failed_over(active: Sequence[Manifest], switch: dict[str, Any]) -> list[Manifest]:
    """
    Return the list after a failover; whoever is back at the original leaves it.

    Something fails: nobody of that namespace returns until every original has been healthy for as long again.
    """
    key = whose(switch)
    before = next((entry for entry in active if whose(entry) == key), None)
    origin = text(before or {}, "from") or switch["oldImage"]
    where = text(switch, "target", "namespace")
    others = [
        unproven(entry) if text(entry, "target", "namespace") == where else entry
        for entry in active
        if whose(entry) != key
    ]
    if same_image(switch["newImage"], origin):
        return others
    entry = {
        "target": switch["target"],
        "container": switch["target"]["container"],
        "from": origin,
        "to": switch["newImage"],
        "since": text(before or {}, "since") or switch["time"],
        "proof": switch["proof"],
    }
    return [*others, entry][-_ACTIVE:]


def failed_back(active: Sequence[Manifest], switch: dict[str, Any], switches: Sequence[Manifest]) -> list[Manifest]:
    """Return the list without whoever is back; unless it has failed again since, and only that was told in time."""
    later = [other for other in switches if text(other, "time") > switch["time"] and not other.get("observed")]
    if any(whose(other) == whose(switch) for other in later):
        return list(active)
    return [entry for entry in active if whose(entry) != whose(switch)]
