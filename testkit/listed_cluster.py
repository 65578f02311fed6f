"""
A cluster as its lists show it: a server in the place of the API server, for what reads a whole cluster.

It has the objects that a test gives, hands out pages, and refuses every method but GET.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from kubectl_saffire.__main__ import parser
from kubectl_saffire.screen import Screen
from kubectl_saffire.session import Session
from testkit.builders import FAILING, NOW, Object, kubeconfig, pod, running, waiting, workload

_GROUP = "/apis/saffire.fairwinds.com/v1alpha1"
_PLACES = {
    "Pod": ("/api/v1", "pods"),
    "Namespace": ("/api/v1", "namespaces"),
    "Node": ("/api/v1", "nodes"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "ReplicaSet": ("/apis/apps/v1", "replicasets"),
    "StatefulSet": ("/apis/apps/v1", "statefulsets"),
    "DaemonSet": ("/apis/apps/v1", "daemonsets"),
    "CronJob": ("/apis/batch/v1", "cronjobs"),
    "Job": ("/apis/batch/v1", "jobs"),
    "AlternateImageSource": (_GROUP, "alternateimagesources"),
    "ClusterAlternateImageSource": (_GROUP, "clusteralternateimagesources"),
}


class ListedCluster:
    """
    An API server with these objects.

    Args:
        objects: the objects; a Namespace is added for each namespace that they name.

    """

    def __init__(self, objects: Iterable[Object]) -> None:
        self.requests: Counter[str] = Counter()
        """By method and path."""
        self.denied: set[str] = set()
        """The paths for which the server answers 403."""
        self._lists: dict[str, list[Object]] = {"/".join(place): [] for place in _PLACES.values()}
        self._single: dict[str, Object] = {}
        namespaces: dict[str, None] = {}
        for manifest in objects:
            self._add(manifest)
            namespaces.setdefault(manifest["metadata"].get("namespace", ""))
        for name in filter(None, namespaces):
            if f"/api/v1/namespaces/{name}" not in self._single:
                self._add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def _add(self, manifest: Object) -> None:
        root, plural = _PLACES[manifest["kind"]]
        name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace")
        listed = {key: value for key, value in manifest.items() if key not in {"apiVersion", "kind"}}
        self._lists[f"{root}/{plural}"].append(listed)
        path = f"{root}/{plural}"
        if namespace:
            path = f"{root}/namespaces/{namespace}/{plural}"
            self._lists.setdefault(path, []).append(listed)
        self._single[f"{path}/{name}"] = manifest

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request."""
        self.requests[f"{request.method} {request.path}"] += 1
        if request.method != "GET":
            return web.json_response({"kind": "Status"}, status=405)
        if request.path in self.denied:
            return web.json_response({"kind": "Status", "message": "forbidden"}, status=403)
        if (manifest := self._single.get(request.path)) is not None:
            return web.json_response(manifest)
        if (listed := self._lists.get(request.path)) is None:
            return web.json_response({"kind": "Status", "details": {"name": "no"}}, status=404)
        begin, limit = (int(request.query.get(name, "0")) for name in ("continue", "limit"))
        end = begin + (limit or len(listed))
        token = str(end) if end < len(listed) else ""
        return web.json_response({"metadata": {"continue": token}, "items": listed[begin:end]})

    @asynccontextmanager
    async def session(self, folder: Path, *arguments: str, width: int = 80) -> AsyncIterator["Typed"]:
        """Serve this cluster; yield the session of a command line. `folder` is for the kubeconfig."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.respond)
        async with TestServer(app) as server:
            config = kubeconfig(folder, str(server.make_url("")).rstrip("/"))
            parsed = parser().parse_args([*arguments, "--kubeconfig", config])
            out, err = StringIO(), StringIO()
            session = await Session.open(parsed, {}, Screen(out, err, width=width), now=NOW)
            try:
                yield Typed(parsed, session, out, err)
            finally:
                await session.close()


class Typed:
    """A command line that somebody typed, with what it has written to `out` and `err`."""

    def __init__(self, arguments: Any, session: Session, out: StringIO, err: StringIO) -> None:
        self._arguments = arguments
        self.session = session
        self._out = out
        self._err = err

    async def run(self) -> int:
        """Run the command; return the exit status."""
        status: int = await self._arguments.run(self._arguments, self.session)
        return status

    @property
    def out(self) -> str:
        """What it has written to the standard output."""
        return self._out.getvalue()

    @property
    def err(self) -> str:
        """What it has written to the standard error."""
        return self._err.getvalue()


def placed(manifest: Object, name: str, namespace: str = "shop", **metadata: Any) -> Object:
    """Return an object under another name, in a namespace, with a uid of its own."""
    uid = f"{manifest['kind'].lower()}-{namespace}-{name}"
    return {
        **manifest,
        "metadata": {**manifest["metadata"], "name": name, "namespace": namespace, "uid": uid, **metadata},
    }


def owned_by(manifest: Object, owner: Object) -> Object:
    """Return an object that `owner` controls."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


def deployed(
    name: str, image: str = FAILING, *, namespace: str = "shop", pods: int = 2, fails: bool = False
) -> list[Object]:
    """Return a Deployment with its ReplicaSet and so many ready pods; with `fails`, none of them can pull the image."""
    deployment = placed(workload("Deployment", web=image), name, namespace)
    deployment["status"] = {"readyReplicas": 0 if fails else pods}
    replica_set = owned_by(placed(workload("ReplicaSet", web=image), f"{name}-1", namespace), deployment)
    replica_set["status"] = {"replicas": pods, "readyReplicas": 0 if fails else pods}
    refused = "dial tcp 192.0.2.1:443: connect: connection refused"
    status = waiting(image=image, message=refused) if fails else running(image=image)
    made = [
        owned_by(placed(pod(status, web=image), f"{name}-1-{number}", namespace), replica_set) for number in range(pods)
    ]
    return [deployment, replica_set, *made]
