"""What the dispatcher promises when it answers: a look that follows does follow, and one that failed is made again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from saffire import dispatch
from saffire.dispatch import Dispatcher
from saffire.errors import TransientError
from saffire.reconcile.request import PodFailed, SourceChanged
from saffire.settings import Settings
from testkit.builders import kubeconfig, pod, source_manifest, waiting
from testkit.check_registry import eventually

GROUP = "/apis/saffire.fairwinds.com/v1alpha1"
SOURCES = f"{GROUP}/alternateimagesources"
PODS = "/api/v1/namespaces/shop/pods"
REPLICA_SET = "/apis/apps/v1/namespaces/shop/replicasets/web"
CHANGED = SourceChanged(namespace="shop", source="shop")


class Shop:
    """A server in the place of the API server of a cluster with one namespace, which has a source and a stuck pod."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.busy: set[str] = set()
        """The paths for which the server answers 429."""
        self.held: dict[str, asyncio.Event] = {}
        """The paths whose answers wait for an event."""
        stuck = pod(waiting())
        stuck["metadata"]["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web-uid", "controller": True}
        ]
        self.source = source_manifest(verification="Off")
        self._objects: dict[str, Any] = {
            SOURCES: [self.source],
            f"{GROUP}/clusteralternateimagesources": [],
            f"{GROUP}/namespaces/shop/alternateimagesources": [self.source],
            f"{GROUP}/namespaces/shop/alternateimagesources/shop": self.source,
            "/api/v1/namespaces/shop": {"metadata": {"name": "shop"}},
            PODS: [stuck],
            f"{PODS}/web-0": stuck,
        }

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request; what the cluster does not have is answered 404."""
        self.requests[request.path] += 1
        if request.path in self.held:
            await self.held[request.path].wait()
        if request.path in self.busy:
            return web.json_response({"kind": "Status"}, status=429)
        found_there = self._objects.get(request.path)
        if found_there is None:
            return web.json_response({"kind": "Status", "details": {"name": "no"}}, status=404)
        body = {"metadata": {}, "items": found_there} if isinstance(found_there, list) else found_there
        return web.json_response(body)


@pytest.fixture
def shop() -> Shop:
    """Give the cluster."""
    return Shop()


@pytest.fixture
async def dispatcher(shop: Shop, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    """Give a dispatcher for the cluster."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", shop.respond)
    async with TestServer(app) as server:
        settings = replace(Settings(), kubeconfig=kubeconfig(tmp_path, str(server.make_url(""))))
        opened = Dispatcher(settings, clock=lambda: datetime.now(UTC))
        try:
            yield opened
        finally:
            for held in shop.held.values():
                held.set()
            await opened.close()


async def test_a_change_is_looked_at_again_if_a_workload_could_not_be_repaired(
    dispatcher: Dispatcher, shop: Shop
) -> None:
    """The answer 503 asks the event source to deliver the change again. Then Saffire repairs again."""
    shop.busy.add(REPLICA_SET)
    assert 503 == (await dispatcher.dispatch(CHANGED)).status
    shop.busy.clear()
    assert not (await dispatcher.dispatch(CHANGED)).is_redundant


async def test_a_change_during_the_look_at_an_earlier_one_gets_a_look_of_its_own(
    dispatcher: Dispatcher, shop: Shop
) -> None:
    """The look may have read the source already, as it was before the later change."""
    for number in range(30):
        await dispatcher.dispatch(SourceChanged(namespace="shop", source=f"invented-{number}"))
    shop.held[PODS] = asyncio.Event()
    assert "among many others" in (await dispatcher.dispatch(CHANGED)).line
    await eventually(lambda: PODS in shop.requests)
    shop.source["metadata"]["generation"] += 1
    assert "among many others" in (await dispatcher.dispatch(CHANGED)).line
    shop.held[PODS].set()
    await eventually(lambda: shop.requests[PODS] > 1)


def failed(namespace: str = "shop") -> PodFailed:
    """Return a failure of the stuck pod, which the kubelet reported some seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=5)
    return PodFailed(namespace=namespace, pod="web-0", pod_uid="pod-uid", container="web", event="web-0.1", at=at)


@pytest.mark.parametrize("path", [PODS, REPLICA_SET])
async def test_a_look_that_fails_is_made_again_if_an_event_relies_on_it(
    dispatcher: Dispatcher, shop: Shop, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The event source has its answer, and delivers the Event no more."""
    monkeypatch.setattr(dispatch, "_LATER_SECONDS", 0.01)
    shop.held[PODS] = asyncio.Event()
    look = asyncio.create_task(dispatcher.dispatch(CHANGED))
    await eventually(lambda: PODS in shop.requests)
    assert "is being looked at" in (await dispatcher.dispatch(failed())).line
    shop.busy.add(path)
    shop.held[PODS].set()
    assert 503 == (await look).status
    shop.busy.clear()
    await eventually(lambda: shop.requests[PODS] > 1)


async def test_an_early_look_does_not_wait_for_a_later_one(dispatcher: Dispatcher, shop: Shop) -> None:
    """A look after the kubelet's next try may be due in a minute, and one for a flood of Events in seconds."""
    for seconds in (60, 0.01, 60):
        dispatcher._repair_later("shop", seconds)  # noqa: SLF001 - otherwise the test takes a minute
    await eventually(lambda: PODS in shop.requests)


async def test_senders_that_hang_up_leave_a_bounded_number_of_tasks(dispatcher: Dispatcher, shop: Shop) -> None:
    """While the API server does not answer, the Events of such senders wait on. Further ones are refused."""
    path = f"{GROUP}/clusteralternateimagesources"
    shop.held[path] = asyncio.Event()
    for number in range(1000):
        sender = asyncio.create_task(dispatcher.dispatch(failed(f"invented-{number}")))
        for _ in range(3):
            await asyncio.sleep(0)
        sender.cancel()
        await asyncio.wait([sender])
    assert 600 > len(asyncio.all_tasks())
    with pytest.raises(TransientError) as refusal:
        await dispatcher.dispatch(failed())
    assert refusal.value.retry_after
    shop.held[path].set()
    await eventually(lambda: 100 > len(asyncio.all_tasks()))
    assert 200 == (await dispatcher.dispatch(failed("invented"))).status
