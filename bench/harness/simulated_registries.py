"""A program: simulated registries, in a process of their own. With each further order, one of them breaks."""

import asyncio
from contextlib import AsyncExitStack

from bench.harness.child_process import answer, orders
from playground.simulated.registry import SimulatedRegistry


async def main() -> None:
    """Serve on the ports of the first order, until the orders end."""
    given, dead = orders(), set[str]()
    async for order in given:
        async with AsyncExitStack() as stack:
            for port in order["ports"]:
                await stack.enter_async_context(SimulatedRegistry(dead, port=port))
            answer()
            async for further in given:
                dead.add(further["lose"])
                answer()


if __name__ == "__main__":
    asyncio.run(main())
