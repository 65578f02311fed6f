"""Workloads: controllers, image fields and field managers."""

from datetime import UTC, datetime
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
    image_manager,
    image_written_at,
    is_of_older_template,
    is_static,
    ready_pods,
    template_image_field,
    why_not_owned,
)
from saffire.sources.spec import IGNORE, opted_out
from testkit.builders import FAILING, OPT_OUT, SECOND, Object, annotated, pod, recorded_pod, workload

KINDS = Kinds()
MIRROR = {"kubernetes.io/config.mirror": "cea31657"}


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob"])
def test_a_template_has_an_image_field_for_a_container(kind: str) -> None:
    """Index, name and image are those of the container of that name."""
    image_field = template_image_field(workload(kind, proxy="envoy", web=FAILING), KINDS, "containers", "web")
    assert image_field
    assert (1, "web", FAILING) == (image_field.index, image_field.name, image_field.image)


def test_an_image_field_has_json_pointers() -> None:
    """A JSON Patch needs the pointer to the container and the pointer to its image."""
    image_field = template_image_field(workload("CronJob"), KINDS, "containers", "web")
    assert image_field
    entry = "/spec/jobTemplate/spec/template/spec/containers/0"
    assert (entry, f"{entry}/image") == (image_field.entry_pointer, image_field.image_pointer)


def mounting(reference: str) -> Object:
    """Return a pod with an image volume and an `emptyDir` volume."""
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "data", "image": {"reference": reference}}]
    return {**pod(), "spec": {"volumes": volumes}}


def test_an_image_volume_has_its_image_field_in_the_volumes() -> None:
    """Its `reference` is the image; a volume of another type names no image."""
    image_field = find_image_field(mounting(FAILING), (), "volumes", "data")
    assert ImageField(template=(), section="volumes", index=1, name="data", image=FAILING) == image_field
    assert image_field is not None
    assert find_image_field(mounting(FAILING), (), "volumes", "tmp") is None


def unnamed(*images: str) -> Object:
    """Return a Knative Service whose containers have no names."""
    template = {"spec": {"containers": [{"image": image} for image in images]}}
    return {**workload("Service"), "spec": {"template": template}}


def test_the_only_container_of_a_template_needs_no_name() -> None:
    """Knative adds the name in the pod. With two containers, nothing tells which of them it names."""
    image_field = template_image_field(unnamed(FAILING), KINDS, "containers", "user-container")
    assert (0, "", FAILING) == ((image_field.index, image_field.name, image_field.image) if image_field else None)
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
def test_a_template_without_the_container_has_no_image_field(manifest: Object, section: str, container: str) -> None:
    """An injected container, an immutable template and an unsupported kind have no field to patch."""
    assert template_image_field(manifest, KINDS, section, container) is None


def test_init_containers_are_found_in_their_own_list() -> None:
    """A sidecar is an init container, and its index is that in `initContainers`."""
    manifest = workload("DaemonSet", section="initContainers", prep="busybox", sidecar=FAILING)
    image_field = template_image_field(manifest, KINDS, "initContainers", "sidecar")
    assert (1, FAILING) == ((image_field.index, image_field.image) if image_field else None)


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
    """An object may have many owners, but only one of them is its controller."""
    controller = controller_of({"metadata": {"ownerReferences": owners}})
    assert expected == (controller.uid if controller else "")


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
    """The name ends with the hash in the pod's label. The reference has no uid, since the name is only a guess."""
    reference = {**owner(controller=True), "kind": kind, "name": name}
    deployment = deployment_of({"metadata": {"ownerReferences": [reference], "labels": labels}})
    assert (expected, "") == ((deployment.name, deployment.uid) if deployment else ("", ""))


def test_a_recorded_pod_names_its_controller() -> None:
    """The reference is that of a pod that an API server wrote."""
    expected = OwnerReference(
        api_version="apps/v1", kind="StatefulSet", name="db", uid="3357d553-7b28-4f74-a4f8-3bcc3efa37ba"
    )
    assert expected == controller_of(recorded_pod("db-0"))


ROLLOUT = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param(2, {**workload("Deployment"), "status": {"replicas": 3, "readyReplicas": 2}}, id="some"),
        pytest.param(0, {**workload("StatefulSet"), "status": {"replicas": 3}}, id="none-is-not-written"),
        pytest.param(0, workload("ReplicaSet"), id="no-status-yet"),
        pytest.param(1, {**workload("DaemonSet"), "status": {"numberReady": 1}}, id="daemon-set"),
        pytest.param(None, {**workload("CronJob"), "status": {"readyReplicas": 1}}, id="cron-job"),
        pytest.param(None, {**workload("Job"), "status": {"ready": 1}}, id="job"),
        pytest.param(None, pod(), id="pod"),
        pytest.param(4, {**ROLLOUT, "status": {"readyReplicas": 4}}, id="foreign"),
        pytest.param(None, {**ROLLOUT, "status": {}}, id="foreign-that-does-not-say"),
        pytest.param(None, {**ROLLOUT, "status": {"readyReplicas": "4"}}, id="foreign-with-another-schema"),
        pytest.param(None, {**ROLLOUT, "status": "Healthy"}, id="foreign-with-another-status"),
        pytest.param(None, {"apiVersion": "example.com/v1", "kind": "Widget", "status": {"readyReplicas": 1}}, id="?"),
    ],
)
def test_a_workload_says_how_many_of_its_pods_are_ready(expected: int | None, manifest: Object) -> None:
    """Where a kind does not say, nothing is known, which is not the same as none."""
    assert expected == ready_pods(manifest, KINDS.of(manifest))


def revised(kind: str, *, revision: str = "", **metadata: Any) -> Object:
    """Return a workload whose controller has seen generation 2, and whose newest revision has this name."""
    manifest = workload(kind)
    status = {"observedGeneration": 2, "updateRevision": revision}
    return {**manifest, "metadata": {**manifest["metadata"], "generation": 2, **metadata}, "status": status}


COUNTED: dict[str, Any] = {"annotations": {"deprecated.daemonset.template.generation": "2"}}


@pytest.mark.parametrize(
    ("expected", "labels", "workload"),
    [
        pytest.param(True, {"controller-revision-hash": "db-1"}, revised("StatefulSet", revision="db-2"), id="older"),
        pytest.param(False, {"controller-revision-hash": "db-2"}, revised("StatefulSet", revision="db-2"), id="newest"),
        pytest.param(
            True,
            {"controller-revision-hash": "db-2"},
            revised("StatefulSet", revision="db-2", generation=3),
            id="newest-that-the-controller-has-seen",
        ),
        pytest.param(False, {"controller-revision-hash": "db-1"}, workload("StatefulSet"), id="no-status-yet"),
        pytest.param(True, {"pod-template-generation": "1"}, revised("DaemonSet", **COUNTED), id="DaemonSet-older"),
        pytest.param(False, {"pod-template-generation": "2"}, revised("DaemonSet", **COUNTED), id="DaemonSet-newest"),
        pytest.param(False, {"pod-template-generation": "1"}, workload("DaemonSet"), id="DaemonSet-that-counts-none"),
        pytest.param(False, {"pod-template-hash": "1"}, revised("ReplicaSet"), id="ReplicaSet"),
    ],
)
def test_a_pod_may_be_of_an_older_template(labels: Object, workload: Object, *, expected: bool) -> None:
    """A label of the pod names its template, and the workload the newest one."""
    manifest = pod()
    labelled = {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}
    assert expected is is_of_older_template(labelled, workload)


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
def test_a_static_pod_is_recognised(expected: bool, manifest: Object) -> None:  # noqa: FBT001 - the row's expectation
    """The kubelet ignores the API object of a static pod, so a patch of it would change nothing."""
    assert expected is is_static(manifest)


@pytest.mark.parametrize(
    ("expected", "annotations"),
    [(True, OPT_OUT), (False, {}), (False, dict.fromkeys(OPT_OUT, "false")), (False, dict.fromkeys(OPT_OUT, ""))],
)
def test_only_true_opts_out(expected: bool, annotations: dict[str, str]) -> None:  # noqa: FBT001 - the row's expectation
    """The annotation has to say `true`."""
    assert "saffire.fairwinds.com/ignore" == IGNORE
    assert expected is opted_out(annotated(pod(), annotations))


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
    """Operators want to know which program put an image back; the API server keeps the writer of each field."""
    manifest = workload("Deployment")
    manifest["metadata"]["managedFields"] = entries
    image_field = template_image_field(manifest, KINDS, "containers", "web")
    assert expected == (image_manager(manifest, image_field) if image_field else None)


@pytest.mark.parametrize(
    ("expected", "entries"),
    [
        pytest.param(
            datetime(2026, 11, 23, 2, tzinfo=UTC),
            [managed("helm", "2026-11-23T01:00:00Z", *IMAGE), managed("argocd", "2026-11-23T02:00:00Z", *IMAGE)],
            id="the-newest",
        ),
        pytest.param(None, [managed("hpa", "2026-11-23T02:00:00Z", "f:spec", "f:replicas")], id="another-field"),
        pytest.param(None, [managed("helm", "", *IMAGE)], id="no-time"),
        pytest.param(None, [], id="nobody"),
    ],
)
def test_the_time_of_an_image_is_that_of_its_manager(expected: datetime | None, entries: list[Object]) -> None:
    """An autoscaler that changes the number of pods gives the template no new image."""
    manifest = workload("Deployment")
    manifest["metadata"]["managedFields"] = entries
    image_field = template_image_field(manifest, KINDS, "containers", "web")
    assert image_field
    assert expected == image_written_at(manifest, image_field)


# Whom a pod belongs to

LABELS = {"app": "web", "pod-template-hash": "5d8f"}


def owned_pod(owner: Object, name: str = "web-0", **labels: str) -> Object:
    """Return a pod that claims `owner` as its controller, and has these labels beside those of a real pod."""
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"]}
    manifest = pod()
    metadata = {**manifest["metadata"], "name": name, "labels": {**LABELS, **labels}}
    return {**manifest, "metadata": {**metadata, "ownerReferences": [{**reference, "uid": "u", "controller": True}]}}


def selecting(kind: str, selector: Object | None) -> Object:
    """Return a workload with this selector."""
    manifest = workload(kind)
    return {**manifest, "spec": {**manifest["spec"], "selector": selector}}


HASHED = {"matchLabels": LABELS}
IN = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}
OTHER = {"matchLabels": {"app": "other"}}


@pytest.mark.parametrize("kind", ["ReplicaSet", "DaemonSet", "Job", "CloneSet", "ReplicationController"])
@pytest.mark.parametrize(
    ("is_owned", "selector"),
    [
        pytest.param(True, HASHED, id="its-labels"),
        pytest.param(True, IN, id="an-expression"),
        pytest.param(True, {"app": "web"}, id="a-mapping"),
        pytest.param(True, {}, id="every-label"),
        pytest.param(True, None, id="no-selector"),
        pytest.param(True, {"nodes": ["a"]}, id="a-selector-of-something-else"),
        pytest.param(True, {"matchExpressions": [{"key": "app"}]}, id="a-selector-that-cannot-be-read"),
        pytest.param(False, OTHER, id="other-labels"),
        pytest.param(False, {"matchLabels": {**LABELS, "tier": "front"}}, id="one-more-label"),
        pytest.param(False, {"app": "web", "tier": "front"}, id="one-more-label-in-a-mapping"),
    ],
)
def test_a_pod_belongs_to_an_owner_that_selects_it(kind: str, selector: Object | None, *, is_owned: bool) -> None:
    """Kubernetes's controllers take no other pod for their own, whatever the pod claims."""
    owner = selecting(kind, selector)
    why = why_not_owned(owned_pod(owner), Owners(chain=(owner,)))
    assert why == ("" if is_owned else f"the selector of {describe(owner)} does not select its labels")


def test_every_owner_above_a_pod_has_to_select_it() -> None:
    """Whoever may create ReplicaSets may claim a Deployment as their owner."""
    owners = Owners(chain=(selecting("ReplicaSet", HASHED), selecting("Deployment", OTHER)))
    expected = "the selector of Deployment/a-deployment does not select its labels"
    assert expected == why_not_owned(owned_pod(selecting("ReplicaSet", HASHED)), owners)


@pytest.mark.parametrize("kind", ["Deployment", "CronJob", "Rollout", "Service", "Configuration", "Revision"])
def test_no_pod_belongs_to_a_kind_that_makes_none(kind: str) -> None:
    """Another object, such as a ReplicaSet, is between a real pod and such an owner."""
    owner = workload(kind)
    assert f"{describe(owner)} makes no pods itself" == why_not_owned(owned_pod(owner), Owners(chain=(owner,)))


@pytest.mark.parametrize(
    ("is_owned", "name"),
    [
        pytest.param(True, "a-statefulset-0", id="the-first"),
        pytest.param(True, "a-statefulset-12", id="a-later-one"),
        pytest.param(False, "a-statefulset", id="no-number"),
        pytest.param(False, "a-statefulset-x", id="no-number-at-the-end"),
        pytest.param(False, "b-statefulset-0", id="another-name"),
        pytest.param(False, "my-a-statefulset-0", id="a-longer-name"),
    ],
)
def test_a_stateful_set_names_its_pods(name: str, *, is_owned: bool) -> None:
    """It takes no other pod for its own."""
    owner = selecting("StatefulSet", HASHED)
    why = why_not_owned(owned_pod(owner, name), Owners(chain=(owner,)))
    assert why == ("" if is_owned else f"StatefulSet/a-statefulset names no pod {name}")


def test_a_pod_is_no_workload_of_others() -> None:
    """Spark's driver owns its executors; what owns the driver does not make them."""
    driver = {**pod(), "metadata": {**pod()["metadata"], "name": "driver"}}
    owners = Owners(chain=(driver, workload("Job")))
    assert "its owner Pod/driver is a pod" == why_not_owned(owned_pod(driver), owners)


def test_a_pod_without_owners_claims_none() -> None:
    """There is nothing to doubt."""
    assert why_not_owned(pod(), Owners()) == ""
