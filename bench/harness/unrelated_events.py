"""Events that are none of Saffire's business, which nearly all are: those that a real cluster was recorded with."""

import json
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from playground.cloudevent import Envelope, render, timestamp
from testkit import RECORDINGS

_RECORDED = RECORDINGS / "events-1.34.json"
_OURS = {"Failed", "BackOff"}


def requests(url: str) -> list[bytes]:
    """Return what an event source would send to a function for each of them."""
    return [_request(url, event) for event in _recorded() if event["reason"] not in _OURS]


def failure(url: str) -> bytes:
    """Return what it would send for a pull that has failed, which is Saffire's business."""
    return next(_request(url, event) for event in _recorded() if "Failed to pull image" in event.get("message", ""))


def _recorded() -> list[Any]:
    events: list[Any] = json.loads(_RECORDED.read_text())["items"]
    return events


def _request(url: str, event: dict[str, Any]) -> bytes:
    return render("add", {"apiVersion": "v1", "kind": "Event", **event}, _envelope(urlsplit(url).netloc))


def _envelope(host: str) -> Envelope:
    now = timestamp(time.time_ns())
    return Envelope(id=str(uuid.uuid4()), time=now, source="https://10.96.0.1:443", host=host, namespace="saffire")
