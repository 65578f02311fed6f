"""One trial: a row is run once, moved by Saffire or by the baseline script, and timed."""

import asyncio
from dataclasses import dataclass

from bench.harness import recovery_baseline
from bench.harness.env_node import NodeEnvironment
from playground.cluster.polling import until
from testkit.node.namespace_fixture import DEADLINE_SECONDS, NamespaceFixture, missing, restarts, works
from testkit.node.recovery_rows import Row
from testkit.node.recovery_run import RecoveryRun, run_row

CROWD = 10
"""A row that wants more pods than this has costs for those of them that are healthy."""

GONE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    The result of a trial. Seconds count from the first Event of a failed pull that the API server has.

    What did not happen has the deadline as its time.

    Args:
        ready: until all that the row wants ran on the alternative, or was complete.
        settled: until, besides, the controller of the workload had nothing left to do.
        patched: until the first watched pod or template named the alternative.
        made: how many pods there were from first to last.
        lost: the seconds for which wanted pods were not ready between `ready` and `settled`, summed over the pods.
        crowd: the costs of a row of many pods; `None` for other rows, or if it did not settle.

    """

    ready: float
    settled: float
    patched: float
    made: int
    lost: float = 0.0
    crowd: "Cost | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """
    What happened to a row of many pods, most of which were healthy.

    Args:
        freed: seconds until as many pods were ready on the alternative as were stuck.
        fewest: the lowest number of ready pods.
        replaced: how many of the healthy pods are gone.
        restarted: how often containers were started again.

    """

    freed: float
    fewest: int
    replaced: int
    restarted: int


async def attempt(row: Row, environment: NodeEnvironment, *, with_saffire: bool) -> Trial:
    """Run a row in a namespace of its own. For a row of many pods, return after its pods have left the node."""
    dying = await environment.dying.get()
    try:
        async with NamespaceFixture(environment.api) as namespace:
            repositories = await environment.repositories(namespace.name)
            run = await run_row(row, namespace, repositories, dying, declared=with_saffire)
            trial = await (_timed(run) if with_saffire else _moved_by_hand(run))
    finally:
        environment.dying.put_nowait(dying)
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
    """Wait until a row has settled, and count meanwhile."""
    row, namespace = run.row, run.namespace
    healthy = {uid for uid, pod in namespace.pods.items() if works(pod)}
    stuck = row.pods - len(healthy)
    freeing = namespace.until(lambda: run.moved >= stuck) if row.pods > CROWD else run.until_back()
    try:
        freed, ready, settled = await asyncio.gather(freeing, run.until_back(), run.until_settled())
    except TimeoutError:
        return Trial(
            ready=DEADLINE_SECONDS, settled=DEADLINE_SECONDS, patched=DEADLINE_SECONDS, made=namespace.made, lost=0.0
        )
    began = namespace.first_failure()
    patched = namespace.when(lambda manifest: manifest["kind"] != "Event" and run.is_moved(manifest))
    cost = Cost(
        freed=freed - began,
        fewest=min(count for at, count in namespace.ready if at >= began),
        replaced=len(healthy - set(namespace.pods)),
        restarted=sum(map(restarts, namespace.staying())),
    )
    return Trial(
        ready=ready - began,
        settled=settled - began,
        patched=patched - began,
        made=namespace.made,
        lost=0.0 if row.ends else missing(namespace.ready, row.pods, ready, settled),
        crowd=cost if row.pods > CROWD else None,
    )


async def _is_left(environment: NodeEnvironment, namespace: str) -> bool:
    """Say whether no pod is left in a namespace."""
    return not (await environment.api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
