"""
A registry loses all packets under ten Deployments with ten images, on one real node.

The baseline, in the same run, patches each Deployment at the moment its own pull has failed: the best that can be done
by looking at one failure at a time.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench.report.result import Options, Result
from playground.cluster.binaries import find_binaries
from playground.cluster.controlplane import ControlPlane
from playground.environment import install, run_saffire
from playground.node.images import Images
from playground.node.realnode import RealNode
from playground.node.registries import BlackHole, Registry
from testkit.node.namespace_fixture import NamespaceFixture
from testkit.node.packet_loss import PacketLoss, PacketLossResult

NAME = "hole"
WORKLOADS = 10
TARGET_SECONDS = 5
"""How long the start of ten containers may take once the node has no pull under way."""


async def measure(options: Options) -> AsyncIterator[Result]:
    """Measure Saffire and then the baseline: a node has one queue of pulls."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        plane = await enter(ControlPlane(find_binaries()))
        await enter(RealNode(plane))
        built, alive = await enter(Images()), await enter(Registry())
        lost = stack.enter_context(BlackHole())
        await install(plane.admin)
        asked = f"{lost.domain},{alive.domain}"
        async with (
            run_saffire(plane, lambda _: None, SAFFIRE_INSECURE_REGISTRIES=asked),
            NamespaceFixture(plane.admin) as repositories,
        ):
            ours = await _run(PacketLoss(repositories, lost, alive, WORKLOADS), built, as_baseline=False)
        options.say(f"hole: {ours.back:.1f} s, the first round of pulls was over after {ours.drained:.1f} s")
        async with NamespaceFixture(plane.admin) as repositories:
            theirs = await _run(PacketLoss(repositories, lost, alive, WORKLOADS), built, as_baseline=True)
        options.say(f"hole: baseline {theirs.back:.1f} s; first round over after {theirs.drained:.1f} s")
    name = f"{NAME}: ten Deployments, from the first failure until all run"
    yield Result(figure=name, unit="s", value=ours.back, baseline=theirs.back, target=1.0)
    name = f"{NAME}: ten Deployments, from the end of the first round of pulls until all run"
    yield Result(figure=name, unit="s", value=max(ours.back - ours.drained, 0), target=TARGET_SECONDS)


async def _run(packet_loss: PacketLoss, built: Images, *, as_baseline: bool) -> PacketLossResult:
    await packet_loss.deploy(built, mode="Paused" if as_baseline else "Enforce")
    if as_baseline:
        await packet_loss.patch_each_as_it_fails()
    result = await packet_loss.until_back()
    await packet_loss.delete_all()
    return result
