"""
Events that do not concern Saffire, as nearly all Events of a cluster do not.

They were recorded from a real cluster.
"""

import json
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from eventsource.cloudevent import Envelope, render, timestamp
from testkit import RECORDINGS

_RECORDED = RECORDINGS / "events-1.34.json"
_OURS = {"Failed", "BackOff"}


def requests(url: str) -> list[bytes]:
    """Return the requests by which an event source would deliver each of them to a function."""
    return [_request(url, event) for event in _recorded() if event["reason"] not in _OURS]


def failure(url: str) -> bytes:
    """Return the request for the Event of a failed pull, which does concern Saffire."""
    return next(_request(url, event) for event in _recorded() if "Failed to pull image" in event.get("message", ""))


def _recorded() -> list[Any]:
    events: list[Any] = json.loads(_RECORDED.read_text())["items"]
    return events


def _request(url: str, event: dict[str, Any]) -> bytes:
    return render("add", {"apiVersion": "v1", "kind": "Event", **event}, _envelope(urlsplit(url).netloc))


def _envelope(host: str) -> Envelope:
    now = timestamp(time.time_ns())
    return Envelope(id=str(uuid.uuid4()), time=now, source="https://10.96.0.1:443", host=host, namespace="saffire")
