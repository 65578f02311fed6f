"""
Looks up nodes: their platforms, and on which of them the pods of a workload may run.

A cluster may have thousands of nodes, and a Node is large. So Saffire lists only the metadata of all nodes, whose
labels name the platform of each node. It reads a node itself for its taints. It also reads a node that no list has
named with its platform: the node has joined since the list was made, or Saffire may not list nodes.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from saffire.concurrency import RateLimit
from saffire.errors import SaffireError, TransientError
from saffire.kube.manifest import Manifest, items, mapping, text
from saffire.kube.resources import Cluster
from saffire.policy.placement import ARCHITECTURE, OS, NodeLabels, nodes_for, tolerates
from saffire.registry.platforms import Platform
from saffire.ttl_cache import TtlCache

# What is known of a node is read again after this time.
_SECONDS = 60
# If the API server could not list the nodes, it is asked again after this time. Repairs must not wait for it in turn.
_FAULT_SECONDS = 5
# So many nodes are read for their taints, which the metadata lacks.
_SAMPLES = 3
_KEPT_NODES = 2048
# Whoever creates pods may name nodes that do not exist. Saffire reads so many of them at once, then one in a second.
_ABSENT_AT_ONCE = 20


class NodeLookup:
    """The nodes of the cluster, kept for a minute by one instance; `cluster` reads them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # Those of the latest list, by name, under the one key `""`.
        self._listed: TtlCache[str, dict[str, NodeLabels]] = TtlCache(1, time.monotonic)
        # By name: a Node with its taints and its platform alone; `{}` if Saffire cannot read it.
        self._read: TtlCache[str, Manifest] = TtlCache(_KEPT_NODES, time.monotonic)
        self._listing = asyncio.Lock()
        self._absent = RateLimit(_ABSENT_AT_ONCE)

    def known_platforms(self, name: str) -> tuple[Platform, ...] | None:
        """Return the platform of a node as `platforms_of` does; `None` if that would need a request."""
        if not name:
            return ()
        listed, read = (self._listed.get("") or {}).get(name), self._read.get(name)
        platform = (_platform(listed.labels) if listed else None) or (Platform.of_node(read) if read else None)
        if platform:
            return (platform,)
        return None if read is None else ()

    async def platforms_of(self, name: str) -> tuple[Platform, ...]:
        """Return the platform of the node of this name; `()` for the name `""`, or if Saffire cannot read the node."""
        if self.known_platforms(name) is None:
            await self._list()
        if self.known_platforms(name) is None and not self._absent.delay:
            with suppress(TransientError):  # without the platform less is proven, and nothing else is lost
                await self._node(name)
        return self.known_platforms(name) or ()

    async def nodes_for(self, spec: Manifest) -> tuple[NodeLabels, ...]:
        """Return the nodes that the selectors of a pod's `spec` allow; `()` if Saffire cannot list the nodes."""
        return nodes_for(spec, (await self._list()).values())

    async def platforms_for(self, spec: Manifest, own: tuple[Platform, ...]) -> tuple[Platform, ...]:
        """
        Return the platforms of all nodes on which pods with this `spec` may run, and `own`, the one of a pod's node.

        A platform counts if the pods tolerate the taints of at least one of three nodes that have it.
        """
        by_platform: dict[Platform, list[str]] = {}
        for node in await self.nodes_for(spec):
            if platform := _platform(node.labels):
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
            nodes = await asyncio.gather(*map(self._node, names))
        except TransientError:
            return True
        return any(not node or tolerates(spec, node) for node in nodes)

    async def _list(self) -> dict[str, NodeLabels]:
        """Return the nodes by name, as they were at most a minute ago; none if Saffire cannot list them."""
        async with self._listing:
            nodes = self._listed.get("")
            if nodes is None:
                nodes, seconds = {}, _SECONDS
                try:
                    listed = [_node_labels(metadata) async for metadata in self._cluster.node_metadata()]
                    nodes = {node.name: node for node in listed}
                except SaffireError as error:
                    seconds = _FAULT_SECONDS if isinstance(error, TransientError) else seconds
                self._listed.put("", nodes, seconds)
        return nodes

    async def _node(self, name: str) -> Manifest:
        """Return the taints and the platform of a Node, as of the last minute; `{}` if Saffire cannot read the Node."""
        if (known := self._read.get(name)) is not None:
            return known
        node = await self._cluster.node(name)
        if node is None and self._read.get(name) is None:
            self._absent.charge(1)
        taints, platform = items(node or {}, "spec", "taints"), mapping(node or {}, "status", "nodeInfo")
        read = {"spec": {"taints": list(taints)}, "status": {"nodeInfo": platform}} if node else {}
        self._read.put(name, read, _SECONDS)
        return read


def _platform(labels: Mapping[str, str]) -> Platform | None:
    """Return the platform that the labels of a node name; `None` if they name none."""
    os, architecture = labels.get(OS), labels.get(ARCHITECTURE)
    return Platform.of(os, architecture) if os and architecture else None


def _node_labels(metadata: Manifest) -> NodeLabels:
    labels = {key: value for key, value in mapping(metadata, "labels").items() if isinstance(value, str)}
    return NodeLabels(text(metadata, "name"), labels)
