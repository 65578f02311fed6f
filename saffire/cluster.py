"""
The cluster: what Saffire asks of the API server. Manifests in, manifests out, no opinions.

Owners are followed by name. Kubernetes's own kinds are asked for in the version known here, foreign ones in the version
that the reference to them names.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import quote

from saffire.apiserver import AbsentError, ApiServer
from saffire.declared import Declared
from saffire.discovery import Discovery, UnfollowedError
from saffire.errors import ConflictError, ExpiredError, RefusedError, SaffireError
from saffire.kinds import Kind, Kinds
from saffire.manifest import InvalidManifest, Manifest, is_label, is_subdomain, name_of, pruned, text, uid_of
from saffire.patch import Patch
from saffire.reader import Reader
from saffire.settings import Settings
from saffire.workload import OwnerReference, Owners, controller_of, deployment_of

_Ahead = Mapping[OwnerReference, asyncio.Task[Manifest | SaffireError | None]]

_DEPTH = 8


class Cluster(Reader):
    """
    The objects of one cluster, behind `server`; `kinds` are the ones that owners may be of.

    `declared` are the sources, and what is kept of them.
    """

    def __init__(self, server: ApiServer, kinds: Kinds) -> None:
        super().__init__(server)
        self.declared = Declared(server)
        self._kinds = kinds
        self._discovery = Discovery(server)

    @classmethod
    async def connect(cls, settings: Settings) -> Self:
        """Read the configuration of the cluster; raise `TransientError` where there is none to be had yet."""
        return cls(await ApiServer.connect(settings), settings.kinds)

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()

    @property
    def kinds(self) -> Kinds:
        """The kinds that owners may be of."""
        return self._kinds

    async def pods(self, namespace: str) -> AsyncIterator[Manifest]:
        """Yield the pods of a namespace, page by page, each without who manages which of its fields."""
        async for pod in self._all(f"/api/v1/namespaces/{namespace}/pods"):
            yield pruned({"apiVersion": "v1", "kind": "Pod", **pod})

    async def beside(self, pod: Manifest) -> tuple[Manifest, ...]:
        """
        Return the first pods of a pod's namespace as they were when it was last written; if that is long ago, as now.

        A list of how things are now may have to wait (see `declared`), one of how they were does not
        (`resourceVersionMatch=Exact`).
        """
        path = f"/api/v1/namespaces/{text(pod, 'metadata', 'namespace')}/pods"
        version = quote(text(pod, "metadata", "resourceVersion"), safe="")
        try:
            return await self._page(path, f"&resourceVersion={version}&resourceVersionMatch=Exact")
        except ExpiredError:  # that version is compacted after some minutes
            return await self._page(path)

    async def failures(self, namespace: str) -> AsyncIterator[Manifest]:
        """Yield the Events of a namespace whose reason is `Failed`, which says nothing of what has failed."""
        async for event in self._all(f"/api/v1/namespaces/{namespace}/events", "&fieldSelector=reason%3DFailed"):
            yield event

    async def workloads(self, namespace: str, *, missed: Callable[[str], None]) -> AsyncIterator[Manifest]:
        """
        Yield the objects of a namespace with a pod template, of kinds that stand on top.

        `missed` is told which kinds cannot be listed: an operator may not have allowed it, or whoever serves a foreign
        kind may be down, in an outage more than ever.
        """
        for path, known in await self._listable(namespace):
            try:
                async for found in self._all(path):
                    yield {**known, **found}
            except SaffireError:
                missed(known["kind"])

    async def like(self, owner: OwnerReference, namespace: str) -> AsyncIterator[Manifest]:
        """Yield the objects of a namespace that have the kind of an owner; none where that is not for us to list."""
        kind = self._kinds.named(owner.api_version, owner.kind)
        if kind is not None and (kind.stands_on_top or kind.name == "ReplicaSet"):
            async for found in self._all((await self._path(kind, owner.api_version, namespace, "")).removesuffix("/")):
                yield {"apiVersion": owner.api_version, "kind": owner.kind, **found}

    async def namespace(self, name: str) -> Manifest | None:
        """Return the Namespace; `None` where it is gone."""
        return await self._get(f"/api/v1/namespaces/{name}")

    async def pod(self, namespace: str, name: str) -> Manifest | None:
        """Return the Pod; `None` where it is gone."""
        return await self._get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    async def node(self, name: str) -> Manifest | None:
        """Return the Node; `None` where it is gone, or none of our business."""
        try:
            return await self._get(f"/api/v1/nodes/{name}") if is_subdomain(name) else None
        except RefusedError:
            return None

    async def secret(self, namespace: str, name: str) -> Manifest | None:
        """Return a Secret; `None` where it is gone, or not for us to read."""
        try:
            return await self._get(f"/api/v1/namespaces/{namespace}/secrets/{name}") if is_subdomain(name) else None
        except RefusedError:
            return None

    async def event(self, namespace: str, name: str) -> Manifest | None:
        """Return the Event; `None` where it is gone."""
        return await self._get(f"/api/v1/namespaces/{namespace}/events/{name}")

    async def owners(self, pod: Manifest, known: Mapping[OwnerReference, Manifest] = MappingProxyType({})) -> Owners:
        """
        Walk from a pod to the controller on top; what is `known` is not read again.

        Only the owner with `controller: true` is followed, by name, and only if it has the uid that the reference
        names: another object of that name is not the owner. A missing owner ends the walk, as garbage collection will.
        """
        guess = None if controller_of(pod) in known else deployment_of(pod)
        ahead = {guess: asyncio.create_task(self._guessed(guess, pod))} if guess else {}
        try:
            return await self._walk(pod, known, ahead)
        finally:
            for task in ahead.values():
                task.cancel()

    async def _walk(self, pod: Manifest, known: Mapping[OwnerReference, Manifest], ahead: _Ahead) -> Owners:
        """Walk; what is read `ahead` is not read again, whatever came of it."""
        seen: list[Manifest] = []
        owner = controller_of(pod)
        while owner and len(seen) < _DEPTH:
            try:
                found = known.get(owner)
                if found is None and (reading := ahead.get(replace(owner, uid=""))):
                    found = _read(await reading)
                elif found is None:
                    found = await self._follow(owner, text(pod, "metadata", "namespace"))
                if found is None or uid_of(found) != owner.uid:
                    return Owners(seen=tuple(seen), kinds=self._kinds)
                seen += [found, *await self._referred(found)]
            except UnfollowedError:
                break
            except RefusedError:
                return Owners(seen=tuple(seen), unseen=owner, forbidden=True, kinds=self._kinds)
            owner = controller_of(found)
        return Owners(seen=tuple(seen), unseen=owner, kinds=self._kinds)

    async def _guessed(self, guess: OwnerReference, pod: Manifest) -> Manifest | SaffireError | None:
        """Return what is probably on top of a pod, or what stood in the way, which matters only if it is."""
        try:
            return await self._follow(guess, text(pod, "metadata", "namespace"))
        except SaffireError as error:
            return error

    async def read_again(self, manifest: Manifest) -> Manifest | None:
        """Return the object as it is now; `None` where it is gone."""
        return await self._get(await self._path_of(manifest))

    async def apply(self, patch: Patch) -> dict[str, Any]:
        """Send a patch and return the object after it; raise `ConflictError` where a guard failed: nothing changed."""
        return await self._server.patch(await self._path_of(patch.target), patch.operations)

    async def post_event(self, event: Manifest) -> None:
        """Create an Event; one of the same name says the same already."""
        namespace = text(event, "metadata", "namespace")
        with suppress(ConflictError):
            await self._server.post(f"/api/v1/namespaces/{namespace}/events", event)

    async def _follow(self, owner: OwnerReference, namespace: str) -> Manifest | None:
        """Read the object that a reference names; `None` where it is gone."""
        kind = self._kinds.named(owner.api_version, owner.kind)
        if kind is None or not is_subdomain(owner.name):
            raise UnfollowedError(f"{owner.kind}: not a kind that we know")
        path = await self._path(kind, owner.api_version, namespace, owner.name)
        try:
            return await self._server.get(path)
        except AbsentError as error:
            if not error.is_served:
                raise UnfollowedError(f"{owner.api_version}: not served") from error
            return None

    async def _referred(self, owner: Manifest) -> tuple[Manifest, ...]:
        """Read the object that holds the template of an owner, if another one does and is there."""
        kind = self._kinds.of(owner)
        if kind is None or kind.reference is None:
            return ()
        try:
            api_version, name, of = (text(owner, *kind.reference, field) for field in ("apiVersion", "name", "kind"))
        except InvalidManifest as error:
            raise UnfollowedError("not a reference") from error
        if not name:
            return ()
        reference = OwnerReference(api_version=api_version, kind=of, name=name, uid="")
        found = await self._follow(reference, text(owner, "metadata", "namespace"))
        return (found,) if found else ()

    async def _path_of(self, manifest: Manifest) -> str:
        """Return the URL path of an object of a known kind."""
        kind = self._kinds.of(manifest)
        if kind is None:
            raise ValueError(f"{text(manifest, 'kind')}: not a kind that we know")
        namespace = text(manifest, "metadata", "namespace")
        return await self._path(kind, text(manifest, "apiVersion"), namespace, name_of(manifest))

    async def _path(self, kind: Kind, api_version: str, namespace: str, name: str) -> str:
        """Return the URL path of an object, for a foreign kind in the version of `api_version`."""
        version = kind.version or api_version.rpartition("/")[2]
        if not is_label(version):
            raise UnfollowedError(f"{api_version}: not an API version")
        root = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
        return f"{root}/namespaces/{namespace}/{kind.plural or await self._discovery.plural(root, kind)}/{name}"

    async def _listable(self, namespace: str) -> list[tuple[str, dict[str, str]]]:
        """Return the URL path of each kind to list, with what its objects say of their kind."""
        found = []
        for kind in self._kinds.known:
            version = kind.version or (await self._discovery.groups()).get(kind.group, "")
            if kind.stands_on_top and version:
                root = f"/apis/{kind.group}/{version}"
                try:
                    path = f"{root}/namespaces/{namespace}/{kind.plural or await self._discovery.plural(root, kind)}"
                except UnfollowedError:
                    continue
                found.append((path, {"apiVersion": f"{kind.group}/{version}", "kind": kind.name}))
        return found


def _read(found: Manifest | SaffireError | None) -> Manifest | None:
    """Return what was read ahead, or raise what stood in the way."""
    if isinstance(found, SaffireError):
        raise found
    return found
