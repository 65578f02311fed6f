"""Foreign kinds on top of a failing pod: Argo Rollouts, OpenKruise, Knative, and what operators add by setting."""

from collections.abc import AsyncIterator
from copy import deepcopy

import pytest

from playground.api import Manifest
from playground.controlplane import ControlPlane
from playground.node import PlayedNode
from playground.served import ServedFunction
from testkit.api.audit_log import Audit
from testkit.api.clusters import make_user, manifest, rule_for
from testkit.api.custom_kinds import (
    DIGEST,
    MADE,
    REVISION,
    ROLLOUT,
    SPROCKET,
    WIDGET,
    Make,
    define,
    make_pod,
    make_service,
    owned,
)
from testkit.api.namespace_fixture import HISTORY, Stage, statuses, until
from testkit.api.workloads import (
    ALIVE,
    NEW,
    OLD,
    container,
    deployment,
    images,
    pod,
    pod_spec,
    pod_spec_of,
    replica_set,
    template,
)

MOVED_DIGEST = DIGEST.replace("quay.io", ALIVE)


@pytest.fixture(scope="module", autouse=True)
async def defined(cluster: ControlPlane) -> None:
    """Define the foreign kinds."""
    await define(cluster.admin)


async def image_of(stage: Stage, manifest: Manifest) -> str:
    """Return the image of an object's only container."""
    (entry,) = pod_spec_of(await stage.read(manifest))["containers"]
    image: str = entry["image"]
    return image


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
async def test_template_and_stuck_pod_move(stage: Stage, make: Make) -> None:
    """One Event in; the template on top moves, then the stuck pod, nothing else, and the pod runs."""
    await stage.source()
    top = await make(stage)
    failing, *_ = await stage.failing()
    event, before = await stage.event(failing), await stage.read(top)
    stage.mark()
    answer = await stage.post(event)
    plural = (await stage.api.path(top)).split("/")[-2]
    assert [(plural, top["metadata"]["name"]), ("pods", failing["metadata"]["name"])] == stage.patches_beside(
        of=failing
    )
    assert 200 == answer.status
    assert without_record(moved(before)) == without_record(await stage.read(top))
    was = pod_spec_of(failing)["containers"][0]["image"]
    assert await image_of(stage, failing) == was.replace("quay.io", ALIVE)
    await until(lambda: runs(stage, failing))
    stage.mark()
    await stage.post(event)
    assert [] == stage.patches()


def moved(manifest: Manifest) -> Manifest:
    """Return an object with the image of its only container moved, and its tag kept."""
    wanted = deepcopy(manifest)
    pod_spec_of(wanted)["containers"][0]["image"] = NEW
    return wanted


def without_record(manifest: Manifest) -> Manifest:
    """Return an object without the annotation of Saffire, and without what the API server and controllers write."""
    written = {HISTORY, "deployment.kubernetes.io/revision"}
    annotations = manifest["metadata"].get("annotations", {})
    own = {key: value for key, value in annotations.items() if key not in written}
    metadata = {**manifest["metadata"], "annotations": own}
    for field in ("resourceVersion", "generation", "managedFields"):
        metadata.pop(field, None)
    return {key: value for key, value in manifest.items() if key != "status"} | {"metadata": metadata}


async def runs(stage: Stage, pod: Manifest) -> bool:
    """Tell whether all containers of a pod run."""
    found = statuses(await stage.read(pod)).values()
    return all("running" in status["state"] for status in found)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
async def test_the_record_names_what_was_patched(stage: Stage, make: Make) -> None:
    """The Event stands at the object with the template, and so does the entry of the source's status."""
    await stage.source()
    top = await make(stage)
    failing, *_ = await stage.failing()
    await stage.post(await stage.event(failing))
    ((reason, message),) = await stage.told(top)
    assert ("Failover", f"moved {container_of(failing)} of {top['kind']}/{top['metadata']['name']} ") == (
        reason,
        message[: message.index("from ")],
    )
    (switch,) = (await stage.status())["switches"]
    group, _, version = top["apiVersion"].partition("/")
    assert {"group": group, "version": version, "kind": top["kind"]} == switch["target"]["type"]
    assert top["metadata"]["uid"] == switch["target"]["uid"]


def container_of(pod: Manifest) -> str:
    """Return the name of a pod's only container."""
    ((name, _),) = images(pod["spec"]).items()
    return name


async def test_a_pod_of_an_old_revision_follows_its_service(stage: Stage) -> None:
    """Once the Service has moved, one more stuck pod of the Revision moves to the same registry, in place."""
    await stage.source()
    service = await make_service(stage)
    first, *_ = await stage.failing()
    await stage.post(await stage.event(first))
    await stage.api.patch(await stage.api.path(await stage.read(deployment())), {"spec": {"replicas": 2}})

    async def another() -> Manifest | None:
        return next((one for one in await stage.failing() if one["metadata"]["uid"] != first["metadata"]["uid"]), None)

    second = await until(another)
    stage.mark()
    await stage.post(await stage.event(second))
    assert [("pods", second["metadata"]["name"])] == stage.patches()
    assert MOVED_DIGEST == await image_of(stage, second)
    assert NEW == await image_of(stage, service)


async def test_what_knative_adds_to_the_pod_moves_in_place(stage: Stage) -> None:
    """A container that only Knative's Deployment names is moved in the pod: there, Knative would put it back."""
    await stage.source()
    service = await make_service(stage)
    proxied = pod_spec(container("user-container", NEW), container("queue-proxy", DIGEST))
    await stage.api.delete(await stage.api.path(await stage.read(deployment())), propagationPolicy="Background")
    await stage.until_gone(deployment())
    live = await stage.apply(owned(deployment(proxied), await stage.read(REVISION.manifest())))

    async def failing() -> Manifest | None:
        found = await stage.failing()
        return next((one for one in found if "queue-proxy" in images(one["spec"])), None)

    pod = await until(failing)
    stage.mark()
    await stage.post(await stage.event(pod, "queue-proxy"))
    assert [("pods", pod["metadata"]["name"])] == stage.patches()
    assert {"user-container": NEW, "queue-proxy": DIGEST} == images(pod_spec_of(await stage.read(live)))
    assert OLD == await image_of(stage, service)


# Kinds that an operator adds


@pytest.fixture(scope="module")
async def wide(cluster: ControlPlane) -> AsyncIterator[tuple[str, Audit]]:
    """Give the URL of a function that was told of three more kinds and may read one of them, and what it asks."""
    rules = [*manifest("function-clusterrole")["rules"], rule_for("example.com", "widgets", "get", "patch")]
    user, kubeconfig = await make_user(cluster, "wide", rules)
    kinds = "example.com/Widget=spec.workload, example.com/Sprocket=spec.template, example.com/Absent=spec.template"
    async with ServedFunction(kubeconfig, SAFFIRE_KINDS=kinds) as served:
        yield served.url, Audit(cluster.audit, user)


@pytest.fixture
async def told(cluster: ControlPlane, wide: tuple[str, Audit], node: PlayedNode) -> AsyncIterator[Stage]:
    """Give a stage with a source, whose function was told of more kinds."""
    async with Stage(cluster.admin, *wide, node.dead) as opened:
        await opened.source()
        yield opened


async def test_a_kind_that_an_operator_added_is_patched_where_the_setting_says(told: Stage) -> None:
    """The template at the path moves, then the stuck pod: the API server tells what URLs call the kind."""
    widget = await make_pod(told, WIDGET, workload=template())
    failing, *_ = await told.failing()
    await told.post(await told.event(failing))
    assert [("widgets", "web"), ("pods", "web")] == told.patches()
    live = await told.read(widget)
    assert {"web": NEW} == images(live["spec"]["workload"]["spec"])


async def test_a_kind_that_may_not_be_read_has_its_pods_left_alone(told: Stage) -> None:
    """Whoever adds a kind without the permission to read it learns that at the pod."""
    await make_pod(told, SPROCKET)
    failing, *_ = await told.failing()
    await told.post(await told.event(failing))
    assert [] == told.patches()
    ((reason, message),) = await told.told(failing)
    assert ("OwnerNotReadable", "Sprocket/web may not be read") == (reason, message.rpartition(": ")[2])


async def test_a_kind_that_is_not_served_leaves_the_pod_to_be_patched(told: Stage) -> None:
    """Its definition may be gone: the pod alone moves, and its owner may revert that."""
    absent = {**WIDGET.manifest(), "kind": "Absent", "metadata": {"name": "web", "uid": "0b9a"}}
    await told.apply(owned(pod(), absent))
    failing, *_ = await told.failing()
    await told.post(await told.event(failing))
    assert [("pods", "web")] == told.patches()
    ((_, message),) = await told.told(failing)
    assert "its owner Absent/web may revert it" == message.rpartition("; ")[2]


async def test_a_version_that_is_not_served_leaves_the_pod_to_be_patched(stage: Stage) -> None:
    """An owner that cannot be read in the version of its reference is not taken for one that is gone."""
    await stage.source()
    rollout = await stage.apply(ROLLOUT.manifest(spec={"template": template()}))
    await stage.apply(owned(replica_set(), {**rollout, "apiVersion": "argoproj.io/v1alpha0"}))
    failing, *_ = await stage.failing()
    await stage.post(await stage.event(failing))
    assert [("pods", failing["metadata"]["name"])] == stage.patches_beside(of=failing)
    ((_, message),) = await stage.told(failing)
    assert "its owner Rollout/web may revert it" == message.rpartition("; ")[2]


@pytest.mark.parametrize(
    "spec", [{"workloadRef": "web"}, {"template": "web"}, {"template": {"spec": {"containers": 7}}}]
)
async def test_a_shapeless_rollout_does_not_keep_its_pod_from_being_moved(stage: Stage, spec: Manifest) -> None:
    """Definitions let nearly anything pass; what cannot be read as a template is none."""
    await stage.source()
    rollout = await stage.apply(ROLLOUT.manifest(spec=spec))
    await stage.apply(owned(replica_set(), rollout))
    failing, *_ = await stage.failing()
    answer = await stage.post(await stage.event(failing))
    assert 200 == answer.status
    assert ("pods", failing["metadata"]["name"]) in stage.patches()
    assert spec == (await stage.read(rollout))["spec"]
