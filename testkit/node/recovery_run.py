"""One run of a row: the workload is created, its registry fails, and it recovers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from playground.cluster.api import Manifest
from playground.node.images import Images
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


@contextlib.asynccontextmanager
async def run_row(
    row: Row, namespace: NamespaceFixture, repositories: Repositories, built: Images, *, declared: bool = True
) -> AsyncIterator[RecoveryRun]:
    """Run a row until its pull has to fail, with a source that names the alternatives if it is `declared`."""
    async with contextlib.AsyncExitStack() as stack:
        registry = None
        if row.dies:
            registry = await stack.enter_async_context(Registry())
            repositories = await repositories.dying(registry, built)
        source = repositories.source(**row.source) if declared else None
        yield await _begin(row, namespace, repositories, registry, source)


async def _begin(
    row: Row,
    namespace: NamespaceFixture,
    repositories: Repositories,
    registry: Registry | None,
    source: Manifest | None,
) -> RecoveryRun:
    if source and not row.change:
        await namespace.apply(source)
    live = await namespace.apply(row.build(repositories))
    path = await namespace.api.path(live)
    if row.status:
        await namespace.api.patch(f"{path}/status", row.status())
    if row.change:
        before = live["spec"]["replicas"]
        await namespace.until(lambda: [True] * before == [works(pod) for pod in namespace.staying()])
        if source:  # not before: until all pods run, pulls may fail for other reasons
            await namespace.apply(source)
        if registry:
            await registry.die()
        live = await namespace.api.patch(path, row.change(repositories))
        if row.meanwhile:
            await namespace.until(lambda: len(namespace.staying()) > before)
            live = await namespace.api.patch(path, row.meanwhile)
    return RecoveryRun(row=row, namespace=namespace, repositories=repositories, live=live)
