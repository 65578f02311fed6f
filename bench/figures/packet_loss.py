"""
The black hole: a registry loses all packets under ten Deployments of ten images, on one real node.

Beside it, in the same run: each Deployment is patched by hand at the moment that its own pull has failed, which is what
whoever looks at one failure at a time does at best.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.report.result import Options, Result
from playground.binaries import find
from playground.controlplane import ControlPlane
from playground.images import Images
from playground.realnode import RealNode
from playground.registries import BlackHole, Registry
from playground.stage import install, saffire
from testkit.node.namespace_fixture import NamespaceFixture
from testkit.node.packet_loss import PacketLoss, PacketLossResult

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
        async with (
            saffire(plane, lambda _: None, SAFFIRE_INSECURE_REGISTRIES=asked),
            NamespaceFixture(plane.admin) as repositories,
        ):
            ours = await _fall(PacketLoss(repositories, lost, alive, WORKLOADS), built, recovery_baseline=False)
        options.say(f"hole: {ours.back:.1f} s, the first round of pulls was over after {ours.drained:.1f} s")
        async with NamespaceFixture(plane.admin) as repositories:
            theirs = await _fall(PacketLoss(repositories, lost, alive, WORKLOADS), built, recovery_baseline=True)
        options.say(f"hole: each as it fails {theirs.back:.1f} s; first round over after {theirs.drained:.1f} s")
    name = f"{NAME}: ten Deployments, from the first failure until all run"
    yield Result(figure=name, unit="s", value=ours.back, baseline=theirs.back, target=1.0)
    name = f"{NAME}: ten Deployments, from the end of the first round of pulls until all run"
    yield Result(figure=name, unit="s", value=max(ours.back - ours.drained, 0), target=TARGET_SECONDS)


async def _fall(packet_loss: PacketLoss, built: Images, *, recovery_baseline: bool) -> PacketLossResult:
    await packet_loss.open(built, mode="Paused" if recovery_baseline else "Enforce")
    if recovery_baseline:
        await packet_loss.move_as_they_fail()
    fall = await packet_loss.until_back()
    await packet_loss.leave()
    return fall
