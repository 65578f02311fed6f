"""
History: the failovers of an object, in an annotation of that object.

The patch that moves an image of a pod or a workload also writes the annotation. So the object always has both the new
image and the history's entry, or neither, even if Saffire crashes or gets an Event twice. The annotation is compact
JSON. It has a version, and its length has a limit::

    {"v":1,"failovers":[{"container":"web","from":"quay.io/a/web:1","to":"ghcr.io/a/web:1","at":"2026-11-23T02:00:00Z",
                         "source":"shop","proof":"unverified","reason":"ErrImagePull"}]}

An entry in a pod's history also names the pod's workload (`of`), and says whether Saffire patches the workload's
template next (`template`). If Saffire is killed between these two patches, or before it records the failover in the
source's status, a later audit sees that in the pod. An entry in a workload's history names the pull secret (`secret`)
that the patch added to the template, if it added one.

*Cooldown*: after an image failed in a container, Saffire does not try that image there again for 30 s. Each further
failure doubles this time, up to 10 min. *Reversion*: a user or a controller puts back the image that a failover
replaced. A *fail back* to the original is an entry too, with the reason `FailedBack`. It starts no cooldown, since the
image that it replaced had not failed.
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
# The `reason` in the entry of a fail back. In the entry of a failover it is the reason of the pull failure.
FAILED_BACK = "FailedBack"
_VERSION = 1
# The longest cooldown takes six failures of one image, and a container may fail with several images.
_KEPT_PER_CONTAINER = 32
# The most characters of a text in an entry: an image reference has at most 255 of name, 128 of tag and 135 of digest,
# and every other text is shorter.
_LONGEST = 520
_KEPT = 160
# A time outside these years could overflow when Saffire adds a time zone or a cooldown to it.
_YEARS = range(1970, 9000)
_FIRST_COOLDOWN = timedelta(seconds=30)
_LONGEST_COOLDOWN = timedelta(minutes=10)
_MOST_DOUBLINGS = 10
_TEXTS = frozenset({"container", "from", "to", "source", "proof", "reason", "secret"})
_WORKLOAD_FIELDS = {"api_version": "apiVersion", "kind": "kind", "name": "name", "uid": "uid"}
# For reversions, an entry that is older than this does not count. For a cooldown, a failure does not count if it came
# that much earlier than the last failure.
_WINDOW = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadName:
    """The name and the uid of a pod's workload, in an entry of the pod's history."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """
    One failover, or fail back, of one container: an entry of an object's history.

    `before` and `after` are the old and the new image, as the object has them. `at` is the time of the patch, in UTC.
    `source` is the name of the source. `proof` is what was known of the new image. `reason` is that of the pull
    failure. `secret` is the pull secret that the patch added to the workload's template, so that its pods can pull the
    new image; `""` if it added none. In a pod's history, `workload` is the pod's workload, and `template_next` says
    that Saffire patches the workload's template next.
    """

    container: str
    before: str
    after: str
    at: datetime
    source: str
    proof: str
    reason: str = ""
    workload: WorkloadName | None = None
    template_next: bool = False
    secret: str = ""

    @property
    def is_fail_back(self) -> bool:
        """Whether the entry is a fail back: the container returned to its original image."""
        return self.reason == FAILED_BACK


@dataclass(frozen=True, slots=True)
class History:
    """The failovers and fail backs of one object, oldest first."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read the history of an object; it is empty if Saffire could not have written the annotation."""
        try:
            return cls(_read(annotation(manifest, ANNOTATION)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def extended(self, entries: Iterable[Entry]) -> Self:
        """
        Return the history with `entries` added at the end.

        Only the newest 32 entries of each container stay, and of these only the newest 160.
        """
        kept: list[Entry] = []
        per_container: Counter[str] = Counter()
        for entry in reversed((*self.entries, *entries)):
            per_container[entry.container] += 1
            if per_container[entry.container] <= _KEPT_PER_CONTAINER:
                kept.append(entry)
        return type(self)(tuple(reversed(kept[:_KEPT])))

    def rendered(self) -> str:
        """Return the history as the text of the annotation."""
        failovers = [_item(entry) for entry in self.entries]
        return json.dumps({"v": _VERSION, "failovers": failovers}, separators=(",", ":"))

    def has_moved(self, container: str, image: str) -> bool:
        """Tell whether Saffire ever moved the container to this image, by the entries that are left."""
        return any((entry.container, entry.after) == (container, image) for entry in self.entries)

    def moved_at(self, container: str, image: str) -> datetime | None:
        """Return when Saffire last moved the container to this image, in UTC; `None` if it never did."""
        return max(
            (entry.at for entry in self.entries if (entry.container, entry.after) == (container, image)), default=None
        )

    def cooling_until(self, container: str, image: str) -> datetime | None:
        """Return when the cooldown of an image in a container ends, in UTC; `None` if the image never failed there."""
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
        Count the reversions of the last hour: a user or a controller put back an image that a failover had replaced.

        `image` is the image that `container` has now. If only Saffire changes the container, each entry's old image is
        the new image of the entry before, and `image` is the new image of the last entry. If a user undoes a fail back,
        that is no reversion: Saffire does not repeat the fail back.
        """
        recent = [entry for entry in self.entries if entry.container == container and now - entry.at <= _WINDOW]
        images_after = [*(entry.before for entry in recent[1:]), image][: len(recent)]
        return sum(
            not (entry.is_fail_back or same_image(image_after, entry.after))
            and any(same_image(image_after, past.before) for past in recent[: index + 1])
            for index, (entry, image_after) in enumerate(zip(recent, images_after, strict=True))
        )


def timestamp(moment: datetime) -> str:
    """Return `moment`, which is in UTC, in the RFC 3339 form that Kubernetes uses for `metav1.Time`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=64)
def _read(value: str) -> tuple[Entry, ...]:
    """Read the entries in the text of an annotation; they are cached, since one decision reads them several times."""
    document = json.loads(value or "{}")
    return tuple(_entry(item) for item in document.get("failovers", ())[-_KEPT:])


def _item(entry: Entry) -> dict[str, Any]:
    """Return an entry of the history in the JSON form of the annotation."""
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
    if entry.workload:
        item["of"] = {key: getattr(entry.workload, name) for name, key in _WORKLOAD_FIELDS.items()}
    if entry.template_next:
        item["template"] = True
    if entry.secret:
        item["secret"] = entry.secret
    return item


def _workload(item: Any) -> WorkloadName | None:
    """Read `of`, the workload in an entry of a pod's history; `None` if Saffire could not have written it."""
    try:
        fields = {name: str(item[key]) for name, key in _WORKLOAD_FIELDS.items()} if item else {}
    except (TypeError, KeyError):
        return None
    return WorkloadName(**fields) if fields and all(len(value) <= _LONGEST for value in fields.values()) else None


def _entry(item: dict[str, Any]) -> Entry:
    """Read an entry of the history from its JSON form; raise `ValueError` if Saffire could not have written it."""
    at = datetime.fromisoformat(item["at"])
    if at.tzinfo is None or at.year not in _YEARS:
        raise ValueError("at: not a time with a zone")
    if any(len(str(value)) > _LONGEST for key, value in item.items() if key in _TEXTS):
        raise ValueError("a text is longer than any that Saffire writes")
    return Entry(
        container=str(item["container"]),
        before=str(item["from"]),
        after=str(item["to"]),
        at=at.astimezone(UTC),
        source=str(item.get("source", "")),
        proof=str(item.get("proof", "")),
        reason=str(item.get("reason", "")),
        workload=_workload(item.get("of")),
        template_next=item.get("template") is True,
        secret=str(item.get("secret", "")),
    )
