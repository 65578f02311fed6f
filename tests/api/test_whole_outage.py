"""A whole outage: a registry fails, pods are replaced, the event source delivers, and everything recovers."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from playground.cluster.api import Manifest
from playground.cluster.controlplane import ControlPlane
from playground.eventsource.apiserversource import ApiServerSource
from testkit.api.namespace_fixture import NamespaceFixture, statuses, until
from testkit.api.workloads import (
    ALIVE,
    container,
    cron_job,
    daemon_set,
    deployment,
    images,
    job_of,
    pod_spec,
    pod_spec_of,
    stateful_set,
)

ON_THE_NODE = {"nodeSelector": {"kubernetes.io/hostname": "api"}}


@pytest.fixture
async def registry(namespace: NamespaceFixture) -> AsyncIterator[str]:
    """Give the domain of a registry that works until the test makes it fail."""
    domain = f"{namespace.name}.example"
    yield domain
    namespace.dead.discard(domain)


@pytest.fixture
async def system(namespace: NamespaceFixture) -> AsyncIterator[NamespaceFixture]:
    """Give `kube-system`, which all tests share; objects in it carry the name of the test's namespace."""
    everybodys = namespace.another()
    everybodys.name = "kube-system"
    yield everybodys
    for path in ("/apis/apps/v1/namespaces/kube-system/daemonsets", everybodys.sources):
        await namespace.api.delete(f"{path}/{namespace.name}")


def always(name: str, image: str) -> Manifest:
    """Return a container that pulls its image at every start."""
    return container(name, image, imagePullPolicy="Always")


def named(manifest: Manifest, name: str) -> Manifest:
    """Return a workload under another name, which is also the label `app` of its pods."""
    labels = {"app": name}
    spec = manifest["spec"]
    selected = {} if "selector" not in spec else {"selector": {"matchLabels": labels}}
    template = {} if "template" not in spec else {"template": spec["template"] | {"metadata": {"labels": labels}}}
    return {**manifest, "metadata": {"name": name}, "spec": {**spec, **selected, **template}}


async def ran(namespace: NamespaceFixture, app: str, registry: str) -> int:
    """Return how many pods of an app run, or have completed, with all images from one registry."""
    pods = [pod for pod in await namespace.pods() if pod["metadata"].get("labels", {}).get("app", "report") == app]
    started = [pod for pod in pods if all("containerID" in entry for entry in statuses(pod).values()) and statuses(pod)]
    over = [pod for pod in started if pod["status"]["phase"] in {"Running", "Succeeded"}]
    return sum(all(image.startswith(f"{registry}/") for image in images(pod["spec"]).values()) for pod in over)


async def test_a_registry_dies_and_every_workload_comes_back(
    namespace: NamespaceFixture, system: NamespaceFixture, registry: str, cluster: ControlPlane
) -> None:
    """Pod networking, a shop and its nightly report lose their registry and recover on another."""
    network = named(
        daemon_set(
            pod_spec(
                always("kube-flannel", f"{registry}/flannel:v1"),
                init=[always("install-cni", f"{registry}/cni-plugin:v1")],
                **ON_THE_NODE,
            )
        ),
        namespace.name,
    )
    registry_fixture = named(deployment(pod_spec(always("shop", f"{registry}/shop:v1")), replicas=3), "shop")
    store = named(stateful_set(pod_spec(always("store", f"{registry}/store:v1"))), "store")
    report = named(cron_job(pod_spec(always("report", f"{registry}/report:v1"))), "report")
    wanted = {"shop": 3, "store": 2}
    delivered: Counter[int | None] = Counter()

    async def runs(registry: str) -> bool:
        here = {app: await ran(namespace, app, registry) for app in wanted}
        return wanted == here and 1 == await ran(system, namespace.name, registry)

    async def reported() -> bool:
        return 1 == await ran(namespace, "report", ALIVE)

    async def moved() -> bool:
        """Say whether the templates have moved; a DaemonSet's template follows its pods."""
        places = ((system, network), (namespace, registry_fixture), (namespace, store), (namespace, report))
        image_maps = [images(pod_spec_of(await place.read(workload))) for place, workload in places]
        return {f"{ALIVE}/mirror"} == {
            image.rpartition("/")[0] for image_map in image_maps for image in image_map.values()
        }

    async def recorded() -> bool:
        """Say whether the sources list every container that runs on an alternative."""
        here, there = await namespace.status(), await system.status(namespace.name)
        active = [{entry["container"] for entry in status.get("active", ())} for status in (here, there)]
        return [{"shop", "store", "report"}, {"kube-flannel", "install-cni"}] == active

    mirrors = (f"{registry}/*", f"{ALIVE}/mirror/*")
    await namespace.source(*mirrors)
    await system.source(*mirrors, name=namespace.name)
    async with ApiServerSource(
        cluster.admin, namespace.url, on_delivery=lambda _, status, __: delivered.update({status: 1})
    ) as source:
        await system.apply(network)
        for workload in (registry_fixture, store, report):
            await namespace.apply(workload)
        await until(lambda: runs(registry))
        assert not {"switches", "active"} & (await namespace.status()).keys()

        namespace.dead.add(registry)
        # As after a replacement of nodes, every pod has to pull again.
        for pod in [*await namespace.pods(), *await system.pods()]:
            if pod["metadata"]["labels"].get("app") in {*wanted, namespace.name}:
                await namespace.api.delete(await namespace.api.path(pod))
        await namespace.apply(job_of(await namespace.read(report)))
        for came_back in (lambda: runs(ALIVE), reported, moved, recorded):
            await until(came_back)

    assert ({200}, 0) == (set(delivered), source.failed)
