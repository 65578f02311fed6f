"""
The nodes and registries of the demo's cluster. Nodes join, and one registry dies.

There are two implementations. The real one has kubelets, containerd and registries that serve images, all on loopback:
its nodes pull from these registries in place of ghcr.io, quay.io and so on. The simulated one needs neither root nor
Linux. In both, Saffire asks registries on loopback by the names of the real ones, through a gateway.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Protocol, Self

from playground.cluster.api import Api
from playground.cluster.controlplane import ControlPlane
from playground.node.images import ImageName, Images
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from playground.registry_gateway import RegistryGateway
from playground.simulated.nodes import SimulatedNodes
from playground.simulated.registry import SimulatedRegistry

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

DOMAINS = tuple(dict.fromkeys(reference.partition("/")[0] for reference in IMAGES))
"""The registries."""


class DemoCluster(Protocol):
    """The demo's cluster; use as an async context manager. Leaving ends all nodes and registries."""

    @property
    def environ(self) -> Mapping[str, str]:
        """What Saffire needs in its environment to ask the registries."""

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
        self._registries = {domain: Registry() for domain in DOMAINS}
        self._gateway = RegistryGateway(self._address_of)

    @property
    def environ(self) -> Mapping[str, str]:
        """What Saffire needs in its environment to ask the registries."""
        return self._gateway.environ

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for registry in self._registries.values():
                await stack.enter_async_context(registry)
            async with Images() as images, asyncio.TaskGroup() as tasks:
                for domain in self._registries:
                    tasks.create_task(self._fill(domain, images))
            await stack.enter_async_context(self._gateway)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _address_of(self, domain: str) -> str:
        return self._registries[domain].domain if domain in self._registries else ""

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
    """Simulated nodes and registries. `api` is a client that may do everything."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._dead: set[str] = set()
        self._registries = {domain: SimulatedRegistry() for domain in DOMAINS}
        self._gateway = RegistryGateway(self._address_of)

    @property
    def environ(self) -> Mapping[str, str]:
        """What Saffire needs in its environment to ask the registries."""
        return self._gateway.environ

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for registry in self._registries.values():
                await stack.enter_async_context(registry)
            await stack.enter_async_context(self._gateway)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _address_of(self, domain: str) -> str:
        return self._registries[domain].address if domain in self._registries else ""

    async def add_nodes(self, *names: str) -> None:
        """Register nodes."""
        await self._stack.enter_async_context(SimulatedNodes(self._api, names, dead=self._dead))

    async def kill_registry(self, domain: str) -> None:
        """From now on, neither a node nor Saffire reaches this registry."""
        self._dead.add(domain)
        await self._registries[domain].die()
