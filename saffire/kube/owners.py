"""
Finds the owners of a namespace's pods, from a pod up to its workload, and reads each owner once in a repair.

The *owners* of a pod are its controller, that object's controller, and so on. The last one is the pod's workload.
Saffire reads owners by name. If dozens of workloads of a namespace fail at once, `list_owners` lists the owners
instead, kind by kind, which costs fewer requests. If no list contained an owner, Saffire reads the owner when it needs
it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from saffire.concurrency import with_pauses
from saffire.errors import RefusedError, SaffireError
from saffire.kube.discovery import UnfollowedError
from saffire.kube.manifest import InvalidManifest, Manifest, name_of, text, uid_of
from saffire.kube.resources import Cluster
from saffire.kube.workload import OwnerReference, Owners, controller_of, deployment_of, reference_of

# Up to so many owners of one kind are read one by one. More owners of one kind are listed.
_FEW = 4
# Saffire stops reading a list after so many objects for each owner that it looks for. Most listed objects own none of
# the pods: a Deployment keeps the ReplicaSets of its last ten revisions.
_LISTED_PER_OWNER = 20
# The most controllers and holders of templates that Saffire reads above a pod. The longest known chain has five, above
# a pod of a Knative Service.
_MAX_DEPTH = 8


class OwnerLookup:
    """Reads the owners of the pods of one namespace, and keeps these owners for one repair."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._listed: dict[OwnerReference, Manifest] = {}
        self._owners: dict[OwnerReference, Owners] = {}
        # By the uid of an owner: the controllers of pods that have this owner in their chain.
        self._controllers_below: dict[str, set[OwnerReference]] = {}

    def knows(self, pod: Manifest) -> bool:
        """Tell whether Saffire has read the owners of a pod in this repair."""
        return controller_of(pod) in self._owners

    def workload_of(self, pod: Manifest) -> OwnerReference | None:
        """
        Return a reference to the workload of a pod; `None` if Saffire has not read the owners in this repair.

        If RBAC hides an owner, the reference is to that owner.
        """
        controller = controller_of(pod)
        owners = self._owners.get(controller) if controller else None
        if owners and owners.forbidden:
            return owners.unreadable
        return reference_of(owners.chain[-1]) if owners and owners.chain else None

    async def owners_of(self, pod: Manifest) -> Owners:
        """Return the owners of a pod. Saffire reads them once for all pods of the same controller."""
        owner = controller_of(pod)
        if owner is None or owner not in self._owners:
            owners = await self._read(pod)
            if owner is None:
                return owners
            self._owners[owner] = owners
            for controller in owners.chain:
                self._controllers_below.setdefault(uid_of(controller), set()).add(owner)
        return self._owners[owner]

    def update(self, workloads: Iterable[Manifest]) -> None:
        """Replace the kept manifests of workloads that were patched, so that `owners_of` returns the patched ones."""
        for workload in workloads:
            uid = uid_of(workload)
            for controller in self._controllers_below.get(uid, ()):
                owners = self._owners[controller]
                chain = tuple(workload if uid_of(owner) == uid else owner for owner in owners.chain)
                self._owners[controller] = replace(owners, chain=chain)

    async def list_owners(self, pods: Iterable[Manifest]) -> None:
        """
        Read the owners of pods with list requests, and keep them for `owners_of`.

        Pods of a controller whose owners are known already are skipped.

        A kind is listed only if more than four of the owners have this kind, so that a list costs fewer requests.
        """
        objects = [pod async for pod in with_pauses(pods) if controller_of(pod) not in self._owners]
        listed_kinds: set[tuple[str, str]] = set()
        while objects:
            kinds: dict[tuple[str, str], dict[str, OwnerReference]] = {}
            for owner in filter(None, map(controller_of, objects)):
                kinds.setdefault((owner.api_version, owner.kind), {})[owner.name] = owner
            objects = []
            for kind, owners in kinds.items():
                if len(owners) > _FEW and kind not in listed_kinds:
                    listed_kinds.add(kind)
                    listed = await self._list(owners)
                    self._listed |= listed
                    objects += listed.values()

    async def _read(self, pod: Manifest) -> Owners:
        """
        Return the owners of a pod, up to its workload. An owner that was listed is not read again.

        Saffire reads only the owner with `controller: true`, by name. If the object of that name has another uid than
        the reference, the object is not the owner. If an owner is missing, the chain of owners ends there: the garbage
        collector of Kubernetes will delete the pod.
        """
        deployment = None if controller_of(pod) in self._listed else deployment_of(pod)
        if deployment is None:
            return await self._follow_controllers(pod, {})
        # The names say which Deployment probably owns the ReplicaSet, so both are read at the same time.
        read_ahead = asyncio.create_task(self._cluster.follow(deployment, self._namespace))
        try:
            return await self._follow_controllers(pod, {deployment: read_ahead})
        finally:
            read_ahead.cancel()  # even if it has ended: asyncio would log an error that nobody waited for

    async def _follow_controllers(
        self, pod: Manifest, reads_ahead: Mapping[OwnerReference, asyncio.Task[Manifest | None]]
    ) -> Owners:
        """Return the owners of a pod. `reads_ahead` has reads that have begun, by references without uid."""
        chain: list[Manifest] = []
        reference = controller_of(pod)
        kinds = self._cluster.kinds
        while reference and len(chain) < _MAX_DEPTH:
            try:
                owner = self._listed.get(reference) or await (
                    reads_ahead.get(replace(reference, uid="")) or self._cluster.follow(reference, self._namespace)
                )
                if owner is None or uid_of(owner) != reference.uid:
                    return Owners(chain=tuple(chain), kinds=kinds)
                chain += [owner, *await self._template_holder(owner)]
            except UnfollowedError:
                break
            except RefusedError:
                return Owners(chain=tuple(chain), unreadable=reference, forbidden=True, kinds=kinds)
            reference = controller_of(owner)
        return Owners(chain=tuple(chain), unreadable=reference, kinds=kinds)

    async def _template_holder(self, owner: Manifest) -> tuple[Manifest, ...]:
        """Return the object that has an owner's pod template instead (`Kind.reference`); `()` if there is none."""
        kind = self._cluster.kinds.of(owner)
        if kind is None or kind.reference is None:
            return ()
        try:
            api_version, name, kind_name = (
                text(owner, *kind.reference, field) for field in ("apiVersion", "name", "kind")
            )
        except InvalidManifest as error:
            raise UnfollowedError("not a reference") from error
        if not name:
            return ()
        reference = OwnerReference(api_version=api_version, kind=kind_name, name=name, uid="")
        holder = await self._cluster.follow(reference, self._namespace)
        return (holder,) if holder else ()

    async def _list(self, owners: dict[str, OwnerReference]) -> dict[OwnerReference, Manifest]:
        """Return those of the owners, which are of one kind and by name, that the first pages of a list contain."""
        listed: dict[OwnerReference, Manifest] = {}
        left = _LISTED_PER_OWNER * len(owners)
        try:
            async for manifest in self._cluster.list_kind_of(next(iter(owners.values())), self._namespace):
                owner = owners.get(name_of(manifest))
                if owner and owner.uid == uid_of(manifest):
                    listed[owner] = manifest
                left -= 1
                if len(listed) == len(owners) or left < 0:
                    break
        except SaffireError:
            pass  # missing owners are read one by one later; if the error lasts, these reads raise it again
        return listed
