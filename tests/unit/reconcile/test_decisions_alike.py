"""Likeness: pods that are alike share a plan, and pods that share a plan would have had the same one."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import InvalidManifest
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered, decide
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import Failover, MissingSecret
from saffire.pulls.failure import STALLED, FailingPod, PullFailure, find_pull_failures
from saffire.reconcile.decisions import applies_to_alike, plans_for, pod_traits
from saffire.registry.platforms import Platform
from testkit.builders import FAILING, NOW, OPT_OUT, SECOND, Object, annotated, chain, moved, pod, source, waiting
from testkit.strategies import json_values, paths_into, replaced, scenes

AMD64 = (Platform(os="linux", architecture="amd64"),)
REFUSED = "dial tcp 10.0.0.1:443: connect: connection refused"
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "web-1", "controller": True}
NAMESPACE = {"metadata": {"name": "shop"}}


def case(made: Object) -> FailingPod:
    """Return a pod with the failures that its status shows."""
    return FailingPod(pod=made, failures=find_pull_failures(made))


def owned(made: Object, **fields: Any) -> Object:
    """Return a pod of a ReplicaSet."""
    return with_field(made, "metadata", "ownerReferences", [{**OWNER, **fields}])


def with_field(made: Object, part: str, field: str, value: Any) -> Object:
    """Return a pod with one field of a part of it written."""
    return {**made, part: {**made[part], field: value}}


ONE = owned(pod(waiting(message=REFUSED)))
BOTH = {"web": FAILING, "side": FAILING}
STUCK = FailingPod(pod=ONE, failures=(replace(find_pull_failures(ONE)[0], reason=STALLED),))


def test_pods_of_one_template_are_alike() -> None:
    """They may differ in their names, in their nodes of one platform, and in the port that was refused."""
    refused = owned(pod(waiting(message=REFUSED.replace("443", "5000"))))
    other = with_field(with_field(refused, "metadata", "name", "web-2"), "spec", "nodeName", "node-2")
    assert pod_traits(case(ONE), AMD64) == pod_traits(case(other), AMD64)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(case(owned(pod(waiting(message="manifest unknown: not found")))), id="another-cause"),
        pytest.param(case(owned(pod(waiting(image=SECOND, message=REFUSED), web=SECOND))), id="another-image"),
        pytest.param(case(owned(pod(waiting("side", message=REFUSED), **BOTH))), id="another-container"),
        pytest.param(
            case(owned(pod(waiting(message=REFUSED), section="initContainers", web=FAILING))), id="another-section"
        ),
        pytest.param(STUCK, id="another-reason"),
        pytest.param(case(owned(ONE, name="api-1", uid="api-1")), id="another-controller"),
        pytest.param(case(annotated(ONE, OPT_OUT)), id="opted-out"),
        pytest.param(
            case(annotated(ONE, {ANNOTATION: History((moved(SECOND, FAILING),)).rendered()})), id="moved-before"
        ),
        pytest.param(case(annotated(ONE, {"kubernetes.io/config.mirror": "hash"})), id="static"),
        pytest.param(case(with_field(ONE, "metadata", "deletionTimestamp", "2026-11-23T02:00:00Z")), id="terminating"),
        pytest.param(case(with_field(ONE, "status", "phase", "Failed")), id="evicted"),
        pytest.param(case(with_field(ONE, "spec", "imagePullSecrets", [{"name": "quay"}])), id="pull-secret"),
    ],
)
def test_what_a_plan_looks_at_tells_pods_apart(other: FailingPod) -> None:
    """One of them may need another plan."""
    assert other.failures
    assert pod_traits(case(ONE), AMD64) != pod_traits(other, AMD64)


@pytest.mark.parametrize("node", [(), "node-2", (Platform(os="linux", architecture="arm64"),)])
def test_what_is_known_of_the_node_tells_pods_apart(node: tuple[Platform, ...] | str) -> None:
    """An image may lack what another node needs."""
    assert pod_traits(case(ONE), node) == pod_traits(case(ONE), node)
    assert pod_traits(case(ONE), AMD64) != pod_traits(case(ONE), node)


def test_a_shared_plan_tells_of_each_pod_s_own_failure() -> None:
    """The log and the answer quote what its node's runtime said."""
    other = owned(pod(waiting(message=REFUSED.replace("443", "5000"))))
    scene = Gathered(namespace=NAMESPACE, pod=ONE, sources=(source(verification="Off"),), owners=chain("Deployment"))
    plans = tuple(decide(failure, scene, now=NOW) for failure in find_pull_failures(ONE))
    assert [Failover] == [type(plan) for plan in plans]
    assert applies_to_alike(plans, ONE)
    assert find_pull_failures(other) == tuple(plan.failure for plan in plans_for(plans, find_pull_failures(other)))


@pytest.mark.parametrize(
    ("made", "owners"),
    [
        pytest.param(ONE, Owners(), id="a-pod-alone"),
        pytest.param(annotated(ONE, OPT_OUT), chain("Deployment"), id="opted-out"),
    ],
)
def test_a_plan_that_names_its_pod_is_not_shared(made: Object, owners: Owners) -> None:
    """Nobody is told another pod's name."""
    scene = Gathered(namespace=NAMESPACE, pod=made, sources=(source(verification="Off"),), owners=owners)
    assert not applies_to_alike([decide(failure, scene, now=NOW) for failure in find_pull_failures(made)], made)


def test_a_plan_that_adds_a_pull_secret_is_not_shared() -> None:
    """What its template is to name depends on what the pod was given."""
    scene = Gathered(namespace=NAMESPACE, pod=ONE, sources=(source(verification="Off"),), owners=chain("Deployment"))
    plan = decide(find_pull_failures(ONE)[0], scene, now=NOW)
    assert isinstance(plan, Failover)
    assert not applies_to_alike([replace(plan, missing_secret=MissingSecret(secret="quay"))], ONE)  # noqa: S106 - its name


def full(made: Object) -> Object:
    """Return a pod that says all that a pod may say, and that a plan may look at."""
    metadata = {"labels": {"app": "web"}, "generation": 1, "ownerReferences": [OWNER], **made["metadata"]}
    spec = {"nodeName": "node-1", "serviceAccountName": "web", "imagePullSecrets": [{"name": "quay"}], **made["spec"]}
    return {**made, "metadata": metadata, "spec": spec, "status": {"phase": "Pending", **made["status"]}}


@given(scenes(), st.data(), json_values())
def test_pods_that_are_alike_would_have_had_the_same_plan(
    drawn: tuple[PullFailure, Gathered], data: st.DataObject, value: Any
) -> None:
    """Another value at any place of a pod either tells it apart, or changes nothing of what is decided."""
    _, scene = drawn
    one = case(full(dict(scene.pod)))
    try:
        other = case(replaced(one.pod, data.draw(paths_into(one.pod)), value))
        is_alike = pod_traits(one, AMD64) == pod_traits(other, AMD64)
    except (InvalidManifest, AttributeError, TypeError):  # another pod than the API server has
        return
    assert hash(pod_traits(one, AMD64))
    plans = tuple(decide(failure, replace(scene, pod=one.pod), now=NOW) for failure in one.failures)
    if is_alike and applies_to_alike(plans, one.pod):
        seen = replace(scene, pod=other.pod)
        assert plans_for(plans, other.failures) == tuple(decide(failure, seen, now=NOW) for failure in other.failures)
