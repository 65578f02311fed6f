"""
The black hole: a registry loses all packets under ten Deployments of ten images, on one real node.

Beside it, in the same run: each Deployment is patched by hand at the moment that its own pull has failed, which is what
whoever looks at one failure at a time does at best.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.result import Options, Result
from playground.binaries import find
from playground.controlplane import ControlPlane
from playground.images import Images
from playground.realnode import RealNode
from playground.registries import BlackHole, Registry
from playground.stage import install, saffire
from testkit.node.namespace_fixture import Stage
from testkit.node.packet_loss import Fall, Hole

NAME = "hole"
WORKLOADS = 10
TARGET_SECONDS = 5
"""What starting ten containers may take, once the node has no pull in flight any more."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Play both, one after the other, since a node has one queue of pulls."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        plane = await enter(ControlPlane(find()))
        await enter(RealNode(plane))
        built, alive = await enter(Images()), await enter(Registry())
        lost = stack.enter_context(BlackHole())
        await install(plane.admin)
        asked = f"{lost.domain},{alive.domain}"
        async with saffire(plane, lambda _: None, SAFFIRE_INSECURE_REGISTRIES=asked), Stage(plane.admin) as shop:
            ours = await _fall(Hole(shop, lost, alive, WORKLOADS), built, by_hand=False)
        options.say(f"hole: {ours.back:.1f} s, the first round of pulls was over after {ours.drained:.1f} s")
        async with Stage(plane.admin) as shop:
            theirs = await _fall(Hole(shop, lost, alive, WORKLOADS), built, by_hand=True)
        options.say(f"hole: each as it fails {theirs.back:.1f} s; first round over after {theirs.drained:.1f} s")
    name = f"{NAME}: ten Deployments, from the first failure until all run"
    yield Result(figure=name, unit="s", value=ours.back, yardstick=theirs.back, target=1.0)
    name = f"{NAME}: ten Deployments, from the end of the first round of pulls until all run"
    yield Result(figure=name, unit="s", value=max(ours.back - ours.drained, 0), target=TARGET_SECONDS)


async def _fall(hole: Hole, built: Images, *, by_hand: bool) -> Fall:
    await hole.open(built, mode="Paused" if by_hand else "Enforce")
    if by_hand:
        await hole.move_as_they_fail()
    fall = await hole.until_back()
    await hole.leave()
    return fall
