"""One trial: a row is played once, moved by Saffire or by hand, and the clock is read."""

import asyncio
from dataclasses import dataclass

from node.play import Play, played
from node.rows import Row
from node.stage import DEADLINE_SECONDS, Stage, restarts, works

from bench import by_hand
from bench.theatre import Theatre
from playground.polling import until

CROWD = 10
"""A row that wants more pods than this is also watched until its rollout has settled."""

GONE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """
    What a trial brought; seconds are since the API server had the first Event of a failed pull.

    Args:
        back: until all that the row wants ran on the alternative, or was done; the deadline, if it was not until then.
        freed: until as many pods were ready as the row wants, whatever their image; of a crowd only.
        settled: until nothing was left to roll; of a crowd only.
        replaced: how many pods that were ready before are gone; of a crowd only.
        restarted: how often containers were started again; of a crowd only.

    """

    back: float
    freed: float = 0
    settled: float = 0
    replaced: int = 0
    restarted: int = 0


async def attempt(row: Row, theatre: Theatre, *, with_saffire: bool) -> Trial:
    """Play a row in a namespace of its own, and return when its pods have left the node."""
    async with Stage(theatre.api) as stage:
        shop = await theatre.shop(stage.namespace)
        async with played(row, stage, shop, theatre.images, declared=with_saffire) as play:
            trial = await (_timed(play) if with_saffire else _moved_by_hand(play))
    async with asyncio.timeout(GONE_SECONDS):
        await until(lambda: _is_left(theatre, stage.namespace))
    return trial


async def _moved_by_hand(play: Play) -> Trial:
    async with asyncio.TaskGroup() as group:
        hand = group.create_task(by_hand.free(play))
        trial = await _timed(play)
        hand.cancel()
    return trial


async def _timed(play: Play) -> Trial:
    before = {uid for uid, each in play.stage.pods.items() if works(each)}
    is_crowd = play.row.pods > CROWD
    try:
        freed = await play.stage.until(lambda: _ready(play) >= play.row.pods) if is_crowd else 0
        back = await play.until_back()
        settled = await play.stage.until(lambda: play.is_back and play.stage.settled()) if is_crowd else 0
    except TimeoutError:
        return Trial(back=DEADLINE_SECONDS)
    began = play.stage.first_failure()
    if not is_crowd:
        return Trial(back=back - began)
    return Trial(
        back=back - began,
        freed=freed - began,
        settled=settled - began,
        replaced=len(before - set(play.stage.pods)),
        restarted=sum(map(restarts, play.stage.staying())),
    )


def _ready(play: Play) -> int:
    return sum(map(works, play.stage.staying()))


async def _is_left(theatre: Theatre, namespace: str) -> bool:
    """Say whether no pod is left in a namespace."""
    return not (await theatre.api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]
