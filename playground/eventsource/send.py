"""
Posts an Event to Saffire as Knative's ApiServerSource would, and returns the answer as text.

That source accepts no text, and ignores the answer but for its status.
"""

import http.client
import json
import socket
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from eventsource.cloudevent import Envelope, render, timestamp, with_headers
from playground import ROOT

EXAMPLE = ROOT / "examples" / "event.json"

TIMEOUT_SECONDS = 60
"""How long an answer may take: as long as Knative allows."""


class SendError(Exception):
    """The Event cannot be posted; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of Saffire."""

    status: int
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the ApiServerSource would count the Event as delivered."""
        return self.status < HTTPStatus.MULTIPLE_CHOICES


def send(file: Path, url: str) -> Answer:
    """Post the Event in `file`, which is JSON, to `url`."""
    parts = urlsplit(url)
    try:
        event = render("add", json.loads(file.read_text()), _envelope(parts.netloc, parts.path or "/"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SendError(f"{file} holds no Event as JSON: {error!r}") from error
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), TIMEOUT_SECONDS) as connection:
            connection.sendall(with_headers(event, Accept="text/plain"))
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise SendError(f"{url} gives no answer: {error}. Does `make run` run in another terminal?") from error


def _envelope(host: str, path: str) -> Envelope:
    return Envelope(
        id=str(uuid.uuid4()),
        time=timestamp(time.time_ns()),
        source="https://10.96.0.1:443",
        host=host,
        path=path,
        namespace="saffire",
    )
