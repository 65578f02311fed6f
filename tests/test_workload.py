"""Workloads: kinds, owners, templates, and what frees the stuck pods of each."""

from typing import Any

import pytest
from objects import FAILING, OPT_OUT, Object, annotated, chain, pod, recorded_pod, workload

from saffire.workload import (
    IGNORE,
    KINDS,
    Kind,
    OwnerReference,
    Owners,
    Step,
    controller_of,
    describe,
    image_manager,
    is_static,
    kind_named,
    kind_of,
    lineage,
    opted_out,
    steps,
    template_image,
)

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
MIRROR = {"kubernetes.io/config.mirror": "cea31657"}


def deployment(**spec: Any) -> Object:
    """Return a Deployment with these fields in its spec."""
    manifest = workload("Deployment")
    return {**manifest, "spec": {**manifest["spec"], **spec}}


def rolling(**limits: Any) -> Object:
    """Return a Deployment that rolls within these limits."""
    return deployment(strategy={"type": "RollingUpdate", "rollingUpdate": limits})


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param([TEMPLATE], deployment(), id="Deployment"),
        pytest.param([TEMPLATE], deployment(paused=False), id="Deployment-not-paused"),
        pytest.param([TEMPLATE], deployment(strategy={"type": "RollingUpdate"}), id="Deployment-default-surge"),
        pytest.param([TEMPLATE], rolling(maxSurge=1, maxUnavailable=0), id="Deployment-surge-1"),
        pytest.param([TEMPLATE], rolling(maxSurge="1%"), id="Deployment-surge-1%"),
        pytest.param([TEMPLATE], rolling(maxUnavailable=1), id="Deployment-surge-left-out"),
        pytest.param([PODS, TEMPLATE], rolling(maxSurge=0), id="Deployment-surge-0"),
        pytest.param([PODS, TEMPLATE], rolling(maxSurge="0%"), id="Deployment-surge-0%"),
        pytest.param([PODS, TEMPLATE], deployment(strategy={"type": "Recreate"}), id="Deployment-recreate"),
        pytest.param([PODS, TEMPLATE], deployment(paused=True), id="Deployment-paused"),
        pytest.param([TEMPLATE, PODS], workload("ReplicaSet"), id="ReplicaSet"),
        pytest.param([TEMPLATE, PODS], workload("ReplicationController"), id="ReplicationController"),
        pytest.param([TEMPLATE, PODS], workload("StatefulSet"), id="StatefulSet"),
        pytest.param([PODS, TEMPLATE], workload("DaemonSet"), id="DaemonSet"),
        pytest.param([TEMPLATE, PODS], workload("CronJob"), id="CronJob"),
        pytest.param([PODS], workload("Job"), id="Job"),
        pytest.param([PODS], pod(), id="Pod"),
        pytest.param([PODS], workload("Rollout"), id="unknown-kind"),
    ],
)
def test_each_kind_has_its_steps(expected: list[Step], manifest: Object) -> None:
    """What frees the stuck pods, in the order that frees them soonest."""
    assert expected == list(steps(manifest))


@pytest.mark.parametrize("kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob"])
def test_a_template_names_the_container_s_image(kind: str) -> None:
    """Index and image are those of the container of that name."""
    manifest = workload(kind, proxy="envoy", web=FAILING)
    assert (1, FAILING) == template_image(manifest, "containers", "web")


@pytest.mark.parametrize(
    ("manifest", "section", "container"),
    [
        pytest.param(workload("Deployment"), "containers", "other", id="another-container"),
        pytest.param(workload("Deployment"), "initContainers", "web", id="another-section"),
        pytest.param(workload("Job"), "containers", "web", id="immutable"),
        pytest.param(workload("Rollout"), "containers", "web", id="unknown-kind"),
        pytest.param(pod(), "containers", "web", id="no-template"),
        pytest.param({"apiVersion": "apps/v1", "kind": "Deployment"}, "containers", "web", id="empty"),
    ],
)
def test_a_template_without_the_container_names_no_image(manifest: Object, section: str, container: str) -> None:
    """Injected containers, immutable templates and kinds we do not know offer nothing to patch."""
    assert template_image(manifest, section, container) is None


def test_init_containers_are_found_in_their_own_list() -> None:
    """A sidecar is an init container, and its index counts among those."""
    manifest = workload("DaemonSet", section="initContainers", prep="busybox", sidecar=FAILING)
    assert (1, FAILING) == template_image(manifest, "initContainers", "sidecar")


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_kind_is_known_in_whatever_version(kind: Kind) -> None:
    """Old versions of a group read alike; another group of the same kind is another thing."""
    old = f"{kind.group}/v0" if kind.group else "v0"
    assert kind is kind_named(kind.api_version, kind.name)
    assert kind is kind_named(old, kind.name)
    assert kind_named("stranger.example/v1", kind.name) is None


def test_the_kind_of_an_object_is_read_from_its_manifest() -> None:
    """`apiVersion` and `kind` tell; an object without them is of no kind."""
    kind = kind_of(workload("StatefulSet"))
    assert kind
    assert ("apps/v1", "statefulsets") == (kind.api_version, kind.plural)
    assert kind_of({}) is None
    assert kind_of({"apiVersion": "apps/v1", "kind": "Pod"}) is None


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
    family = [describe(manifest) for manifest in lineage(pod(), chain("Deployment"))]
    assert ["Deployment/a-deployment", "ReplicaSet/a-replicaset", "Pod/web-0"] == family
    assert [pod()] == list(lineage(pod(), Owners()))


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
        pytest.param("", [managed("hpa", "2026-11-23T02:00:00Z", "f:spec", "f:replicas")], id="another-field"),
        pytest.param("", [], id="nobody"),
    ],
)
def test_the_manager_of_an_image_is_named(expected: str, entries: list[Object]) -> None:
    """Operators want to know who put an image back; the API server keeps who wrote which field."""
    manifest = deployment()
    manifest["metadata"]["managedFields"] = entries
    assert expected == image_manager(manifest, "containers", "web")
    assert "" == image_manager(pod(), "containers", "web")
