"""
Packet loss: the registry of many Deployments loses all packets, so that every pull gives up after half a minute.

A node pulls one image after the other, so the first round of pulls takes half a minute for each image. A Deployment
that is moved when the first pull fails can be pulled once that round is over; one that is moved later queues behind
retries.
"""

import asyncio
from dataclasses import dataclass

from playground.cluster.api import Manifest
from playground.cluster.polling import until
from playground.node.images import Images
from playground.node.registries import BlackHole, Registry
from testkit.api.workloads import container, deployment, images, pod_spec
from testkit.node.namespace_fixture import NamespaceFixture, tells_of_failure, works

DIAL_SECONDS = 30
"""After this time containerd gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketLossResult:
    """
    The result; seconds count from the first Event of a failed pull.

    Args:
        drained: until the pull of each Deployment had failed once, or was no longer tried.
        back: until all ran on the alternative.

    """

    drained: float
    back: float


class PacketLoss:
    """
    Deployments in one namespace, each with an image of its own.

    Args:
        namespace: their namespace.
        lost: the registry that loses all packets.
        alive: a registry that has the same images.
        count: how many Deployments.

    """

    def __init__(self, namespace: NamespaceFixture, lost: BlackHole, alive: Registry, count: int) -> None:
        self.namespace = namespace
        self._old, self._new = (f"{registry.domain}/{namespace.name}" for registry in (lost, alive))
        self._names = [f"web-{number}" for number in range(count)]
        # The first round of pulls, a retry of each, and twice that as a margin.
        self._seconds = 4 * DIAL_SECONDS * count

    async def deploy(self, built: Images, **spec: object) -> None:
        """
        Push the images to the working registry, create a source that names it, and create the Deployments.

        The registry that loses all packets has answered before.
        """
        for name in self._names:
            await built.push("sleeps", f"{self._new}/{name}:v1")
        sets = [{"equivalentRepositories": [f"{self._old}/*", f"{self._new}/*"]}]
        source = {"apiVersion": "saffire.fairwinds.com/v1alpha1", "kind": "AlternateImageSource"}
        spec = {"imageSourceReplacements": sets, **spec}
        await self.namespace.declare({**source, "metadata": {"name": "shop"}, "spec": spec})
        for name in self._names:
            labels = {"app": name}
            made = deployment(pod_spec(container(image=f"{self._old}/{name}:v1")), name=name)
            made["spec"] |= {"selector": {"matchLabels": labels}}
            made["spec"]["template"]["metadata"] = {"labels": labels}
            await self.namespace.apply(made)

    async def patch_each_as_it_fails(self) -> None:
        """Patch the template of each Deployment at the moment its own pull has failed; return after the last."""
        moved: set[str] = set()
        while len(moved) < len(self._names):
            await self.namespace.until(lambda: bool(self._failed() - moved), self._seconds)
            for name in self._failed() - moved:
                path = f"/apis/apps/v1/namespaces/{self.namespace.name}/deployments/{name}"
                image = "/spec/template/spec/containers/0/image"
                patch = [{"op": "replace", "path": image, "value": f"{self._new}/{name}:v1"}]
                await self.namespace.api.patch(path, patch, "json")
                moved.add(name)

    async def until_back(self) -> PacketLossResult:
        """Wait until every Deployment runs on the alternative."""
        back = await self.namespace.until(self._is_back, self._seconds)
        first = self.namespace.first_failure()
        return PacketLossResult(drained=max(self._failures().values()) - first, back=back - first)

    async def delete_all(self) -> None:
        """Delete everything, and wait until the node has no pod of it: pulls under way end first."""
        for name in self._names:
            await self.namespace.api.delete(f"/apis/apps/v1/namespaces/{self.namespace.name}/deployments/{name}")

        async def is_left() -> bool:
            return not (await self.namespace.api.get(f"/api/v1/namespaces/{self.namespace.name}/pods"))["items"]

        async with asyncio.timeout(self._seconds):
            await until(is_left)

    def _is_back(self) -> bool:
        running = {
            image for pod in self.namespace.pods.values() if works(pod) for image in images(pod["spec"]).values()
        }
        return {f"{self._new}/{name}:v1" for name in self._names} <= running

    def _failed(self) -> set[str]:
        return set(self._failures())

    def _failures(self) -> dict[str, float]:
        """Return when the pull of each Deployment failed first."""
        first_failures: dict[str, float] = {}
        for at, manifest in self.namespace.seen:
            if tells_of_failure(manifest) and f'"{self._old}/' in manifest["message"]:
                first_failures.setdefault(_owner(manifest), at)
        return first_failures


def _owner(event: Manifest) -> str:
    """Return the name of the Deployment whose pod an Event is about."""
    name: str = event["involvedObject"]["name"]
    return name.rsplit("-", 2)[0]
