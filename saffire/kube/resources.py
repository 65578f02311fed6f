"""
Reads and patches the resources of one cluster. This module takes and returns manifests, and decides nothing.

Objects of Kubernetes's own kinds are read in the version that `kinds` lists. Objects of a foreign kind, such as an Argo
Rollout, are read in the version that a reference to the object names.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from saffire.concurrency import Shares
from saffire.errors import ConflictError, ExpiredError, RefusedError, SaffireError
from saffire.kube.client import METADATA, AbsentError, ApiServer, ResourceReader
from saffire.kube.discovery import Discovery, UnfollowedError
from saffire.kube.kinds import Kind, Kinds
from saffire.kube.manifest import Manifest, is_label, is_subdomain, mapping, name_of, pruned, text
from saffire.kube.workload import OwnerReference

# Patches that are sent at once: a namespace alone sends 16. The webhooks of a namespace may be slow, and there are 100
# connections to the API server (aiohttp's default) for patches and all else.
_PATCHES = 80


class Cluster(ResourceReader):
    """The objects in the cluster of `server`; `kinds` are the kinds that owners of pods may have."""

    def __init__(self, server: ApiServer, kinds: Kinds) -> None:
        super().__init__(server)
        self._kinds = kinds
        self._discovery = Discovery(server)
        self._patches = Shares(_PATCHES)

    @property
    def kinds(self) -> Kinds:
        """The kinds that owners of pods may have."""
        return self._kinds

    async def pods(self, namespace: str) -> AsyncIterator[Manifest]:
        """Yield the pods of a namespace, page by page, each without `metadata.managedFields`."""
        async for pod in self._all(f"/api/v1/namespaces/{namespace}/pods"):
            yield pruned({"apiVersion": "v1", "kind": "Pod", **pod})

    async def pods_beside(self, pod: Manifest) -> tuple[Manifest, ...]:
        """
        Return the first page (250) of the pods in a pod's namespace, as they were when `pod` was last written.

        The API server answers a list of a past version at once (`resourceVersionMatch=Exact`). A list of the current
        pods may have to wait (see `sources.store`). If that version is too old, return the current pods.
        """
        path = f"/api/v1/namespaces/{text(pod, 'metadata', 'namespace')}/pods"
        version = quote(text(pod, "metadata", "resourceVersion"), safe="")
        try:
            return await self._page(path, f"&resourceVersion={version}&resourceVersionMatch=Exact")
        except ExpiredError:  # the API server compacts a version after some minutes
            return await self._page(path)

    async def events(self, namespace: str, reason: str) -> AsyncIterator[Manifest]:
        """Yield the Events of a namespace with this reason, page by page; `Failed` is about pulls and anything else."""
        async for event in self._all(f"/api/v1/namespaces/{namespace}/events", f"&fieldSelector=reason%3D{reason}"):
            yield event

    async def workloads(
        self, namespace: str, unlisted: Iterable[OwnerReference], *, missed: Callable[[str, str], None]
    ) -> AsyncIterator[Manifest]:
        """
        Yield the objects of the top-level kinds (`Kind.is_top_level`) in a namespace, which have a pod template.

        Then yield those objects of other kinds that `unlisted` names. If objects of a kind cannot be read, `missed` is
        called with the API version and the name of the kind. The operator may not have allowed Saffire to list the
        kind. Or the server that serves a foreign kind may be down, which is likely in an outage.
        """
        for path, kind in await self._listable(namespace):
            try:
                async for workload in self._all(path):
                    yield {**kind, **workload}
            except SaffireError:
                missed(kind["apiVersion"], kind["kind"])
        for owner in unlisted:
            try:
                if named := await self.follow(owner, namespace):
                    yield named
            except SaffireError:
                missed(owner.api_version, owner.kind)

    async def list_kind_of(self, owner: OwnerReference, namespace: str) -> AsyncIterator[Manifest]:
        """
        Yield the objects of a namespace that have the kind of `owner`.

        Only top-level kinds and ReplicaSets are listed. For an owner of another kind, yield nothing.
        """
        kind = self._kinds.named(owner.api_version, owner.kind)
        if kind is not None and (kind.is_top_level or kind.name == "ReplicaSet"):
            async for manifest in self._all(await self._list_path(kind, owner.api_version, namespace)):
                yield {"apiVersion": owner.api_version, "kind": owner.kind, **manifest}

    async def namespace(self, name: str) -> Manifest | None:
        """Return the Namespace of this name; `None` if the Namespace is gone."""
        return await self._get(f"/api/v1/namespaces/{name}")

    async def pod(self, namespace: str, name: str) -> Manifest | None:
        """Return the Pod of this name; `None` if the Pod is gone."""
        return await self._get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    async def node(self, name: str) -> Manifest | None:
        """Return the Node of this name; `None` if the Node is gone, or if Saffire may not read it."""
        return await self._get_if_allowed("/api/v1/nodes", name)

    async def node_metadata(self) -> AsyncIterator[Manifest]:
        """Yield the metadata of every Node, page by page; nothing else of a Node is read, since a Node is large."""
        async for node in self._all("/api/v1/nodes", accept=METADATA):
            yield mapping(node, "metadata")

    async def secret(self, namespace: str, name: str) -> Manifest | None:
        """Return the Secret of this name; `None` if the Secret is gone, or if Saffire may not read it."""
        return await self._get_if_allowed(f"/api/v1/namespaces/{namespace}/secrets", name)

    async def controller_revision(self, namespace: str, name: str) -> Manifest | None:
        """Return the ControllerRevision (apps/v1) of this name; `None` if it is gone, or if Saffire may not read it."""
        return await self._get_if_allowed(f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions", name)

    async def event(self, namespace: str, name: str) -> Manifest | None:
        """Return the Event of this name; `None` if the Event is gone."""
        return await self._get(f"/api/v1/namespaces/{namespace}/events/{name}")

    async def follow(self, owner: OwnerReference, namespace: str) -> Manifest | None:
        """
        Return the object that a reference names; `None` if the object is gone.

        Raise `UnfollowedError` if Saffire does not support the object's kind, or if the API server does not serve it.
        """
        kind = self._kinds.named(owner.api_version, owner.kind)
        if kind is None or not is_subdomain(owner.name):
            raise UnfollowedError(f"{owner.kind}: not a kind that we know")
        path = await self._list_path(kind, owner.api_version, namespace)
        try:
            return await self._server.get(f"{path}/{owner.name}")
        except AbsentError as error:
            if not error.is_served:
                raise UnfollowedError(f"{owner.api_version}: not served") from error
            return None

    async def read_again(self, manifest: Manifest) -> Manifest | None:
        """Return the object as it is now; `None` if the object is gone."""
        return await self._get(await self._path_of(manifest))

    async def apply(self, target: Manifest, operations: tuple[Manifest, ...]) -> dict[str, Any]:
        """
        Send a JSON Patch (RFC 6902) for `target` and return the patched object.

        Raise `ConflictError` if a `test` of the patch failed, or if the object is gone. Then nothing has changed. At
        most 80 patches are sent at once, and each namespace has its share of them.
        """
        path, namespace = await self._path_of(target), text(target, "metadata", "namespace")
        await self._patches.take(namespace)
        try:
            return await self._server.patch(path, operations)
        finally:
            self._patches.give_back(namespace)

    async def post_event(self, event: Manifest) -> None:
        """
        Create an Event.

        If an Event of that name exists, do nothing: the existing Event says the same.
        """
        namespace = text(event, "metadata", "namespace")
        with suppress(ConflictError):
            await self._server.post(f"/api/v1/namespaces/{namespace}/events", event)

    async def _get_if_allowed(self, path: str, name: str) -> Manifest | None:
        """Return the object `name` of the list at a URL path; `None` if it is gone, or if Saffire may not read it."""
        try:
            return await self._get(f"{path}/{name}") if is_subdomain(name) else None
        except RefusedError:
            return None

    async def _path_of(self, manifest: Manifest) -> str:
        """Return the URL path of an object; raise `ValueError` if Saffire does not support the object's kind."""
        kind = self._kinds.of(manifest)
        if kind is None:
            raise ValueError(f"{text(manifest, 'kind')}: not a kind that we know")
        namespace = text(manifest, "metadata", "namespace")
        return f"{await self._list_path(kind, text(manifest, 'apiVersion'), namespace)}/{name_of(manifest)}"

    async def _list_path(self, kind: Kind, api_version: str, namespace: str) -> str:
        """Return the URL path of the list of a kind. For a foreign kind, the path has the version of `api_version`."""
        version = kind.version or api_version.rpartition("/")[2]
        if not is_label(version):
            raise UnfollowedError(f"{api_version}: not an API version")
        root = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
        return f"{root}/namespaces/{namespace}/{kind.plural or await self._discovery.plural(root, kind)}"

    async def _listable(self, namespace: str) -> list[tuple[str, dict[str, str]]]:
        """Return the URL path of the list of each top-level kind that is served, with what the items of a list lack."""
        listable = []
        for kind in self._kinds.supported:
            version = kind.version or (await self._discovery.groups()).get(kind.group, "")
            if kind.is_top_level and version:
                api_version = f"{kind.group}/{version}"
                with suppress(UnfollowedError):
                    path = await self._list_path(kind, api_version, namespace)
                    listable.append((path, {"apiVersion": api_version, "kind": kind.name}))
        return listable
