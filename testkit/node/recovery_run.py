"""One run of a row: the workload is created, its registry fails, and it recovers."""

import asyncio
from dataclasses import dataclass

from playground.cluster.api import Manifest
from playground.node.registries import Registry
from testkit.api.workloads import images, pod_spec_of
from testkit.node.namespace_fixture import DEADLINE_SECONDS, NamespaceFixture, succeeded, works
from testkit.node.recovery_rows import Row
from testkit.node.registry_fixture import Repositories

STAYS_SECONDS = 3
"""A controller that has something left to do acts within this time."""


@dataclass(frozen=True, slots=True)
class RecoveryRun:
    """A row in a namespace. `live` is its workload before anything failed."""

    row: Row
    namespace: NamespaceFixture
    repositories: Repositories
    live: Manifest

    @property
    def is_back(self) -> bool:
        """Whether all that the row wants runs on the alternative, or is complete."""
        pods = self.namespace.staying()
        if self.row.ends:
            done = sum(succeeded(pod) and self.repositories.owns(pod) for pod in pods)
            return self.row.pods == done and self.namespace.completed("web")
        return all(map(works, pods)) and len(pods) == self.row.pods <= self.moved + self.row.healthy

    @property
    def is_settled(self) -> bool:
        """Whether it has recovered, and the controller of its workload has nothing left to do."""
        return self.is_back and self.namespace.settled()

    @property
    def moved(self) -> int:
        """How many pods are ready on the alternative."""
        return sum(works(pod) and self.is_moved(pod) for pod in self.namespace.staying())

    @property
    def failing(self) -> dict[str, str]:
        """The image of each container that cannot be pulled, by the container's name."""
        wanted = images(pod_spec_of(self.live))
        return {name: image for name, image in wanted.items() if self.repositories.moved(image) != image}

    def is_moved(self, manifest: Manifest) -> bool:
        """Say whether a pod, or a template, names the alternative for all images that cannot be pulled."""
        has = images(pod_spec_of(manifest))
        return all(self.repositories.moved(image) == has[name] for name, image in self.failing.items())

    async def until_back(self) -> float:
        """Wait until it has recovered, and return when."""
        return await self.namespace.until(lambda: self.is_back)

    async def until_settled(self) -> float:
        """
        Wait until it has settled and stays so for three seconds, and return since when.

        A row that ends has settled as soon as it is complete.
        """
        if self.row.ends:
            return await self.until_back()
        async with asyncio.timeout(DEADLINE_SECONDS + STAYS_SECONDS):
            while True:
                since = await self.namespace.until(lambda: self.is_settled)
                try:
                    await self.namespace.until(lambda: not self.is_settled, STAYS_SECONDS)
                except TimeoutError:
                    return since


async def run_row(
    row: Row, namespace: NamespaceFixture, repositories: Repositories, dying: Registry, *, declared: bool = True
) -> RecoveryRun:
    """
    Run a row until its pull has to fail.

    Args:
        row: what to run.
        namespace: where to run it.
        repositories: where its images are.
        dying: the registry that fails if the row's registry works until then.
        declared: whether a source names the alternatives.

    """
    registry = dying if row.dies else None
    if registry:
        await registry.revive()
        repositories = await repositories.dying(registry)
    source = repositories.source(**row.source) if declared else None
    if source and not row.change:
        await namespace.declare(source)
    live = await namespace.apply(row.build(repositories))
    path = await namespace.api.path(live)
    if row.status:
        await namespace.api.patch(f"{path}/status", row.status())
    if row.change:
        before = live["spec"]["replicas"]
        await namespace.until(lambda: [True] * before == [works(pod) for pod in namespace.staying()])
        if source:  # not before: until all pods run, pulls may fail for other reasons
            await namespace.declare(source)
        if registry:
            await registry.die()
        live = await namespace.api.patch(path, row.change(repositories))
        if row.meanwhile:
            await namespace.until(lambda: len(namespace.staying()) > before)
            live = await namespace.api.patch(path, row.meanwhile)
    return RecoveryRun(row=row, namespace=namespace, repositories=repositories, live=live)
