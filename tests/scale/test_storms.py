"""Storms, as small as they show what they show: the registry dies under everything that runs, all at once."""

from pathlib import Path

import pytest

from bench.outage import Storm, play
from bench.scenery import Size

pytestmark = pytest.mark.scale

REQUESTS = 6
"""The most for each workload, all told."""

NODES = 4
SIZES = {
    "workloads in many namespaces": Size(namespaces=5, workloads=8, pods=3),
    "workloads in one namespace": Size(namespaces=1, workloads=40, pods=1),
    "pods of one Deployment": Size(namespaces=1, workloads=1, pods=120),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_every_workload_is_moved_once(size: Size, binaries: dict[str, Path]) -> None:  # noqa: ARG001 - skips
    """However many pods tell of it, each is patched by one request that succeeds."""
    storm = await play(size, nodes=NODES)
    assert (size.moving, 0) == (storm.requests["patch deployments"], storm.again)


async def test_workloads_that_fail_together_share_their_requests(binaries: dict[str, Path]) -> None:  # noqa: ARG001
    """Pods are listed rather than read one by one, and what is done once for a namespace is not done for each."""
    size = SIZES["workloads in many namespaces"]
    storm = await play(size, nodes=NODES)
    assert storm.requests.total() <= REQUESTS * size.moving, storm.requests


async def test_namespaces_without_a_source_cost_nothing(binaries: dict[str, Path]) -> None:  # noqa: ARG001
    """Their pods fail like all others, and not one request is about them."""
    storm: Storm = await play(Size(namespaces=10, workloads=2, pods=2, sourced=1), nodes=NODES)
    assert (2, 0) == (storm.requests["patch deployments"], storm.elsewhere)
