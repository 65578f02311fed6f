"""Custom kinds that own a failing pod: Argo Rollouts, OpenKruise, Knative, and kinds that an operator adds."""

from collections.abc import AsyncIterator
from copy import deepcopy

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.function_process import FunctionProcess
from playground.simulated.nodes import SimulatedNode
from testkit.api.audit_log import AuditLog
from testkit.api.clusters import make_user, manifest, rule_for
from testkit.api.custom_kinds import (
    DIGEST,
    MAKERS,
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
from testkit.api.namespace_fixture import HISTORY, NamespaceFixture, statuses, until
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
    """Define the custom kinds."""
    await define(cluster.admin)


async def image_of(namespace: NamespaceFixture, manifest: Manifest) -> str:
    """Return the image of an object's only container."""
    (entry,) = pod_spec_of(await namespace.read(manifest))["containers"]
    image: str = entry["image"]
    return image


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
async def test_template_and_stuck_pod_move(namespace: NamespaceFixture, make: Make) -> None:
    """After one Event, the template of the top owner moves, then the stuck pod and nothing else; the pod runs."""
    await namespace.source()
    top = await make(namespace)
    failing, *_ = await namespace.failing()
    event, before = await namespace.event(failing), await namespace.read(top)
    namespace.mark()
    answer = await namespace.post(event)
    plural = (await namespace.api.path(top)).split("/")[-2]
    assert [(plural, top["metadata"]["name"]), ("pods", failing["metadata"]["name"])] == namespace.patches_beside(
        of=failing
    )
    assert 200 == answer.status
    assert without_record(moved(before)) == without_record(await namespace.read(top))
    was = pod_spec_of(failing)["containers"][0]["image"]
    assert await image_of(namespace, failing) == was.replace("quay.io", ALIVE)
    await until(lambda: runs(namespace, failing))
    namespace.mark()
    await namespace.post(event)
    assert [] == namespace.patches()


def moved(manifest: Manifest) -> Manifest:
    """Return an object with the image of its only container moved; the tag stays."""
    wanted = deepcopy(manifest)
    pod_spec_of(wanted)["containers"][0]["image"] = NEW
    return wanted


def without_record(manifest: Manifest) -> Manifest:
    """Return an object without Saffire's annotation, and without what the API server and controllers write."""
    written = {HISTORY, "deployment.kubernetes.io/revision"}
    annotations = manifest["metadata"].get("annotations", {})
    own = {key: value for key, value in annotations.items() if key not in written}
    metadata = {**manifest["metadata"], "annotations": own}
    for field in ("resourceVersion", "generation", "managedFields"):
        metadata.pop(field, None)
    return {key: value for key, value in manifest.items() if key != "status"} | {"metadata": metadata}


async def runs(namespace: NamespaceFixture, pod: Manifest) -> bool:
    """Say whether all containers of a pod run."""
    entries = statuses(await namespace.read(pod)).values()
    return all("running" in status["state"] for status in entries)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
async def test_the_record_names_what_was_patched(namespace: NamespaceFixture, make: Make) -> None:
    """The Event and the entry of the source's status are about the object with the template."""
    await namespace.source()
    top = await make(namespace)
    failing, *_ = await namespace.failing()
    await namespace.post(await namespace.event(failing))
    ((reason, message),) = await namespace.saffire_events(top)
    assert ("Failover", f"moved {container_of(failing)} of {top['kind']}/{top['metadata']['name']} ") == (
        reason,
        message[: message.index("from ")],
    )
    (switch,) = (await namespace.status())["switches"]
    group, _, version = top["apiVersion"].partition("/")
    assert {"group": group, "version": version, "kind": top["kind"]} == switch["target"]["type"]
    assert top["metadata"]["uid"] == switch["target"]["uid"]


def container_of(pod: Manifest) -> str:
    """Return the name of a pod's only container."""
    ((name, _),) = images(pod["spec"]).items()
    return name


async def test_a_pod_of_an_old_revision_follows_its_service(namespace: NamespaceFixture) -> None:
    """After the Service has moved, another stuck pod of the old Revision moves in place, to the same registry."""
    await namespace.source()
    service = await make_service(namespace)
    first, *_ = await namespace.failing()
    await namespace.post(await namespace.event(first))
    await namespace.api.patch(await namespace.api.path(await namespace.read(deployment())), {"spec": {"replicas": 2}})

    async def another() -> Manifest | None:
        return next(
            (pod for pod in await namespace.failing() if pod["metadata"]["uid"] != first["metadata"]["uid"]), None
        )

    second = await until(another)
    namespace.mark()
    await namespace.post(await namespace.event(second))
    assert [("pods", second["metadata"]["name"])] == namespace.patches()
    assert MOVED_DIGEST == await image_of(namespace, second)
    assert NEW == await image_of(namespace, service)


async def test_what_knative_adds_to_the_pod_moves_in_place(namespace: NamespaceFixture) -> None:
    """A container that only Knative's Deployment names moves in the pod: Knative would restore the Deployment."""
    await namespace.source()
    service = await make_service(namespace)
    proxied = pod_spec(container("user-container", NEW), container("queue-proxy", DIGEST))
    await namespace.api.delete(
        await namespace.api.path(await namespace.read(deployment())), propagationPolicy="Background"
    )
    await namespace.until_gone(deployment())
    live = await namespace.apply(owned(deployment(proxied), await namespace.read(REVISION.manifest())))

    async def failing() -> Manifest | None:
        pods = await namespace.failing()
        return next((pod for pod in pods if "queue-proxy" in images(pod["spec"])), None)

    pod = await until(failing)
    namespace.mark()
    await namespace.post(await namespace.event(pod, "queue-proxy"))
    assert [("pods", pod["metadata"]["name"])] == namespace.patches()
    assert {"user-container": NEW, "queue-proxy": DIGEST} == images(pod_spec_of(await namespace.read(live)))
    assert OLD == await image_of(namespace, service)


# Kinds that an operator adds


@pytest.fixture(scope="module")
async def wide(cluster: ControlPlane, environ: dict[str, str]) -> AsyncIterator[tuple[str, AuditLog]]:
    """Give the URL of a function with three more kinds set, of which it may read one, and the log of its requests."""
    rules = [*manifest("function-clusterrole")["rules"], rule_for("example.com", "widgets", "get", "patch")]
    user, kubeconfig = await make_user(cluster, "wide", rules)
    kinds = "example.com/Widget=spec.workload, example.com/Sprocket=spec.template, example.com/Absent=spec.template"
    async with FunctionProcess(kubeconfig, SAFFIRE_KINDS=kinds, **environ) as served:
        yield served.url, AuditLog(cluster.audit, user)


@pytest.fixture
async def configured_namespace(
    cluster: ControlPlane, wide: tuple[str, AuditLog], node: SimulatedNode
) -> AsyncIterator[NamespaceFixture]:
    """Give a namespace with a source, and a function with more kinds set."""
    async with NamespaceFixture(cluster.admin, *wide, node.dead) as opened:
        await opened.source()
        yield opened


async def test_a_kind_that_an_operator_added_is_patched_where_the_setting_says(
    configured_namespace: NamespaceFixture,
) -> None:
    """The template at the set path moves, then the stuck pod. Discovery says how URLs name the kind."""
    widget = await make_pod(configured_namespace, WIDGET, workload=template())
    failing, *_ = await configured_namespace.failing()
    await configured_namespace.post(await configured_namespace.event(failing))
    assert [("widgets", "web"), ("pods", "web")] == configured_namespace.patches()
    live = await configured_namespace.read(widget)
    assert {"web": NEW} == images(live["spec"]["workload"]["spec"])


async def test_a_kind_that_may_not_be_read_has_its_pods_left_alone(configured_namespace: NamespaceFixture) -> None:
    """If the role does not allow to read an added kind, an Event at the pod says so."""
    await make_pod(configured_namespace, SPROCKET)
    failing, *_ = await configured_namespace.failing()
    await configured_namespace.post(await configured_namespace.event(failing))
    assert [] == configured_namespace.patches()
    ((reason, message),) = await configured_namespace.saffire_events(failing)
    assert ("OwnerNotReadable", "Sprocket/web may not be read") == (reason, message.rpartition(": ")[2])


async def test_a_kind_that_is_not_served_leaves_the_pod_to_be_patched(configured_namespace: NamespaceFixture) -> None:
    """If the kind's definition is gone, only the pod moves, and the Event says that its owner may revert that."""
    absent = {**WIDGET.manifest(), "kind": "Absent", "metadata": {"name": "web", "uid": "0b9a"}}
    await configured_namespace.apply(owned(pod(), absent))
    failing, *_ = await configured_namespace.failing()
    await configured_namespace.post(await configured_namespace.event(failing))
    assert [("pods", "web")] == configured_namespace.patches()
    ((_, message),) = await configured_namespace.saffire_events(failing)
    assert "its owner Absent/web may revert it" == message.rpartition("; ")[2]


async def test_a_version_that_is_not_served_leaves_the_pod_to_be_patched(namespace: NamespaceFixture) -> None:
    """An owner whose version is not served is not treated as deleted."""
    await namespace.source()
    rollout = await namespace.apply(ROLLOUT.manifest(spec={"template": template()}))
    await namespace.apply(owned(replica_set(), {**rollout, "apiVersion": "argoproj.io/v1alpha0"}))
    failing, *_ = await namespace.failing()
    await namespace.post(await namespace.event(failing))
    assert [("pods", failing["metadata"]["name"])] == namespace.patches_beside(of=failing)
    ((_, message),) = await namespace.saffire_events(failing)
    assert "its owner Rollout/web may revert it" == message.rpartition("; ")[2]


@pytest.mark.parametrize(
    "spec", [{"workloadRef": "web"}, {"template": "web"}, {"template": {"spec": {"containers": 7}}}]
)
async def test_a_shapeless_rollout_does_not_keep_its_pod_from_being_moved(
    namespace: NamespaceFixture, spec: Manifest
) -> None:
    """A definition may accept any object; what cannot be read as a template does not count as one."""
    await namespace.source()
    rollout = await namespace.apply(ROLLOUT.manifest(spec=spec))
    await namespace.apply(owned(replica_set(), rollout))
    failing, *_ = await namespace.failing()
    answer = await namespace.post(await namespace.event(failing))
    assert 200 == answer.status
    assert ("pods", failing["metadata"]["name"]) in namespace.patches()
    assert spec == (await namespace.read(rollout))["spec"]
