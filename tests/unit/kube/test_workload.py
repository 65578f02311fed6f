"""Workloads: kinds, owners, templates, and what frees the stuck pods of each."""

from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.workload import (
    ImageField,
    OwnerReference,
    Owners,
    controller_of,
    deployment_of,
    describe,
    find_image_field,
    from_top_down,
    image_manager,
    is_static,
    template_image_field,
)
from saffire.sources.spec import IGNORE, opted_out
from testkit.builders import FAILING, OPT_OUT, SECOND, Object, annotated, chain, pod, recorded_pod, workload

KINDS = Kinds()
MIRROR = {"kubernetes.io/config.mirror": "cea31657"}


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob"])
def test_a_template_has_a_slot_for_the_container_s_image(kind: str) -> None:
    """Index, name and image are those of the container of that name."""
    slot = template_image_field(workload(kind, proxy="envoy", web=FAILING), KINDS, "containers", "web")
    assert slot
    assert (1, "web", FAILING) == (slot.index, slot.name, slot.image)


def test_a_slot_is_pointed_at() -> None:
    """The pointers are those of a JSON Patch: to the entry, and to its image."""
    slot = template_image_field(workload("CronJob"), KINDS, "containers", "web")
    assert slot
    entry = "/spec/jobTemplate/spec/template/spec/containers/0"
    assert (entry, f"{entry}/image") == (slot.entry_pointer, slot.image_pointer)


def mounting(reference: str) -> Object:
    """Return a pod with an image volume, and another one."""
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "data", "image": {"reference": reference}}]
    return {**pod(), "spec": {"volumes": volumes}}


def test_an_image_volume_has_its_slot_among_the_volumes() -> None:
    """What it mounts is its reference; a volume of another sort names no image."""
    slot = find_image_field(mounting(FAILING), (), "volumes", "data")
    assert ImageField(template=(), section="volumes", index=1, name="data", image=FAILING) == slot
    assert slot is not None
    assert find_image_field(mounting(FAILING), (), "volumes", "tmp") is None


def unnamed(*images: str) -> Object:
    """Return a Knative Service whose containers have no names."""
    template = {"spec": {"containers": [{"image": image} for image in images]}}
    return {**workload("Service"), "spec": {"template": template}}


def test_the_only_container_of_a_template_needs_no_name() -> None:
    """Knative names it in the pod; of two, nobody can tell which it is."""
    slot = template_image_field(unnamed(FAILING), KINDS, "containers", "user-container")
    assert (0, "", FAILING) == ((slot.index, slot.name, slot.image) if slot else None)
    assert template_image_field(unnamed(FAILING, SECOND), KINDS, "containers", "user-container") is None


@pytest.mark.parametrize(
    ("manifest", "section", "container"),
    [
        pytest.param(workload("Deployment"), "containers", "other", id="another-container"),
        pytest.param(workload("Deployment"), "initContainers", "web", id="another-section"),
        pytest.param(workload("Job"), "containers", "web", id="immutable"),
        pytest.param(workload("Widget"), "containers", "web", id="unknown-kind"),
        pytest.param({**workload("CloneSet"), "spec": {"template": "web"}}, "containers", "web", id="shapeless"),
        pytest.param(pod(), "containers", "web", id="no-template"),
        pytest.param({"apiVersion": "apps/v1", "kind": "Deployment"}, "containers", "web", id="empty"),
    ],
)
def test_a_template_without_the_container_has_no_slot(manifest: Object, section: str, container: str) -> None:
    """Injected containers, immutable templates and kinds we do not know offer nothing to patch."""
    assert template_image_field(manifest, KINDS, section, container) is None


def test_init_containers_are_found_in_their_own_list() -> None:
    """A sidecar is an init container, and its index counts among those."""
    manifest = workload("DaemonSet", section="initContainers", prep="busybox", sidecar=FAILING)
    slot = template_image_field(manifest, KINDS, "initContainers", "sidecar")
    assert (1, FAILING) == ((slot.index, slot.image) if slot else None)


def owner(**fields: Any) -> Object:
    """Return an owner reference."""
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u-1", **fields}


@pytest.mark.parametrize(
    ("expected", "owners"),
    [
        pytest.param("u-2", [owner(), owner(uid="u-2", controller=True)], id="not-the-first-but-the-controller"),
        pytest.param("", [owner(), owner(controller=False)], id="owners-without-control"),
        pytest.param("", [owner(controller="true")], id="text-is-no-truth"),
        pytest.param("", [], id="none"),
    ],
)
def test_the_controller_is_the_owner_that_controls(expected: str, owners: list[Object]) -> None:
    """Garbage collection may have many owners, but one at most is the controller."""
    found = controller_of({"metadata": {"ownerReferences": owners}})
    assert expected == (found.uid if found else "")


@pytest.mark.parametrize(
    ("expected", "kind", "name", "labels"),
    [
        pytest.param("web", "ReplicaSet", "web-5d8f", {"pod-template-hash": "5d8f"}, id="a-deployment-s"),
        pytest.param("web-1", "ReplicaSet", "web-1-5d8f", {"pod-template-hash": "5d8f"}, id="with-a-dash"),
        pytest.param("", "ReplicaSet", "web-5d8f", {}, id="without-a-hash"),
        pytest.param("", "ReplicaSet", "web-5d8f", {"pod-template-hash": "8f"}, id="another-hash"),
        pytest.param("", "ReplicaSet", "web", {"pod-template-hash": "web"}, id="nothing-but-a-hash"),
        pytest.param("", "ReplicaSet", "-5d8f", {"pod-template-hash": "5d8f"}, id="nothing-before-it"),
        pytest.param("", "ReplicaSet", "web-5d8f", {"pod-template-hash": ["5d8f"]}, id="no-text"),
        pytest.param("", "StatefulSet", "web-5d8f", {"pod-template-hash": "5d8f"}, id="another-kind"),
    ],
)
def test_a_replica_set_is_named_after_its_deployment(expected: str, kind: str, name: str, labels: Object) -> None:
    """The name and the pod's label agree on the hash; who is asked for by that name has still to prove to be it."""
    reference = {**owner(controller=True), "kind": kind, "name": name}
    found = deployment_of({"metadata": {"ownerReferences": [reference], "labels": labels}})
    assert (expected, "") == ((found.name, found.uid) if found else ("", ""))


def test_a_recorded_pod_names_its_controller() -> None:
    """The reference is what the API server wrote."""
    expected = OwnerReference(
        api_version="apps/v1", kind="StatefulSet", name="db", uid="3357d553-7b28-4f74-a4f8-3bcc3efa37ba"
    )
    assert expected == controller_of(recorded_pod("db-0"))


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param(True, annotated(pod(), MIRROR), id="mirror-annotation"),
        pytest.param(
            True, {"metadata": {"ownerReferences": [owner(kind="Node", controller=True)]}}, id="owned-by-node"
        ),
        pytest.param(False, {"metadata": {"ownerReferences": [owner(kind="Node")]}}, id="not-controlled-by-node"),
        pytest.param(False, recorded_pod("bare"), id="bare"),
        pytest.param(False, recorded_pod("db-0"), id="controlled"),
    ],
)
def test_a_static_pod_is_a_mirror_of_its_node_s(expected: bool, manifest: Object) -> None:  # noqa: FBT001 - the row's expectation
    """The kubelet does not obey a mirror's API object, so nothing may be promised about it."""
    assert expected is is_static(manifest)


@pytest.mark.parametrize(
    ("expected", "annotations"),
    [(True, OPT_OUT), (False, {}), (False, dict.fromkeys(OPT_OUT, "false")), (False, dict.fromkeys(OPT_OUT, ""))],
)
def test_only_true_opts_out(expected: bool, annotations: dict[str, str]) -> None:  # noqa: FBT001 - the row's expectation
    """The annotation has to say `true`."""
    assert "saffire.fairwinds.com/ignore" == IGNORE
    assert expected is opted_out(annotated(pod(), annotations))


def test_a_lineage_goes_from_the_top_to_the_pod() -> None:
    """The highest controller comes first, since it is the one to patch."""
    family = [describe(manifest) for manifest in from_top_down(pod(), chain("Deployment"))]
    assert ["Deployment/a-deployment", "ReplicaSet/a-replicaset", "Pod/web-0"] == family
    assert [pod()] == list(from_top_down(pod(), Owners()))


def managed(manager: str, time: str, *path: str) -> Object:
    """Return an entry of `managedFields` for one field."""
    fields: Object = {}
    for key in reversed(path):
        fields = {key: fields}
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields}


IMAGE = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"web"}', "f:image")


@pytest.mark.parametrize(
    ("expected", "entries"),
    [
        pytest.param("helm", [managed("helm", "2026-11-23T01:00:00Z", *IMAGE)], id="the-only-one"),
        pytest.param(
            "argocd",
            [managed("argocd", "2026-11-23T02:00:00Z", *IMAGE), managed("helm", "2026-11-23T01:00:00Z", *IMAGE)],
            id="the-newest",
        ),
        pytest.param("kustomize", [managed("kustomize", "2026-11-23T01:00:00Z", *IMAGE[:4])], id="a-list-as-a-whole"),
        pytest.param("", [managed("hpa", "2026-11-23T02:00:00Z", "f:spec", "f:replicas")], id="another-field"),
        pytest.param(
            "", [managed("hpa", "2026-11-23T02:00:00Z", *IMAGE[:4], 'k:{"name":"api"}')], id="another-container"
        ),
        pytest.param("", [], id="nobody"),
    ],
)
def test_the_manager_of_an_image_is_named(expected: str, entries: list[Object]) -> None:
    """Operators want to know who put an image back; the API server keeps who wrote which field."""
    manifest = workload("Deployment")
    manifest["metadata"]["managedFields"] = entries
    slot = template_image_field(manifest, KINDS, "containers", "web")
    assert expected == (image_manager(manifest, slot) if slot else None)
