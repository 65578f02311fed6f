"""What is known of nodes is kept for a minute; a fault of the API server is not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from saffire.kube.kinds import Kinds
from saffire.kube.resources import Cluster
from saffire.reconcile import node_lookup
from saffire.reconcile.node_lookup import NodeLookup
from saffire.registry.platforms import Platform
from testkit.scripted_api import Answers, scripted_api, status

ARM64, AMD64 = ((Platform(os="linux", architecture=architecture),) for architecture in ("arm64", "amd64"))


def listed(**architectures: str) -> tuple[int, Any]:
    """Return a list of nodes with these architectures, by name; a node has no labels if its architecture is `""`."""
    labels = {name: {"kubernetes.io/os": "linux", "kubernetes.io/arch": of} for name, of in architectures.items() if of}
    nodes = [{"metadata": {"name": name, "labels": labels.get(name, {})}} for name in architectures]
    return 200, {"metadata": {}, "items": nodes}


NODES = listed(node1="")
READ = (
    200,
    {"metadata": {"name": "node1"}, "status": {"nodeInfo": {"operatingSystem": "linux", "architecture": "arm64"}}},
)
"""The answer to the read of a node: a kubelet writes its platform into its status."""


async def test_the_platforms_of_all_nodes_are_known_by_one_request(tmp_path: Path) -> None:
    """Each kubelet writes them into the labels of its node."""
    answers = {"GET /api/v1/nodes": [listed(node1="arm64", node2="amd64"), status(500)]}
    async with scripted_api(tmp_path, answers) as server:
        nodes = NodeLookup(Cluster(server, Kinds()))
        assert nodes.known_platforms("node1") is None
        assert [ARM64, AMD64] == await asyncio.gather(*map(nodes.platforms_of, ("node1", "node2")))
        assert [ARM64, AMD64, ()] == [nodes.known_platforms(name) for name in ("node1", "node2", "")]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(listed(other="amd64"), id="it has just joined"),
        pytest.param(NODES, id="it has no labels"),
        pytest.param(status(403), id="the role may list no nodes"),
        pytest.param(status(429), id="the API server is busy"),
    ],
)
async def test_a_node_that_no_list_describes_is_read_once(tmp_path: Path, answer: tuple[int, Any]) -> None:
    """It may be a new one, on which the pods of an outage start."""
    answers: Answers = {"GET /api/v1/nodes": [answer], "GET /api/v1/nodes/node1": [READ, status(500)]}
    async with scripted_api(tmp_path, answers) as server:
        nodes = NodeLookup(Cluster(server, Kinds()))
        assert ARM64 == await nodes.platforms_of("node1")
        assert ARM64 == nodes.known_platforms("node1")
        assert ARM64 == await nodes.platforms_of("node1")


@pytest.mark.parametrize(
    ("answer", "later"),
    [(status(404), ()), (status(403), ()), (status(500), ARM64)],
    ids=["gone", "forbidden", "the API server fails"],
)
async def test_without_its_node_a_pod_has_no_platform(
    tmp_path: Path, answer: tuple[int, Any], later: tuple[Platform, ...]
) -> None:
    """A fault of the API server is over soon; what is gone, or forbidden, stays so for longer."""
    answers: Answers = {"GET /api/v1/nodes": [listed()], "GET /api/v1/nodes/node1": [answer, READ]}
    async with scripted_api(tmp_path, answers) as server:
        nodes = NodeLookup(Cluster(server, Kinds()))
        assert [(), later] == [await nodes.platforms_of("node1") for _ in range(2)]


async def test_made_up_names_of_nodes_cost_few_requests(tmp_path: Path) -> None:
    """Whoever creates pods may name any node. What a list has named is known all the same."""
    made_up = {f"GET /api/v1/nodes/made-up-{number}": [status(404)] for number in range(40)}
    lists = {"GET /api/v1/nodes": [listed(node1="arm64"), status(500)]}
    answers: Answers = {**lists, **made_up, "GET /api/v1/nodes/another": [READ]}
    async with scripted_api(tmp_path, answers) as server:
        nodes = NodeLookup(Cluster(server, Kinds()))
        for number in range(40):
            assert () == await nodes.platforms_of(f"made-up-{number}")
        assert () == await nodes.platforms_of("another")
        assert ARM64 == await nodes.platforms_of("node1")


async def test_many_pods_of_a_node_that_is_gone_keep_no_new_node_from_being_read(tmp_path: Path) -> None:
    """They ask at the same time, and count once."""
    answers: Answers = {
        "GET /api/v1/nodes": [listed()],
        "GET /api/v1/nodes/gone": [status(404)],
        "GET /api/v1/nodes/node1": [READ],
    }
    async with scripted_api(tmp_path, answers) as server:
        nodes = NodeLookup(Cluster(server, Kinds()))
        assert () == await nodes.nodes_for({})
        assert {()} == set(await asyncio.gather(*(nodes.platforms_of("gone") for _ in range(50))))
        assert ARM64 == await nodes.platforms_of("node1")


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
