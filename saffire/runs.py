"""
Runs: at most one repair of a namespace at a time, and at most one more that waits behind it.

Events come in storms. What arrives while a repair of its namespace is under way joins the one that follows, together
with all that arrive until then. So a storm costs as many repairs as there is time for, and not one for each Event.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from saffire.triage import Hint

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """
    What a repair of a namespace is to look at.

    That is the pods of `hints`; with `wide` every pod, and with `thorough` also whether earlier failovers are complete
    and recorded.
    """

    namespace: str
    hints: tuple[Hint, ...] = ()
    wide: bool = False
    thorough: bool = False

    def merged(self, other: "Order") -> "Order":
        """Return one order for both."""
        hints = tuple(dict.fromkeys((*self.hints, *other.hints)))
        wide, thorough = self.wide or other.wide, self.thorough or other.thorough
        return replace(self, hints=hints, wide=wide, thorough=thorough)


class Runs(Generic[T]):
    """
    The repairs that are under way in this instance.

    Args:
        carry_out: does what an order says; it bounds its own time.

    """

    def __init__(self, carry_out: Callable[[Order], Awaitable[T]]) -> None:
        self._carry_out = carry_out
        self._running: dict[str, asyncio.Task[T]] = {}
        self._waiting: dict[str, tuple[Order, asyncio.Task[T]]] = {}

    async def join(self, order: Order) -> T:
        """
        Have an order carried out, alone or with others, and return what came of it.

        Whoever stops waiting, since the sender of an event has gone, ends nothing: others may wait too.
        """
        return await asyncio.shield(self._place(order))

    def _place(self, order: Order) -> asyncio.Task[T]:
        """Return the task that will have carried out the order."""
        namespace = order.namespace
        if namespace in self._waiting:
            waiting, task = self._waiting[namespace]
            self._waiting[namespace] = waiting.merged(order), task
        elif namespace in self._running:
            task = asyncio.create_task(self._follow(namespace, self._running[namespace]))
            self._waiting[namespace] = order, task
        else:
            self._running[namespace] = task = asyncio.create_task(self._run(order))
        task.add_done_callback(_noticed)
        return task

    async def _follow(self, namespace: str, running: asyncio.Task[T]) -> T:
        """Wait for the repair under way, whatever becomes of it, and carry out all that has come together since."""
        await asyncio.wait([running])
        order, self._running[namespace] = self._waiting.pop(namespace)
        return await self._run(order)

    async def _run(self, order: Order) -> T:
        try:
            return await self._carry_out(order)
        finally:
            if self._running.get(order.namespace) is asyncio.current_task():
                del self._running[order.namespace]


def _noticed(task: asyncio.Task[T]) -> None:
    """Take note of an error that nobody waits for any more; whoever does still gets it."""
    if not task.cancelled():
        task.exception()
