"""
Placement: on which nodes the pods of a workload may run.

Kubernetes decides that by the node selector, the required node affinity and the tolerations of the pods. Two of these
are compared here, exactly as in Kubernetes (component-helpers, scheduling/corev1/nodeaffinity): the node selector and
the required affinity. Taints keep pods away from nodes too; `tolerates` compares them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from saffire.kube.manifest import InvalidManifest, Manifest, items, mapping, strings, text

OS, ARCHITECTURE = "kubernetes.io/os", "kubernetes.io/arch"
"""The labels by which each kubelet tells its platform (Kubernetes, "Well-Known Labels")."""
# Whoever creates pods may write a node affinity of a megabyte. So many comparisons take a fifth of a second.
_MOST_COMPARISONS = 200_000
# Taints with the effect PreferNoSchedule keep no pod away.
_EFFECTS = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class NodeLabels:
    """The name and the labels of a node."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


def nodes_for(spec: Manifest, nodes: Iterable[NodeLabels]) -> tuple[NodeLabels, ...]:
    """
    Return those of the nodes that the node selector and the required affinity of a pod's `spec` allow.

    If the spec cannot be read, or is too large to compare with every node, every node is returned.
    """
    all_nodes = tuple(nodes)
    try:
        selector = mapping(spec, "nodeSelector")
        required = mapping(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
        terms = items(required, "nodeSelectorTerms") if required else None
        if (len(selector) + _size(terms or ())) * len(all_nodes) > _MOST_COMPARISONS:
            return all_nodes
        return tuple(
            node
            for node in all_nodes
            if selector.items() <= node.labels.items()
            and (terms is None or any(_matches(term, node) for term in terms))
        )
    except InvalidManifest:  # the schema of a foreign kind may allow anything
        return all_nodes


def tolerates(spec: Manifest, node: Manifest) -> bool:
    """Tell whether pods with this `spec` tolerate every taint of a Node that would keep them away."""
    tolerations = items(spec, "tolerations")
    taints = (taint for taint in items(node, "spec", "taints") if text(taint, "effect") in _EFFECTS)
    return all(any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints)


def _size(terms: Iterable[Manifest]) -> int:
    """Return how many terms, requirements and values of requirements there are."""
    requirements = [
        requirement
        for term in terms
        for requirement in ({}, *items(term, "matchExpressions"), *items(term, "matchFields"))
    ]
    return sum(1 + len(strings(requirement, "values")) for requirement in requirements)


def _matches(term: Manifest, node: NodeLabels) -> bool:
    """Tell whether a node meets all requirements of a term of a required node affinity; without any, no node does."""
    expressions, fields = items(term, "matchExpressions"), items(term, "matchFields")
    if not expressions and not fields:
        return False
    return all(_holds(requirement, node.labels) for requirement in expressions) and all(
        _holds(requirement, {"metadata.name": node.name}) for requirement in fields
    )


def _holds(requirement: Manifest, labels: Mapping[str, str]) -> bool:
    """Tell whether a NodeSelectorRequirement holds for labels; one that cannot be read holds for none."""
    key, values = text(requirement, "key"), strings(requirement, "values")
    value = labels.get(key)
    match text(requirement, "operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt" | "Lt" as operator if value is not None and len(values) == 1:
            return _compares(value, operator, values[0])
        case _:
            return False


def _compares(value: str, operator: str, bound: str) -> bool:
    """Compare two texts as whole numbers; false if one of them is none."""
    try:
        return int(value) > int(bound) if operator == "Gt" else int(value) < int(bound)
    except ValueError:
        return False


def _tolerates(toleration: Manifest, taint: Manifest) -> bool:
    """Tell whether a toleration is about a taint (core/v1, `ToleratesTaint`)."""
    effect, key = text(toleration, "effect"), text(toleration, "key")
    if effect and effect != text(taint, "effect"):
        return False
    if key and key != text(taint, "key"):
        return False
    if text(toleration, "operator") == "Exists":
        return True
    return bool(key) and text(toleration, "value") == text(taint, "value")
