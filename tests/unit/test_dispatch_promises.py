"""What the dispatcher promises when it answers: a look that follows does follow, and one that failed is made again."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from saffire import dispatch, logs
from saffire.dispatch import Dispatcher
from saffire.errors import TransientError
from saffire.reconcile import queue
from saffire.reconcile.request import PodFailed, SourceChanged
from testkit.check_registry import eventually
from testkit.stuck_cluster import CLUSTER_SOURCES, SOURCES, StuckCluster, dispatcher_of, owner_in, pods_of

PODS = pods_of("shop")
POD = f"{PODS}/web-0"
REPLICA_SET = owner_in("shop")
CHANGED = SourceChanged(namespace="shop", source="shop")
UNDER_WAY = "ignored: its namespace is being looked at"


@pytest.fixture
def shop() -> StuckCluster:
    """Give a cluster with one namespace, which has a source and a stuck pod."""
    return StuckCluster("shop")


@pytest.fixture
async def dispatcher(shop: StuckCluster, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    """Give a dispatcher for the cluster."""
    async with dispatcher_of(shop, tmp_path) as opened:
        yield opened


@pytest.fixture
def answers_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let answers wait for less than a second."""
    monkeypatch.setattr(queue, "_ANSWER_SECONDS", 0.2)


@pytest.fixture
def repeats_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a look that failed be repeated at once."""
    monkeypatch.setattr(dispatch, "_LATER_SECONDS", 0.01)


async def until_logged(message: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the first line of the log with this message, once there is one."""
    lines: list[dict[str, Any]] = []

    def is_logged() -> bool:
        logged = map(json.loads, capsys.readouterr().out.splitlines())
        lines.extend(line for line in logged if line["message"] == message)
        return bool(lines)

    await eventually(is_logged)
    return lines[0]


async def make_busy(dispatcher: Dispatcher) -> None:
    """Use up what the limit for lists of sources allows at once."""
    for number in range(30):
        await dispatcher.dispatch(SourceChanged(namespace="shop", source=f"invented-{number}"))


async def test_a_change_is_looked_at_again_if_a_workload_could_not_be_repaired(
    dispatcher: Dispatcher, shop: StuckCluster
) -> None:
    """The answer 503 asks the event source to deliver the change again. Then Saffire repairs again."""
    shop.busy.add(REPLICA_SET)
    assert 503 == (await dispatcher.dispatch(CHANGED, wait=True)).status
    shop.busy.clear()
    assert not (await dispatcher.dispatch(CHANGED, wait=True)).is_redundant


async def test_a_change_during_the_look_at_an_earlier_one_gets_a_look_of_its_own(
    dispatcher: Dispatcher, shop: StuckCluster
) -> None:
    """The look may have read the source already, as it was before the later change."""
    await make_busy(dispatcher)
    shop.hold(PODS)
    assert "among many others" in (await dispatcher.dispatch(CHANGED)).line
    await eventually(lambda: PODS in shop.requests)
    shop.sources["shop"]["metadata"]["generation"] += 1
    assert "among many others" in (await dispatcher.dispatch(CHANGED)).line
    shop.held[PODS].set()
    await eventually(lambda: shop.requests[PODS] > 1)


async def test_the_log_names_a_change_whose_look_failed(
    dispatcher: Dispatcher, shop: StuckCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """By namespace and name, as all other lines do: a name alone may be that of many sources."""
    logs.configure("INFO")
    await make_busy(dispatcher)
    shop.busy.add(SOURCES)
    assert "among many others" in (await dispatcher.dispatch(CHANGED)).line
    line = await until_logged("Could not look at a source that changed", capsys)
    assert ("shop/", "the API server answered 429") == (line["source"][:5], line["error"])


def failed(namespace: str = "shop") -> PodFailed:
    """Return a failure of the stuck pod, which the kubelet reported some seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=5)
    return PodFailed(namespace=namespace, pod="web-0", pod_uid="pod-uid", container="web", event="web-0.1", at=at)


def just_failed() -> PodFailed:
    """Return a failure of the stuck pod that no read under way is sure to show."""
    return replace(failed(), at=datetime.now(UTC))


@pytest.mark.usefixtures("repeats_at_once")
@pytest.mark.parametrize("path", [PODS, REPLICA_SET])
async def test_a_look_that_fails_is_made_again_if_an_event_relies_on_it(
    dispatcher: Dispatcher, shop: StuckCluster, path: str
) -> None:
    """The event source has its answer, and delivers the Event no more."""
    shop.hold(PODS)
    look = asyncio.create_task(dispatcher.dispatch(CHANGED, wait=True))
    await eventually(lambda: PODS in shop.requests)
    assert UNDER_WAY == (await dispatcher.dispatch(failed())).line
    shop.busy.add(path)
    shop.held[PODS].set()
    assert 503 == (await look).status
    shop.busy.clear()
    await eventually(lambda: shop.requests[PODS] > 1)


@pytest.mark.usefixtures("answers_early", "repeats_at_once")
async def test_a_repair_that_took_long_and_failed_is_made_again(
    dispatcher: Dispatcher, shop: StuckCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its Event was answered before, so that the event source does not deliver it again; the log says what failed."""
    logs.configure("INFO")
    shop.hold(POD)
    answer = await dispatcher.dispatch(just_failed())
    assert (200, UNDER_WAY, True) == (answer.status, answer.line, answer.is_redundant)
    shop.busy.add(POD)
    shop.held[POD].set()
    line = await until_logged("Could not look at every pod of a namespace", capsys)
    assert ("shop", "the API server answered 429") == (line["namespace"], line["error"])
    await eventually(lambda: PODS in shop.requests)


@pytest.mark.usefixtures("answers_early", "repeats_at_once")
async def test_what_waits_behind_a_slow_repair_and_fails_is_made_again(
    dispatcher: Dispatcher, shop: StuckCluster
) -> None:
    """The slow repair may have begun before the pod failed. That it ends well keeps no promise."""
    shop.hold(PODS)
    look = asyncio.create_task(dispatcher.dispatch(CHANGED, wait=True))
    await eventually(lambda: PODS in shop.requests)
    other_pod = replace(just_failed(), pod="web-1", pod_uid="other-uid")
    assert UNDER_WAY == (await dispatcher.dispatch(other_pod)).line
    shop.busy.add(f"{PODS}/web-1")
    shop.held[PODS].set()
    assert 503 > (await look).status
    await eventually(lambda: shop.requests[PODS] > 1)


@pytest.mark.usefixtures("answers_early")
async def test_what_is_repaired_after_its_event_was_answered_is_logged(
    dispatcher: Dispatcher, shop: StuckCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer to an Event says what came of the repair."""
    logs.configure("INFO")
    monkeypatch.setattr(dispatch, "_LATER_SECONDS", 3600)  # the look after a fault logs what it repairs, too
    shop.hold(REPLICA_SET)
    assert UNDER_WAY == (await dispatcher.dispatch(just_failed())).line
    shop.busy.add(REPLICA_SET)
    shop.held[REPLICA_SET].set()
    line = await until_logged("Repaired a workload", capsys)
    assert ("shop", "the API server answered 429") == (line["namespace"], line["fault"])


async def test_senders_that_hang_up_leave_a_bounded_number_of_tasks(dispatcher: Dispatcher, shop: StuckCluster) -> None:
    """While the API server does not answer, the Events of such senders wait on. Further ones are refused."""
    shop.hold(CLUSTER_SOURCES)
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
    shop.held[CLUSTER_SOURCES].set()
    await eventually(lambda: 100 > len(asyncio.all_tasks()))
    assert 200 == (await dispatcher.dispatch(failed("invented"))).status
