"""A program that owns a real node with a pod on it, until it ends in one of several ways."""

import asyncio
import sys

from playground.cluster.api import Api
from playground.cluster.binaries import find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.cluster.polling import until
from playground.node.images import Images
from playground.node.realnode import RealNode
from playground.node.registries import Registry

PODS = "/api/v1/namespaces/default/pods"


async def own(end: str) -> None:
    """Print when the pod runs; then wait for a signal, or for a line of input, and end or fail."""
    async with ControlPlane(find_binaries()) as plane, Registry() as registry, Images() as images:
        image = f"{registry.domain}/acme/sleeps:v1"
        await images.push("sleeps", image)
        async with RealNode(plane):
            await plane.admin.post(
                PODS, {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": image}]}}
            )
            await until(lambda: runs(plane.admin))
            print("running", flush=True)  # noqa: T201 -- the parent process waits for this line
            if end == "signal":
                await asyncio.Event().wait()
            await asyncio.to_thread(sys.stdin.readline)
            if end == "failure":
                raise RuntimeError("a failure of the owner")


async def runs(api: Api) -> bool:
    """Say whether the pod runs."""
    pod = await api.get(f"{PODS}/web")
    return bool("Running" == pod["status"].get("phase"))


if __name__ == "__main__":
    asyncio.run(own(sys.argv[1]))
