"""A program: played nodes for the benchmarks, in a process of their own as on machines of their own."""

import asyncio
from typing import Any

from bench.harness.child_process import answer, orders
from playground.api import Api
from playground.kubelet_pod import Pace
from playground.node import PlayedNodes


async def main() -> None:
    """Play the nodes of the first order; with each further one, a registry dies under all of them."""
    given = orders()
    async for order in given:
        async with Api(**order["api"]) as api, _nodes(api, order) as nodes:
            answer()
            async for further in given:
                nodes.dead.add(further["lose"])
                nodes.lose_containers()
                answer()


def _nodes(api: Api, order: dict[str, Any]) -> PlayedNodes:
    pace = Pace().divided(order["faster"])
    return PlayedNodes(api, order["names"], dead=set(order["dead"]), pace=pace)


if __name__ == "__main__":
    asyncio.run(main())
