"""Traits of pods: pods with the same traits share a plan, and each would have the same plan alone."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import InvalidManifest
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered
from saffire.policy.history import ANNOTATION, History, RecordedMove, RecordedMoves
from saffire.policy.plan import Failover, Leave, MissingSecret, Reason
from saffire.policy.reach import FaultEvidence
from saffire.pulls.failure import STALLED, FailingPod, PullFailure, Section, find_pull_failures
from saffire.reconcile.gather import applies_to_alike, plans_for, pod_traits
from saffire.registry.availability import Available
from saffire.registry.platforms import Platform
from testkit.builders import FAILING, NOW, OPT_OUT, SECOND, Object, annotated, chain, moved, pod, source, waiting
from testkit.decisions import decide
from testkit.strategies import gathered_failures, json_values, paths_into, replaced

AMD64 = (Platform(os="linux", architecture="amd64"),)
REFUSED = "dial tcp 10.0.0.1:443: connect: connection refused"
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "web-1", "controller": True}
NAMESPACE = {"metadata": {"name": "shop"}}


def failing(made: Object) -> FailingPod:
    """Return a pod with the failures that its status shows."""
    return FailingPod(pod=made, failures=find_pull_failures(made))


def owned(made: Object, **fields: Any) -> Object:
    """Return a pod of a ReplicaSet."""
    return with_field(made, "metadata", "ownerReferences", [{**OWNER, **fields}])


def with_field(made: Object, part: str, field: str, value: Any) -> Object:
    """Return a pod with one field of one of its parts changed."""
    return {**made, part: {**made[part], field: value}}


POD = owned(pod(waiting(message=REFUSED)))
BOTH = {"web": FAILING, "side": FAILING}
STUCK = FailingPod(pod=POD, failures=(replace(find_pull_failures(POD)[0], reason=STALLED),))


def test_pods_of_one_template_have_the_same_traits() -> None:
    """Their names, their nodes of one platform, and the port that refused the connection may differ."""
    refused = owned(pod(waiting(message=REFUSED.replace("443", "5000"))))
    other = with_field(with_field(refused, "metadata", "name", "web-2"), "spec", "nodeName", "node-2")
    assert pod_traits(failing(POD), AMD64) == pod_traits(failing(other), AMD64)


def test_a_pod_that_was_made_anew_has_other_traits() -> None:
    """Its plan depends on what happened to the pod of its name before."""
    entry = moved(FAILING, SECOND)
    move = RecordedMove(entry=entry, uid="web", kind="StatefulSet", namespace="shop", pods=("web-0",))
    recorded = RecordedMoves([move])
    other = with_field(POD, "metadata", "name", "web-2")
    assert pod_traits(failing(POD), AMD64, recorded) != pod_traits(failing(other), AMD64, recorded)
    assert pod_traits(failing(other), AMD64, recorded) == pod_traits(failing(other), AMD64)


def labelled(made: Object, **labels: str) -> FailingPod:
    """Return a pod with these labels."""
    return failing(with_field(made, "metadata", "labels", labels))


def test_pods_of_one_workload_have_some_labels_of_their_own() -> None:
    """Other labels say whose pod it is: a controller takes no pod for its own that its selector does not select."""
    name = {"statefulset.kubernetes.io/pod-name": "web-7", "apps.kubernetes.io/pod-index": "7"}
    first, second = labelled(POD, app="web"), labelled(POD, app="web", **name)
    assert pod_traits(first, AMD64) == pod_traits(second, AMD64)
    assert pod_traits(first, AMD64) != pod_traits(labelled(POD, app="other"), AMD64)


def test_a_pod_that_no_stateful_set_would_name_so_has_other_traits() -> None:
    """The name of a pod is its own, but that it fits its owner is not."""
    of_set = owned(POD, kind="StatefulSet", name="web")
    names = ("web-0", "web-7", "rogue")
    first, second, rogue = (pod_traits(failing(with_field(of_set, "metadata", "name", name)), AMD64) for name in names)
    assert (True, False) == (first == second, first == rogue)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(failing(owned(pod(waiting(message="manifest unknown: not found")))), id="another-cause"),
        pytest.param(failing(owned(pod(waiting(image=SECOND, message=REFUSED), web=SECOND))), id="another-image"),
        pytest.param(failing(owned(pod(waiting("side", message=REFUSED), **BOTH))), id="another-container"),
        pytest.param(
            failing(owned(pod(waiting(message=REFUSED), section="initContainers", web=FAILING))), id="another-section"
        ),
        pytest.param(failing(owned(pod(waiting(message=f"failed to copy: {REFUSED}")))), id="at-a-part"),
        pytest.param(STUCK, id="another-reason"),
        pytest.param(failing(owned(POD, name="api-1", uid="api-1")), id="another-controller"),
        pytest.param(failing(annotated(POD, OPT_OUT)), id="opted-out"),
        pytest.param(
            failing(annotated(POD, {ANNOTATION: History((moved(SECOND, FAILING),)).rendered()})), id="moved-before"
        ),
        pytest.param(failing(annotated(POD, {"kubernetes.io/config.mirror": "hash"})), id="static"),
        pytest.param(
            failing(with_field(POD, "metadata", "deletionTimestamp", "2026-11-23T02:00:00Z")), id="terminating"
        ),
        pytest.param(failing(with_field(POD, "status", "phase", "Failed")), id="evicted"),
        pytest.param(failing(with_field(POD, "spec", "imagePullSecrets", [{"name": "quay"}])), id="pull-secret"),
    ],
)
def test_what_a_plan_looks_at_tells_pods_apart(other: FailingPod) -> None:
    """These pods may need different plans."""
    assert other.failures
    assert pod_traits(failing(POD), AMD64) != pod_traits(other, AMD64)


@pytest.mark.parametrize("node", [(), "node-2", (Platform(os="linux", architecture="arm64"),)])
def test_the_platform_of_the_node_tells_pods_apart(node: tuple[Platform, ...] | str) -> None:
    """An image may lack the platform of another node."""
    assert pod_traits(failing(POD), node) == pod_traits(failing(POD), node)
    assert pod_traits(failing(POD), AMD64) != pod_traits(failing(POD), node)


def test_a_shared_plan_has_the_failure_of_each_pod() -> None:
    """The log and the answer quote the error of the pod's own node."""
    other = owned(pod(waiting(message=REFUSED.replace("443", "5000"))))
    gathered = Gathered(namespace=NAMESPACE, pod=POD, sources=(source(verification="Off"),), owners=chain("Deployment"))
    plans = tuple(decide(failure, gathered, now=NOW) for failure in find_pull_failures(POD))
    assert [Failover] == [type(plan) for plan in plans]
    assert applies_to_alike(plans, POD)
    assert find_pull_failures(other) == tuple(plan.failure for plan in plans_for(plans, find_pull_failures(other)))


@pytest.mark.parametrize(
    ("made", "owners"),
    [
        pytest.param(POD, Owners(), id="a-pod-alone"),
        pytest.param(annotated(POD, OPT_OUT), chain("Deployment"), id="opted-out"),
    ],
)
def test_a_plan_that_names_its_pod_is_not_shared(made: Object, owners: Owners) -> None:
    """The answer about a pod never has the name of another pod."""
    gathered = Gathered(namespace=NAMESPACE, pod=made, sources=(source(verification="Off"),), owners=owners)
    assert not applies_to_alike([decide(failure, gathered, now=NOW) for failure in find_pull_failures(made)], made)


@pytest.mark.parametrize("section", ["containers", "volumes"])
def test_a_plan_that_rests_on_one_node_is_not_shared(section: str) -> None:
    """The pod of another node may move, and its Event never has the name of this node."""
    made = with_field(POD, "spec", "nodeName", "node-1")
    owners = chain("Deployment")
    for owner in owners.chain:
        owner["spec"]["template"]["spec"]["volumes"] = [{"name": "web", "image": {"reference": FAILING}}]
    failure = replace(find_pull_failures(POD)[0], section=Section(section))
    is_lost = section == "containers"
    evidence = FaultEvidence(
        answer=Available(digest="sha256:1"),
        other_registries=frozenset({"ghcr.io"} if is_lost else ()),
        tries=2,
    )
    gathered = Gathered(
        namespace=NAMESPACE,
        pod=made,
        sources=(source(verification="Off"),),
        owners=replace(owners, chain=({**owners.chain[-1], "status": {"readyReplicas": 4}},)),
        faults={failure: evidence},
    )
    plan = decide(failure, gathered, now=NOW)
    assert isinstance(plan, Leave)
    assert (Reason.NODE_FAULT if is_lost else Reason.IMAGE_VOLUME) is plan.reason
    assert not applies_to_alike([plan], made)


def test_a_plan_that_adds_a_pull_secret_is_not_shared() -> None:
    """Which pull secrets the template gets depends on the pull secrets of the pod."""
    gathered = Gathered(namespace=NAMESPACE, pod=POD, sources=(source(verification="Off"),), owners=chain("Deployment"))
    plan = decide(find_pull_failures(POD)[0], gathered, now=NOW)
    assert isinstance(plan, Failover)
    assert not applies_to_alike([replace(plan, missing_secret=MissingSecret(secret="quay"))], POD)  # noqa: S106 - its name


def full(made: Object) -> Object:
    """Return a pod with every field that a plan may look at."""
    metadata = {"labels": {"app": "web"}, "generation": 1, "ownerReferences": [OWNER], **made["metadata"]}
    spec = {"nodeName": "node-1", "serviceAccountName": "web", "imagePullSecrets": [{"name": "quay"}], **made["spec"]}
    return {**made, "metadata": metadata, "spec": spec, "status": {"phase": "Pending", **made["status"]}}


@given(gathered_failures(), st.data(), json_values())
def test_pods_with_the_same_traits_would_have_the_same_plan(
    drawn: tuple[PullFailure, Gathered], data: st.DataObject, value: Any
) -> None:
    """Another value at any path of a pod either changes its traits or leaves the decision as it is."""
    _, gathered = drawn
    first = failing(full(dict(gathered.pod)))
    try:
        other = failing(replaced(first.pod, data.draw(paths_into(first.pod)), value))
        is_alike = pod_traits(first, AMD64) == pod_traits(other, AMD64)
        of_other = replace(gathered, pod=other.pod)
        expected = tuple(decide(failure, of_other, now=NOW) for failure in other.failures)
    except (InvalidManifest, AttributeError, TypeError):  # another pod than the API server has
        return
    assert hash(pod_traits(first, AMD64))
    plans = tuple(decide(failure, replace(gathered, pod=first.pod), now=NOW) for failure in first.failures)
    if is_alike and applies_to_alike(plans, first.pod):
        assert plans_for(plans, other.failures) == expected
