"""A registry loses all packets, on a real node: all workloads that wait for it move with the first that fails."""

import json
from typing import Any

from playground.cluster.controlplane import ControlPlane
from playground.environment import install, run_saffire
from playground.node.images import Images
from playground.node.registries import BlackHole, Registry
from testkit.api.namespace_fixture import HISTORY
from testkit.node.namespace_fixture import NamespaceFixture
from testkit.node.packet_loss import DIAL_SECONDS, PacketLoss

WORKLOADS = 3


async def test_all_are_back_when_the_first_round_of_pulls_is_over(
    plane: ControlPlane, namespace: NamespaceFixture, built: Images, alive: Registry
) -> None:
    """When one workload fails, the same repair moves the others, and all run once the node's queue is empty."""
    await install(plane.admin)
    lines: list[dict[str, Any]] = []
    with BlackHole() as lost:
        asked = f"{lost.domain},{alive.domain}"
        async with run_saffire(plane, lines.append, SAFFIRE_INSECURE_REGISTRIES=asked):
            packet_loss = PacketLoss(namespace, lost, alive, WORKLOADS)
            await packet_loss.deploy(built)
            result = await packet_loss.until_back()
    entries = [
        entry
        for live in namespace.objects["Deployment"].values()
        for entry in json.loads(live["metadata"]["annotations"][HISTORY])["failovers"]
    ]
    assert WORKLOADS == len(entries)
    assert WORKLOADS - 1 == [entry["reason"] for entry in entries].count("anticipated")
    assert 1 == len({entry["at"] for entry in entries})
    assert result.back - result.drained < DIAL_SECONDS  # no lost pull is queued before theirs
