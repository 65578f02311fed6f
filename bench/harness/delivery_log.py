"""What is heard of a storm while it is played: the Events that were delivered, and the workloads that were patched."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from bench.harness.env_simulated import answered_at, is_patched
from playground.api import Api, Manifest
from testkit.api.audit_log import AuditLog

FAILED = "Failed to pull"
_EVENTS = "/api/v1/events"


async def latest(api: Api) -> str:
    """Return the version of the API server's objects as of now."""
    version: str = (await api.get(_EVENTS, limit="1"))["metadata"]["resourceVersion"]
    return version


@dataclass(slots=True)
class DeliveryLog:
    """
    Listens from when it is made.

    Args:
        audit: what Saffire asks of the API server.

    """

    audit: AuditLog
    delivered: list[float] = field(default_factory=list)
    """When the delivery of each Event was over, in seconds since the epoch."""
    refused: int = 0
    """How many were not taken."""
    patched: dict[tuple[str, str], float] = field(default_factory=dict)
    """When each Deployment was patched, by namespace and name."""
    again: int = 0
    """How many patches there were beyond one for each."""
    failed: dict[str, float] = field(default_factory=dict)
    """When the first Event of a failed pull was delivered, by the uid of the pod."""
    mark: int = field(init=False)
    """Where the audit log ended when it began."""
    _read: int = field(init=False)

    def __post_init__(self) -> None:
        self.mark = self._read = self.audit.mark()

    def on_delivery(self, event: Manifest, status: int | None, _: int) -> None:
        """Take note of a delivery."""
        now = time.time()
        self.delivered.append(now)
        self.refused += status != 200  # noqa: PLR2004 -- HTTP's
        if str(event.get("message")).startswith(FAILED):
            self.failed.setdefault(event["involvedObject"]["uid"], now)

    def listen(self) -> None:
        """Read what is new in the audit log."""
        with self.audit.path.open("rb") as log:
            log.seek(self._read)
            new, _, _ = log.read().rpartition(b"\n")
        self._read += len(new) + 1 if new else 0
        for line in new.split(b"\n"):
            if b'"patch"' in line and b'"deployments"' in line and self.audit.user.encode() in line:
                self._take(json.loads(line))

    def _take(self, entry: dict[str, Any]) -> None:
        if entry["user"]["username"] == self.audit.user and is_patched(entry):
            about = entry["objectRef"]
            key = about["namespace"], about["name"]
            self.again += key in self.patched
            self.patched.setdefault(key, answered_at(entry))
