"""What a storm needs in the cluster: namespaces with sources, and Deployments of many pods."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from bench.harness.env_simulated import SimulatedEnvironment, for_all
from bench.harness.registries import DEAD, OLD
from playground.cluster.api import Api, ApiError, Manifest
from playground.cluster.polling import until
from testkit.api.workloads import container, deployment, pod_spec

GROUP = "saffire.fairwinds.com/v1alpha1"
_DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """
    How many namespaces, workloads in each, and pods of each.

    `sourced` namespaces have a source; by default, all have.
    """

    namespaces: int
    workloads: int
    pods: int
    sourced: int | None = None

    @property
    def all_workloads(self) -> int:
        """How many workloads there are."""
        return self.namespaces * self.workloads

    @property
    def all_pods(self) -> int:
        """How many pods there are."""
        return self.all_workloads * self.pods

    @property
    def names(self) -> list[str]:
        """The namespaces; those with a source come first."""
        return [f"shop-{number}" for number in range(self.namespaces)]

    @property
    def names_with_source(self) -> list[str]:
        """The namespaces with a source."""
        return self.names[: self.sourced]

    @property
    def moving(self) -> int:
        """How many workloads Saffire has to move."""
        return len(self.names_with_source) * self.workloads


async def set_up(environment: SimulatedEnvironment, size: Size) -> None:
    """Create namespaces, sources and workloads, and wait until all pods run."""
    api = environment.api
    await for_all(functools.partial(open_namespace, api), size.names)
    await for_all(lambda name: add_source(api, name, environment.alive.domain), size.names_with_source)
    every = [(name, f"web-{number}") for name in size.names for number in range(size.workloads)]
    await for_all(lambda place: api.post(_DEPLOYMENTS.format(place[0]), workload(place[1], size.pods)), every)
    for name in size.names:
        await until(functools.partial(_is_up, api, name, size))


async def until_failing(api: Api, size: Size) -> None:
    """Wait until the status of every pod shows a failed pull."""
    for name in size.names:
        await until(functools.partial(_is_failing_in, api, name, size))


async def _is_failing_in(api: Api, namespace: str, size: Size) -> bool:
    pods = (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
    return sum(map(_is_failing, pods)) >= size.workloads * size.pods


async def open_namespace(api: Api, name: str) -> None:
    """Create a namespace, and wait until pods may be created in it."""
    await api.post("/api/v1/namespaces", {"metadata": {"name": name}})

    async def is_open() -> bool:
        try:
            await api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    await until(is_open)


async def add_source(api: Api, namespace: str, *alternatives: str, verification: str = "BestEffort") -> None:
    """Create a source that says where else the images of the failing registry are."""
    sets = [{"equivalentRepositories": [f"{domain}/acme/*" for domain in (DEAD, *alternatives)]}]
    metadata = {"name": "shop", "namespace": namespace}
    source = {"apiVersion": GROUP, "kind": "AlternateImageSource", "metadata": metadata}
    await api.post(
        sources_path(namespace), {**source, "spec": {"imageSourceReplacements": sets, "verification": verification}}
    )


def sources_path(namespace: str) -> str:
    """Return the path of the sources of a namespace."""
    return f"/apis/{GROUP}/namespaces/{namespace}/alternateimagesources"


def workload(name: str, pods: int, image: str = OLD) -> Manifest:
    """Return a Deployment whose pods pull their image at every start."""
    labels = {"app": name}
    made = deployment(pod_spec(container(image=image, imagePullPolicy="Always")), name=name, replicas=pods)
    made["spec"]["selector"] = {"matchLabels": labels}
    made["spec"]["template"] = {**made["spec"]["template"], "metadata": {"labels": labels}}
    return made


async def deployments(api: Api, namespaces: Iterable[str]) -> list[Manifest]:
    """Return the Deployments of some namespaces."""
    return [deployment for name in namespaces for deployment in (await api.get(_DEPLOYMENTS.format(name)))["items"]]


async def failure_of(api: Api, namespace: str, name: str = "") -> Manifest:
    """Wait until a workload's pod, or the only pod, has a failed pull in its status; return the Event about it."""
    failures: list[Manifest] = []

    async def has_failed() -> bool:
        path = f"/api/v1/namespaces/{namespace}"
        failing = {pod["metadata"]["uid"] for pod in (await api.get(f"{path}/pods"))["items"] if _is_failing(pod)}
        events = (await api.get(f"{path}/events", fieldSelector="reason=Failed"))["items"]
        failures[:] = [
            {"apiVersion": "v1", "kind": "Event", **event}
            for event in events
            if event["involvedObject"]["uid"] in failing
            and event["message"].startswith("Failed to pull")
            and event["involvedObject"]["name"].startswith(name)
        ]
        return bool(failures)

    await until(has_failed)
    return failures[0]


def _is_failing(pod: Manifest) -> bool:
    states = [container_status["state"] for container_status in pod.get("status", {}).get("containerStatuses", ())]
    return any(state.get("waiting", {}).get("reason") in {"ErrImagePull", "ImagePullBackOff"} for state in states)


def path_of(manifest: Manifest) -> str:
    """Return the URL path of a Deployment."""
    return f"{_DEPLOYMENTS.format(manifest['metadata']['namespace'])}/{manifest['metadata']['name']}"


async def _is_up(api: Api, namespace: str, size: Size) -> bool:
    live = await deployments(api, [namespace])
    ready: int = sum(deployment.get("status", {}).get("availableReplicas", 0) for deployment in live)
    return ready == size.workloads * size.pods
