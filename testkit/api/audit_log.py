"""The requests that one user sent to the API server, read from the API server's own audit log."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A request: verb, `resource[/subresource]`, the name in its URL, the status of the answer, and the API group."""

    verb: str
    resource: str
    name: str
    status: int
    group: str = ""


@dataclass(frozen=True, slots=True)
class AuditLog:
    """
    The requests of `user`.

    The API server writes an entry before its answer is complete, so a client that has the answer can read the entry.
    """

    path: Path
    user: str

    def mark(self) -> int:
        """Return the current end of the log."""
        return self.path.stat().st_size

    def entries(self, since: int = 0, namespace: str | None = None) -> list[dict[str, Any]]:
        """Return the entries after a mark, of one namespace or of all, in the order of the answers."""
        with self.path.open("rb") as log:
            log.seek(since)
            lines = log.read().split(b"\n")[:-1]
        parsed = [json.loads(line) for line in lines if self.user.encode() in line]
        return [
            entry
            for entry in parsed
            if entry["user"]["username"] == self.user
            and "objectRef" in entry  # a request for the list of kinds has none
            and namespace in {None, entry["objectRef"].get("namespace")}
        ]

    def calls(self, since: int = 0, namespace: str | None = None) -> list[Call]:
        """Return the entries as calls."""
        return [_call(entry) for entry in self.entries(since, namespace)]


def _call(entry: dict[str, Any]) -> Call:
    about = entry["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    # The URL of a create request has no name.
    return Call(
        entry["verb"], resource, about.get("name", ""), entry["responseStatus"]["code"], about.get("apiGroup", "")
    )
