"""Likeness: pods that are alike share a plan, and pods that share a plan would have had the same one."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from objects import FAILING, NOW, OPT_OUT, SECOND, Object, annotated, chain, moved, pod, source, waiting
from strategies import json_values, paths_into, replaced, scenes

from saffire.failure import Case, PullFailure, find
from saffire.history import ANNOTATION, History
from saffire.likeness import is_shared, likeness, shared
from saffire.manifest import InvalidManifest
from saffire.plan import Failover, Scene, decide
from saffire.platforms import Platform
from saffire.pullsecrets import Lack
from saffire.workload import Owners

AMD64 = (Platform(os="linux", architecture="amd64"),)
ONE = pod(waiting(message="dial tcp 10.0.0.1:443: connect: connection refused"))
NAMESPACE = {"metadata": {"name": "shop"}}


def case(made: Object) -> Case:
    """Return a pod with the failures that its status shows."""
    return Case(pod=made, failures=find(made))


def with_field(made: Object, part: str, field: str, value: Any) -> Object:
    """Return a pod with one field of a part of it written."""
    return {**made, part: {**made[part], field: value}}


def test_pods_of_one_template_are_alike() -> None:
    """Whatever their names, their nodes of one platform, and the port that a refused connection came from."""
    refused = pod(waiting(message="dial tcp 10.0.0.2:443: connect: connection refused"))
    other = with_field(refused, "metadata", "name", "web-2")
    assert likeness(case(ONE), AMD64) == likeness(case(with_field(other, "spec", "nodeName", "node-2")), AMD64)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(pod(waiting(message="manifest unknown: not found")), id="another-cause"),
        pytest.param(pod(waiting(image=SECOND), web=SECOND), id="another-image"),
        pytest.param(annotated(ONE, OPT_OUT), id="opted-out"),
        pytest.param(annotated(ONE, {ANNOTATION: History((moved(SECOND, FAILING),)).rendered()}), id="moved-before"),
        pytest.param(annotated(ONE, {"kubernetes.io/config.mirror": "hash"}), id="static"),
        pytest.param(with_field(ONE, "metadata", "deletionTimestamp", "2026-11-23T02:00:00Z"), id="terminating"),
        pytest.param(with_field(ONE, "status", "phase", "Failed"), id="evicted"),
        pytest.param(with_field(ONE, "spec", "imagePullSecrets", [{"name": "quay"}]), id="pull-secret"),
    ],
)
def test_what_a_plan_looks_at_tells_pods_apart(other: Object) -> None:
    """One of them may need another plan."""
    assert likeness(case(ONE), AMD64) != likeness(case(other), AMD64)


def test_a_node_of_unknown_platform_is_like_itself_alone() -> None:
    """An image may lack what another node needs."""
    other = with_field(ONE, "spec", "nodeName", "node-2")
    assert likeness(case(ONE), ()) != likeness(case(other), ())
    assert likeness(case(ONE), AMD64) != likeness(case(ONE), (Platform(os="linux", architecture="arm64"),))


def test_a_shared_plan_tells_of_each_pod_s_own_failure() -> None:
    """The log and the answer quote what its node's runtime said."""
    other = pod(waiting(message="dial tcp 10.0.0.2:443: connect: connection refused"))
    scene = Scene(namespace=NAMESPACE, pod=ONE, sources=(source(verification="Off"),), owners=chain("Deployment"))
    plans = tuple(decide(failure, scene, now=NOW) for failure in find(ONE))
    assert [Failover] == [type(plan) for plan in plans]
    assert is_shared(plans, ONE)
    assert find(other) == tuple(plan.failure for plan in shared(plans, find(other)))


@pytest.mark.parametrize(
    ("made", "owners"),
    [
        pytest.param(ONE, Owners(), id="a-pod-alone"),
        pytest.param(annotated(ONE, OPT_OUT), chain("Deployment"), id="opted-out"),
    ],
)
def test_a_plan_that_names_its_pod_is_not_shared(made: Object, owners: Owners) -> None:
    """Nobody is told another pod's name."""
    scene = Scene(namespace=NAMESPACE, pod=made, sources=(source(verification="Off"),), owners=owners)
    assert not is_shared([decide(failure, scene, now=NOW) for failure in find(made)], made)


def test_a_plan_that_adds_a_pull_secret_is_not_shared() -> None:
    """What its template is to name depends on what the pod was given."""
    scene = Scene(namespace=NAMESPACE, pod=ONE, sources=(source(verification="Off"),), owners=chain("Deployment"))
    plan = decide(find(ONE)[0], scene, now=NOW)
    assert isinstance(plan, Failover)
    assert not is_shared([replace(plan, lack=Lack(secret="quay"))], ONE)  # noqa: S106 - its name


@given(scenes(), st.data(), json_values())
def test_pods_that_are_alike_would_have_had_the_same_plan(
    drawn: tuple[PullFailure, Scene], data: st.DataObject, value: Any
) -> None:
    """Any value at any place of a pod either tells it apart, or changes nothing of what is decided."""
    _, scene = drawn
    one = case(dict(scene.pod))
    try:
        other = case(replaced(one.pod, data.draw(paths_into(one.pod)), value))
        is_alike = likeness(one, AMD64) == likeness(other, AMD64)
    except (InvalidManifest, AttributeError, TypeError):  # another pod than the API server has
        return
    plans = tuple(decide(failure, scene, now=NOW) for failure in one.failures)
    if is_alike and is_shared(plans, one.pod):
        seen = Scene(namespace=scene.namespace, pod=other.pod, sources=scene.sources, owners=scene.owners)
        assert shared(plans, other.failures) == tuple(decide(failure, seen, now=NOW) for failure in other.failures)
