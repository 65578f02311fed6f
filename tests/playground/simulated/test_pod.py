"""What a simulated kubelet does about a pod, compared with recordings of a kubelet 1.34 while a registry was down."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from playground.cluster.api import Manifest
from playground.simulated.images import NodeImages
from playground.simulated.pod import Node, Pace, PodWorker, SyncResult
from testkit import RECORDINGS

START = datetime(2026, 11, 23, 0, 40, 57, 900_000, UTC)
DEAD = "127.0.0.1:5001"
APP, GOOD = f"{DEAD}/team/app:v1", "127.0.0.1:5002/team/app:v1"
"""An image of the registry that is down, and the same image in a registry that is up."""


def items(name: str) -> list[Manifest]:
    """Return the objects of a recorded list."""
    listed: list[Manifest] = json.loads((RECORDINGS / name).read_text())["items"]
    return listed


PODS = {pod["metadata"]["name"]: pod for pod in items("pods-1.34.json")}
FAILING = [name for name in PODS if not name.startswith("web-")]


def recorded_events(pod: Manifest) -> list[Manifest]:
    """Return the kubelet's Events about the containers of a recorded pod, oldest first."""
    uid = pod["metadata"]["uid"]
    about = [event for event in items("events-1.34.json") if event["involvedObject"]["uid"] == uid]
    return sorted((event for event in about if "fieldPath" in event["involvedObject"]), key=_created_at)


def _created_at(event: Manifest) -> int:
    return int(event["metadata"]["name"].rpartition(".")[2], 16)


def worker_for(pod: Manifest, *, dead: str = DEAD, present: str = "", pace: Pace | None = None) -> PodWorker:
    """Return a worker for a new pod, on a node that has the image `present`."""
    bound = deepcopy(pod) | {"status": {"phase": "Pending"}}
    images = NodeImages({dead}, {present})
    return PodWorker(bound, Node("node1", "192.0.2.2", images), "10.244.0.9", pace or Pace())


def syncs(worker: PodWorker, seconds: float, start: datetime = START) -> Iterator[tuple[float, SyncResult]]:
    """Yield each sync, and its time, for `seconds` of a clock that jumps from sync to sync."""
    now = start
    while now - start <= timedelta(seconds=seconds):
        result = worker.sync(now)
        yield (now - start).total_seconds(), result
        if result.resync_after is None:
            return
        now += result.resync_after


def last_events(worker: PodWorker, seconds: float) -> list[Manifest]:
    """Return the Events after `seconds`, oldest first."""
    written = {event["metadata"]["name"]: event for _, result in syncs(worker, seconds) for event in result.events}
    return list(written.values())


def pod_of(*images: str, init: tuple[str, ...] = (), restart: str = "Always", **container: Any) -> Manifest:
    """Return a pod with a container per image, and an init container per image of `init`."""
    return {
        "metadata": {"name": "p", "namespace": "shop", "uid": "1-2-3", "resourceVersion": "7", "generation": 1},
        "spec": {
            "nodeName": "node1",
            "restartPolicy": restart,
            "initContainers": [{"name": f"i{n}", "image": image, **container} for n, image in enumerate(init)],
            "containers": [{"name": f"c{n}", "image": image, **container} for n, image in enumerate(images)],
        },
        "status": {},
    }


def with_image(pod: Manifest, role: str, image: str) -> Manifest:
    """Return `pod` with another image in the first container of a role."""
    changed = deepcopy(pod)
    changed["spec"][role][0]["image"] = image
    changed["metadata"]["generation"] += 1
    return changed


def reasons(events: list[Manifest]) -> list[str]:
    """Return each Event as `REASON FIELDPATH`."""
    return [f"{event['reason']} {event['involvedObject']['fieldPath']}" for event in events]


@pytest.mark.parametrize("name", PODS)
def test_events_equal_the_recorded_ones(name: str) -> None:
    """Type, reason, message, container, count and order of the Events equal those of the real kubelet."""

    def facts(events: list[Manifest]) -> list[tuple[Any, ...]]:
        return [
            (event["type"], event["reason"], event["message"], event["involvedObject"]["fieldPath"], event["count"])
            for event in events
        ]

    # The recording ends after the second pull. Images that were pulled while the registry was up stayed on the node.
    worker = worker_for(PODS[name], dead=DEAD if name in FAILING else "", present=APP if name in FAILING else "")
    assert facts(recorded_events(PODS[name])) == facts(last_events(worker, 20))


@pytest.mark.parametrize("name", PODS)
def test_an_event_has_the_recorded_fields(name: str) -> None:
    """Without the fields that differ from run to run, the Events are equal, field by field."""

    def comparable(event: Manifest) -> Manifest:
        # The API server sets uid, resourceVersion and creationTimestamp; the names end in the time.
        metadata = {"namespace": event["metadata"]["namespace"], "name": event["metadata"]["name"].rpartition(".")[0]}
        assert re.fullmatch(r"[0-9a-f]{16}", event["metadata"]["name"].rpartition(".")[2])
        return {**event, "metadata": metadata, "firstTimestamp": "", "lastTimestamp": ""}

    recorded = recorded_events(PODS[name])
    pod = deepcopy(PODS[name])
    pod["metadata"]["resourceVersion"] = recorded[0]["involvedObject"]["resourceVersion"]
    worker = worker_for(pod, dead=DEAD if name in FAILING else "", present=APP if name in FAILING else "")
    assert [comparable(event) for event in recorded] == [comparable(event) for event in last_events(worker, 20)]


@pytest.mark.parametrize("name", PODS)
def test_a_status_equals_the_recorded_one(name: str) -> None:
    """Without times, ids and addresses, the status is equal, field by field."""

    def comparable(status: Manifest) -> Any:
        text = json.dumps(status)
        for pattern in (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r"\b[0-9a-f]{64}\b", r"\b10\.244\.0\.\d+\b"):
            text = re.sub(pattern, "…", text)
        return json.loads(text)

    recorded = {key: value for key, value in PODS[name]["status"].items() if key != "qosClass"}  # the API server's
    worker = worker_for(PODS[name], dead=DEAD if name in FAILING else "", present=APP if name in FAILING else "")
    *_, (_, last) = syncs(worker, 20)
    assert comparable(recorded) == comparable(last.status)


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    """The time of a condition changes only with its status."""
    worker = worker_for(pod_of(APP))
    first, second, third = (result.status["conditions"] for _, result in list(syncs(worker, 20))[:3])
    assert ["False", "True", "True"] == [conditions[0]["status"] for conditions in (first, second, third)]
    changed = [condition["lastTransitionTime"] for condition in (first[0], second[0], third[0], third[1])]
    assert ["2026-11-23T00:40:57Z", "2026-11-23T00:40:58Z", "2026-11-23T00:40:58Z", "2026-11-23T00:40:57Z"] == changed


def test_events_run_ahead_of_the_status() -> None:
    """The status shows ErrImagePull a lag after the Event, ImagePullBackOff a sync later, then both alternately."""
    pairs = [
        (result.status["containerStatuses"][0]["state"]["waiting"]["reason"], reasons(result.events)[0].split()[0])
        for _, result in syncs(worker_for(pod_of(APP)), 30)
    ]
    assert [
        ("ContainerCreating", "Pulling"),
        ("ErrImagePull", "BackOff"),
        ("ImagePullBackOff", "Pulling"),
        ("ErrImagePull", "BackOff"),
    ] == pairs


def test_a_pod_that_fails_for_long_writes_few_events() -> None:
    """There are 25 Events in two minutes, then one in five minutes and none of a pull, as measured on a real node."""
    events = [(when, event) for when, result in syncs(worker_for(pod_of(APP)), 1800) for event in result.events]
    assert 25 == sum(when < 150 for when, _ in events)
    assert [0, 13, 41, 85] == pytest.approx([when for when, event in events if event["reason"] == "Pulling"], abs=6)
    later = [when for when, _ in events if when > 150]
    assert 5 <= len(later) <= 6
    assert all(285 < after - before < 320 for before, after in pairwise(later))
    assert {"BackOff", "Failed"} >= {event["reason"] for when, event in events if when > 150}
    assert events[-1][1]["count"] > 40


def test_a_waiting_container_pulls_another_image_at_once() -> None:
    """A new image has no back-off yet: it is pulled in the same sync, runs in the next, and counts as no restart."""
    pod = pod_of(APP)
    worker = worker_for(pod)
    list(syncs(worker, 30))
    assert worker.update(with_image(pod, "containers", GOOD))
    (_, first), (_, second) = syncs(worker, 5, START + timedelta(seconds=31))
    assert ["Pulling", "Pulled", "Created", "Started"] == [reason.split()[0] for reason in reasons(first.events)]
    assert "Running" == second.status["phase"]
    assert 2 == second.status["observedGeneration"]
    [status] = second.status["containerStatuses"]
    assert (True, 0, {}) == (status["ready"], status["restartCount"], status["lastState"])


def test_the_back_off_of_an_image_is_remembered() -> None:
    """Another bad image is pulled at once; back at the first image, the container waits for its back-off."""
    pod, other = pod_of(APP), f"{DEAD}/team/other:v1"
    worker = worker_for(pod)
    worker.sync(START)
    worker.update(with_image(pod, "containers", other))
    assert "Pulling" == worker.sync(START + timedelta(seconds=1)).events[0]["reason"]
    worker.update(pod)
    assert "BackOff" == worker.sync(START + timedelta(seconds=2)).events[0]["reason"]


def test_a_running_container_is_restarted_for_another_image() -> None:
    """The container is killed and started again; the other container keeps running."""
    pod = pod_of(GOOD, GOOD)
    worker = worker_for(pod)
    list(syncs(worker, 5))
    worker.update(with_image(pod, "containers", "127.0.0.1:5002/team/app:v2"))
    (_, first), (_, second) = syncs(worker, 5, START + timedelta(seconds=10))
    assert [
        f"{reason} spec.containers{{c0}}" for reason in ("Killing", "Pulling", "Pulled", "Created", "Started")
    ] == reasons(first.events)
    assert "Container c0 definition changed, will be restarted" == first.events[0]["message"]
    changed, same = second.status["containerStatuses"]
    assert (1, 0) == (changed["restartCount"], same["restartCount"])
    assert 137 == changed["lastState"]["terminated"]["exitCode"]


def test_a_container_that_was_killed_may_wait_in_a_running_pod() -> None:
    """If the new image cannot be pulled, the container waits, and the pod's phase stays Running."""
    pod = pod_of(GOOD)
    worker = worker_for(pod)
    list(syncs(worker, 5))
    worker.update(with_image(pod, "containers", APP))
    worker.sync(START + timedelta(seconds=10))
    status = worker.sync(START + timedelta(seconds=11)).status
    assert "Running" == status["phase"]
    assert "ErrImagePull" == status["containerStatuses"][0]["state"]["waiting"]["reason"]
    assert 137 == status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"]


def test_after_a_node_was_down_images_are_pulled_again_and_may_fail() -> None:
    """The first sync reports the dead containers and pulls again; the next shows that the pull failed."""
    dead: set[str] = set()
    images = NodeImages(dead)
    pod = pod_of(APP, imagePullPolicy="Always")
    bound = pod | {"status": {"phase": "Pending"}}
    worker = PodWorker(bound, Node("node1", "192.0.2.2", images), "10.244.0.9", Pace())
    list(syncs(worker, 5))
    dead.add(DEAD)
    worker.lose_containers(START + timedelta(seconds=10))
    (_, first), (seconds, second) = syncs(worker, 1, START + timedelta(seconds=10))
    assert ["Pulling", "Failed", "Failed"] == [event["reason"] for event in first.events]
    assert Pace().status_lag.total_seconds() == seconds
    [status] = second.status["containerStatuses"]
    assert ("Running", "ErrImagePull") == (second.status["phase"], status["state"]["waiting"]["reason"])
    assert 137 == status["lastState"]["terminated"]["exitCode"]


def test_init_containers_run_one_after_the_other_and_end() -> None:
    """A container starts only after the init containers before it have succeeded."""
    results = [result for _, result in syncs(worker_for(pod_of(GOOD, init=(GOOD, GOOD))), 10)]
    events = [event for result in results for event in result.events]
    started = [event["involvedObject"]["fieldPath"] for event in events if event["reason"] == "Started"]
    assert ["spec.initContainers{i0}", "spec.initContainers{i1}", "spec.containers{c0}"] == started
    last = results[-1].status
    assert ["Completed"] * 2 == [status["state"]["terminated"]["reason"] for status in last["initContainerStatuses"]]
    assert "Running" == last["phase"]


def test_an_init_container_that_cannot_be_pulled_holds_the_rest() -> None:
    """The containers wait with PodInitializing, and have no Event."""
    results = [result for _, result in syncs(worker_for(pod_of(GOOD, init=(APP, GOOD))), 20)]
    events = [event for result in results for event in result.events]
    assert {"spec.initContainers{i0}"} == {event["involvedObject"]["fieldPath"] for event in events}
    assert {"reason": "PodInitializing"} == results[-1].status["containerStatuses"][0]["state"]["waiting"]


def test_a_sidecar_starts_first_and_stays() -> None:
    """An init container that always restarts keeps running, and is restarted for another image."""
    pod = pod_of(GOOD, init=(GOOD,))
    pod["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    worker = worker_for(pod)
    *_, (_, last) = syncs(worker, 10)
    assert "running" in last.status["initContainerStatuses"][0]["state"]
    assert "Running" == last.status["phase"]
    worker.update(with_image(pod, "initContainers", "127.0.0.1:5002/team/app:v2"))
    *_, (_, last) = syncs(worker, 10, START + timedelta(seconds=20))
    restarts = [last.status[key][0]["restartCount"] for key in ("initContainerStatuses", "containerStatuses")]
    assert [1, 0] == restarts


def test_a_sidecar_counts_for_readiness() -> None:
    """If a sidecar waits, the pod is not ready."""
    pod = pod_of(GOOD, init=(APP,))
    pod["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    *_, (_, last) = syncs(worker_for(pod), 10)
    assert "containers with incomplete status: [i0]" == last.status["conditions"][1]["message"]
    assert "containers with unready status: [i0 c0]" == last.status["conditions"][2]["message"]
    assert "Pending" == last.status["phase"]


@pytest.mark.parametrize("restart", ["Never", "OnFailure"])
def test_a_job_s_pod_succeeds_and_its_sidecar_ends(restart: str) -> None:
    """Containers that are not restarted end by themselves, then the sidecar ends, and the pod has succeeded."""
    pod = pod_of(GOOD, init=(GOOD,), restart=restart)
    pod["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    *_, (when, last) = syncs(worker_for(pod), 60)
    assert when < 5
    assert "Succeeded" == last.status["phase"]
    assert ["PodCompleted"] * 3 == [
        condition["reason"] for condition in last.status["conditions"] if "reason" in condition
    ]
    assert "terminated" in last.status["initContainerStatuses"][0]["state"]


@pytest.mark.parametrize(
    ("expected", "policy", "present"),
    [
        (["Pulled", "Created", "Started"], "IfNotPresent", True),
        (["Pulling", "Failed", "Failed"], "IfNotPresent", False),
        (["Pulling", "Failed", "Failed"], "Always", True),
        (["Pulled", "Created", "Started"], "Never", True),
        (["ErrImageNeverPull", "Failed"], "Never", False),
    ],
)
def test_the_pull_policy_decides_whether_an_image_is_pulled(expected: list[str], policy: str, present: bool) -> None:  # noqa: FBT001
    """An image on the node is pulled only with Always; with Never, no image is pulled."""
    worker = worker_for(pod_of(APP, imagePullPolicy=policy), present=APP if present else "")
    assert expected == [event["reason"] for event in worker.sync(START).events]


def test_an_image_with_an_invalid_name_is_not_pulled() -> None:
    """The Event has the recorded message of a real kubelet."""
    image = "127.0.0.1:5002/Team/App:v1"
    worker = worker_for(pod_of(image))
    inspect, failed = worker.sync(START).events
    recorded = next(event for event in items("events-1.20.json") if event["reason"] == "InspectFailed")
    assert recorded["message"].startswith(inspect["message"])
    assert "Error: InvalidImageName" == failed["message"]
    [status] = worker.sync(START + timedelta(seconds=1)).status["containerStatuses"]
    assert "InvalidImageName" == status["state"]["waiting"]["reason"]


def test_a_deleted_pod_stops_its_containers() -> None:
    """Running containers are killed, with an Event, and the pod ends in the phase Failed."""
    pod = pod_of(GOOD, APP)
    worker = worker_for(pod)
    list(syncs(worker, 5))
    deleted = deepcopy(pod)
    deleted["metadata"]["deletionTimestamp"] = "2026-11-23T00:41:57Z"
    assert worker.update(deleted)
    assert worker.terminating
    end = worker.terminate(START + timedelta(seconds=60))
    assert ["Stopping container c0"] == [event["message"] for event in end.events]
    assert "Failed" == end.status["phase"]
    assert 137 == end.status["containerStatuses"][0]["state"]["terminated"]["exitCode"]


def test_a_change_of_status_needs_no_sync() -> None:
    """The watch also returns the status that the kubelet itself wrote; no sync follows."""
    pod = pod_of(APP)
    worker = worker_for(pod)
    assert not worker.update(deepcopy(pod) | {"status": {"phase": "Running"}})


def test_a_pod_on_the_host_s_network_has_the_host_s_address() -> None:
    """A pod with hostNetwork has the address of its node."""
    pod = pod_of(GOOD)
    pod["spec"]["hostNetwork"] = True
    *_, (_, last) = syncs(worker_for(pod), 5)
    assert ("192.0.2.2", "192.0.2.2") == (last.status["hostIP"], last.status["podIP"])


def test_a_divided_pace_is_faster_in_everything() -> None:
    """Dividing a pace divides all its times."""
    fast = Pace().divided(100)
    assert timedelta(seconds=0.1) == fast.retry
    assert timedelta(seconds=3) == fast.longest_back_off
