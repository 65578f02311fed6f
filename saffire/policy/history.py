"""
History: what was done to an object, kept in an annotation of that object.

The annotation is written by the very patch that does the work, so a crash or a second delivery finds either both or
neither. Its form is compact JSON, bounded and versioned::

    {"v":1,"failovers":[{"container":"web","from":"quay.io/a/web:1","to":"ghcr.io/a/web:1","at":"2026-11-23T02:00:00Z",
                         "source":"shop","proof":"unverified","reason":"ErrImagePull"}]}

That of a pod also names the workload (`of`), and whether its template was to be patched next (`template`), so that what
a killed process left undone or unrecorded can be told from the pod. That of a workload names the pull secret (`secret`)
that its template was given along with the image, if it was.

*Cooldown*: a reference that failed is not tried again for 30 s, doubling with each failure up to 10 min. *Reversion*:
somebody puts back what a failover replaced. A fail back is an entry too, by its reason: what it left had not failed.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Self

from saffire.kube.manifest import Manifest, annotation
from saffire.registry.reference import same_image

ANNOTATION = "saffire.fairwinds.com/history"
# The reason of a fail back, where a failover has that of the kubelet.
FAILED_BACK = "FailedBack"
_VERSION = 1
# The longest cooldown takes six failures of one reference, and a container that finds no rest has several.
_KEPT_PER_CONTAINER = 32
# A reference has a name of 255 characters, a tag of 128 and a digest of 135 at the most, and all else is shorter.
_LONGEST = 520
_KEPT = 160
# Times beyond would overflow when a zone or a cooldown is added to them.
_YEARS = range(1970, 9000)
_FIRST_COOLDOWN = timedelta(seconds=30)
_LONGEST_COOLDOWN = timedelta(minutes=10)
_MOST_DOUBLINGS = 10
_TEXTS = frozenset({"container", "from", "to", "source", "proof", "reason", "secret"})
_TARGET_FIELDS = {"api_version": "apiVersion", "kind": "kind", "name": "name", "uid": "uid"}
# What happened longer ago says nothing of today.
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadName:
    """An object, by what records call it."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """
    One failover of one container: `before` and `after` are references as written, `at` is UTC.

    `reason` is why the container waited, and `secret` the pull secret that a template was given for `after`. In a pod,
    `of` is the workload, and `template` tells that it is patched next.
    """

    container: str
    before: str
    after: str
    at: datetime
    source: str
    proof: str
    reason: str = ""
    of: WorkloadName | None = None
    template: bool = False
    secret: str = ""

    @property
    def is_fail_back(self) -> bool:
        """Whether Saffire brought the container back to its original."""
        return self.reason == FAILED_BACK


@dataclass(frozen=True, slots=True)
class History:
    """The failovers of one object, oldest first."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read the object's annotation; one that is not ours to read counts as none."""
        try:
            return cls(_read(annotation(manifest, ANNOTATION)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def extended(self, entries: Iterable[Entry]) -> Self:
        """Return the history with `entries` added, and the oldest of each container dropped."""
        kept: list[Entry] = []
        per_container: Counter[str] = Counter()
        for entry in reversed((*self.entries, *entries)):
            per_container[entry.container] += 1
            if per_container[entry.container] <= _KEPT_PER_CONTAINER:
                kept.append(entry)
        return type(self)(tuple(reversed(kept[:_KEPT])))

    def rendered(self) -> str:
        """Return the annotation's text."""
        failovers = [_item(entry) for entry in self.entries]
        return json.dumps({"v": _VERSION, "failovers": failovers}, separators=(",", ":"))

    def has_moved(self, container: str, image: str) -> bool:
        """Tell whether `container` was moved to `image`."""
        return any((entry.container, entry.after) == (container, image) for entry in self.entries)

    def moved_at(self, container: str, image: str) -> datetime | None:
        """Return when `container` was last moved to `image`; `None` if it never was."""
        return max((one.at for one in self.entries if (one.container, one.after) == (container, image)), default=None)

    def cooling_until(self, container: str, image: str) -> datetime | None:
        """Return until when `image` is not to be tried again in `container`; `None` if it never failed there."""
        failures = [
            entry.at
            for entry in self.entries
            if entry.container == container and same_image(entry.before, image) and not entry.is_fail_back
        ]
        if not failures:
            return None
        recent = sum(failures[-1] - failure <= _WINDOW for failure in failures)
        cooldown: timedelta = _FIRST_COOLDOWN * 2 ** min(recent - 1, _MOST_DOUBLINGS)
        return failures[-1] + min(cooldown, _LONGEST_COOLDOWN)

    def reversions(self, container: str, image: str, *, now: datetime) -> int:
        """
        Count how often within the last hour somebody put an image back that `container` had been moved away from.

        Each failover should be found where it left the container: by the next failover, or now, by `image`. Whoever
        prefers the alternative to a fail back fights nobody: that one is not made again.
        """
        recent = [entry for entry in self.entries if entry.container == container and now - entry.at <= _WINDOW]
        found = [*(entry.before for entry in recent[1:]), image][: len(recent)]
        return sum(
            not (entry.is_fail_back or same_image(start, entry.after))
            and any(same_image(start, past.before) for past in recent[: index + 1])
            for index, (entry, start) in enumerate(zip(recent, found, strict=True))
        )


def timestamp(moment: datetime) -> str:
    """Return `moment`, which is in UTC, in the RFC 3339 form that Kubernetes uses for `metav1.Time`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=64)
def _read(written: str) -> tuple[Entry, ...]:
    """Read the failovers of an annotation, which one decision asks for several times."""
    document = json.loads(written or "{}")
    return tuple(_entry(item) for item in document.get("failovers", ())[-_KEPT:])


def _item(entry: Entry) -> dict[str, Any]:
    """Return one failover as the annotation has it."""
    item: dict[str, Any] = {
        "container": entry.container,
        "from": entry.before,
        "to": entry.after,
        "at": timestamp(entry.at),
        "source": entry.source,
        "proof": entry.proof,
    }
    if entry.reason:
        item["reason"] = entry.reason
    if entry.of:
        of = entry.of
        item["of"] = {"apiVersion": of.api_version, "kind": of.kind, "name": of.name, "uid": of.uid}
    if entry.template:
        item["template"] = True
    if entry.secret:
        item["secret"] = entry.secret
    return item


def _target(item: Any) -> WorkloadName | None:
    """Read the workload that a pod's failover was of; `None` where it is not one that we could have written."""
    try:
        found = {name: str(item[key]) for name, key in _TARGET_FIELDS.items()} if item else {}
    except (TypeError, KeyError):
        return None
    return WorkloadName(**found) if found and all(len(value) <= _LONGEST for value in found.values()) else None


def _entry(item: dict[str, Any]) -> Entry:
    """Read one failover of the annotation; raise `ValueError` where it is not one that we could have written."""
    at = datetime.fromisoformat(item["at"])
    if at.tzinfo is None or at.year not in _YEARS:
        raise ValueError("at: not a time with its zone")
    if any(len(str(value)) > _LONGEST for key, value in item.items() if key in _TEXTS):
        raise ValueError("longer than anything that we write")
    return Entry(
        container=str(item["container"]),
        before=str(item["from"]),
        after=str(item["to"]),
        at=at.astimezone(UTC),
        source=str(item.get("source", "")),
        proof=str(item.get("proof", "")),
        reason=str(item.get("reason", "")),
        of=_target(item.get("of")),
        template=item.get("template") is True,
        secret=str(item.get("secret", "")),
    )
