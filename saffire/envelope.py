"""
CloudEvents as the event sources of Knative send them: binary mode, version 1.0, a body of JSON.

Nearly every request is one of these and is to be ignored, so that what reading them costs is most of what Saffire costs
in calm weather. The parser that knows all versions and modes takes ten times as long, and is left the rest.
"""

from collections.abc import Iterable
from typing import Any

import orjson

_JSON = b"application/json"
_VERSION = b"1.0"


def read_binary(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> tuple[str, Any] | None:
    """
    Return type and data of a CloudEvent in binary mode (CloudEvents 1.0, HTTP binding, 3.1); `None` for all else.

    Args:
        headers: with names in lower case, as ASGI has them.
        body: all of it.

    """
    given = dict(headers)
    if given.get(b"content-type") != _JSON or given.get(b"ce-specversion") != _VERSION:
        return None
    if b"ce-id" not in given or b"ce-source" not in given or b"ce-type" not in given:
        return None
    try:
        return given[b"ce-type"].decode(), orjson.loads(body)
    except ValueError:
        return None
