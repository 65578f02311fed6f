"""
Lineage: the owners of many pods at once.

In a storm a namespace has dozens of workloads whose pods fail. Their owners are cheaper to list, kind by kind, than to
read one by one. What a list does not bring, whoever needs it still reads by itself.
"""

from collections.abc import Iterable

from saffire.cluster import Cluster
from saffire.errors import SaffireError
from saffire.manifest import Manifest, name_of, uid_of
from saffire.workload import OwnerReference, controller_of

# So many are read one by one.
_FEW = 4
# Most of what is listed is none of ours, such as the ReplicaSets of earlier revisions: a Deployment keeps ten.
_FOREIGN = 20


async def lineage(cluster: Cluster, namespace: str, pods: Iterable[Manifest]) -> dict[OwnerReference, Manifest]:
    """Return the controllers above the pods of a namespace, as far as there are so many of a kind that a list pays."""
    found: dict[OwnerReference, Manifest] = {}
    listed: set[tuple[str, str]] = set()
    below = list(pods)
    while below:
        kinds: dict[tuple[str, str], dict[str, OwnerReference]] = {}
        for owner in filter(None, map(controller_of, below)):
            if owner not in found:
                kinds.setdefault((owner.api_version, owner.kind), {})[owner.name] = owner
        below = []
        for kind, owners in kinds.items():
            if len(owners) > _FEW and kind not in listed:
                listed.add(kind)
                news = await _listed(cluster, namespace, owners)
                found |= news
                below += news.values()
    return found


async def _listed(
    cluster: Cluster, namespace: str, owners: dict[str, OwnerReference]
) -> dict[OwnerReference, Manifest]:
    """Return those of the owners, all of one kind, that a list brings soon enough."""
    found: dict[OwnerReference, Manifest] = {}
    left = _FOREIGN * len(owners)
    try:
        async for one in cluster.like(next(iter(owners.values())), namespace):
            owner = owners.get(name_of(one))
            if owner and owner.uid == uid_of(one):
                found[owner] = one
            left -= 1
            if len(found) == len(owners) or left < 0:
                break
    except SaffireError:
        pass  # whoever needs an owner reads it, and meets the fault
    return found
