"""On which nodes pods may run: node selectors, required affinity, taints."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.placement import NodeLabels, nodes_for, tolerates

AMD = NodeLabels("amd", {"kubernetes.io/arch": "amd64", "zone": "a", "cpus": "8"})
ARM = NodeLabels("arm", {"kubernetes.io/arch": "arm64", "zone": "b", "cpus": "64"})
NODES = (AMD, ARM)
AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"


def requiring(*terms: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of a pod with a required node affinity of these terms."""
    return {"affinity": {"nodeAffinity": {AFFINITY: {"nodeSelectorTerms": list(terms)}}}}


def expressing(key: str, operator: str, *values: str) -> dict[str, Any]:
    """Return the spec of a pod with one requirement."""
    return requiring({"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]})


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, ["amd", "arm"]),
        ({"nodeSelector": {"zone": "a"}}, ["amd"]),
        ({"nodeSelector": {"zone": "c"}}, []),
        ({"nodeSelector": dict(AMD.labels)}, ["amd"]),
        (expressing("zone", "In", "a", "c"), ["amd"]),
        (expressing("zone", "NotIn", "a"), ["arm"]),
        (expressing("rack", "NotIn", "a"), ["amd", "arm"]),
        (expressing("zone", "Exists"), ["amd", "arm"]),
        (expressing("zone", "DoesNotExist"), []),
        (expressing("rack", "DoesNotExist"), ["amd", "arm"]),
        (expressing("cpus", "Gt", "8"), ["arm"]),
        (expressing("cpus", "Lt", "64"), ["amd"]),
        (expressing("zone", "Lt", "64"), []),
        (expressing("rack", "Gt", "8"), []),
        (expressing("cpus", "Gt", "8", "9"), []),
        (expressing("zone", "Near", "a"), []),
        (requiring({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["arm"]}]}), ["arm"]),
        (requiring({}), []),
        (requiring({}, {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}), ["arm"]),
        (expressing("zone", "In", "a") | {"nodeSelector": {"zone": "b"}}, []),
        ({"nodeSelector": ["zone"]}, ["amd", "arm"]),
    ],
)
def test_a_pod_may_run_where_selector_and_affinity_allow(spec: dict[str, Any], names: list[str]) -> None:
    """Each operator compares as in Kubernetes; a spec that cannot be read allows every node."""
    assert [node.name for node in nodes_for(spec, NODES)] == names


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(expressing("zone", "In", *["c"] * 100_000), id="values"),
        pytest.param(requiring(*[{"matchExpressions": [{"key": "rack", "operator": "Exists"}]}] * 60_000), id="terms"),
        pytest.param({"nodeSelector": {f"label-{number}": "" for number in range(100_001)}}, id="labels"),
    ],
)
def test_a_spec_that_would_take_seconds_to_compare_allows_every_node(spec: dict[str, Any]) -> None:
    """Whoever may create a Deployment could otherwise keep Saffire from all others."""
    assert nodes_for(spec, NODES) == NODES


@pytest.mark.parametrize(
    ("taint", "toleration", "tolerated"),
    [
        ({"key": "gpu", "effect": "NoSchedule"}, None, False),
        ({"key": "gpu", "effect": "PreferNoSchedule"}, None, True),
        ({"key": "gpu", "effect": "NoSchedule"}, {"operator": "Exists"}, True),
        ({"key": "gpu", "effect": "NoExecute"}, {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "gpu", "effect": "NoSchedule"}, {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "a", "effect": "NoSchedule"}, {"key": "gpu", "value": "a"}, True),
        ({"key": "gpu", "value": "a", "effect": "NoSchedule"}, {"key": "gpu", "value": "b"}, False),
        ({"key": "gpu", "effect": "NoSchedule"}, {"key": "cpu", "operator": "Exists"}, False),
        ({"key": "gpu", "effect": "NoSchedule"}, {"value": ""}, False),
    ],
)
def test_a_taint_keeps_pods_away_unless_they_tolerate_it(
    taint: dict[str, str], toleration: dict[str, str] | None, *, tolerated: bool
) -> None:
    """Effect, key, value and operator all count."""
    spec = {"tolerations": [toleration]} if toleration else {}
    assert tolerates(spec, {"spec": {"taints": [taint]}}) is tolerated


@given(st.dictionaries(st.sampled_from(["zone", "cpus", "rack"]), st.sampled_from(["a", "b", "8"])))
def test_a_selector_selects_no_node_without_its_labels(selector: dict[str, str]) -> None:
    """Every node that is left has all labels of the selector."""
    for node in nodes_for({"nodeSelector": selector}, NODES):
        assert selector.items() <= node.labels.items()
