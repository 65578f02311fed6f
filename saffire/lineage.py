"""
Lineage: the owners of a namespace's pods, each read once in a repair.

In a storm a namespace has dozens of workloads whose pods fail. Their owners are cheaper to list, kind by kind, than to
read one by one. What a list does not bring, whoever needs it still reads by itself.
"""

from collections.abc import Iterable
from dataclasses import replace

from saffire.cluster import Cluster
from saffire.errors import SaffireError
from saffire.manifest import Manifest, name_of, uid_of
from saffire.workload import OwnerReference, Owners, controller_of

# So many are read one by one.
_FEW = 4
# Most of what is listed is none of ours, such as the ReplicaSets of earlier revisions: a Deployment keeps ten.
_FOREIGN = 20


class Lineage:
    """The controllers above the pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._listed: dict[OwnerReference, Manifest] = {}
        self._owners: dict[OwnerReference, Owners] = {}
        self._controllers_below: dict[str, set[OwnerReference]] = {}  # by the uid of an owner

    def knows(self, pod: Manifest) -> bool:
        """Tell whether the owners of a pod are known."""
        return controller_of(pod) in self._owners

    async def of(self, pod: Manifest) -> Owners:
        """Return the owners of a pod, read once for all that have its controller."""
        owner = controller_of(pod)
        if owner is None or owner not in self._owners:
            owners = await self._cluster.owners(pod, self._listed)
            if owner is None:
                return owners
            self._owners[owner] = owners
            for above in owners.seen:
                self._controllers_below.setdefault(uid_of(above), set()).add(owner)
        return self._owners[owner]

    def saw(self, workloads: Iterable[Manifest]) -> None:
        """Keep workloads as they are by now, for the pods of them that are still to come."""
        for workload in workloads:
            uid = uid_of(workload)
            for controller in self._controllers_below.get(uid, ()):
                owners = self._owners[controller]
                seen = tuple(workload if uid_of(one) == uid else one for one in owners.seen)
                self._owners[controller] = replace(owners, seen=seen)

    async def list_for(self, pods: Iterable[Manifest]) -> None:
        """List the owners of pods whose owners are not known, as far as there are so many of a kind that it pays."""
        below = [pod for pod in pods if controller_of(pod) not in self._owners]
        tried: set[tuple[str, str]] = set()
        while below:
            kinds: dict[tuple[str, str], dict[str, OwnerReference]] = {}
            for owner in filter(None, map(controller_of, below)):
                kinds.setdefault((owner.api_version, owner.kind), {})[owner.name] = owner
            below = []
            for kind, owners in kinds.items():
                if len(owners) > _FEW and kind not in tried:
                    tried.add(kind)
                    found = await self._list(owners)
                    self._listed |= found
                    below += found.values()

    async def _list(self, owners: dict[str, OwnerReference]) -> dict[OwnerReference, Manifest]:
        """Return those of the owners, all of one kind and by name, that a list brings soon enough."""
        found: dict[OwnerReference, Manifest] = {}
        left = _FOREIGN * len(owners)
        try:
            async for one in self._cluster.like(next(iter(owners.values())), self._namespace):
                owner = owners.get(name_of(one))
                if owner and owner.uid == uid_of(one):
                    found[owner] = one
                left -= 1
                if len(found) == len(owners) or left < 0:
                    break
        except SaffireError:
            pass  # whoever needs an owner reads it, and meets the fault
        return found
