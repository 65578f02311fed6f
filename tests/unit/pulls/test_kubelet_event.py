"""Kubelet Events: as kubelets 1.20 and 1.34 wrote them, and in the other forms that their code can write."""

from collections import Counter
from datetime import datetime

import pytest

from saffire.pulls.kubelet_event import read_event
from testkit.builders import FAILED, FAILING, Object, event, recorded, report

EVENTS = {version: recorded(f"events-{version}.json") for version in ("1.20", "1.34")}
TEAM = "127.0.0.1:5001/team"
BACK_OFF = f'Back-off pulling image "{FAILING}"'


def kind_of_message(message: str) -> str:
    """Return the fixed beginning of a message."""
    return message.partition(' "')[0]


@pytest.mark.parametrize(("version", "failed", "repeated"), [("1.20", 20, 16), ("1.34", 5, 5)])
def test_of_all_recorded_events_those_about_pulls_are_read(version: str, failed: int, repeated: int) -> None:
    """Four kinds of message are about a failed pull; those about sandboxes, other reasons and successes are not."""
    counts = Counter(kind_of_message(event["message"]) for event in EVENTS[version] if read_event(event))
    kinds = ("Error: ErrImagePull", "Error: ImagePullBackOff", "Back-off pulling image")
    assert {"Failed to pull image": failed, **dict.fromkeys(kinds, repeated)} == counts


@pytest.mark.parametrize(
    ("version", "pod", "container", "image", "error"),
    [
        ("1.20", "badplat", "app", "127.0.0.1:5002/badplatform/app:v1", "no match for platform in manifest: not found"),
        ("1.20", "blob404", "app", "127.0.0.1:5001/blob404/app:v1", "image.v1+json) from remote: not found"),
        ("1.20", "dns", "app", "nosuch.invalid/team/app:v1", "->127.0.0.1:53: read: connection refused"),
        ("1.20", "dockerhub", "app", "nginx:1.19", "->127.0.0.1:53: read: connection refused"),
        ("1.20", "init", "prep", "127.0.0.1:5999/team/prep:v1", "127.0.0.1:5999: connect: connection refused"),
        ("1.20", "s401", "app", "127.0.0.1:5001/s401/app:v1", "401 Unauthorized"),
        ("1.20", "s404", "app", "127.0.0.1:5001/s404/app:v1", "127.0.0.1:5001/s404/app:v1: not found"),
        ("1.20", "s429", "app", "127.0.0.1:5001/s429/app:v1", "429 Too Many Requests"),
        ("1.20", "s503", "app", "127.0.0.1:5001/s503/app:v1", "503 Service Unavailable"),
        ("1.20", "untagged", "app", "127.0.0.1:5999/team/app", "127.0.0.1:5999: connect: connection refused"),
        ("1.34", "bare", "app", f"{TEAM}/prep:v1", "127.0.0.1:5001: connect: connection refused"),
        ("1.34", "db-0", "app", f"{TEAM}/job:v1", "127.0.0.1:5001: connect: connection refused"),
        ("1.34", "flannel-zz52s", "install-cni", f"{TEAM}/prep:v1", "127.0.0.1:5001: connect: connection refused"),
    ],
)
def test_a_recorded_failure_is_read(version: str, pod: str, container: str, image: str, error: str) -> None:
    """Container and image are those of the pod's spec, and the runtime's error is kept."""
    reports = [read_event(event) for event in EVENTS[version] if event["involvedObject"]["name"] == pod]
    failed = [report for report in reports if report and report.error]
    assert {(container, image)} == {(report.container, report.image) for report in failed}
    assert all(report.error.endswith(error) for report in failed)


def test_the_other_messages_name_image_or_container() -> None:
    """`Back-off` names the image, `Error:` only the container."""
    reports = [read_event(event) for event in EVENTS["1.34"] if event["involvedObject"]["name"] == "bare"]
    expected = [(f"{TEAM}/prep:v1", True), ("", False), (f"{TEAM}/prep:v1", False), ("", False)]
    assert expected == [(report.image, bool(report.error)) for report in reports if report]
    assert {("app", "c9555008-a42c-41a1-8937-787f1ed0b594")} == {(r.container, r.pod_uid) for r in reports if r}


@pytest.mark.parametrize(
    ("kind", "reason", "message"),
    [
        pytest.param("Warning", "BackOff", "Back-off restarting failed container web in pod web-0", id="crash-loop"),
        pytest.param("Warning", "BackOff", BACK_OFF, id="no-kubelet-warns-of-it"),
        pytest.param("Normal", "Failed", FAILED, id="no-kubelet-calls-it-normal"),
        pytest.param("Warning", "Failed", BACK_OFF, id="the-message-of-another-reason"),
        pytest.param("Warning", "Failed", "Error: CreateContainerError", id="past-the-pull"),
        pytest.param("Warning", "Failed", "Error: InvalidImageName", id="bad-name"),
        pytest.param("Warning", "Failed", "Error: ErrImagePull, or so", id="more-than-the-reason"),
        pytest.param("Warning", "Failed", f"Sadly: {FAILED}", id="not-at-the-beginning"),
        pytest.param("Warning", "FailedMount", FAILED, id="another-reason"),
        pytest.param("Normal", "Pulling", f'Pulling image "{FAILING}"', id="pulling"),
        pytest.param("", "", "", id="empty"),
    ],
)
def test_type_reason_and_message_must_agree(kind: str, reason: str, message: str) -> None:
    """`Failed` and `BackOff` are the reasons of other Events too."""
    assert read_event(event(message, reason, kind)) is None


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"])
def test_every_waiting_reason_of_a_failed_pull_is_read(reason: str) -> None:
    """The kubelet repeats the waiting reason as an Event of its own."""
    assert "web" == report(f"Error: {reason}").container


@pytest.mark.parametrize(("message", "fields"), [(FAILED, {}), (BACK_OFF, {"reason": "BackOff", "kind": "Normal"})])
def test_combined_events_are_read_as_the_last_of_them(message: str, fields: dict[str, str]) -> None:
    """From the tenth similar Event on, client-go adds a prefix to the message."""
    assert report(message, **fields) == report(f"(combined from similar events): {message}", **fields)


def test_an_event_of_the_newer_api_says_the_same() -> None:
    """In events.k8s.io/v1 the object is in `regarding`, and the message in `note`."""
    old = event(FAILED)
    new = {"apiVersion": "events.k8s.io/v1", "type": "Warning", "reason": "Failed"}
    assert read_event(old) == read_event({**new, "regarding": old["involvedObject"], "note": old["message"]})


@pytest.mark.parametrize(
    ("expected", "field_path"),
    [
        ("web", "spec.containers{web}"),
        ("web", "spec.initContainers{web}"),
        ("web", "spec.ephemeralContainers{web}"),
        ("", ""),
        ("", "spec.containers[0]"),
        ("", "spec.containers{}"),
        ("", "spec.volumes{web}"),
        ("", "spec.containers{web}\n"),
    ],
)
def test_the_field_path_names_the_container(expected: str, field_path: str) -> None:
    """An Event about an image volume names no container, and then `container` is empty."""
    assert expected == report(field_path=field_path).container


def test_a_long_error_is_clipped() -> None:
    """The text comes from a stranger's registry, so its length is bounded."""
    assert 8192 == len(report(f'Failed to pull image "{FAILING}": {"x" * 9000}').error)


def test_an_error_may_have_many_lines() -> None:
    """Runtimes join several errors with newlines."""
    assert "one\ntwo" == report(f'Failed to pull image "{FAILING}": one\ntwo').error


FIRST, LAST = "2026-11-23T01:00:00.5Z", "2026-11-23T02:00:00Z"


@pytest.mark.parametrize(
    ("fields", "tries", "first", "last"),
    [
        pytest.param({"count": 3, "firstTimestamp": FIRST, "lastTimestamp": LAST}, 3, FIRST, LAST, id="core"),
        pytest.param({"lastTimestamp": LAST, "eventTime": FIRST}, 1, FIRST, LAST, id="both"),
        pytest.param(
            {"lastTimestamp": None, "eventTime": FIRST, "series": {"count": 3, "lastObservedTime": LAST}},
            *(3, FIRST, LAST),
            id="series",
        ),
        pytest.param({"lastTimestamp": None, "series": None, "eventTime": FIRST}, 1, FIRST, FIRST, id="single"),
        pytest.param({}, 1, None, None, id="none"),
        pytest.param({"count": 0}, 1, None, None, id="never"),
        pytest.param({"count": "many", "lastTimestamp": LAST}, 1, None, None, id="count-of-another-type"),
        pytest.param({"lastTimestamp": 5}, 1, None, None, id="time-of-another-type"),
        pytest.param({"series": "often"}, 1, None, None, id="series-of-another-type"),
        pytest.param({"lastTimestamp": "yesterday"}, 1, None, None, id="no-time"),
    ],
)
def test_an_event_tells_how_often_and_when(fields: Object, tries: int, first: str | None, last: str | None) -> None:
    """The fields are those of core/v1; an Event of the newer API has a series, or only the time of its first."""
    read = read_event({**event(FAILED), **fields})
    assert read is not None
    assert tries == read.tries
    assert [datetime.fromisoformat(time) if time else None for time in (first, last)] == [read.first, read.last]
