"""
CloudEvents as the bytes that Knative's adapters put on the wire: one change of an object, or one ping.

Nothing here performs I/O. Header names, their spelling and order, and the body's form are those of recorded requests
of the real ApiServerSource, and the tests compare with these recordings byte by byte.
"""

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

from playground.cluster.api import Manifest

Change = Literal["add", "update", "delete"]
Mode = Literal["Resource", "Reference"]

_TYPES: dict[Mode, str] = {"Resource": "dev.knative.apiserver.resource", "Reference": "dev.knative.apiserver.ref"}

# What Go's encoding/json escapes in strings so that its output is safe inside HTML and JavaScript.
_GO_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """
    What a delivery adds to what it carries.

    Args:
        id: a fresh UUID per Event sent; a retry keeps it.
        time: when the adapter decided to send, as `timestamp` writes it.
        source: address of the API server; of a ping, the path of its PingSource.
        host: the sink, as in the request's `Host` header.
        path: the sink's path.
        namespace: where the ApiServerSource lives.
        mode: what the body carries: the whole Event, or no more than its name.

    """

    id: str
    time: str
    source: str
    host: str
    path: str = "/"
    namespace: str
    mode: Mode = "Resource"


def render(change: Change, event: Manifest, envelope: Envelope) -> bytes:
    """Return the HTTP request, head and body, that tells of `change` to `event`, or to an object of another kind."""
    metadata = event["metadata"]
    namespace = metadata.get("namespace", "")  # an object of the whole cluster has none, and two slashes in its subject
    plural = f"{event['kind'].lower()}s"  # the adapter guesses it too (meta.UnsafeGuessKindToResource)
    body = _body(event, envelope.mode)
    headers = {
        "Host": envelope.host,
        "User-Agent": "Go-http-client/1.1",
        "Content-Length": str(len(body)),
        "Ce-Apiversion": event["apiVersion"],
        "Ce-Id": envelope.id,
        "Ce-Kind": event["kind"],
        "Ce-Name": metadata["name"],
        "Ce-Namespace": namespace,
        "Ce-Source": envelope.source,
        "Ce-Specversion": "1.0",
        "Ce-Subject": f"/apis/{event['apiVersion']}/namespaces/{namespace}/{plural}/{metadata['name']}",
        "Ce-Time": envelope.time,
        "Ce-Type": f"{_TYPES[envelope.mode]}.{change}",
        "Content-Type": "application/json",
        "Kn-Namespace": envelope.namespace,
        "Accept-Encoding": "gzip",
    }
    return _request(envelope.path, headers, body)


def render_ping(envelope: Envelope, body: bytes = b"", content_type: str = "") -> bytes:
    """
    Return the HTTP request of a PingSource; one without `data` sends neither a body nor its type.

    Facts from knative/eventing, pkg/adapter/mtping/runner.go (makeEvent) and pkg/adapter/v2/cloudevents.go.
    """
    headers = {
        "Host": envelope.host,
        "User-Agent": "Go-http-client/1.1",
        "Content-Length": str(len(body)),
        "Ce-Id": envelope.id,
        "Ce-Source": envelope.source,
        "Ce-Specversion": "1.0",
        "Ce-Time": envelope.time,
        "Ce-Type": "dev.knative.sources.ping",
        **({"Content-Type": content_type} if content_type else {}),
        "Kn-Namespace": envelope.namespace,
        "Accept-Encoding": "gzip",
    }
    return _request(envelope.path, headers, body)


def _request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def timestamp(nanoseconds: int) -> str:
    """
    Return nanoseconds since the epoch as Go's RFC3339Nano in UTC, which drops trailing zeros.

    >>> timestamp(1795361861778207820)
    '2026-11-22T15:37:41.77820782Z'
    >>> timestamp(1795361861000000000)
    '2026-11-22T15:37:41Z'
    """
    seconds, fraction = divmod(nanoseconds, 10**9)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def _body(event: Manifest, mode: Mode) -> bytes:
    if mode == "Resource":
        return _go_json(event, sort_keys=True)
    # An ObjectReference is a Go struct: its fields keep the order of their declaration.
    reference = {"kind": event["kind"], **{key: event["metadata"][key] for key in ("namespace", "name")}}
    return _go_json({**reference, "apiVersion": event["apiVersion"]}, sort_keys=False)


def _go_json(value: Any, *, sort_keys: bool) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    return text.translate(_GO_ESCAPES).encode()
