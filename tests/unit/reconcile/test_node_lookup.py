"""The nodes of the cluster and their taints are kept for a minute; a fault of the API server is not."""

from pathlib import Path
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.reconcile import node_lookup
from saffire.reconcile.node_lookup import NodeLookup
from testkit.scripted_api import scripted_api, status

NODES = (200, {"metadata": {}, "items": [{"metadata": {"name": "node1", "labels": {}}}]})


@pytest.mark.parametrize(("code", "names"), [(429, ["node1"]), (403, [])])
async def test_a_fault_of_the_api_server_hides_the_nodes_for_seconds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, names: list[str]
) -> None:
    """In the next minute of an outage, it matters on which nodes a workload may run. A role changes less often."""
    monkeypatch.setattr(node_lookup, "_FAULT_SECONDS", 0, raising=False)
    async with scripted_api(tmp_path, {"GET /api/v1/nodes": [status(code), NODES]}) as server:
        nodes = NodeLookup(Cluster(server, Kinds()))
        assert () == await nodes.nodes_for({})
        assert names == [node.name for node in await nodes.nodes_for({})]


@pytest.mark.parametrize(
    "answer", [status(404), status(403), status(500)], ids=["gone", "forbidden", "the API server fails"]
)
async def test_a_node_that_cannot_be_read_may_take_any_pod(tmp_path: Path, answer: tuple[int, Any]) -> None:
    """What is not known of a node moves no template, and no other platform is forgotten."""
    async with scripted_api(tmp_path, {"GET /api/v1/nodes/node1": [answer]}) as server:
        assert await NodeLookup(Cluster(server, Kinds())).any_tolerated({}, ["node1"])


async def test_the_taints_of_a_node_are_read_once_for_all_pods_of_a_storm(tmp_path: Path) -> None:
    """Each pod that waits for its kubelet's next try would read the same nodes again."""
    tainted = {"metadata": {"name": "node1"}, "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}}
    async with scripted_api(tmp_path, {"GET /api/v1/nodes/node1": [(200, tainted), status(500)]}) as server:
        nodes = NodeLookup(Cluster(server, Kinds()))
        assert [False, False] == [await nodes.any_tolerated({}, ["node1"]) for _ in range(2)]
        assert await nodes.any_tolerated({"tolerations": [{"operator": "Exists"}]}, ["node1"])
