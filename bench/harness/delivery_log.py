"""What is recorded during a storm: the Events that were delivered, and the workloads that were patched."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from bench.harness.env_simulated import answered_at, is_patched
from playground.cluster.api import Api, Manifest
from testkit.api.audit_log import AuditLog

FAILED = "Failed to pull"
_EVENTS = "/api/v1/events"


async def latest(api: Api) -> str:
    """Return the API server's current resource version."""
    version: str = (await api.get(_EVENTS, limit="1"))["metadata"]["resourceVersion"]
    return version


@dataclass(slots=True)
class DeliveryLog:
    """
    Records deliveries and patches from its creation on.

    Args:
        audit: the audit log of Saffire's requests.

    """

    audit: AuditLog
    delivered: list[float] = field(default_factory=list)
    """When the delivery of each Event ended, in seconds since the epoch."""
    refused: int = 0
    """How many Events were not answered with 200."""
    patched: dict[tuple[str, str], float] = field(default_factory=dict)
    """When each Deployment was patched first, by namespace and name."""
    repeated_patches: int = 0
    """How many patches followed the first patch of a Deployment."""
    failed: dict[str, float] = field(default_factory=dict)
    """When the first Event of a failed pull was delivered, by the uid of the pod."""
    mark: int = field(init=False)
    """Where the audit log ended when the recording began."""
    _read: int = field(init=False)

    def __post_init__(self) -> None:
        self.mark = self._read = self.audit.mark()

    def on_delivery(self, event: Manifest, status: int | None, _: int) -> None:
        """Record a delivery."""
        now = time.time()
        self.delivered.append(now)
        self.refused += status != 200  # noqa: PLR2004 -- HTTP status
        if str(event.get("message")).startswith(FAILED):
            self.failed.setdefault(event["involvedObject"]["uid"], now)

    def read_audit_log(self) -> None:
        """Read what was added to the audit log, and record the patches in it."""
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
            self.repeated_patches += key in self.patched
            self.patched.setdefault(key, answered_at(entry))
