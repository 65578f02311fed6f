"""The nodes of the cluster are kept for a minute; a fault of the API server is not."""

from pathlib import Path

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
