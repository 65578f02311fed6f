"""
From a pod up to its workload: the owners of a namespace's pods, each read once in a repair.

Owners are followed by name. In a storm a namespace has dozens of workloads whose pods fail; their owners are cheaper to
list, kind by kind, than to read one by one. What a list does not bring is read when it is needed.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from saffire.errors import RefusedError, SaffireError
from saffire.kube.discovery import UnfollowedError
from saffire.kube.manifest import InvalidManifest, Manifest, name_of, text, uid_of
from saffire.kube.resources import Cluster
from saffire.kube.workload import OwnerReference, Owners, controller_of, deployment_of

# So many are read one by one.
_FEW = 4
# Most of what is listed is none of ours, such as the ReplicaSets of earlier revisions: a Deployment keeps ten.
_FOREIGN = 20
# Controllers above each other; real ones have three.
_DEPTH = 8
_Ahead = Mapping[OwnerReference, asyncio.Task[Manifest | SaffireError | None]]


class OwnerLookup:
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

    async def owners_of(self, pod: Manifest) -> Owners:
        """Return the owners of a pod, read once for all that have its controller."""
        owner = controller_of(pod)
        if owner is None or owner not in self._owners:
            owners = await self._read(pod)
            if owner is None:
                return owners
            self._owners[owner] = owners
            for above in owners.chain:
                self._controllers_below.setdefault(uid_of(above), set()).add(owner)
        return self._owners[owner]

    def update(self, workloads: Iterable[Manifest]) -> None:
        """Keep workloads as they are by now, for the pods of them that are still to come."""
        for workload in workloads:
            uid = uid_of(workload)
            for controller in self._controllers_below.get(uid, ()):
                owners = self._owners[controller]
                seen = tuple(workload if uid_of(one) == uid else one for one in owners.chain)
                self._owners[controller] = replace(owners, chain=seen)

    async def list_owners(self, pods: Iterable[Manifest]) -> None:
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

    async def _read(self, pod: Manifest) -> Owners:
        """
        Walk from a pod to the controller on top; what was listed is not read again.

        Only the owner with `controller: true` is followed, by name, and only if it has the uid that the reference
        names: another object of that name is not the owner. A missing owner ends the walk, as garbage collection will.
        """
        guess = None if controller_of(pod) in self._listed else deployment_of(pod)
        ahead = {guess: asyncio.create_task(self._guessed(guess))} if guess else {}
        try:
            return await self._walk(pod, ahead)
        finally:
            for task in ahead.values():
                task.cancel()

    async def _walk(self, pod: Manifest, ahead: _Ahead) -> Owners:
        """Walk; what is read `ahead` is not read again, whatever came of it."""
        seen: list[Manifest] = []
        owner = controller_of(pod)
        kinds = self._cluster.kinds
        while owner and len(seen) < _DEPTH:
            try:
                found = self._listed.get(owner)
                if found is None and (reading := ahead.get(replace(owner, uid=""))):
                    found = _result(await reading)
                elif found is None:
                    found = await self._cluster.follow(owner, self._namespace)
                if found is None or uid_of(found) != owner.uid:
                    return Owners(chain=tuple(seen), kinds=kinds)
                seen += [found, *await self._referred(found)]
            except UnfollowedError:
                break
            except RefusedError:
                return Owners(chain=tuple(seen), unreadable=owner, forbidden=True, kinds=kinds)
            owner = controller_of(found)
        return Owners(chain=tuple(seen), unreadable=owner, kinds=kinds)

    async def _guessed(self, guess: OwnerReference) -> Manifest | SaffireError | None:
        """Return what is probably on top of a pod, or what stood in the way, which matters only if it is."""
        try:
            return await self._cluster.follow(guess, self._namespace)
        except SaffireError as error:
            return error

    async def _referred(self, owner: Manifest) -> tuple[Manifest, ...]:
        """Read the object that holds the template of an owner, if another one does and is there."""
        kind = self._cluster.kinds.of(owner)
        if kind is None or kind.reference is None:
            return ()
        try:
            api_version, name, of = (text(owner, *kind.reference, field) for field in ("apiVersion", "name", "kind"))
        except InvalidManifest as error:
            raise UnfollowedError("not a reference") from error
        if not name:
            return ()
        reference = OwnerReference(api_version=api_version, kind=of, name=name, uid="")
        found = await self._cluster.follow(reference, self._namespace)
        return (found,) if found else ()

    async def _list(self, owners: dict[str, OwnerReference]) -> dict[OwnerReference, Manifest]:
        """Return those of the owners, all of one kind and by name, that a list brings soon enough."""
        found: dict[OwnerReference, Manifest] = {}
        left = _FOREIGN * len(owners)
        try:
            async for one in self._cluster.list_kind_of(next(iter(owners.values())), self._namespace):
                owner = owners.get(name_of(one))
                if owner and owner.uid == uid_of(one):
                    found[owner] = one
                left -= 1
                if len(found) == len(owners) or left < 0:
                    break
        except SaffireError:
            pass  # whoever needs an owner reads it, and meets the fault
        return found


def _result(found: Manifest | SaffireError | None) -> Manifest | None:
    """Return what was read ahead, or raise what stood in the way."""
    if isinstance(found, SaffireError):
        raise found
    return found
