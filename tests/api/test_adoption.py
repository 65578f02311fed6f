"""Stuck pods whose rollout waits for them, hangs, or would end ready pods: what is patched, and what stays as it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.controlplane import ControlPlane
from testkit.api.clusters import USER
from testkit.api.namespace_fixture import NamespaceFixture, until
from testkit.api.workloads import ALIVE, NEW, container, deployment, images, pod_spec, pod_spec_of, stateful_set

REVISION = "controller-revision-hash"
DENIAL = "labels of pods belong to their controllers"
POLICIES = "admissionregistration.k8s.io/v1"
RECREATE = {"type": "Recreate"}


@asynccontextmanager
async def guarded(cluster: ControlPlane, namespace: NamespaceFixture) -> AsyncIterator[None]:
    """Have admission deny Saffire every change of a pod's revision label in the namespace."""
    name, pods = namespace.name, {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    label = f"metadata.labels['{REVISION}']"
    spec = {
        "matchConstraints": {"resourceRules": [{**pods, "operations": ["UPDATE"]}]},
        "validations": [
            {
                "expression": f"request.userInfo.username != '{USER}' || object.{label} == oldObject.{label}",
                "message": DENIAL,
            }
        ],
    }
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
    }
    policies = [
        {"apiVersion": POLICIES, "kind": kind, "metadata": {"name": name}, "spec": wanted}
        for kind, wanted in (("ValidatingAdmissionPolicy", spec), ("ValidatingAdmissionPolicyBinding", binding))
    ]
    for policy in policies:
        await namespace.api.apply(policy)
    stuck, *_ = await namespace.failing()
    async with Api(cluster.server, str(cluster.authority), cluster.admin.token, user=USER) as api:
        path = await namespace.api.path(stuck)
        await until(lambda: is_denied(api, path))
    yield
    for policy in policies:
        await namespace.api.delete(await namespace.api.path(policy))


async def is_denied(api: Api, path: str) -> bool:
    """Say whether admission denies a change of a pod's revision label."""
    try:
        await api.patch(path, {"metadata": {"labels": {REVISION: "web-none"}}}, dryRun="All")
    except ApiError as error:
        return DENIAL in str(error)
    return False


async def rolled_out(namespace: NamespaceFixture) -> list[Manifest] | None:
    """Return the pods of the StatefulSet once its rollout is complete."""
    live = await namespace.read(stateful_set())
    status, wanted = live["status"], live["spec"]["replicas"]
    is_done = live["metadata"]["generation"] == status.get("observedGeneration")
    if not is_done or {wanted} != {status.get("updatedReplicas"), status.get("readyReplicas"), status["replicas"]}:
        return None
    return await namespace.pods()


async def test_without_the_label_the_pod_moves_all_the_same(cluster: ControlPlane, namespace: NamespaceFixture) -> None:
    """Admission denies the label: the pod is freed, its rollout makes it once more, and the record says so."""
    await namespace.source()
    stuck, event = await namespace.fail(stateful_set())
    async with guarded(cluster, namespace):
        answer = await namespace.post(event)
        assert 200 == answer.status
        assert [("statefulsets", "web"), ("pods", "web-0")] == namespace.patches()
        ((reason, message),) = await namespace.saffire_events(await namespace.read(stateful_set()))
        assert "Failover" == reason
        assert "; its rollout starts the pod again, since the API server refused its new revision: " in message
        assert DENIAL in message
        pods = await until(lambda: rolled_out(namespace))
    assert stuck["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods}
    assert [{"web": NEW}] * 2 == [images(pod["spec"]) for pod in pods]


async def test_a_pod_of_another_template_is_made_again(namespace: NamespaceFixture) -> None:
    """Somebody annotated the template after the pod was made: its label would hide that the pod lacks that."""
    await namespace.source()
    stuck, event = await namespace.fail(stateful_set())
    path = await namespace.api.path(await namespace.read(stateful_set()))
    await namespace.api.patch(path, {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}})
    await namespace.post(event)
    assert [("statefulsets", "web"), ("pods", "web-0")] == namespace.patches()
    pods = await until(lambda: rolled_out(namespace))
    assert stuck["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods}
    assert [("now", {"web": NEW})] * 2 == [
        (pod["metadata"]["annotations"].get("restarted"), images(pod["spec"])) for pod in pods
    ]


async def test_a_pod_below_the_partition_keeps_its_revision(namespace: NamespaceFixture) -> None:
    """The rollout leaves that pod alone, so it stays one of the old revision."""
    await namespace.source()
    manifest = stateful_set()
    manifest["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    stuck, event = await namespace.fail(manifest)
    await namespace.post(event)
    assert [("statefulsets", "web"), ("pods", "web-0")] == namespace.patches()
    after = await namespace.read(stuck)
    assert stuck["metadata"]["labels"] == after["metadata"]["labels"]
    assert {"web": NEW} == images(after["spec"])


async def test_ready_pods_that_a_rollout_would_end_stay(namespace: NamespaceFixture) -> None:
    """A Deployment with `Recreate` is scaled while its registry is down: the new pod moves in place, alone."""
    registry = f"{namespace.name}.example"
    image = f"{registry}/acme/web:v1"
    await namespace.source(f"{registry}/acme/*", f"{ALIVE}/acme/*", trigger="AnyFailure")
    pulling = pod_spec(container(image=image, imagePullPolicy="Always"))
    live = await namespace.apply(deployment(pulling, replicas=2, strategy=RECREATE))

    async def ready(wanted: int) -> bool:
        return bool(wanted == (await namespace.read(live)).get("status", {}).get("readyReplicas"))

    await until(lambda: ready(2))
    before = {pod["metadata"]["uid"] for pod in await namespace.pods()}
    namespace.dead.add(registry)
    await namespace.api.patch(await namespace.api.path(live), {"spec": {"replicas": 3}})
    stuck, *_ = await namespace.failing()
    namespace.mark()
    await namespace.post(await namespace.event(stuck))
    assert [("pods", stuck["metadata"]["name"])] == namespace.patches()
    await until(lambda: ready(3))
    assert {*before, stuck["metadata"]["uid"]} == {pod["metadata"]["uid"] for pod in await namespace.pods()}
    assert {"web": image} == images(pod_spec_of(await namespace.read(live)))
    ((_, message),) = await namespace.saffire_events(stuck)
    assert message.endswith(
        "; its template is left alone, since its rollout could end every ready pod before a new one runs"
    )
    namespace.dead.discard(registry)


async def test_a_pod_in_somebody_s_rollout_that_hangs_moves_in_place(namespace: NamespaceFixture) -> None:
    """The rollout gets a minute. Then the pod runs its old version, until the rollout goes on and replaces it."""
    await namespace.source()
    stuck, event = await namespace.fail(deployment())
    path = await namespace.api.path(await namespace.read(deployment()))
    next_version = f"{ALIVE}/acme/web:v2"

    async def roll_out(node_selector: dict[str, str] | None) -> None:
        spec = pod_spec(container(image=next_version), nodeSelector=node_selector)
        await namespace.api.patch(path, {"spec": {"template": {"spec": spec}}})

    async def versions(*wanted: str) -> bool:
        pods = await namespace.pods()
        is_ready = [status.get("ready") for pod in pods for status in pod["status"].get("containerStatuses", ())]
        return sorted(wanted) == sorted(pod["spec"]["containers"][0]["image"] for pod in pods) and True in is_ready

    await roll_out({"there": "is-none"})
    await until(lambda: _has_pods(namespace, 2))
    await namespace.post(event)
    await namespace.sweep()
    assert [] == namespace.patches()
    # The rollout began a minute ago. The API server takes another time only together with another manager's change.
    live = await namespace.read(deployment())
    entries = live["metadata"]["managedFields"]
    times = [(datetime.fromisoformat(entry["time"]) - timedelta(minutes=1)).isoformat() for entry in entries]
    earlier = [{**entry, "time": time} for entry, time in zip(entries, times, strict=True)]
    changed = {"metadata": {"managedFields": earlier, "annotations": {"changed": "too"}}}
    await namespace.api.patch(path, changed, fieldManager="somebody")
    await namespace.sweep()
    assert [("pods", stuck["metadata"]["name"])] == namespace.patches()
    await until(lambda: versions(NEW, next_version))
    assert stuck["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in await namespace.pods()}
    assert {"web": next_version} == images(pod_spec_of(await namespace.read(deployment())))
    await roll_out(None)
    await until(lambda: versions(next_version))
    assert [("pods", stuck["metadata"]["name"])] == namespace.patches()


async def _has_pods(namespace: NamespaceFixture, count: int) -> bool:
    return count == len(await namespace.pods())
