"""One trial: a row is played once, moved by Saffire or by hand, and the clock is read."""

import asyncio
from dataclasses import dataclass

from bench.harness import recovery_baseline
from bench.harness.env_node import NodeEnvironment
from playground.polling import until
from testkit.node.namespace_fixture import DEADLINE_SECONDS, NamespaceFixture, restarts, works
from testkit.node.recovery_rows import Row
from testkit.node.recovery_run import RecoveryRun, played

CROWD = 10
"""A row that wants more pods than this is also watched until its rollout has settled."""

GONE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    What a trial brought; seconds are since the API server had the first Event of a failed pull.

    Args:
        back: until all that the row wants ran on the alternative, or was done; the deadline, if it was not until then.
        patched: until the first pod or template named it, of those that are watched; as `back`, if none ever did.
        crowd: what it cost a crowd; `None` if it was none, or is not back.

    """

    back: float
    patched: float
    crowd: "Cost | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    What became of a crowd, most of which was healthy.

    Args:
        freed: seconds until as many pods were ready on the alternative as were stuck.
        settled: seconds until nothing was left to roll.
        fewest: how many pods were ready when the fewest were.
        replaced: how many of the healthy pods are gone.
        restarted: how often containers were started again.

    """

    freed: float
    settled: float
    fewest: int
    replaced: int
    restarted: int


async def attempt(row: Row, environment: NodeEnvironment, *, with_saffire: bool) -> Trial:
    """Play a row in a namespace of its own; of a crowd, return when its pods have left the node."""
    async with NamespaceFixture(environment.api) as namespace:
        repositories = await environment.repositories(namespace.name)
        async with played(row, namespace, repositories, environment.images, declared=with_saffire) as play:
            trial = await (_timed(play) if with_saffire else _moved_by_hand(play))
    if row.pods > CROWD:
        async with asyncio.timeout(GONE_SECONDS):
            await until(lambda: _is_left(environment, namespace.name))
    return trial


async def _moved_by_hand(play: RecoveryRun) -> Trial:
    async with asyncio.TaskGroup() as group:
        hand = group.create_task(recovery_baseline.free(play))
        trial = await _timed(play)
        hand.cancel()
    return trial


async def _timed(play: RecoveryRun) -> Trial:
    try:
        if play.row.pods > CROWD:
            return await _watched(play)
        back = await play.until_back()
    except TimeoutError:
        return Trial(back=DEADLINE_SECONDS, patched=DEADLINE_SECONDS)
    return _trial(play, back)


def _trial(play: RecoveryRun, back: float, crowd: Cost | None = None) -> Trial:
    began = play.namespace.first_failure()
    patched = play.namespace.when(lambda manifest: manifest["kind"] != "Event" and play.is_moved(manifest))
    return Trial(back=back - began, patched=patched - began, crowd=crowd)


async def _watched(play: RecoveryRun) -> Trial:
    """Wait until a crowd is back and settled, and count meanwhile."""
    namespace = play.namespace
    healthy = {uid for uid, pod in namespace.pods.items() if works(pod)}
    fewest = len(healthy)

    def is_settled() -> bool:
        nonlocal fewest
        fewest = min(fewest, sum(map(works, namespace.staying())))
        return play.is_back and namespace.settled()

    freed, back, settled = await asyncio.gather(
        namespace.until(lambda: play.moved >= play.row.pods - len(healthy)),
        play.until_back(),
        namespace.until(is_settled),
    )
    began = namespace.first_failure()
    cost = Cost(
        freed=freed - began,
        settled=settled - began,
        fewest=fewest,
        replaced=len(healthy - set(namespace.pods)),
        restarted=sum(map(restarts, namespace.staying())),
    )
    return _trial(play, back, cost)


async def _is_left(environment: NodeEnvironment, namespace: str) -> bool:
    """Say whether no pod is left in a namespace."""
    return not (await environment.api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
