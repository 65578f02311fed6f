"""
Which Event objects a kubelet writes about a pod: repeated ones are counted, similar ones combined, too many dropped.

Nothing here performs I/O. The rules are those of client-go's EventCorrelator, which every kubelet uses.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from playground.cluster.api import Manifest

BURST = 25
"""How many Events about a pod may be written at once."""

REFILL = timedelta(seconds=300)
"""After a burst, how long until another Event may be written."""

MAX_SIMILAR = 10
"""With how many different messages of one type and reason Events are combined."""

SIMILAR_WITHIN = timedelta(minutes=10)
"""After how long without such a message they are no longer combined."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened to a container of a pod, as the kubelet reports it."""

    type: str
    reason: str
    message: str
    field_path: str


class Correlator:
    """
    Turns the occurrences of one pod into the Events to write.

    Args:
        node: the name of the kubelet's node.

    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._events: dict[Occurrence, Manifest] = {}
        self._similar: dict[tuple[str, str], tuple[set[str], datetime]] = {}
        self._tokens = float(BURST)
        self._refilled: datetime | None = None
        self._last_stamp = 0

    def record(self, pod: Manifest, occurrence: Occurrence, now: datetime) -> Manifest | None:
        """Return the Event to create (count 1) or to update (a higher count); None if the limit drops it."""
        key, message = self._combine(occurrence, now)
        previous = self._events.get(key)
        event = self._event(pod, occurrence, message, now)
        if previous:
            event["metadata"]["name"] = previous["metadata"]["name"]
            event["firstTimestamp"] = previous["firstTimestamp"]
            event["count"] = previous["count"] + 1
        # The limit applies after the count. For this reason, the count of a real Event jumps.
        self._events[key] = event
        return event if self._admit(now) else None

    def _combine(self, occurrence: Occurrence, now: datetime) -> tuple[Occurrence, str]:
        """Return what to count the occurrence as, and the message: one Event stands for many similar messages."""
        kind = (occurrence.type, occurrence.reason)
        messages, last = self._similar.get(kind, (set(), now))
        if now - last > SIMILAR_WITHIN:
            messages = set()
        messages.add(occurrence.message)
        self._similar[kind] = (messages, now)
        if len(messages) < MAX_SIMILAR:
            return occurrence, occurrence.message
        messages.pop()
        return Occurrence(*kind, "", ""), f"(combined from similar events): {occurrence.message}"

    def _admit(self, now: datetime) -> bool:
        refill = (now - (self._refilled or now)) / REFILL
        self._tokens = min(self._tokens + refill, BURST)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _event(self, pod: Manifest, occurrence: Occurrence, message: str, now: datetime) -> Manifest:
        metadata = pod["metadata"]
        involved = {key: metadata[key] for key in ("name", "namespace", "resourceVersion", "uid")}
        if occurrence.field_path:
            involved["fieldPath"] = occurrence.field_path
        # Names end in nanoseconds, which differ even for two occurrences at the same time.
        self._last_stamp = max(int(now.timestamp() * 10**6) * 1000, self._last_stamp + 1)
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{self._last_stamp:x}", "namespace": metadata["namespace"]},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", **involved},
            "type": occurrence.type,
            "reason": occurrence.reason,
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
    """Return `moment`, which is in UTC, as Kubernetes writes times: to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
