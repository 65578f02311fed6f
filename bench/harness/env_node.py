"""The environment of rows: a control plane, a real node, registries, and Saffire with its event source."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from playground.cluster.api import Api
from playground.cluster.binaries import find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.environment import NAMESPACE, SOURCES, install
from playground.eventsource.apiserversource import ApiServerSource
from playground.eventsource.pingsource import PingSource
from playground.function_process import FunctionProcess
from playground.node.images import Images
from playground.node.realnode import RealNode
from playground.node.registries import Registry
from testkit.node.registry_fixture import Repositories


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnvironment:
    """
    What all trials share.

    Args:
        api: a client that may do everything.
        images: the images to run.
        dead: a registry that does not answer.
        another: a second one.
        alive: a registry that works.
        dying: registries that trials let fail, one for each trial that runs at the same time.

    """

    api: Api
    images: Images
    dead: Registry
    another: Registry
    alive: Registry
    dying: asyncio.Queue[Registry]

    async def repositories(self, name: str) -> Repositories:
        """Return repositories of that name, with images that the node does not have."""
        return await Repositories.opened(name, self.images, self.dead, self.another, self.alive)


@contextlib.asynccontextmanager
async def open_environment(at_once: int) -> AsyncIterator[NodeEnvironment]:
    """
    Start the environment for so many trials `at_once`.

    Saffire runs under its own role, and gets what the event sources of `knative/` would send it. It may ask all
    registries.
    """
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        plane = await enter(ControlPlane(find_binaries()))
        await enter(RealNode(plane))
        images = await enter(Images())
        dead, another, alive = [await enter(Registry()) for _ in range(3)]
        await dead.die()
        await another.die()
        await install(plane.admin)
        spare = [await enter(Registry()) for _ in range(at_once)]
        asked = ",".join(registry.domain for registry in (dead, another, alive, *spare))
        kubeconfig = await plane.kubeconfig_for(NAMESPACE, "saffire")
        served = await enter(FunctionProcess(kubeconfig, SAFFIRE_INSECURE_REGISTRIES=asked))
        events = await enter(await plane.api_for(NAMESPACE, "saffire-source"))
        await enter(ApiServerSource(events, served.url, namespace=NAMESPACE))
        await enter(ApiServerSource(events, served.url, path=SOURCES, namespace=NAMESPACE))
        await enter(PingSource(served.url))
        dying: asyncio.Queue[Registry] = asyncio.Queue()
        for registry in spare:
            dying.put_nowait(registry)
        yield NodeEnvironment(api=plane.admin, images=images, dead=dead, another=another, alive=alive, dying=dying)
