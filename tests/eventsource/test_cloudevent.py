"""The requests of the event sources, compared with recordings of Knative's adapter."""

import json

import pytest

from eventsource.cloudevent import Change, Envelope, Mode, render, render_ping, timestamp
from testkit import RECORDINGS

CHANGES: tuple[Change, ...] = ("add", "update", "delete")


def recorded_requests(mode: Mode) -> list[bytes]:
    """Return the requests that the real adapter sent for one Event added, updated and deleted."""
    return (RECORDINGS / f"apiserversource-{mode.lower()}.bin").read_bytes().rstrip(b"\n").split(b"\n=====\n")


def recorded_envelope(request: bytes, mode: Mode) -> Envelope:
    """Return what `request` says besides the Event and its change."""
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in lines)
    return Envelope(
        id=headers["Ce-Id"],
        time=headers["Ce-Time"],
        source=headers["Ce-Source"],
        host=headers["Host"],
        namespace=headers["Kn-Namespace"],
        mode=mode,
    )


@pytest.mark.parametrize("number", range(3), ids=CHANGES)
@pytest.mark.parametrize("mode", ["Resource", "Reference"])
def test_a_request_equals_the_recorded_request(mode: Mode, number: int) -> None:
    """For each change in each mode, the request equals that of the real adapter, byte by byte."""
    recorded = recorded_requests(mode)[number]
    event = json.loads(recorded_requests("Resource")[number].partition(b"\r\n\r\n")[2])
    assert recorded == render(CHANGES[number], event, recorded_envelope(recorded, mode))


def test_another_kind_has_another_subject() -> None:
    """The adapter writes the plural of the kind's name, in lower case."""
    recorded = recorded_requests("Resource")[0]
    source = {"kind": "AlternateImageSource", "apiVersion": "saffire.fairwinds.com/v1alpha1"}
    request = render(
        "add", source | {"metadata": {"name": "a", "namespace": "b"}}, recorded_envelope(recorded, "Resource")
    )
    subject = b"/apis/saffire.fairwinds.com/v1alpha1/namespaces/b/alternateimagesources/a"
    assert b"\r\nCe-Subject: " + subject + b"\r\n" in request


def test_a_cluster_scoped_object_has_no_namespace() -> None:
    """The adapter writes the empty namespace between two slashes."""
    recorded = recorded_requests("Resource")[0]
    source = {"kind": "ClusterAlternateImageSource", "apiVersion": "saffire.fairwinds.com/v1alpha1"}
    request = render("add", source | {"metadata": {"name": "a"}}, recorded_envelope(recorded, "Resource"))
    subject = b"/apis/saffire.fairwinds.com/v1alpha1/namespaces//clusteralternateimagesources/a"
    assert b"\r\nCe-Subject: " + subject + b"\r\n" in request


ENVELOPE = Envelope(
    id="1", time="2026-11-22T15:37:41Z", source="/apis/v1/namespaces/a/pingsources/b", host="c", namespace="d"
)


def test_a_ping_without_data_has_no_body_and_no_content_type() -> None:
    """A PingSource without `data` sends only the attributes."""
    head, _, body = render_ping(ENVELOPE).decode().partition("\r\n\r\n")
    expected = [
        "POST / HTTP/1.1",
        "Host: c",
        "User-Agent: Go-http-client/1.1",
        "Content-Length: 0",
        "Ce-Id: 1",
        "Ce-Source: /apis/v1/namespaces/a/pingsources/b",
        "Ce-Specversion: 1.0",
        "Ce-Time: 2026-11-22T15:37:41Z",
        "Ce-Type: dev.knative.sources.ping",
        "Kn-Namespace: d",
        "Accept-Encoding: gzip",
    ]
    assert (expected, "") == (head.split("\r\n"), body)


def test_a_ping_with_data_has_a_content_type() -> None:
    """`spec.data` and `spec.contentType` are sent unchanged."""
    head, _, body = render_ping(ENVELOPE, b"{}", "application/json").partition(b"\r\n\r\n")
    assert b"{}" == body
    assert {b"Content-Length: 2", b"Content-Type: application/json"} <= set(head.split(b"\r\n"))


def test_a_body_escapes_what_go_escapes_and_nothing_else() -> None:
    """Go escapes what could end a script in HTML or JavaScript; everything else is written as UTF-8."""
    recorded = recorded_requests("Resource")[0]
    event = json.loads(recorded.partition(b"\r\n\r\n")[2]) | {"message": '<a & b> "é" \u2028\u2029\n\x7f'}
    request = render("add", event, recorded_envelope(recorded, "Resource"))
    head, _, body = request.partition(b"\r\n\r\n")
    assert '"message":"\\u003ca \\u0026 b\\u003e \\"é\\" \\u2028\\u2029\\n\x7f"'.encode() in body
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
    assert event == json.loads(body)


@pytest.mark.parametrize(
    ("expected", "nanoseconds"),
    [
        ("2026-11-22T15:36:12.039587631Z", 1795361772039587631),
        ("2026-11-22T15:37:41.77820782Z", 1795361861778207820),
        ("2026-11-22T15:37:41Z", 1795361861000000000),
        ("1970-01-01T00:00:00.000000001Z", 1),
    ],
)
def test_a_timestamp_has_no_trailing_zeros(expected: str, nanoseconds: int) -> None:
    """Go's RFC3339Nano has nine digits, without zeros at the end."""
    assert expected == timestamp(nanoseconds)
