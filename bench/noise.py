"""Events that are none of Saffire's business, which nearly all are: those that a real cluster was recorded with."""

import json
import time
import uuid
from urllib.parse import urlsplit

from bench import ROOT
from playground.cloudevent import Envelope, render, timestamp

_RECORDED = ROOT / "tests" / "recordings" / "events-1.34.json"
_OURS = {"Failed", "BackOff"}


def requests(url: str) -> list[bytes]:
    """Return what an event source would send to a function for each of them."""
    host = urlsplit(url).netloc
    found = [event for event in json.loads(_RECORDED.read_text())["items"] if event["reason"] not in _OURS]
    return [render("add", {"apiVersion": "v1", "kind": "Event", **event}, _envelope(host)) for event in found]


def _envelope(host: str) -> Envelope:
    now = timestamp(time.time_ns())
    return Envelope(id=str(uuid.uuid4()), time=now, source="https://10.96.0.1:443", host=host, namespace="saffire")
