"""
CloudEvents as the bytes that Knative's adapters send: a change of an object, or a ping.

Nothing here performs I/O. The names, spelling and order of the headers and the form of the body come from recorded
requests of a real ApiServerSource. The tests compare with these recordings byte by byte.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Manifest = Mapping[str, Any]
Change = Literal["add", "update", "delete"]
Mode = Literal["Resource", "Reference"]

_TYPES: dict[Mode, str] = {"Resource": "dev.knative.apiserver.resource", "Reference": "dev.knative.apiserver.ref"}

# What Go's encoding/json escapes in strings so that its output is safe inside HTML and JavaScript.
_GO_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Envelope:
    """
    The attributes of a CloudEvent, and where it is sent.

    Args:
        id: a new UUID for each CloudEvent; a retry keeps it.
        time: when the adapter created the CloudEvent, as `timestamp` writes it.
        source: the address of the API server; in a ping, the path of its PingSource.
        host: the host of the sink, as in the `Host` header.
        path: the path of the sink.
        namespace: the namespace of the ApiServerSource.
        mode: whether the body is the whole object, or only its name.

    """

    id: str
    time: str
    source: str
    host: str
    path: str = "/"
    namespace: str
    mode: Mode = "Resource"


def render(change: Change, manifest: Manifest, envelope: Envelope) -> bytes:
    """Return the HTTP request, head and body, for a change of an Event or of another object."""
    metadata = manifest["metadata"]
    namespace = metadata.get("namespace", "")  # cluster-scoped: none, so the subject has two slashes
    plural = f"{manifest['kind'].lower()}s"  # the adapter guesses too (meta.UnsafeGuessKindToResource)
    body = _body(manifest, envelope.mode)
    headers = {
        "Host": envelope.host,
        "User-Agent": "Go-http-client/1.1",
        "Content-Length": str(len(body)),
        "Ce-Apiversion": manifest["apiVersion"],
        "Ce-Id": envelope.id,
        "Ce-Kind": manifest["kind"],
        "Ce-Name": metadata["name"],
        "Ce-Namespace": namespace,
        "Ce-Source": envelope.source,
        "Ce-Specversion": "1.0",
        "Ce-Subject": f"/apis/{manifest['apiVersion']}/namespaces/{namespace}/{plural}/{metadata['name']}",
        "Ce-Time": envelope.time,
        "Ce-Type": f"{_TYPES[envelope.mode]}.{change}",
        "Content-Type": "application/json",
        "Kn-Namespace": envelope.namespace,
        "Accept-Encoding": "gzip",
    }
    return _request(envelope.path, headers, body)


def render_ping(envelope: Envelope, body: bytes = b"", content_type: str = "") -> bytes:
    """
    Return the HTTP request of a PingSource. Without `data`, it has neither a body nor a Content-Type.

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


def with_headers(request: bytes, **headers: str) -> bytes:
    r"""
    Return an HTTP request with more headers, which come first.

    >>> with_headers(b"POST / HTTP/1.1\r\nHost: saffire\r\n\r\n", Accept="text/plain")
    b'POST / HTTP/1.1\r\nAccept: text/plain\r\nHost: saffire\r\n\r\n'
    """
    line, end, rest = request.partition(b"\r\n")
    return end.join((line, *(f"{name}: {value}".encode() for name, value in headers.items()), rest))


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


def _body(manifest: Manifest, mode: Mode) -> bytes:
    if mode == "Resource":
        return _go_json(manifest, sort_keys=True)
    # An ObjectReference is a Go struct: its fields are written in the order of their declaration.
    reference = {"kind": manifest["kind"], **{key: manifest["metadata"][key] for key in ("namespace", "name")}}
    return _go_json({**reference, "apiVersion": manifest["apiVersion"]}, sort_keys=False)


def _go_json(value: Any, *, sort_keys: bool) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
    return text.translate(_GO_ESCAPES).encode()
