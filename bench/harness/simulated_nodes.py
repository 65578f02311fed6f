"""A program: simulated nodes in a process of their own, as real nodes are machines of their own."""

import asyncio
from typing import Any

from bench.harness.child_process import answer, orders
from playground.cluster.api import Api
from playground.simulated.nodes import SimulatedNodes
from playground.simulated.pod import Pace


async def main() -> None:
    """Simulate the nodes of the first order. With each further order, a registry fails under all of them."""
    given = orders()
    async for order in given:
        async with Api(**order["api"]) as api, _nodes(api, order) as nodes:
            answer()
            async for further in given:
                nodes.dead.add(further["lose"])
                nodes.lose_containers()
                answer()


def _nodes(api: Api, order: dict[str, Any]) -> SimulatedNodes:
    pace = Pace().divided(order["faster"])
    return SimulatedNodes(api, order["names"], pace=pace)


if __name__ == "__main__":
    asyncio.run(main())
