"""Incidents: which containers wait for a registry that is down, and for how long something may hang."""

from datetime import timedelta
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
    registries_reported_down,
)
from saffire.registry.reference import domain_of
from testkit.builders import FAILING, NOW, Object, running, waiting

DOWN = {"quay.io": RegistryDown(reason=ANTICIPATED, cause=Cause.TIMEOUT)}
ELSEWHERE = "ghcr.io/acme/side:1"
CREATING, INITIALIZING = "ContainerCreating", "PodInitializing"


def done(name: str) -> Object:
    """Return the status of an init container that has ended well."""
    return {"name": name, "imageID": f"{FAILING}@sha256:d03c", "state": {"terminated": {"exitCode": 0}}}


def pod(*statuses: Object, init: tuple[Object, ...] = (), seconds: int = 60, **spec: Any) -> Object:
    """Return a pod that its node began with so many seconds ago."""
    inits = [{"name": one["name"], "image": one.pop("spec", FAILING), **one.pop("fields", {})} for one in init]
    mains = [{"name": one["name"], "image": one.pop("spec", FAILING)} for one in statuses]
    started = timestamp(NOW - timedelta(seconds=seconds))
    return {
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "pod-uid"},
        "spec": {"nodeName": "node1", "initContainers": inits, "containers": mains, **spec},
        "status": {"startTime": started, "initContainerStatuses": list(init), "containerStatuses": list(statuses)},
    }


def creating(name: str = "web", image: str = FAILING, reason: str = CREATING) -> Object:
    """Return the status of a container that is being created, with what its spec names."""
    return {**waiting(name, reason=reason), "spec": image}


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        pytest.param(["web"], pod(creating()), id="being-created"),
        pytest.param(["web", "side"], pod(creating(), creating("side")), id="two"),
        pytest.param([], pod(running()), id="running"),
        pytest.param([], pod(waiting()), id="failed-already"),
        pytest.param([], pod(creating(), nodeName=""), id="without-a-node"),
        pytest.param(["a"], pod(creating(reason=INITIALIZING), init=(creating("a"), creating("b"))), id="first-init"),
        pytest.param(["b"], pod(creating(reason=INITIALIZING), init=(done("a"), creating("b"))), id="second-init"),
        pytest.param([], pod(creating(reason=INITIALIZING), init=(running("a"),)), id="init-runs"),
        pytest.param(["web"], pod(creating(reason=INITIALIZING), init=(done("a"),)), id="init-done"),
        pytest.param(
            ["web"],
            pod(creating(reason=INITIALIZING), init=({**running("a"), "fields": {"restartPolicy": "Always"}},)),
            id="beside-a-sidecar",
        ),
    ],
)
def test_a_node_pulls_for_the_containers_whose_turn_it_is(expected: list[str], seen: Object) -> None:
    """Whoever waits for an init container waits for no registry."""
    assert expected == [one.name for one in containers_pulling(seen)]


def test_all_that_will_be_pulled_from_there_moves_at_once() -> None:
    """The container whose turn comes later too, since it would cost a rollout of its own; no other registry's."""
    seen = pod(
        creating("web", reason=INITIALIZING), creating("side", ELSEWHERE, INITIALIZING), init=(creating("prepare"),)
    )
    found = anticipate(seen, DOWN, now=NOW)
    assert [("web", ANTICIPATED), ("prepare", ANTICIPATED)] == [(one.container, one.reason) for one in found]
    assert {Cause.TIMEOUT} == {one.cause for one in found}


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(pod(creating(), seconds=9), id="just-begun"),
        pytest.param(pod(creating(image=ELSEWHERE)), id="another-registry"),
        pytest.param(pod(creating("side", ELSEWHERE), running()), id="running-from-there"),
        pytest.param({**pod(creating()), "status": {}}, id="no-status"),
        pytest.param({**pod(creating()), "status": {"startTime": "soon"}}, id="no-time"),
    ],
)
def test_nothing_else_is_anticipated(seen: Object) -> None:
    """What runs is not touched, and a pull that has just begun may still work."""
    assert () == anticipate(seen, DOWN, now=NOW)


@pytest.mark.parametrize(("expected", "seconds"), [([FAILING], 120), ([], 119)])
def test_a_pull_may_take_its_time(expected: list[str], seconds: int) -> None:
    """Only after that may its registry be one that hangs."""
    seen = pod(creating(), seconds=seconds)
    assert expected == list(images_maybe_stalled(seen, now=NOW, after=timedelta(minutes=2)))


def test_a_registry_is_suspected_by_what_a_runtime_says() -> None:
    """Down is one that nobody can pull from, not one that lacks an image or throttles."""
    causes = {"a.io/x": Cause.REFUSED, "b.io/x": Cause.ABSENT, "c.io:5000/x": Cause.TIMEOUT, "d.io/x": Cause.THROTTLED}
    failures = [
        PullFailure(section=Section.CONTAINERS, container="web", image=image, reason="ErrImagePull", cause=cause)
        for image, cause in causes.items()
    ]
    assert {"a.io", "c.io:5000"} == registries_reported_down(failures).keys()


def test_an_image_that_is_no_reference_has_no_registry() -> None:
    """It is left alone elsewhere."""
    assert "" == domain_of("BAD//::x")
