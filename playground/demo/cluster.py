"""
The nodes and registries of the demo's cluster. Nodes join, and one registry dies.

There are two implementations. The real one has kubelets, containerd and registries that serve images, all on loopback:
its nodes pull from these registries in place of ghcr.io, quay.io and so on. The simulated one needs neither root nor
Linux.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Protocol, Self

from playground.cluster.api import Api
from playground.cluster.controlplane import ControlPlane
from playground.node.images import ImageName, Images
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from playground.simulated.nodes import SimulatedNodes

IMAGES: dict[str, ImageName] = {
    "ghcr.io/flannel-io/flannel-cni-plugin:v1.8.0-flannel1": "ends",
    "ghcr.io/flannel-io/flannel:v0.27.4": "sleeps",
    "ghcr.io/acme/web:1.0": "sleeps",
    "ghcr.io/acme/web:2.0": "sleeps",
    "ghcr.io/acme/db:16.4": "sleeps",
    "ghcr.io/acme/report:latest": "ends",
    "docker.io/flannel/flannel-cni-plugin:v1.8.0-flannel1": "ends",
    "docker.io/flannel/flannel:v0.27.4": "sleeps",
    "quay.io/acme/web:1.0": "sleeps",
    "quay.io/acme/web:2.0": "sleeps",
    "registry.example.com/mirror/acme/db:16.4": "sleeps",
    "registry.example.com/mirror/acme/report:latest": "ends",
}
"""The images of all registries, and whether a container of each sleeps or ends."""


class DemoCluster(Protocol):
    """The demo's cluster; use as an async context manager. Leaving ends all nodes and registries."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def add_nodes(self, *names: str) -> None:
        """Add nodes to the cluster; return when they are registered."""

    async def kill_registry(self, domain: str) -> None:
        """Kill a registry: from now on, it refuses connections."""


class RealCluster:
    """Real nodes and registries. `plane` is the control plane that the nodes join."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._registries = {reference.split("/")[0]: Registry() for reference in IMAGES}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for registry in self._registries.values():
                await stack.enter_async_context(registry)
            async with Images() as images, asyncio.TaskGroup() as tasks:
                for domain in self._registries:
                    tasks.create_task(self._fill(domain, images))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _fill(self, domain: str, images: Images) -> None:
        """Push a registry's images one by one: two pushes at once to a repository may miss each other's layers."""
        for reference, name in IMAGES.items():
            host, _, rest = reference.partition("/")
            if host == domain:
                await images.push(name, f"{self._registries[domain].domain}/{rest}")

    async def add_nodes(self, *names: str) -> None:
        """Start nodes; return when pods can be scheduled to them."""
        addresses = {domain: registry.domain for domain, registry in self._registries.items()}
        for name in names:
            await self._stack.enter_async_context(RealNode(self._plane, name, registries=addresses))

    async def kill_registry(self, domain: str) -> None:
        """Kill the process of a registry."""
        await self._registries[domain].die()


class SimulatedCluster:
    """Simulated nodes; no registries are needed. `api` is a client that may do everything."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._dead: set[str] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def add_nodes(self, *names: str) -> None:
        """Register nodes."""
        await self._stack.enter_async_context(SimulatedNodes(self._api, names, dead=self._dead))

    async def kill_registry(self, domain: str) -> None:
        """From now on, no node reaches this registry."""
        self._dead.add(domain)
