"""Triage: which CloudEvents make a request, also hostile ones."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.errors import RejectedEvent
from saffire.reconcile.request import ClusterSourceChanged, PodFailed, SourceChanged, SweepDue
from saffire.triage import Ignored, triage
from testkit import RECORDINGS
from testkit.builders import FAILING, Object, cluster_source_manifest, event, recorded, source_manifest
from testkit.strategies import json_values, paths_into, replaced

ADD = "dev.knative.apiserver.resource.add"
FAILED = f'Failed to pull image "{FAILING}": 503 Service Unavailable'
EVENT = event(FAILED)
NEWER = {
    "apiVersion": "events.k8s.io/v1",
    "kind": "Event",
    "metadata": EVENT["metadata"],
    "regarding": EVENT["involvedObject"],
    "type": "Warning",
    "reason": "Failed",
    "note": FAILED,
    "deprecatedSource": EVENT["source"],
}
POD_FAILED = PodFailed(
    namespace="shop",
    pod="web-0",
    pod_uid="pod-uid",
    container="web",
    event="web-0.18ea85bf40cf1191",
    image="quay.io/acme/web:1.2",
)


def recorded_events(mode: str) -> list[tuple[str, Any]]:
    """Return type and data of the recorded CloudEvents of one Event: added, updated, deleted."""
    recording = (RECORDINGS / f"apiserversource-{mode}.bin").read_text()
    events = []
    for request in recording.split("\n=====\n"):
        head, _, body = request.partition("\n\n")
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
        events.append((headers["Ce-Type"], json.loads(body)))
    return events


def answer(
    ce_type: str, data: Any
) -> PodFailed | SourceChanged | ClusterSourceChanged | SweepDue | Ignored | RejectedEvent:
    """Return the result of triage, or the error that it raises."""
    try:
        return triage(ce_type, data)
    except RejectedEvent as error:
        return error


@pytest.mark.parametrize("number", [0, 1], ids=["add", "update"])
def test_a_recorded_failure_makes_a_request(number: int) -> None:
    """The request has pod, container, image and Event, and the time of the Event, but not why the pull failed."""
    expected = PodFailed(
        namespace="prod",
        pod="web-7d4b9c6f5-x2x8p",
        pod_uid="0d6c8f7e-1b1f-4c3e-8a51-3d6f8c1f0a11",
        container="web",
        event="web-7d4b9c6f5-x2x8p.17f3a0c1d2e3f401",
        image="registry.example.com/shop/web:v1.2.3",
        at=datetime(2026, 6, 18, 9, tzinfo=UTC),
    )
    assert expected == triage(*recorded_events("resource")[number])


def test_a_recorded_delete_is_ignored() -> None:
    """Kubernetes deletes an Event an hour after its last change."""
    assert Ignored(reason="the object was deleted") == triage(*recorded_events("resource")[2])


@pytest.mark.parametrize("number", range(3), ids=["add", "update", "delete"])
def test_a_recorded_reference_is_rejected(number: int) -> None:
    """An ApiServerSource in its default mode sends no Events; the message says how to change the mode."""
    with pytest.raises(RejectedEvent) as error:
        triage(*recorded_events("reference")[number])
    assert "the ApiServerSource sends references: set `mode: Resource` in its spec" == str(error.value)


@pytest.mark.parametrize(
    ("expected", "version"),
    [
        pytest.param({"PodFailed": 68, "tells of no failed pull": 49, "not about a Pod": 6}, "1.20", id="1.20"),
        pytest.param({"PodFailed": 20, "tells of no failed pull": 19, "not about a Pod": 17}, "1.34", id="1.34"),
    ],
)
def test_few_events_of_a_node_make_a_request(expected: dict[str, int], version: str) -> None:
    """No Event that a kubelet and the controllers wrote raises an error."""
    results = [triage(ADD, event) for event in recorded(f"events-{version}.json")]
    assert expected == Counter(result.reason if isinstance(result, Ignored) else "PodFailed" for result in results)


@pytest.mark.parametrize("data", [EVENT, NEWER], ids=["core/v1", "events.k8s.io/v1"])
def test_events_of_both_apis_make_the_same_request(data: Object) -> None:
    """An event source may watch either API."""
    assert triage(ADD, data) == POD_FAILED


@pytest.mark.parametrize(
    ("expected", "ce_type", "data"),
    [
        pytest.param(
            "not an event of an ApiServerSource or a PingSource", "com.example.order", EVENT, id="another-source"
        ),
        pytest.param("not an event of an ApiServerSource or a PingSource", "", None, id="no-type"),
        pytest.param("not an Event of Kubernetes", ADD, {**EVENT, "kind": "Pod"}, id="another-kind"),
        pytest.param("not an Event of Kubernetes", ADD, {**EVENT, "apiVersion": "example.com/v1"}, id="another-api"),
        pytest.param("not an Event of Kubernetes", ADD, {}, id="empty"),
        pytest.param("not about a Pod", ADD, {**EVENT, "involvedObject": {"kind": "Node"}}, id="a-node"),
        pytest.param("not about a Pod", ADD, {**EVENT, "involvedObject": {}}, id="nothing"),
        pytest.param(
            "not about a Pod", ADD, replaced(EVENT, ("involvedObject", "apiVersion"), "x.io/v1"), id="another-pod-kind"
        ),
        pytest.param("tells of no failed pull", ADD, {**EVENT, "type": "Normal"}, id="another-type"),
        pytest.param("tells of no failed pull", ADD, {**EVENT, "message": "Started"}, id="another-message"),
        pytest.param("the object was deleted", ADD.replace("add", "delete"), {}, id="deleted"),
    ],
)
def test_other_events_are_ignored_with_a_reason(expected: str, ce_type: str, data: Any) -> None:
    """The reason tells an operator why nothing happened."""
    assert Ignored(reason=expected) == triage(ce_type, data)


def test_a_reference_to_a_pod_may_have_no_version() -> None:
    """Old programs leave `apiVersion` out of the reference."""
    assert triage(ADD, replaced(EVENT, ("involvedObject", "apiVersion"), "")) == POD_FAILED


@pytest.mark.parametrize("change", ["add", "update", "delete", "renamed"])
@pytest.mark.parametrize("data", [None, b"{}", "text", 1, [EVENT]], ids=["none", "bytes", "text", "number", "list"])
def test_data_that_is_no_object_is_rejected(change: str, data: Any) -> None:
    """The framework passes on a body that is no JSON without decoding it."""
    with pytest.raises(RejectedEvent, match=r"^the CloudEvent's data is not a JSON object$"):
        triage(f"dev.knative.apiserver.resource.{change}", data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("involvedObject.namespace", "", id="no-namespace"),
        pytest.param("involvedObject.namespace", "..", id="up"),
        pytest.param("involvedObject.namespace", "shop/pods", id="another-path"),
        pytest.param("involvedObject.namespace", "a.b", id="dotted-namespace"),
        pytest.param("involvedObject.name", "", id="no-name"),
        pytest.param("involvedObject.name", "web-0/status", id="subresource"),
        pytest.param("involvedObject.name", "web-0?watch=1", id="query"),
        pytest.param("involvedObject.name", "web%2f0", id="escaped"),
        pytest.param("involvedObject.name", "web-0\n", id="newline"),
        pytest.param("involvedObject.name", "a" * 254, id="too-long"),
        pytest.param("involvedObject.uid", "", id="no-uid"),
        pytest.param("involvedObject.uid", "u" * 129, id="endless-uid"),
        pytest.param("metadata.name", "", id="nameless-event"),
        pytest.param("metadata.name", "../web", id="event-up"),
        pytest.param("metadata.namespace", "kube-system", id="another-namespace"),
    ],
)
def test_a_name_that_is_not_valid_in_a_url_is_rejected(path: str, value: str) -> None:
    """The message has the path of the field, and does not repeat its value."""
    result = answer(ADD, replaced(EVENT, tuple(path.split(".")), value))
    assert isinstance(result, RejectedEvent)
    assert str(result).startswith(f"not an Event of Kubernetes: {path}: not ")
    assert not value or value not in str(result)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (("involvedObject",), "involvedObject: not an object"),
        (("involvedObject", "name"), "name: not a string"),
        (("message",), "message: not a string"),
        (("metadata",), "metadata: not an object"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(path: tuple[str, ...], fault: str) -> None:
    """A program that forwards malformed Events gets the path of the wrong field."""
    assert f"not an Event of Kubernetes: {fault}" == str(answer(ADD, replaced(EVENT, path, 7)))


def test_a_uid_may_be_long() -> None:
    """It may have up to 128 characters of any kind."""
    result = answer(ADD, replaced(EVENT, ("involvedObject", "uid"), "u" * 128))
    assert isinstance(result, PodFailed)


def test_an_event_may_leave_its_own_namespace_out() -> None:
    """Then its namespace is that of its pod."""
    assert triage(ADD, replaced(EVENT, ("metadata", "namespace"), "")) == POD_FAILED


# Image and time of an Event


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("quay.io/acme/web:1.2", FAILED),
        ("quay.io/acme/web:1.2", f"(combined from similar events): {FAILED}"),
        ("", "Error: ErrImagePull"),
        ("", "Error: ImagePullBackOff"),
        ("", 'Failed to pull image "": why'),
    ],
)
def test_a_request_names_the_image_of_the_event(expected: str, message: str) -> None:
    """The second Event of a failed pull names no image."""
    result = triage(ADD, event(message))
    assert isinstance(result, PodFailed)
    assert expected == result.image


EARLY, LATE = "2026-11-23T02:00:00Z", "2026-11-23T02:00:05Z"
NO_TIMES: list[Any] = ["", "yesterday", "2026-13-01T00:00:00Z", "\ud800", 7, None, [EARLY], {}]


@pytest.mark.parametrize(
    ("expected", "managed", "last"),
    [
        pytest.param(None, None, None, id="no-time"),
        pytest.param(EARLY, None, EARLY, id="the-node-s-time"),
        pytest.param(LATE, [{"time": LATE}], EARLY, id="the-api-server-s-time-first"),
        pytest.param(EARLY, [{"time": EARLY}], LATE, id="even-if-the-node-s-is-later"),
        pytest.param(LATE, [{"time": EARLY}, {"time": LATE}, {}], None, id="the-last-who-wrote"),
        pytest.param(EARLY, [{"manager": "kubelet"}], EARLY, id="writers-without-a-time"),
        pytest.param(EARLY, [], "2026-11-23T04:00:00+02:00", id="another-zone"),
        pytest.param("2026-11-23T02:00:00.250000Z", [], "2026-11-23T02:00:00.250000Z", id="microseconds"),
        *(pytest.param(None, [], last, id=f"malformed-{number}") for number, last in enumerate(NO_TIMES)),
        *(
            pytest.param(None, managed, EARLY, id=f"malformed-writers-{number}")
            for number, managed in enumerate([7, "x", [7], [[]], {"time": LATE}, [{"time": 7}], [{"time": "then"}]])
        ),
        pytest.param(None, [], "0001-01-01T00:00:00+23:59", id="before-all-time"),
        pytest.param(None, [], "9999-12-31T23:59:59-23:59", id="after-all-time"),
    ],
)
def test_a_request_has_the_time_when_its_event_was_last_written(expected: str | None, managed: Any, last: Any) -> None:
    """The time is by the API server's clock, else by the node's. A malformed time counts as none, and is no error."""
    fields = {} if managed is None else {"managedFields": managed}
    timed_event = {
        **EVENT,
        "metadata": {**EVENT["metadata"], **fields},
        **({} if last is None else {"lastTimestamp": last}),
    }
    result = triage(ADD, timed_event)
    assert replace(POD_FAILED, at=datetime.fromisoformat(expected) if expected else None) == result


# Sources


SOURCE = source_manifest()
WIDE = cluster_source_manifest()
SPEC_KNOWN = "the spec of the AlternateImageSource is known"


@pytest.mark.parametrize("change", ["add", "update"])
@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="created"),
        pytest.param({"status": {}}, id="an-empty-status"),
        pytest.param({"status": {"observedGeneration": 2, "activeCount": 1}}, id="the-spec-changed"),
        pytest.param({"status": {"observedGeneration": 4}}, id="restored-from-a-backup"),
    ],
)
def test_a_source_with_a_new_spec_makes_a_request(change: str, status: Object) -> None:
    """Its generation differs from the `observedGeneration` in its status."""
    result = triage(f"dev.knative.apiserver.resource.{change}", {**SOURCE, **status})
    assert SourceChanged(namespace="shop", source="shop") == result


@pytest.mark.parametrize("change", ["add", "update"])
def test_a_cluster_wide_source_with_a_new_spec_makes_a_request(change: str) -> None:
    """The request names no namespaces. A source whose spec is known makes no request."""
    ce_type = f"dev.knative.apiserver.resource.{change}"
    assert ClusterSourceChanged(source="shop") == triage(ce_type, WIDE)
    assert Ignored(reason=SPEC_KNOWN) == triage(ce_type, {**WIDE, "status": {"observedGeneration": 3}})


@pytest.mark.parametrize("name", ["", "../secrets", "a/b", "A"])
def test_a_cluster_wide_source_of_a_hostile_name_is_rejected(name: str) -> None:
    """Only its kind tells it from the source of a namespace."""
    assert isinstance(answer(ADD, replaced(WIDE, ("metadata", "name"), name)), RejectedEvent)


def test_a_source_without_a_generation_makes_a_request() -> None:
    """Without a generation, nothing proves that its spec is known."""
    unnumbered = {**SOURCE, "metadata": {"name": "shop", "namespace": "shop"}, "status": {"observedGeneration": 0}}
    assert SourceChanged(namespace="shop", source="shop") == triage(ADD, unnumbered)


@pytest.mark.parametrize("change", ["add", "update"])
def test_a_source_whose_spec_is_known_is_ignored(change: str) -> None:
    """Nearly every change of a source is the status that Saffire wrote itself."""
    unchanged = {**SOURCE, "status": {"observedGeneration": 3}}
    assert Ignored(reason=SPEC_KNOWN) == triage(f"dev.knative.apiserver.resource.{change}", unchanged)


def test_a_source_that_is_deleted_is_ignored() -> None:
    """Its deletion moves no workload back."""
    assert Ignored(reason="the object was deleted") == triage("dev.knative.apiserver.resource.delete", SOURCE)


def test_a_later_version_of_a_source_makes_a_request() -> None:
    """The event source may watch any version. Saffire reads the object itself in the version that it supports."""
    later = {**SOURCE, "apiVersion": "saffire.fairwinds.com/v1beta1"}
    assert SourceChanged(namespace="shop", source="shop") == triage(ADD, later)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("namespace", ""),
        ("namespace", "shop/pods"),
        ("namespace", ".."),
        ("namespace", "a.b"),
        ("name", ""),
        ("name", "a/status"),
        ("name", "%2f"),
        ("name", "shop\n"),
        ("name", "A"),
    ],
)
def test_a_source_whose_name_is_not_valid_in_a_url_is_rejected(field: str, value: str) -> None:
    """The message does not repeat the value."""
    result = answer(ADD, replaced(SOURCE, ("metadata", field), value))
    assert "not an AlternateImageSource: metadata: no name and namespace of Kubernetes" == str(result)
    assert isinstance(result, RejectedEvent)


@pytest.mark.parametrize(
    "broken",
    [
        {**SOURCE, "metadata": 7},
        {**SOURCE, "status": "known"},
        replaced(SOURCE, ("metadata", "generation"), "3"),
        {**SOURCE, "status": {"observedGeneration": [3]}},
    ],
    ids=["metadata", "status", "generation", "observed"],
)
def test_a_malformed_source_is_rejected(broken: Object) -> None:
    """It raises the same error as a malformed Event."""
    assert isinstance(answer(ADD, broken), RejectedEvent)


# The sweep


@pytest.mark.parametrize(
    "data",
    [None, b"", {}, {"message": "sweep"}, b"sweep", "sweep", [1], 7],
    ids=["no-body", "empty", "empty-object", "an-object", "bytes", "text", "list", "number"],
)
def test_a_ping_asks_for_a_sweep(data: Any) -> None:
    """A PingSource may send any data; that of Saffire's manifests sends none."""
    assert SweepDue() == triage("dev.knative.sources.ping", data)


@pytest.mark.parametrize("ce_type", ["dev.knative.sources.ping.x", "dev.knative.sources", "DEV.KNATIVE.SOURCES.PING"])
def test_nothing_else_asks_for_a_sweep(ce_type: str) -> None:
    """A sweep costs the API server many requests."""
    assert isinstance(triage(ce_type, {}), Ignored)


@given(st.sampled_from([EVENT, NEWER, SOURCE, WIDE]), st.data(), json_values())
def test_any_value_at_any_path_is_handled(base: Object, data: st.DataObject, value: Any) -> None:
    """The event makes a request, is ignored or is rejected, and the names in a request are valid in a URL."""
    result = answer(ADD, replaced(base, data.draw(paths_into(base)), value))
    if isinstance(result, SourceChanged):
        assert all(name and name == quote(name, safe="") for name in (result.namespace, result.source))
    elif isinstance(result, ClusterSourceChanged):
        assert result.source == quote(result.source, safe="")
    elif isinstance(result, PodFailed):
        names = (result.namespace, result.pod, result.event)
        assert all(name and name == quote(name, safe="") and not name.startswith(".") for name in names)
        assert 0 < len(result.pod_uid) <= 128
    else:
        assert str(result)


@given(st.sampled_from([EVENT, NEWER, SOURCE, WIDE]), st.data(), st.sampled_from(["<ECHO>", ["<ECHO>"], {"<ECHO>": 1}]))
def test_an_answer_does_not_repeat_the_event(base: Object, data: st.DataObject, value: Any) -> None:
    """Neither a rejected nor an ignored value is sent back."""
    result = answer(ADD, replaced(base, data.draw(paths_into(base)), value))
    assert isinstance(result, PodFailed | SourceChanged) or "ECHO" not in str(result)


@given(st.text(), json_values())
def test_any_cloud_event_is_answered(ce_type: str, data: Any) -> None:
    """With any type and data, it makes a request, is ignored or is rejected."""
    for kind in (ce_type, ADD + ce_type, "dev.knative.apiserver.resource." + ce_type):
        assert isinstance(answer(kind, data), Ignored | RejectedEvent)


def test_a_request_is_small_whatever_an_event_says() -> None:
    """Requests wait in numbers while the API server is slow, so none keeps the quarter of a megabyte of its Event."""
    long = "x" * 100_000
    request = triage(ADD, event(f'Failed to pull image "{long}": no', field_path=f"spec.containers{{{long}}}"))
    assert isinstance(request, PodFailed)
    assert len(request.image) + len(request.container) < 4_000
