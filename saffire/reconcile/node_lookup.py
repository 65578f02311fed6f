"""
Looks up nodes: on which of them the pods of a workload may run, and which platforms these have.

A cluster may have thousands of nodes, and a Node is large. So Saffire reads only the metadata of all nodes. The labels
name the platform of each node.
"""

import asyncio
import time
from collections.abc import Collection

from saffire.errors import SaffireError, TransientError
from saffire.kube.manifest import Manifest, items, mapping, text
from saffire.kube.resources import Cluster
from saffire.policy.placement import ARCHITECTURE, OS, NodeLabels, nodes_for, tolerates
from saffire.registry.platforms import Platform
from saffire.ttl_cache import TtlCache

# A node that joins is seen after this time.
_NODES_SECONDS = 60
# If the API server could not list the nodes, it is asked again after this time. Repairs must not wait for it in turn.
_FAULT_SECONDS = 5
# So many nodes are read for their taints, which the metadata lacks.
_SAMPLES = 3
_KEPT_TAINTS = 2048


class NodeLookup:
    """The nodes of the cluster, kept for a minute by one instance; `cluster` reads them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._nodes: TtlCache[str, tuple[NodeLabels, ...]] = TtlCache(1, time.monotonic)
        # By name: a Node with its taints alone.
        self._tainted: TtlCache[str, Manifest] = TtlCache(_KEPT_TAINTS, time.monotonic)
        self._listing = asyncio.Lock()

    async def nodes_for(self, spec: Manifest) -> tuple[NodeLabels, ...]:
        """Return the nodes that the selectors of a pod's `spec` allow; `()` if Saffire cannot list the nodes."""
        async with self._listing:
            nodes = self._nodes.get("")
            if nodes is None:
                seconds = _NODES_SECONDS
                try:
                    nodes = tuple([_node_labels(node) async for node in self._cluster.node_metadata()])
                except SaffireError as error:
                    nodes = ()
                    seconds = _FAULT_SECONDS if isinstance(error, TransientError) else seconds
                self._nodes.put("", nodes, seconds)
        return nodes_for(spec, nodes)

    async def platforms_for(self, spec: Manifest, own: tuple[Platform, ...]) -> tuple[Platform, ...]:
        """
        Return the platforms of all nodes on which pods with this `spec` may run, and `own`, the one of a pod's node.

        A platform counts if the pods tolerate the taints of at least one of three nodes that have it.
        """
        by_platform: dict[Platform, list[str]] = {}
        for node in await self.nodes_for(spec):
            if node.labels.get(OS) and node.labels.get(ARCHITECTURE):
                platform = Platform.of(node.labels[OS], node.labels[ARCHITECTURE])
                by_platform.setdefault(platform, []).append(node.name)
        others = [platform for platform in by_platform if platform not in own]
        if not own or not others:
            return own
        allowed = await asyncio.gather(*(self.any_tolerated(spec, by_platform[other][:_SAMPLES]) for other in others))
        return (*own, *(other for other, is_allowed in zip(others, allowed, strict=True) if is_allowed))

    async def any_tolerated(self, spec: Manifest, names: Collection[str]) -> bool:
        """
        Tell whether pods with this `spec` tolerate the taints of at least one of the nodes that have these names.

        Saffire reads at most three nodes. If there are more, or if it cannot read one, the result is true.
        """
        if len(names) > _SAMPLES:
            return True
        try:
            nodes = await asyncio.gather(*map(self._with_taints, names))
        except TransientError:
            return True
        return any(node is None or tolerates(spec, node) for node in nodes)

    async def _with_taints(self, name: str) -> Manifest | None:
        """Return the taints of a Node, as they were at most a minute ago; `None` if Saffire cannot read the Node."""
        if (known := self._tainted.get(name)) is not None:
            return known
        node = await self._cluster.node(name)
        if node is not None:
            node = {"spec": {"taints": list(items(node, "spec", "taints"))}}
            self._tainted.put(name, node, _NODES_SECONDS)
        return node


def _node_labels(metadata: Manifest) -> NodeLabels:
    labels = {key: value for key, value in mapping(metadata, "labels").items() if isinstance(value, str)}
    return NodeLabels(text(metadata, "name"), labels)
