"""From a failing pod up to the object to patch: owners that are unknown, forbidden, gone, or only look like owners."""

import pytest

from playground.cluster.api import ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.clusters import NOT_YET, SpareCluster, stopped
from testkit.api.custom_kinds import OPERATORS, Make, define, owned
from testkit.api.namespace_fixture import IGNORE, NamespaceFixture, until
from testkit.api.workloads import (
    LABELS,
    NEW,
    OLD,
    container,
    deployment,
    images,
    owner_reference,
    pod,
    pod_spec,
    pod_spec_of,
    replica_set,
)

WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "shop"}}
OTHER_UID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def widget(cluster: ControlPlane, namespace: NamespaceFixture) -> Manifest:
    """Give an object of a kind that Saffire does not know."""
    await cluster.admin.apply(WIDGETS)

    async def served() -> bool:
        groups = await cluster.admin.get("/apis")
        return "example.com" in {group["name"] for group in groups["groups"]}

    await until(served)

    async def made() -> Manifest | None:
        try:
            return await namespace.apply(WIDGET)
        except ApiError as error:
            if error.status not in NOT_YET:
                raise
            return None

    return await until(made)


async def test_a_pod_of_an_unknown_kind_is_patched_in_place(namespace: NamespaceFixture, widget: Manifest) -> None:
    """If the controller's kind is unknown, only the pod is patched, and the Event says that this may be reverted."""
    await namespace.source()
    failing, event = await namespace.fail(pod(ownerReferences=[owner_reference(widget)]))
    await namespace.post(event)
    assert [("pods", "web")] == namespace.patches()
    ((reason, message),) = await namespace.saffire_events(failing)
    assert ("Failover", "its owner Widget/shop may revert it") == (reason, message.rpartition("; ")[2])
    assert "its owner Widget/shop may revert it" == (await namespace.status())["switches"][-1]["note"]


async def test_a_workload_below_an_unknown_kind_keeps_its_template(
    namespace: NamespaceFixture, widget: Manifest
) -> None:
    """An operator would restore its own Deployment, so only the stuck pod is patched."""
    await namespace.source()
    owned = deployment()
    owned["metadata"]["ownerReferences"] = [owner_reference(widget)]
    failing, event = await namespace.fail(owned)
    await namespace.post(event)
    assert [("pods", failing["metadata"]["name"])] == namespace.patches_beside(of=failing)
    assert {"web": OLD} == images(pod_spec_of(await namespace.read(deployment())))
    ((_, message),) = await namespace.saffire_events(failing)
    assert "its owner Widget/shop may revert it" == message.rpartition("; ")[2]


async def test_an_owner_that_does_not_control_is_not_followed(namespace: NamespaceFixture, widget: Manifest) -> None:
    """Only the owner that is marked as the controller counts."""
    await namespace.source()
    failing, event = await namespace.fail(pod(ownerReferences=[owner_reference(widget) | {"controller": False}]))
    await namespace.post(event)
    ((_, message),) = await namespace.saffire_events(failing)
    assert message.endswith("; by AlternateImageSource/shop")


async def test_owners_that_own_each_other_are_followed_for_a_while(namespace: NamespaceFixture) -> None:
    """In a circle of owners the walk ends after eight of them, and the pod is patched in place."""
    await namespace.source()
    idle = replica_set()
    idle["metadata"]["name"] = "idle"
    idle["spec"]["replicas"] = 0
    first, second = await namespace.apply(replica_set()), await namespace.apply(idle)
    for child, owner in ((first, second), (second, first)):
        references = {"metadata": {"ownerReferences": [owner_reference(owner)]}}
        await namespace.api.patch(await namespace.api.path(child), references)
    failing, *_ = await namespace.failing()
    event = await namespace.event(failing)
    namespace.mark()
    await namespace.post(event)
    assert [("pods", failing["metadata"]["name"])] == namespace.patches_beside(of=failing)
    assert 8 == sum(call.resource == "replicasets" for call in namespace.calls())


async def test_a_container_that_no_template_names_is_patched_in_place(namespace: NamespaceFixture) -> None:
    """A container that only the pod has moves in the pod, and the template keeps its own containers."""
    await namespace.source()
    spec = pod_spec(container("web", NEW), container("injected", OLD))
    # A ReplicaSet adopts a pod with its labels.
    await namespace.apply(pod(spec, name="web-injected"))
    wanted = replica_set(pod_spec(container("web", NEW)))
    wanted["spec"]["replicas"] = 1
    owner = await namespace.apply(wanted)

    async def adopted() -> bool:
        (pod,) = await namespace.pods()
        return [owner["metadata"]["uid"]] == [
            reference["uid"] for reference in pod["metadata"].get("ownerReferences", ())
        ]

    await until(adopted)
    failing, *_ = await namespace.failing()
    await namespace.post(await namespace.event(failing))
    assert [("pods", "web-injected")] == namespace.patches()
    assert {"web": NEW, "injected": NEW} == images((await namespace.read(failing))["spec"])


async def test_an_owner_that_may_not_be_read_stops_everything(limited_namespace: NamespaceFixture) -> None:
    """The hidden owner may be the one to patch, or may revert: nothing moves, and an Event at the pod says why."""
    await limited_namespace.source()
    failing, event = await limited_namespace.fail(deployment())
    answer = await limited_namespace.post(event)
    message = f"left web with {OLD}: OwnerNotReadable: Deployment/web may not be read"
    assert (200, message) == (answer.status, answer.text)
    assert [] == limited_namespace.patches()
    assert [("OwnerNotReadable", message)] == await limited_namespace.saffire_events(failing)
    assert "switches" not in await limited_namespace.status()


async def test_a_static_pod_is_left_and_reported(namespace: NamespaceFixture) -> None:
    """A patch of a static pod's mirror has no effect: an Event names the file on the node that decides."""
    await namespace.source()
    host = await namespace.api.get("/api/v1/nodes/api")
    annotations = dict.fromkeys(("kubernetes.io/config.mirror", "kubernetes.io/config.hash"), "f1c2")
    mirror = pod(pod_spec(nodeName="api"), annotations=annotations, ownerReferences=[owner_reference(host)])
    failing, event = await namespace.fail(mirror)
    # The kubelet identifies a static pod by the hash of its file.
    event["involvedObject"]["uid"] = "f1c2"
    answer = await namespace.post(event)
    why = f"left web with {OLD}: StaticPod: its node's kubelet reads it from disk, not from the API server"
    assert (200, why) == (answer.status, answer.text)
    assert [] == namespace.patches()
    assert [("StaticPod", why)] == await namespace.saffire_events(failing)
    assert "switches" not in await namespace.status()


async def test_a_pod_on_its_way_out_is_left(namespace: NamespaceFixture) -> None:
    """A failing pod that is being deleted is not patched any more."""
    await namespace.source()
    failing, event = await namespace.fail(pod(finalizers=["example.com/wait"]))
    path = await namespace.api.path(failing)
    await namespace.api.delete(path)
    namespace.mark()
    answer = await namespace.post(event)
    await namespace.api.patch(path, {"metadata": {"finalizers": None}})
    assert (200, f"left web with {OLD}: PodTerminating") == (answer.status, answer.text)
    assert [] == namespace.writes_but_status()


async def test_a_deployment_is_no_owner_by_its_name(namespace: NamespaceFixture) -> None:
    """A ReplicaSet named like one of a Deployment, with such labels, still has no owner."""
    await namespace.source()
    other = deployment(name="web", replicas=0)
    other["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    other = await namespace.apply(other)
    wanted = replica_set()
    wanted["metadata"]["name"] = "web-5d8f"
    wanted["spec"]["template"]["metadata"] = {"labels": {**LABELS, "pod-template-hash": "5d8f"}}
    _, event = await namespace.fail(wanted)
    await namespace.post(event)
    assert ("replicasets", "web-5d8f") in namespace.patches()
    assert ("deployments", "web") not in namespace.patches()
    assert other["metadata"]["generation"] == (await namespace.read(other))["metadata"]["generation"]


@pytest.mark.parametrize("name", ["web", "gone"])
async def test_an_owner_that_is_gone_is_not_mistaken_for_its_successor(spare_cluster: SpareCluster, name: str) -> None:
    """A pod whose owner is gone has no owner, even if another object has that name now."""
    async with spare_cluster.namespace() as namespace:
        await namespace.source()
        successor = replica_set()
        successor["spec"]["replicas"] = 0
        owner = await namespace.apply(successor)
        # Otherwise the garbage collector would delete the pod first.
        with stopped(spare_cluster.plane.pids()["kube-controller-manager"]):
            former = owner_reference(owner) | {"uid": OTHER_UID, "name": name}
            failing, event = await namespace.fail(
                pod(pod_spec(nodeName=spare_cluster.node_name), ownerReferences=[former])
            )
            await namespace.post(event)
            assert [("pods", "web")] == namespace.patches()
            assert {"web": NEW} == images((await namespace.read(failing))["spec"])
            assert owner["metadata"]["generation"] == (await namespace.read(owner))["metadata"]["generation"]
            ((_, message),) = await namespace.saffire_events(failing)
            assert message.startswith(f"moved web of Pod/web from {OLD} to {NEW}")


# Pods that claim an owner


async def idle(namespace: NamespaceFixture) -> tuple[Manifest, Manifest]:
    """Create a Deployment without pods; return it and its ReplicaSet."""
    owner = await namespace.apply(deployment(replicas=0))
    path = f"/apis/apps/v1/namespaces/{namespace.name}/replicasets"

    async def made() -> Manifest | None:
        items = (await namespace.api.get(path))["items"]
        return next((item for item in items), None)

    return owner, {"apiVersion": "apps/v1", "kind": "ReplicaSet", **await until(made)}


@pytest.mark.parametrize("claimed", ["Deployment", "ReplicaSet"])
async def test_a_pod_that_claims_an_owner_moves_no_template(namespace: NamespaceFixture, claimed: str) -> None:
    """Whoever may only create pods cannot have a workload moved: no controller takes such a pod for its own."""
    await namespace.source(trigger="AnyFailure")
    owner, owned_set = await idle(namespace)
    reference = owner_reference(owner if claimed == "Deployment" else owned_set)
    failing, event = await namespace.fail(pod(name="rogue", ownerReferences=[reference]))
    await namespace.post(event)
    assert [("pods", "rogue")] == namespace.patches()
    assert owner["metadata"]["generation"] == (await namespace.read(owner))["metadata"]["generation"]
    ((_, message),) = await namespace.saffire_events(failing)
    assert message.startswith(f"moved web of Pod/rogue from {OLD} to {NEW}")
    if claimed == "Deployment":
        note = "Deployment/web makes no pods itself, so Saffire takes the pod for one without owner"
        assert note == message.rpartition("; ")[2]


async def test_a_pod_that_another_pod_owns_is_moved_alone(namespace: NamespaceFixture) -> None:
    """Spark's driver owns its executors, and is no workload whose template could be moved."""
    await namespace.source(trigger="AnyFailure")
    driver = await namespace.apply(pod(pod_spec(container("web", NEW)), name="driver"))
    failing, event = await namespace.fail(pod(name="executor", ownerReferences=[owner_reference(driver)]))
    await namespace.post(event)
    assert [("pods", "executor")] == namespace.patches()
    ((_, message),) = await namespace.saffire_events(failing)
    assert message.startswith(f"moved web of Pod/executor from {OLD} to {NEW}")
    assert "Pod" == (await namespace.status())["switches"][-1]["target"]["type"]["kind"]
    assert "executor" == (await namespace.status())["switches"][-1]["target"]["name"]


# Operators that make pods by rules of their own


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
async def test_the_pods_of_an_operator_are_patched_in_place(
    namespace: NamespaceFixture, cluster: ControlPlane, make: Make
) -> None:
    """The record names the operator's object, which outlives its pods; once the object opts out, they are left."""
    await define(cluster.admin)
    await namespace.source(trigger="AnyFailure")
    owner = await make(namespace)
    failing, *_ = await namespace.failing()
    await namespace.post(await namespace.event(failing))
    assert [("pods", failing["metadata"]["name"])] == namespace.patches_beside(of=failing)
    (switch,) = (await namespace.status())["switches"]
    name = f"{owner['kind']}/web"
    assert (owner["metadata"]["uid"], f"its owner {name} may revert it") == (switch["target"]["uid"], switch["note"])
    await namespace.annotate(owner, IGNORE, "true")
    await namespace.api.delete(await namespace.api.path(failing))
    await namespace.until_gone(failing)
    if owner["kind"] != "postgresql":  # its StatefulSet makes the pod anew
        await namespace.apply(owned(pod(), owner))
    failing, *_ = await namespace.failing()
    namespace.mark()
    answer = await namespace.post(await namespace.event(failing))
    assert ([], f"left web with {OLD}: OptedOut: {name}") == (namespace.patches(), answer.text)
