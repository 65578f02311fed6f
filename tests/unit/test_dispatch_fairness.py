"""The dispatcher among slow namespaces: what is slow for one namespace costs the others nothing."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from saffire.dispatch import Dispatcher
from saffire.reconcile import queue, repair
from saffire.reconcile.request import Answer, ClusterSourceChanged, PodFailed, RepairRequest, SourceChanged
from testkit.check_registry import eventually
from testkit.stuck_cluster import StuckCluster, dispatcher_of, owner_in, pods_of

SLOW = tuple(f"slow-{number}" for number in range(6))
DEADLINE_SECONDS = 20
UNDER_WAY = (200, "ignored: its namespace is being looked at")
ANSWER_SECONDS = 0.2
JUST_FAILED = PodFailed(namespace="slow-0", pod="web-0", pod_uid="pod-uid", container="web", event="web-0.1")


@pytest.fixture
def cluster() -> StuckCluster:
    """Give a cluster with a quick namespace, and slow ones: an owner of their pods is not read until the end."""
    stuck = StuckCluster("quick", *SLOW)
    stuck.hold(*map(owner_in, SLOW))
    return stuck


def change(namespace: str) -> SourceChanged:
    """Return the change of the source of a namespace."""
    return SourceChanged(namespace=namespace, source=namespace)


def look_at(dispatcher: Dispatcher, *namespaces: str) -> list[asyncio.Task[Answer]]:
    """Have the dispatcher look at namespaces, and return the tasks that wait for it."""
    return [asyncio.create_task(dispatcher.dispatch(change(name), wait=True)) for name in namespaces]


async def cancel(*tasks: asyncio.Task[Answer]) -> None:
    """Stop waiting for looks, which go on."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_the_event_source_waits_once_for_a_slow_namespace(
    cluster: StuckCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends no event of another namespace meanwhile. A tenant may edit its source, or let pods fail, at any time."""
    monkeypatch.setattr(queue, "_ANSWER_SECONDS", ANSWER_SECONDS)
    event = replace(JUST_FAILED, at=datetime.now(UTC))
    further = [replace(event, pod_uid=f"uid-{number}") for number in range(50)]
    requests: list[RepairRequest] = [change("slow-0"), event, replace(event, at=None), *further]
    again = "ignored: the source has not changed since the last look at it"
    async with dispatcher_of(cluster, tmp_path, request_timeout_seconds=60) as dispatcher:
        began = asyncio.get_running_loop().time()
        for request in requests:
            answer = await dispatcher.dispatch(request)
            assert UNDER_WAY == (answer.status, answer.line)
        assert again == (await dispatcher.dispatch(change("slow-0"))).line
        assert 10 * ANSWER_SECONDS > asyncio.get_running_loop().time() - began
        async with asyncio.timeout(DEADLINE_SECONDS):
            answer = await dispatcher.dispatch(replace(event, namespace="quick"), wait=True)
        assert not answer.is_redundant


async def test_a_sender_that_prefers_to_wait_does(
    cluster: StuckCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an event source has other namespaces to tell of."""
    monkeypatch.setattr(queue, "_ANSWER_SECONDS", 0.01)
    async with dispatcher_of(cluster, tmp_path, request_timeout_seconds=60) as dispatcher:
        (look,) = look_at(dispatcher, "slow-0")
        failure = asyncio.create_task(dispatcher.dispatch(replace(JUST_FAILED, at=datetime.now(UTC)), wait=True))
        await eventually(lambda: owner_in("slow-0") in cluster.requests)
        await asyncio.wait([look, failure], timeout=0.1)
        assert (False, False) == (look.done(), failure.done())
        cluster.held[owner_in("slow-0")].set()
        assert "looked at slow-0" in (await look).line
        assert not (await failure).is_redundant


async def test_the_event_source_does_not_wait_for_the_look_at_an_earlier_change_of_a_cluster_wide_source(
    cluster: StuckCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a look ends only after those at all selected namespaces, the slow ones included."""
    monkeypatch.setattr(queue, "_ANSWER_SECONDS", ANSWER_SECONDS)
    cluster.add_cluster_source("all")
    async with dispatcher_of(cluster, tmp_path, request_timeout_seconds=60) as dispatcher:
        assert "begins to look at 7 namespaces" == (await dispatcher.dispatch(ClusterSourceChanged(source="all"))).line
        cluster.cluster_sources[0]["metadata"]["generation"] += 1
        async with asyncio.timeout(DEADLINE_SECONDS):
            answer = await dispatcher.dispatch(ClusterSourceChanged(source="all"))
            assert (200, True) == (answer.status, answer.is_redundant)
            # If the look fails, nobody else reports the change: another delivery of it is no repetition.
            assert answer == await dispatcher.dispatch(ClusterSourceChanged(source="all"))


async def test_slow_namespaces_do_not_keep_others_from_being_listed(cluster: StuckCluster, tmp_path: Path) -> None:
    """Four namespaces are listed at once. What follows the list may be slow: questions to registries, and patches."""
    async with dispatcher_of(cluster, tmp_path, request_timeout_seconds=60) as dispatcher:
        looks = look_at(dispatcher, *SLOW)
        await eventually(lambda: cluster.held.keys() <= cluster.requests.keys())
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert "looked at quick" in (await dispatcher.dispatch(change("quick"), wait=True)).line
        assert not any(look.done() for look in looks)
        await cancel(*looks)


async def test_namespaces_with_many_failing_pods_are_repaired_four_at_a_time(
    cluster: StuckCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each repair keeps its failing pods until its end, which could take more memory than the function has."""
    monkeypatch.setattr(repair, "_FEW_PODS", 0)
    async with dispatcher_of(cluster, tmp_path, request_timeout_seconds=60) as dispatcher:
        looks = look_at(dispatcher, *SLOW)
        await eventually(lambda: 4 == len(cluster.held.keys() & cluster.requests.keys()))
        await asyncio.wait(looks, timeout=0.1)
        assert 4 == sum(pods_of(namespace) in cluster.requests for namespace in SLOW)
        await cancel(*looks)
