"""One trial: a row is run once, moved by Saffire or by the baseline script, and timed."""

import asyncio
from dataclasses import dataclass

from bench.harness import recovery_baseline
from bench.harness.env_node import NodeEnvironment
from playground.cluster.polling import until
from testkit.node.namespace_fixture import DEADLINE_SECONDS, NamespaceFixture, restarts, works
from testkit.node.recovery_rows import Row
from testkit.node.recovery_run import RecoveryRun, run_row

CROWD = 10
"""A row that wants more pods than this is also watched until its rollout has settled."""

GONE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    The result of a trial. Seconds count from the first Event of a failed pull that the API server has.

    Args:
        back: until all that the row wants ran on the alternative, or was complete; the deadline if that did not happen.
        patched: until the first watched pod or template named the alternative; the deadline if none did.
        crowd: the costs of a row of many pods; `None` for other rows, or if it did not recover.

    """

    back: float
    patched: float
    crowd: "Cost | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    What happened to a row of many pods, most of which were healthy.

    Args:
        freed: seconds until as many pods were ready on the alternative as were stuck.
        settled: seconds until the rollout was complete.
        fewest: the lowest number of ready pods.
        replaced: how many of the healthy pods are gone.
        restarted: how often containers were started again.

    """

    freed: float
    settled: float
    fewest: int
    replaced: int
    restarted: int


async def attempt(row: Row, environment: NodeEnvironment, *, with_saffire: bool) -> Trial:
    """Run a row in a namespace of its own. For a row of many pods, return after its pods have left the node."""
    async with NamespaceFixture(environment.api) as namespace:
        repositories = await environment.repositories(namespace.name)
        async with run_row(row, namespace, repositories, environment.images, declared=with_saffire) as run:
            trial = await (_timed(run) if with_saffire else _moved_by_hand(run))
    if row.pods > CROWD:
        async with asyncio.timeout(GONE_SECONDS):
            await until(lambda: _is_left(environment, namespace.name))
    return trial


async def _moved_by_hand(run: RecoveryRun) -> Trial:
    async with asyncio.TaskGroup() as group:
        hand = group.create_task(recovery_baseline.patch_as_pods_fail(run))
        trial = await _timed(run)
        hand.cancel()
    return trial


async def _timed(run: RecoveryRun) -> Trial:
    try:
        if run.row.pods > CROWD:
            return await _watched(run)
        back = await run.until_back()
    except TimeoutError:
        return Trial(back=DEADLINE_SECONDS, patched=DEADLINE_SECONDS)
    return _trial(run, back)


def _trial(run: RecoveryRun, back: float, crowd: Cost | None = None) -> Trial:
    began = run.namespace.first_failure()
    patched = run.namespace.when(lambda manifest: manifest["kind"] != "Event" and run.is_moved(manifest))
    return Trial(back=back - began, patched=patched - began, crowd=crowd)


async def _watched(run: RecoveryRun) -> Trial:
    """Wait until a row of many pods has recovered and settled, and count meanwhile."""
    namespace = run.namespace
    healthy = {uid for uid, pod in namespace.pods.items() if works(pod)}
    fewest = len(healthy)

    def is_settled() -> bool:
        nonlocal fewest
        fewest = min(fewest, sum(map(works, namespace.staying())))
        return run.is_back and namespace.settled()

    freed, back, settled = await asyncio.gather(
        namespace.until(lambda: run.moved >= run.row.pods - len(healthy)),
        run.until_back(),
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
    return _trial(run, back, cost)


async def _is_left(environment: NodeEnvironment, namespace: str) -> bool:
    """Say whether no pod is left in a namespace."""
    return not (await environment.api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
