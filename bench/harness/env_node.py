"""Where rows are played to be measured: a control plane, a real node, registries, and Saffire with its event source."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from playground.api import Api
from playground.binaries import find
from playground.controlplane import ControlPlane
from playground.images import Images
from playground.ping import PingSource
from playground.realnode import RealNode
from playground.registries import Registry
from playground.served import ServedFunction
from playground.source import EventSource
from playground.stage import NAMESPACE, SOURCES, install
from testkit.node.registry_fixture import Repositories


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnvironment:
    """
    What all plays share.

    Args:
        api: of a user who may do everything.
        images: to run.
        dead: a registry that is dead.
        another: a second one.
        alive: a registry that lives.

    """

    api: Api
    images: Images
    dead: Registry
    another: Registry
    alive: Registry

    async def repositories(self, name: str) -> Repositories:
        """Return repositories of that name, of which the node has no image yet."""
        return await Repositories.opened(name, self.images, self.dead, self.another, self.alive)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[NodeEnvironment]:
    """Open one: Saffire runs under its own role, and gets what the sources of `knative/` would send it."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        plane = await enter(ControlPlane(find()))
        await enter(RealNode(plane))
        images = await enter(Images())
        dead, another, alive = [await enter(Registry()) for _ in range(3)]
        await dead.die()
        await another.die()
        await install(plane.admin)
        served = await enter(ServedFunction(await plane.kubeconfig_for(NAMESPACE, "saffire")))
        events = await enter(await plane.api_for(NAMESPACE, "saffire-source"))
        await enter(EventSource(events, served.url, namespace=NAMESPACE))
        await enter(EventSource(events, served.url, path=SOURCES, namespace=NAMESPACE))
        await enter(PingSource(served.url))
        yield NodeEnvironment(api=plane.admin, images=images, dead=dead, another=another, alive=alive)
