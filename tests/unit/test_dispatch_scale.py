"""The dispatcher in a large cluster: ten thousand namespaces with sources, five thousand pods that fail at once."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire.dispatch import Dispatcher
from saffire.reconcile.request import PodFailed, SweepDue
from saffire.settings import Settings
from testkit.builders import FAILING, REFUSED, SECOND, Object, kubeconfig, pod, source_manifest, waiting, workload
from testkit.check_registry import eventually
from testkit.rfc6902 import patched
from testkit.watchdog import longest_step, yardstick

NAMESPACES, PODS = 10_000, 5_000
GROUP = "/apis/saffire.fairwinds.com/v1alpha1"
REPLICA_SET = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "replicaset-uid"}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "deployment-uid"}


class LargeCluster:
    """
    A server in the place of an API server with many objects. It counts requests, hands out pages, and applies patches.

    Args:
        stored: returns the object or the list of objects at a URL path; `None` if there is none.

    """

    def __init__(self, stored: Callable[[str], Object | list[Object] | None]) -> None:
        self.requests: Counter[str] = Counter()
        """By method and URL path."""
        self._stored = stored
        self._patched: dict[str, Object] = {}

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request."""
        self.requests[f"{request.method} {request.path}"] += 1
        path = request.path.removesuffix("/status")
        stored = self._patched.get(path) or self._stored(path)
        if request.method == "POST":
            return web.json_response({}, status=201)
        if stored is None:
            return web.json_response({"kind": "Status", "details": {"name": "no"}}, status=404)
        if request.method == "PATCH":
            stored = self._patched[path] = patched(stored, await request.json())
        if isinstance(stored, dict):
            return web.json_response(stored)
        begin, limit = (int(request.query.get(name, "0")) for name in ("continue", "limit"))
        end = begin + (limit or len(stored))
        token = str(end) if end < len(stored) else ""
        return web.json_response({"metadata": {"continue": token}, "items": stored[begin:end]})

    @property
    def writes(self) -> dict[str, int]:
        """The requests that change something, without Events, with the number of each."""
        reads = ("GET", "POST")
        return {request: count for request, count in self.requests.items() if not request.startswith(reads)}

    @asynccontextmanager
    async def dispatcher(self, folder: Path, settings: Settings) -> AsyncIterator[Dispatcher]:
        """Run a dispatcher for this cluster, which asks no registry."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.respond)
        async with TestServer(app) as server:
            config = kubeconfig(folder, str(server.make_url("")))
            without_probes = replace(settings, kubeconfig=config, probes_per_minute=0)
            dispatcher = await Dispatcher.open(without_probes, clock=lambda: datetime.now(UTC))
            try:
                yield dispatcher
            finally:
                await dispatcher.close()


def in_namespace(source: Object, namespace: str) -> Object:
    """Return a source of this namespace."""
    return {**source, "metadata": {**source["metadata"], "namespace": namespace, "uid": f"{namespace}-uid"}}


async def test_ten_thousand_namespaces_have_their_turns(tmp_path: Path) -> None:
    """
    A sweep ends in time, and the next begins with the namespaces that it left. No Event waits for the sweep.

    No step of a sweep takes longer than 20 ms of work.
    """
    names = [f"shop-{number}" for number in range(NAMESPACES)]
    source = source_manifest(verification="Off")
    sources = [{"metadata": in_namespace(source, name)["metadata"]} for name in names]

    def stored(path: str) -> Object | list[Object] | None:
        *_, parent, name = path.split("/")
        match parent, name:
            case "v1alpha1", "alternateimagesources":
                return sources
            case namespace, "alternateimagesources":
                return [in_namespace(source, namespace)]
            case "alternateimagesources", _:
                return in_namespace(source, path.split("/")[-3])
            case "namespaces", _:
                return {"metadata": {"name": name}}
            case "pods", _:
                return None
            case _:
                return []

    cluster, numbers = LargeCluster(stored), itertools.count()

    def pod_lists() -> list[int]:
        return [count for request, count in cluster.requests.items() if request.endswith("/pods")]

    async with cluster.dispatcher(tmp_path, Settings(sweep_seconds=0.5, sweep_interval_seconds=0.001)) as dispatcher:

        async def sweep() -> None:
            before, number = len(pod_lists()), next(numbers)
            sweeping = asyncio.create_task(dispatcher.dispatch(SweepDue()))
            await eventually(lambda: len(pod_lists()) > before)
            answer = await dispatcher.dispatch(failed(number, datetime.now(UTC), names[-1]))
            assert (200, "NoSuchPod", False) == (answer.status, answer.line, sweeping.done())
            assert f" of {NAMESPACES} namespaces: all is well; " in (await sweeping).line

        steps = await longest_step(sweep)
    assert {1} == set(pod_lists())
    assert steps.longest <= 2 * yardstick(), steps


def owned(manifest: Object, owner: Object) -> Object:
    """Return an object with a controller."""
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [{**owner, "controller": True}]}}


def stuck_pod(number: int) -> Object:
    """Return a pod of the Deployment that waits for its image."""
    manifest = owned(pod(waiting(message=REFUSED)), REPLICA_SET)
    manifest["metadata"] |= {"name": f"web-{number}", "uid": f"uid-{number}"}
    return manifest


def failed(number: int, at: datetime, namespace: str = "shop") -> PodFailed:
    """Return a failure of the pod with this number, which the kubelet reported at this time."""
    return PodFailed(
        namespace=namespace,
        pod=f"web-{number}",
        pod_uid=f"uid-{number}",
        container="web",
        event=f"web-{number}.1",
        image=FAILING,
        at=at,
    )


async def test_five_thousand_pods_of_a_deployment_cost_one_patch(tmp_path: Path) -> None:
    """
    Their Events cost no request once the namespace is read.

    No step of the repair takes much longer than 20 ms of work: the pods of a controller are handled in portions.
    """
    source = source_manifest(verification="Off", trigger="AnyFailure")
    pods = [stuck_pod(number) for number in range(PODS)]
    deployment, replica_set = workload("Deployment"), owned(workload("ReplicaSet"), DEPLOYMENT)
    deployment["metadata"]["name"], replica_set["metadata"]["name"] = DEPLOYMENT["name"], REPLICA_SET["name"]
    objects: dict[str, Object | list[Object]] = {
        f"{GROUP}/alternateimagesources": [source],
        f"{GROUP}/clusteralternateimagesources": [],
        f"{GROUP}/namespaces/shop/alternateimagesources": [source],
        f"{GROUP}/namespaces/shop/alternateimagesources/shop": source,
        "/api/v1/namespaces/shop": {"metadata": {"name": "shop"}},
        "/api/v1/namespaces/shop/pods": pods,
        "/api/v1/namespaces/shop/events": [],
        "/apis/apps/v1/namespaces/shop/replicasets/web-1": replica_set,
        "/apis/apps/v1/namespaces/shop/deployments/web": deployment,
        **{f"/api/v1/namespaces/shop/pods/{stuck['metadata']['name']}": stuck for stuck in pods},
    }
    reported = datetime.now(UTC) - timedelta(seconds=5)

    async def move() -> None:
        cluster = LargeCluster(objects.get)
        async with cluster.dispatcher(tmp_path, Settings()) as dispatcher:
            answer = await dispatcher.dispatch(failed(0, reported), wait=True)
            assert (200, f"moved web of Deployment/web to {SECOND}") == (answer.status, answer.line)
            before = cluster.requests.total()
            for number in range(1, PODS):
                assert (await dispatcher.dispatch(failed(number, reported))).is_redundant
                await asyncio.sleep(0)
        assert {
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web": 1,
            f"PATCH {GROUP}/namespaces/shop/alternateimagesources/shop/status": 1,
        } == cluster.writes
        assert PODS / 250 + 20 >= before == cluster.requests.total()

    steps = await longest_step(move)
    assert steps.longest <= 2 * yardstick(), steps
