"""Which containers of a pod move: all that cannot pull, of every type, and no others."""

import json
from typing import Any

import pytest

from playground.cluster.api import Manifest
from testkit.api.namespace_fixture import HISTORY, PULL_REASONS, NamespaceFixture, statuses, until, waiting
from testkit.api.workloads import ALIVE, DEAD, NEW, OLD, container, deployment, images, pod, pod_spec, pod_spec_of

OTHER_OLD, OTHER_NEW = f"{DEAD}/acme/proxy:v2", f"{ALIVE}/acme/proxy:v2"
HEALTHY = f"{ALIVE}/acme/healthy:v1"


async def running(namespace: NamespaceFixture, wanted: dict[str, str]) -> Manifest:
    """Wait for a pod whose containers have all started with these images, and return it."""

    async def look() -> Manifest | None:
        for candidate in await namespace.pods():
            started = [entry for entry in statuses(candidate).values() if "containerID" in entry]
            if images(candidate["spec"]) == wanted and len(started) == len(wanted):
                return candidate
        return None

    return await until(look)


@pytest.mark.parametrize(
    "other",
    [
        {"containers": [container("proxy", OTHER_OLD)]},
        {"init": [container("proxy", OTHER_OLD)]},
        {"init": [container("proxy", OTHER_OLD, restartPolicy="Always")]},
    ],
    ids=["container", "init container", "sidecar"],
)
async def test_a_failing_container_moves_wherever_it_stands(
    namespace: NamespaceFixture, other: dict[str, list[Manifest]]
) -> None:
    """Containers, init containers and sidecars move alike, and the healthy container of the pod stays unchanged."""
    spec = pod_spec(container("web", HEALTHY), *other.get("containers", ()), init=other.get("init", ()))
    await namespace.source()
    _, event = await namespace.fail(deployment(spec))
    await namespace.post(event)
    wanted = {"web": HEALTHY, "proxy": OTHER_NEW}
    assert wanted == images(pod_spec_of(await namespace.read(deployment())))
    await running(namespace, wanted)


@pytest.mark.parametrize("workload", [deployment, pod])
async def test_all_failing_containers_of_a_pod_move_in_one_patch(namespace: NamespaceFixture, workload: Any) -> None:
    """Two containers that cannot pull move in one patch, so that there is one rollout, with two record entries."""
    await namespace.source()
    await namespace.apply(workload(pod_spec(container("web", OLD), container("proxy", OTHER_OLD))))

    async def both() -> Manifest | None:
        (failing,) = await namespace.failing()
        return failing if waiting(failing) <= PULL_REASONS else None

    failing = await until(both)
    namespace.mark()
    await namespace.post(await namespace.event(failing, "web"))
    assert 1 == len(namespace.patches())
    wanted = {"web": NEW, "proxy": OTHER_NEW}
    await running(namespace, wanted)
    patched = await namespace.read(workload())
    assert wanted == images(pod_spec_of(patched))
    failovers = json.loads(patched["metadata"]["annotations"][HISTORY])["failovers"]
    assert [("web", OLD, NEW), ("proxy", OTHER_OLD, OTHER_NEW)] == [
        (entry["container"], entry["from"], entry["to"]) for entry in failovers
    ]
    status = await namespace.status()
    assert ["web", "proxy"] == [entry["container"] for entry in status["active"]]
    assert (2, 2) == (status["activeCount"], len(status["switches"]))


async def test_a_healthy_container_is_not_touched(namespace: NamespaceFixture) -> None:
    """When another container of its pod moves, a running container keeps running: same start time, no restart."""
    await namespace.source()
    failing, event = await namespace.fail(pod(pod_spec(container("healthy", HEALTHY), container("web", OLD))))
    before = statuses(failing)["healthy"]
    assert "running" in before["state"]
    await namespace.post(event)
    after = statuses(await running(namespace, {"healthy": HEALTHY, "web": NEW}))
    assert before == after["healthy"]
    assert [0, 0] == [entry["restartCount"] for entry in after.values()]


async def test_a_running_container_stays_even_if_it_has_the_failing_image(namespace: NamespaceFixture) -> None:
    """Of two containers with one image, only the one that cannot pull moves; the other runs the node's copy."""
    registry = f"{namespace.name}.example"
    image, elsewhere = f"{registry}/acme/web:v1", f"{ALIVE}/acme/web:v1"
    await namespace.source(f"{registry}/acme/web", f"{ALIVE}/acme/web")
    await namespace.apply(pod(pod_spec(container("first", image)), name="earlier"))
    await running(namespace, {"first": image})
    namespace.dead.add(registry)
    spec = pod_spec(container("runs", image), container("pulls", image, imagePullPolicy="Always"))
    failing, event = await namespace.fail(pod(spec))
    assert "running" in statuses(failing)["runs"]["state"]
    await namespace.post(event)
    after = statuses(await running(namespace, {"runs": image, "pulls": elsewhere}))
    assert statuses(failing)["runs"] == after["runs"]


async def test_an_ephemeral_container_is_left_and_reported(namespace: NamespaceFixture) -> None:
    """The image of an ephemeral container cannot be changed: nothing is patched, and an Event at the pod says so."""
    await namespace.source()
    await namespace.apply(pod(pod_spec(container("web", HEALTHY))))
    alone = await running(namespace, {"web": HEALTHY})
    path = await namespace.api.path(alone)
    debug = {"spec": {"ephemeralContainers": [container("debug", OLD)]}}
    await namespace.api.patch(f"{path}/ephemeralcontainers", debug, "strategic")
    waits = {"waiting": {"reason": "ErrImagePull", "message": "connection refused"}}
    shown = {"name": "debug", "image": OLD, "imageID": "", "ready": False, "restartCount": 0, "state": waits}
    await namespace.api.patch(f"{path}/status", {"status": {"ephemeralContainerStatuses": [shown]}}, "strategic")
    namespace.mark()
    answer = await namespace.post(await namespace.write_kubelet_event(alone, "ephemeralContainers", "debug", OLD))
    assert (200, f"left debug with {OLD}: EphemeralContainer: its image cannot be changed") == (
        answer.status,
        answer.text,
    )
    assert [] == namespace.patches()
    message = f"left debug with {OLD}: EphemeralContainer: its image cannot be changed"
    assert [("EphemeralContainer", message)] == await namespace.saffire_events(alone)


# Image volumes

DATA_OLD, DATA_NEW = f"{DEAD}/acme/data:v1", f"{ALIVE}/acme/data:v1"


async def unmounted(namespace: NamespaceFixture, workload: Manifest) -> tuple[Manifest, Manifest]:
    """Create a workload whose pod cannot pull the image of a volume; return that pod and the Event about it."""
    await namespace.apply(workload)
    (pod,) = await until(namespace.pods)
    message = f'Back-off pulling image "{DATA_OLD}": ErrImagePull: connection refused'
    shown = {"name": "web", "image": HEALTHY, "imageID": "", "ready": False, "restartCount": 0}
    status = {**shown, "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}}}
    path = await namespace.api.path(pod)
    await until(lambda: taken_up(namespace, pod))
    await namespace.api.patch(f"{path}/status", {"status": {"containerStatuses": [status]}})
    return await namespace.read(pod), await namespace.write_kubelet_event(pod, "containers", "web", DATA_OLD)


async def taken_up(namespace: NamespaceFixture, pod: Manifest) -> bool:
    """Say whether the node has written its first status of a pod; the next one comes an hour later."""
    return bool(statuses(await namespace.read(pod)))


def mounting(node: str) -> Manifest:
    """Return the spec of a pod on a node that mounts an image."""
    mounts = [{"name": "data", "mountPath": "/data"}]
    volumes = [{"name": "data", "image": {"reference": DATA_OLD}}]
    return pod_spec(container("web", HEALTHY, volumeMounts=mounts), volumes=volumes, nodeName=node)


async def test_an_image_that_a_template_mounts_moves_there(namespace: NamespaceFixture, slow_node: str) -> None:
    """The template moves, its rollout creates a new pod, and the Event says what cannot be done for the old one."""
    await namespace.source()
    _, event = await unmounted(namespace, deployment(mounting(slow_node)))
    answer = await namespace.post(event)
    assert "moved data of Deployment/web" in answer.text
    assert [("deployments", "web")] == namespace.patches()
    live = await namespace.read(deployment())
    assert DATA_NEW == pod_spec_of(live)["volumes"][0]["image"]["reference"]
    assert {"web": HEALTHY} == images(pod_spec_of(live))
    ((reason, message),) = await namespace.saffire_events(live)
    assert "Failover" == reason
    assert message.startswith(f"moved data of Deployment/web from {DATA_OLD} to {DATA_NEW}")
    assert "the image of a live pod's volume cannot be changed" in message


async def test_an_image_that_a_template_mounts_stays_where_only_pods_may_be_patched(
    namespace: NamespaceFixture, slow_node: str
) -> None:
    """With `strategy: Pods` the image of a volume cannot change: the template stays, and the pod's Event says so."""
    await namespace.source(strategy="Pods")
    mounted, event = await unmounted(namespace, deployment(mounting(slow_node)))
    answer = await namespace.post(event)
    why = f"left data with {DATA_OLD}: ImageVolume: strategy: Pods leaves the template alone"
    assert (200, why) == (answer.status, answer.text)
    assert [] == namespace.patches()
    ((reason, _),) = await namespace.saffire_events(mounted)
    assert "ImageVolume" == reason


async def test_an_image_that_only_a_pod_mounts_stays(namespace: NamespaceFixture, slow_node: str) -> None:
    """The image of a live pod's volume cannot change, and the pod's Event says so."""
    await namespace.source()
    bare, event = await unmounted(namespace, pod(mounting(slow_node)))
    await namespace.post(event)
    assert [] == namespace.patches()
    ((reason, _),) = await namespace.saffire_events(bare)
    assert "ImageVolume" == reason
