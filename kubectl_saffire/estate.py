"""
The estate: the pods, owners and sources of a cluster, or of one namespace, read with few list requests.

The function reads a namespace at a time, and owners by name. The plugin looks at every workload, so it lists each kind
once, page by page. If a list is refused, or lacks an object, the object is read by name, as the function does. So what
the plugin sees is what the function would see, only in fewer requests.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

from kubectl_saffire.errors import UsageError
from saffire.errors import DeniedError, RefusedError, SaffireError
from saffire.kube.client import ApiServer
from saffire.kube.kinds import Kinds
from saffire.kube.manifest import Manifest, mapping, name_of, number, pruned, text, uid_of
from saffire.kube.resources import Cluster
from saffire.kube.workload import OwnerReference
from saffire.sources.spec import API_VERSION, NAMESPACED
from saffire.sources.store import SourceStore

_SOURCES = f"/apis/{API_VERSION}/alternateimagesources"
# The function uses so many sources of a namespace: the first by name.
_MOST_SOURCES = 32
_PodsIn = dict[str, list[Manifest]]


class Estate(Cluster):
    """
    The objects of a cluster, as they were when they were first asked for.

    Args:
        server: the API server.
        kinds: the kinds that owners of pods may have.
        namespace: the namespace to which all reads are limited; `""` for none.
        is_live: whether Secrets and Events are read, too. A rehearsal without registries needs neither: a made-up
            outage has no Events.

    """

    def __init__(self, server: ApiServer, kinds: Kinds, *, namespace: str = "", is_live: bool = False) -> None:
        super().__init__(server, kinds)
        self.scope = namespace
        self.hidden: set[str] = set()
        """What the user may not read, in words: what the plugin says may be wrong for that reason."""
        self._is_live = is_live
        self._lists: dict[tuple[str, str], asyncio.Task[dict[tuple[str, str], Manifest]]] = {}
        # The Jobs of `next_runs`, by namespace and name.
        self._made_up: dict[tuple[str, str], Manifest] = {}
        self._namespaces: asyncio.Task[dict[str, Manifest]] | None = None

    async def pods_by_namespace(self, progress: Callable[[str], None]) -> _PodsIn:
        """
        Return the pods, by namespace, each without `metadata.managedFields`.

        Meanwhile, call `progress` with words for a user. Raise `UsageError` if the user may not list the pods.
        """
        path, pods, count = f"/api/v1{self._in_scope}/pods", _PodsIn(), 0
        try:
            async for pod in self._all(path):
                pods.setdefault(text(pod, "metadata", "namespace"), []).append(
                    pruned({"apiVersion": "v1", "kind": "Pod", **pod})
                )
                count += 1
                if not count % 250:
                    progress(f"read {count} pods")
        except RefusedError as error:
            hint = "" if self.scope else "\nType -n NAMESPACE to look at one namespace that you may read."
            raise UsageError(f"you may not list pods: {error}{hint}") from error
        return pods

    async def workloads_by_namespace(self) -> dict[str, list[Manifest]]:
        """Return the objects of the top-level kinds (`Kind.is_top_level`), by namespace, each kind listed once."""
        workloads: dict[str, list[Manifest]] = {}
        namespace = self.scope or "default"
        for path, kind in await self._listable(namespace):
            in_scope = path.replace(f"/namespaces/{namespace}/", f"{self._in_scope}/", 1)
            try:
                async for workload in self._all(in_scope):
                    made = pruned({**kind, **workload})
                    workloads.setdefault(text(workload, "metadata", "namespace"), []).append(made)
            except SaffireError:
                self.hidden.add(f"objects of the kind {kind['kind']}")
        return workloads

    async def next_runs(self) -> _PodsIn:
        """
        Return the pods that the next runs of CronJobs would have, by namespace; none of a CronJob that is suspended.

        Mostly, a CronJob has no pod, and would fail at its next run. The pods are made up, and have no uid.
        """
        pods = _PodsIn()
        try:
            async for cron_job in self._all(f"/apis/batch/v1{self._in_scope}/cronjobs"):
                if mapping(cron_job, "spec").get("suspend") is not True:
                    namespace = text(cron_job, "metadata", "namespace")
                    job, pod = _next_run({"apiVersion": "batch/v1", "kind": "CronJob", **cron_job})
                    self._made_up[namespace, name_of(job)] = job
                    pods.setdefault(namespace, []).append(pod)
        except RefusedError:
            self.hidden.add("CronJobs")
        return pods

    async def follow(self, owner: OwnerReference, namespace: str) -> Manifest | None:
        """Return the object that a reference names, from a list of its kind; if it is not there, read it by name."""
        if owner.kind == "Job" and (job := self._made_up.get((namespace, owner.name))):
            return job
        key = owner.api_version, owner.kind
        if key not in self._lists:
            self._lists[key] = asyncio.create_task(self._list(owner, namespace))
        # A caller that gives up must not end the list for all others.
        listed = await asyncio.shield(self._lists[key])
        try:
            return listed.get((namespace, owner.name)) or await super().follow(owner, namespace)
        except DeniedError:
            self.hidden.add(f"objects of the kind {owner.kind}")
            raise

    async def namespace(self, name: str) -> Manifest | None:
        """
        Return the Namespace of this name, from a list of all if the reads are not limited to one.

        If the user may not read it, return a Namespace that has nothing but its name.
        """
        if not self.scope:
            if self._namespaces is None:
                self._namespaces = asyncio.create_task(self._list_namespaces())
            listed = await asyncio.shield(self._namespaces)
            if name in listed:
                return listed[name]
        try:
            return await super().namespace(name)
        except DeniedError:
            self.hidden.add("Namespaces, so that their labels and annotations do not count")
            return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}

    async def pods_beside(self, pod: Manifest) -> tuple[Manifest, ...]:
        """Return no pods: whoever rehearses has seen those beside `pod` already."""
        return () if not self._is_live else await super().pods_beside(pod)

    async def secret(self, namespace: str, name: str) -> Manifest | None:
        """Return a Secret if this estate is live; else `None`, as if nobody may read it."""
        return await super().secret(namespace, name) if self._is_live else None

    async def events(self, namespace: str, reason: str) -> AsyncIterator[Manifest]:
        """Yield the Events of a namespace if this estate is live."""
        if self._is_live:
            async for event in super().events(namespace, reason):
                yield event

    @property
    def _in_scope(self) -> str:
        return f"/namespaces/{self.scope}" if self.scope else ""

    async def _list(self, owner: OwnerReference, namespace: str) -> dict[tuple[str, str], Manifest]:
        """Return the objects of the kind of `owner`, by namespace and name; none if they cannot be listed."""
        listed: dict[tuple[str, str], Manifest] = {}
        kind = self.kinds.named(owner.api_version, owner.kind)
        if kind is None:
            return listed
        try:
            path = await self._list_path(kind, owner.api_version, namespace)
            path = path.replace(f"/namespaces/{namespace}/", f"{self._in_scope}/", 1)
            async for manifest in self._all(path):
                # Most ReplicaSets are of old revisions: to keep them would take ten times the memory.
                if kind.name == "ReplicaSet" and not number(manifest, "status", "replicas"):
                    continue
                key = text(manifest, "metadata", "namespace"), name_of(manifest)
                listed[key] = {"apiVersion": owner.api_version, "kind": owner.kind, **manifest}
        except SaffireError:
            pass  # what is missing is read by name; if the error lasts, that read raises it
        return listed

    async def _list_namespaces(self) -> dict[str, Manifest]:
        try:
            return {
                name_of(manifest): {"apiVersion": "v1", "kind": "Namespace", **manifest}
                async for manifest in self._all("/api/v1/namespaces")
            }
        except RefusedError:
            return {}


def _next_run(cron_job: Manifest) -> tuple[Manifest, Manifest]:
    """Return the Job of a CronJob's next run, and the Job's pod."""
    job_spec = mapping(cron_job, "spec", "jobTemplate", "spec")
    template = mapping(job_spec, "template")
    metadata = {"name": f"{name_of(cron_job)}-next", "namespace": text(cron_job, "metadata", "namespace")}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "uid": f"next-{uid_of(cron_job)}", "ownerReferences": [_controlled_by(cron_job)]},
        "spec": job_spec,
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "labels": mapping(template, "metadata", "labels"),
            "annotations": mapping(template, "metadata", "annotations"),
            "ownerReferences": [_controlled_by(job)],
        },
        "spec": mapping(template, "spec"),
        "status": {"phase": "Pending"},
    }
    return job, pod


def _controlled_by(owner: Manifest) -> Manifest:
    return {
        "apiVersion": text(owner, "apiVersion"),
        "kind": text(owner, "kind"),
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
    }


class ListedSources(SourceStore):
    """
    The sources of an estate, each kind listed once.

    If the reads are limited to a namespace, its sources are listed as the function does.
    """

    def __init__(self, server: ApiServer, *, namespace: str = "") -> None:
        super().__init__(server)
        self._scope = namespace
        self._own: asyncio.Task[dict[str, list[Manifest]]] | None = None
        self._cluster_wide: asyncio.Task[tuple[Manifest, ...]] | None = None

    async def in_namespace(self, namespace: str, names: Collection[str] = ()) -> tuple[Manifest, ...]:
        """Return the first 32 AlternateImageSources of a namespace, by name."""
        if self._scope:
            return await super().in_namespace(namespace, names)
        return tuple((await self.own()).get(namespace, ())[:_MOST_SOURCES])

    async def cluster_wide(self, names: Collection[str] = ()) -> tuple[Manifest, ...]:
        """Return the first 32 ClusterAlternateImageSources, by name."""
        if self._cluster_wide is None:
            self._cluster_wide = asyncio.create_task(super().cluster_wide(names))
        return await asyncio.shield(self._cluster_wide)

    async def own(self) -> dict[str, list[Manifest]]:
        """Return the AlternateImageSources of the cluster, or of the one namespace, by namespace."""
        if self._own is None:
            self._own = asyncio.create_task(self._list_sources())
        return await asyncio.shield(self._own)

    async def _list_sources(self) -> dict[str, list[Manifest]]:
        if self._scope:
            return {self._scope: list(await super().in_namespace(self._scope))}
        sources: dict[str, list[Manifest]] = {}
        async for item in self._all(_SOURCES):
            parsed = await self._parsed.parse({"apiVersion": API_VERSION, "kind": NAMESPACED, **item})
            sources.setdefault(text(item, "metadata", "namespace"), []).append(parsed)
        return sources
