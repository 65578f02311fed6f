"""Outages: which containers wait for a registry that is down, and which pulls may have stalled."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saffire.policy.history import timestamp
from saffire.pulls.cause import Cause
from saffire.pulls.failure import ANTICIPATED, PullFailure, Section
from saffire.pulls.outage import (
    RegistryDown,
    anticipate,
    containers_pulling,
    images_maybe_stalled,
    may_wait_for_sandbox,
    pulling_since,
    registries_reported_down,
    waiting_since,
)
from saffire.registry.reference import domain_of
from testkit.builders import FAILING, NOW, Object, running, waiting

DOWN = {"quay.io": RegistryDown(reason=ANTICIPATED, cause=Cause.TIMEOUT)}
ELSEWHERE = "ghcr.io/acme/side:1"
CREATING, INITIALIZING = "ContainerCreating", "PodInitializing"


def ended(name: str, code: int) -> Object:
    """Return the status of an init container that has ended with an exit code."""
    return {"name": name, "imageID": f"{FAILING}@sha256:d03c", "state": {"terminated": {"exitCode": code}}}


def succeeded(name: str) -> Object:
    """Return the status of an init container that has succeeded."""
    return ended(name, 0)


def pod(*statuses: Object, init: tuple[Object, ...] = (), seconds: int = 60, **spec: Any) -> Object:
    """Return a pod that its node started so many seconds ago."""
    inits = [
        {"name": status["name"], "image": status.pop("spec", FAILING), **status.pop("fields", {})} for status in init
    ]
    mains = [{"name": status["name"], "image": status.pop("spec", FAILING)} for status in statuses]
    started = timestamp(NOW - timedelta(seconds=seconds))
    return {
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "pod-uid"},
        "spec": {"nodeName": "node1", "initContainers": inits, "containers": mains, **spec},
        "status": {"startTime": started, "initContainerStatuses": list(init), "containerStatuses": list(statuses)},
    }


def creating(name: str = "web", image: str = FAILING, reason: str = CREATING) -> Object:
    """Return the status of a container that is being created; `spec` is the image of its spec."""
    return {**waiting(name, reason=reason), "spec": image}


def with_sandbox(ready: str) -> Object:
    """Return a pod whose container is being created, with the condition that its sandbox is ready, or not."""
    made = pod(creating())
    made["status"]["conditions"] = [{"type": "PodReadyToStartContainers", "status": ready}]
    return made


def never_pulling(manifest: Object, name: str) -> Object:
    """Return a pod whose container of this name has `imagePullPolicy: Never`."""
    for container in manifest["spec"]["containers"]:
        container["imagePullPolicy"] = "Never" if container["name"] == name else "Always"
    return manifest


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param(["web"], pod(creating()), id="being-created"),
        pytest.param(["web", "side"], pod(creating(), creating("side")), id="two"),
        pytest.param([], pod(running()), id="running"),
        pytest.param([], pod(waiting()), id="failed-already"),
        pytest.param([], pod(creating(), nodeName=""), id="without-a-node"),
        pytest.param(["web"], with_sandbox("False"), id="first-pull-or-waits-for-a-volume"),
        pytest.param(["a"], pod(creating(reason=INITIALIZING), init=(creating("a"), creating("b"))), id="first-init"),
        pytest.param(["b"], pod(creating(reason=INITIALIZING), init=(succeeded("a"), creating("b"))), id="second-init"),
        pytest.param([], pod(creating(reason=INITIALIZING), init=(running("a"),)), id="init-runs"),
        pytest.param(["side"], never_pulling(pod(creating(), creating("side")), "web"), id="never-pulled"),
        pytest.param(["web"], pod(creating(reason=INITIALIZING), init=(succeeded("a"),)), id="init-done"),
        pytest.param(
            ["web"],
            pod(creating(reason=INITIALIZING), init=({**running("a"), "fields": {"restartPolicy": "Always"}},)),
            id="beside-a-sidecar",
        ),
        pytest.param([], pod(creating(reason=INITIALIZING), init=(ended("a", 1),)), id="init-failed"),
        pytest.param(
            [],
            pod(creating(reason=INITIALIZING), init=({**ended("a", 1), "fields": {"restartPolicy": "Always"}},)),
            id="a-sidecar-failed",
        ),
    ],
)
def test_a_node_pulls_for_the_containers_that_nothing_holds_up(expected: list[str], manifest: Object) -> None:
    """A container that waits for an init container does not wait for a registry yet."""
    assert expected == [container.name for container in containers_pulling(manifest)]


@pytest.mark.parametrize(
    ("expected", "manifest"), [(True, with_sandbox("False")), (False, with_sandbox("True")), (False, pod(creating()))]
)
def test_a_pod_may_wait_for_its_sandbox(expected: bool, manifest: Object) -> None:  # noqa: FBT001 - the row's answer
    """A kubelet says so until the first pull has ended, so only an Event tells whether the pod pulls."""
    assert expected == may_wait_for_sandbox(manifest)


def test_all_later_pulls_from_the_registry_are_anticipated_too() -> None:
    """A later container would cost a rollout of its own; an image of another registry is not anticipated."""
    manifest = pod(
        creating("web", reason=INITIALIZING), creating("side", ELSEWHERE, INITIALIZING), init=(creating("prepare"),)
    )
    failures = anticipate(manifest, DOWN, now=NOW)
    reasons = [(failure.container, failure.reason) for failure in failures]
    assert [("web", ANTICIPATED), ("prepare", ANTICIPATED)] == reasons
    assert {Cause.TIMEOUT} == {failure.cause for failure in failures}


def test_an_image_that_nodes_have_already_is_moved_along_with_none() -> None:
    """A kubelet that may not pull starts no container from an alternative, which the node does not have."""
    manifest = pod(creating(reason=INITIALIZING), creating("side", reason=INITIALIZING), init=(creating("prepare"),))
    failures = anticipate(never_pulling(manifest, "web"), DOWN, now=NOW)
    assert ["side", "prepare"] == [failure.container for failure in failures]


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(pod(creating(), seconds=9), id="just-begun"),
        pytest.param(pod(creating(image=ELSEWHERE)), id="another-registry"),
        pytest.param(pod(creating("side", ELSEWHERE), running()), id="running-from-there"),
        pytest.param({**pod(creating()), "status": {}}, id="no-status"),
        pytest.param({**pod(creating()), "status": {"startTime": "soon"}}, id="no-time"),
    ],
)
def test_no_other_failure_is_anticipated(manifest: Object) -> None:
    """A container that runs is left alone, and a pull that has just begun may still succeed."""
    assert () == anticipate(manifest, DOWN, now=NOW)


@pytest.mark.parametrize(("expected", "seconds"), [([FAILING], 120), ([], 119)])
def test_a_pull_may_have_stalled_after_two_minutes(expected: list[str], seconds: int) -> None:
    """Before that, its registry is not asked."""
    manifest = pod(creating(), seconds=seconds)
    assert expected == list(images_maybe_stalled(manifest, now=NOW, after=timedelta(minutes=2)))


def test_a_registry_is_reported_down_by_the_cause_of_a_failure() -> None:
    """A registry is down if no image can be pulled, not if it lacks an image or throttles."""
    causes = {"a.io/x": Cause.REFUSED, "b.io/x": Cause.ABSENT, "c.io:5000/x": Cause.TIMEOUT, "d.io/x": Cause.THROTTLED}
    failures = [
        PullFailure(section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull", cause=cause)
        for image, cause in causes.items()
    ]
    assert {"a.io", "c.io:5000"} == registries_reported_down(failures).keys()


def test_an_image_that_is_no_reference_has_no_registry() -> None:
    """`decide.check_pod` leaves such a failure alone."""
    assert "" == domain_of("BAD//::x")


STARTED = datetime(2026, 11, 23, 2, 0, 0, tzinfo=UTC)


def started(at: Any, *ends: Any) -> Object:
    """Return a pod that its node started at a time, and whose init containers ended at these times."""
    inits = [
        {"name": f"init-{number}", "state": {"terminated": {"finishedAt": end}}} for number, end in enumerate(ends)
    ]
    return {"status": {"startTime": at, "initContainerStatuses": inits}}


@pytest.mark.parametrize(
    ("manifest", "since"),
    [
        (started("2026-11-23T02:00:00Z"), STARTED),
        (started("2026-11-23T03:00:00+01:00"), STARTED),
        (started("2026-11-23T01:00:00Z", "2026-11-23T01:59:00Z", "2026-11-23T02:00:00Z"), STARTED),
        (started("2026-11-23T02:00:00Z", "2026-11-23T01:00:00Z"), STARTED),
        (started("2026-11-23T02:00:00Z", ""), STARTED),
        (started(""), None),
        ({}, None),
        (started("yesterday"), None),
        (started("2026-11-23T02:00:00Z", "yesterday"), None),
        (started("0001-01-01T00:00:00+23:59"), None),
    ],
)
def test_a_pull_began_when_the_pod_started_or_its_last_init_container_ended(
    manifest: Object, since: datetime | None
) -> None:
    """If one of the times cannot be read, nobody knows when the pull began."""
    assert since == pulling_since(manifest)


# Since when a pod has waited


def with_condition(status: str, seconds: int, kind: str = "ContainersReady") -> Object:
    """Return a pod that started a minute ago, and whose condition changed so many seconds ago."""
    made = pod(waiting())
    changed = timestamp(NOW - timedelta(seconds=seconds))
    made["status"]["conditions"] = [{"type": kind, "status": status, "lastTransitionTime": changed}]
    return made


@pytest.mark.parametrize(
    ("seconds", "manifest"),
    [
        pytest.param(60, with_condition("False", 60), id="since-its-start"),
        pytest.param(5, with_condition("False", 5), id="since-a-container-ended"),
        pytest.param(60, with_condition("False", 90), id="by-a-condition-older-than-its-start"),
        pytest.param(None, with_condition("True", 5), id="it-is-ready"),
        pytest.param(None, with_condition("False", 5, kind="Ready"), id="its-containers-are-ready"),
        pytest.param(None, pod(waiting()), id="no-condition"),
    ],
)
def test_since_when_a_pod_has_waited(seconds: int | None, manifest: Object) -> None:
    """A pod that ran for days has not waited for days; one that is ready does not wait."""
    expected = None if seconds is None else NOW - timedelta(seconds=seconds)
    assert expected == waiting_since(manifest)


def test_a_time_that_cannot_be_read_tells_nothing() -> None:
    """Then the other time counts."""
    made = with_condition("False", 5)
    made["status"]["conditions"][0]["lastTransitionTime"] = "yesterday"
    assert NOW - timedelta(minutes=1) == waiting_since(made)
