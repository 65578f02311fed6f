"""
How a kubelet's words about a pod become Event objects: counted, combined when too alike, and limited when too many.

Nothing here performs I/O. The rules are those of client-go's EventCorrelator, which every kubelet has.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from playground.cluster.api import Manifest

BURST = 25
REFILL = timedelta(seconds=300)
ALIKE = 10
ALIKE_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What the kubelet has to say about one container of a pod."""

    type: str
    reason: str
    message: str
    field_path: str


class Correlator:
    """
    Turns the notes about one pod into the Events to write.

    Args:
        node: the kubelet's node.

    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._seen: dict[Occurrence, Manifest] = {}
        self._alike: dict[tuple[str, str], tuple[set[str], datetime]] = {}
        self._tokens = float(BURST)
        self._refilled: datetime | None = None
        self._last_stamp = 0

    def record(self, pod: Manifest, note: Occurrence, now: datetime) -> Manifest | None:
        """Return the Event to write, to create if its count is 1 and else to update; None if the limit drops it."""
        key, message = self._combine(note, now)
        previous = self._seen.get(key)
        event = self._event(pod, note, message, now)
        if previous:
            event["metadata"]["name"] = previous["metadata"]["name"]
            event["firstTimestamp"] = previous["firstTimestamp"]
            event["count"] = previous["count"] + 1
        # Counted first and limited then: this is why the count of a real Event jumps.
        self._seen[key] = event
        return event if self._admit(now) else None

    def _combine(self, note: Occurrence, now: datetime) -> tuple[Occurrence, str]:
        """Return what to count `note` as, and its message: one Event stands for many that differ in little."""
        kind = (note.type, note.reason)
        messages, last = self._alike.get(kind, (set(), now))
        if now - last > ALIKE_WITHIN:
            messages = set()
        messages.add(note.message)
        self._alike[kind] = (messages, now)
        if len(messages) < ALIKE:
            return note, note.message
        messages.pop()
        return Occurrence(*kind, "", ""), f"(combined from similar events): {note.message}"

    def _admit(self, now: datetime) -> bool:
        refill = (now - (self._refilled or now)) / REFILL
        self._tokens = min(self._tokens + refill, BURST)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _event(self, pod: Manifest, note: Occurrence, message: str, now: datetime) -> Manifest:
        metadata = pod["metadata"]
        involved = {key: metadata[key] for key in ("name", "namespace", "resourceVersion", "uid")}
        if note.field_path:
            involved["fieldPath"] = note.field_path
        # Names carry nanoseconds, and two notes of one moment are two Events.
        self._last_stamp = max(int(now.timestamp() * 10**6) * 1000, self._last_stamp + 1)
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{self._last_stamp:x}", "namespace": metadata["namespace"]},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", **involved},
            "type": note.type,
            "reason": note.reason,
            "message": message,
            "count": 1,
            "firstTimestamp": rfc3339(now),
            "lastTimestamp": rfc3339(now),
            "eventTime": None,
            "source": {"component": "kubelet", "host": self._node},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
        }


def rfc3339(moment: datetime) -> str:
    """Return `moment`, which is in UTC, to the second, as Kubernetes writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
