"""
History: the failovers of an object, in an annotation of that object.

The patch that moves an image of a pod or a workload also writes the annotation. So the object always has both the new
image and the history's entry, or neither, even if Saffire crashes or gets an Event twice. The annotation is compact
JSON. It has a version, and its length has a limit::

    {"v":1,"failovers":[{"container":"web","from":"quay.io/a/web:1","to":"ghcr.io/a/web:1","at":"2026-11-23T02:00:00Z",
                         "source":"shop","proof":"unverified","reason":"ErrImagePull","fault":"outage"}]}

An entry in a pod's history also names the pod's workload (`of`), and says whether Saffire patches the workload's
template next (`template`). If Saffire is killed between these two patches, or before it records the failover in the
source's status, a later audit sees that in the pod. An entry in a workload's history names the pull secret (`secret`)
that the patch added to the template, if it added one. `fault` is what was proven of the fault (`reach.Fault`): if a
pod cannot pull its new image either, that tells whether its node is to blame.

*Cooldown*: after an image failed in a container, Saffire does not try that image there again for 30 s. Each further
failure doubles this time, up to 10 min. *Reversion*: a user or a controller puts back the image that a failover
replaced. A *fail back* to the original is an entry too, with the reason `FailedBack`. It starts no cooldown, since the
image that it replaced had not failed.

An annotation can be lost: `kubectl rollout undo` and `kubectl replace` write the annotations anew, and an operator may
delete a pod and make it again. So the status of a source has the newest failovers too (`RecordedMoves`). If the history
of an object lacks a failover that the status has, and the object has its old image, somebody undid that failover
together with the annotation.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any, Self

from saffire.kube.manifest import Manifest, annotation, name_of, text, uid_of
from saffire.kube.workload import OwnerReference
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
_TEXTS = frozenset({"container", "from", "to", "source", "proof", "reason", "secret", "fault"})
_WORKLOAD_FIELDS = {"api_version": "apiVersion", "kind": "kind", "name": "name", "uid": "uid"}
WINDOW = timedelta(hours=1)
"""
For reversions, and for the fault of a node, an entry that is older than this does not count. For a cooldown, a failure
does not count if it came that much earlier than the last failure.
"""
MOST_REVERSIONS = 2
"""So many reversions of a container within an hour end the fight."""
_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """
    One failover, or fail back, of one container: an entry of an object's history.

    `before` and `after` are the old and the new image, as the object has them. `at` is the time of the patch, in UTC.
    `source` is the name of the source. `proof` is what was known of the new image. `reason` is that of the pull
    failure. `fault` is the `reach.Fault` that was proven then; `""` for a fail back, or if an older Saffire wrote the
    entry. `secret` is the pull secret that the patch added to the workload's template, so that its pods can pull the
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
    workload: OwnerReference | None = None
    template_next: bool = False
    secret: str = ""
    fault: str = ""

    @property
    def is_fail_back(self) -> bool:
        """Whether the entry is a fail back: the container returned to its original image."""
        return self.reason == FAILED_BACK

    def is_ahead(self, now: datetime) -> bool:
        """
        Tell whether the time of the entry is further in the future than clocks differ, which is less than 5 min.

        Then a user made up the entry.
        """
        return self.at - now > _AHEAD


@dataclass(frozen=True, kw_only=True, slots=True)
class Away:
    """The failover by which a container left its original, and the latest of its failovers since."""

    first: Entry
    latest: Entry


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

    def until(self, now: datetime) -> Self:
        """Return the history without the entries that a user made up with a time in the future."""
        return type(self)(tuple(entry for entry in self.entries if not entry.is_ahead(now)))

    def with_lost(self, recorded: Iterable[Entry]) -> Self:
        """
        Return the history together with the failovers of a status that it lacks, in the order of their times.

        A status has one time, in whole seconds, for all patches of a failover. A further pod, or the template, may have
        been patched later. So an entry of the history is the same failover if it has the same container and new image,
        and is not older. One entry stands for one failover only.
        """
        unmatched, lost = list(self.entries), []
        moves = {(entry.container, entry.after, entry.at.replace(microsecond=0)): entry for entry in recorded}
        for move in sorted(moves, key=itemgetter(2), reverse=True):
            same = [entry for entry in unmatched if (entry.container, entry.after) == move[:2] and entry.at >= move[2]]
            if same:
                unmatched.remove(same[0])
            else:
                lost.append(moves[move])
        return type(self)(tuple(sorted((*self.entries, *lost), key=lambda entry: entry.at)))

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

    def within(self, size: int) -> Self:
        """Return the newest entries of the history whose text has at most `size` characters; there may be none."""
        entries = self.entries
        while entries and len(type(self)(entries).rendered()) > size:
            entries = entries[1:]
        return type(self)(entries)

    def rendered(self) -> str:
        """Return the history as the text of the annotation."""
        failovers = [_item(entry) for entry in self.entries]
        return json.dumps({"v": _VERSION, "failovers": failovers}, separators=(",", ":"))

    def has_moved(self, container: str, image: str) -> bool:
        """Tell whether Saffire ever moved the container to this image, by the entries that are left."""
        return any((entry.container, entry.after) == (container, image) for entry in self.entries)

    def away(self, container: str, source: str) -> Away | None:
        """Return how a source moved a container away from its original; `None` if the container came back since."""
        away: Away | None = None
        for entry in self.entries:
            if (entry.container, entry.source) != (container, source):
                continue
            # If the old image is another than Saffire wrote last, a user gave the container that image.
            goes_on = away is not None and same_image(away.latest.after, entry.before)
            first = away.first if away and goes_on else entry
            is_back = entry.is_fail_back or same_image(entry.after, first.before)
            away = None if is_back else Away(first=first, latest=entry)
        return away

    def cooling_until(self, container: str, image: str) -> datetime | None:
        """Return when the cooldown of an image in a container ends, in UTC; `None` if the image never failed there."""
        failures = [
            entry.at
            for entry in self.entries
            if entry.container == container and same_image(entry.before, image) and not entry.is_fail_back
        ]
        if not failures:
            return None
        recent = sum(failures[-1] - failure <= WINDOW for failure in failures)
        cooldown: timedelta = _FIRST_COOLDOWN * 2 ** min(recent - 1, _MOST_DOUBLINGS)
        return failures[-1] + min(cooldown, _LONGEST_COOLDOWN)

    def reversions(self, container: str, image: str, *, now: datetime) -> tuple[Entry, ...]:
        """
        Return the failovers of the last hour that a user or a controller undid by putting back `image`, oldest first.

        `image` is the image that `container` has now. If only Saffire changes the container, each entry's old image is
        the new image of the entry before, and `image` is the new image of the last entry. If a user undoes a fail back,
        that is no reversion: Saffire does not repeat the fail back.
        """
        recent = [
            entry for entry in self.until(now).entries if entry.container == container and now - entry.at <= WINDOW
        ]
        images_after = [*(entry.before for entry in recent[1:]), image][: len(recent)]
        return tuple(
            entry
            for index, (entry, image_after) in enumerate(zip(recent, images_after, strict=True))
            if not (entry.is_fail_back or same_image(image_after, entry.after))
            and same_image(image_after, image)
            and any(same_image(image, past.before) for past in recent[: index + 1])
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedMove:
    """
    A failover or fail back that the status of a source has.

    `entry` is the failover. `uid` and `kind` are those of the workload that the status names. `namespace` is the
    workload's. `pods` are the names of pods that were patched in place; empty if the template was patched. If
    `was_undone`, an earlier decision found that somebody undid the failover together with the annotation.
    """

    entry: Entry
    uid: str
    kind: str
    namespace: str
    pods: tuple[str, ...] = ()
    was_undone: bool = False


WorkloadKey = tuple[str, str]
"""
The namespace and the uid of a workload in the status of a source.

The uid alone is not enough: it may come from the annotation of a pod, which users of another namespace write.
"""


def _key_of(workload: Manifest) -> WorkloadKey:
    return text(workload, "metadata", "namespace"), uid_of(workload)


class RecordedMoves:
    """
    The failovers and fail backs that the status of sources has, for the objects that may have lost their history.

    Args:
        moves: the failovers and fail backs.
        opted_out: a workload that has opted out, or had opted out until its annotations were lost, and how one of its
            containers came to its alternative before.

    """

    def __init__(self, moves: Iterable[RecordedMove] = (), opted_out: Iterable[tuple[WorkloadKey, Entry]] = ()) -> None:
        self._of_template: defaultdict[WorkloadKey, list[Entry]] = defaultdict(list)
        self._of_pod: defaultdict[tuple[str, str], list[RecordedMove]] = defaultdict(list)
        self._undone: defaultdict[WorkloadKey, list[RecordedMove]] = defaultdict(list)
        self._opted_out = tuple(opted_out)
        for move in moves:
            if not move.pods:
                self._of_template[move.namespace, move.uid].append(move.entry)
            for name in move.pods:
                self._of_pod[move.namespace, name].append(move)
            if move.was_undone:
                self._undone[move.namespace, move.uid].append(move)

    def of_template(self, workload: Manifest) -> tuple[Entry, ...]:
        """Return the moves of a workload's template."""
        return tuple(self._of_template.get(_key_of(workload), ()))

    def named_like(self, pod: Manifest) -> tuple[RecordedMove, ...]:
        """Return the moves in place of this pod, and of earlier pods of its name."""
        return tuple(self._of_pod.get((text(pod, "metadata", "namespace"), name_of(pod)), ()))

    def of_pod(self, pod: Manifest, workload: Manifest) -> tuple[Entry, ...]:
        """
        Return the moves in place of a pod of `workload`, and of earlier pods of its name.

        If the status names the pod itself as the workload, since its owner could not be read, the name alone counts: a
        pod that is made again has another uid.
        """
        return tuple(move.entry for move in self.named_like(pod) if move.kind == "Pod" or move.uid == uid_of(workload))

    def undone_in_pods(self, workload: Manifest, container: str, image: str, *, now: datetime) -> dict[str, int]:
        """
        Return how many moves in place of a container were undone in the last hour, by the names of the pods.

        `image` is the image that came back each time. Only what an earlier decision found counts.
        """
        return Counter(
            name
            for move in self._undone.get(_key_of(workload), ())
            for name in move.pods
            if move.entry.container == container
            and same_image(move.entry.before, image)
            and timedelta() <= now - move.entry.at <= WINDOW
        )

    def before_opt_out(self, workload: Manifest, container: str) -> tuple[Entry, ...]:
        """Return how a container came to its alternative before its workload opted out, by the status alone."""
        key = _key_of(workload)
        return tuple(entry for of, entry in self._opted_out if (of, entry.container) == (key, container))


NOTHING_RECORDED = RecordedMoves()
"""What is known without the status of a source."""


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
    if entry.fault:
        item["fault"] = entry.fault
    return item


def _workload(item: Any) -> OwnerReference | None:
    """Read `of`, the workload in an entry of a pod's history; `None` if Saffire could not have written it."""
    try:
        fields = {name: str(item[key]) for name, key in _WORKLOAD_FIELDS.items()} if item else {}
    except (TypeError, KeyError):
        return None
    return OwnerReference(**fields) if fields and all(len(value) <= _LONGEST for value in fields.values()) else None


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
        fault=str(item.get("fault", "")),
    )
