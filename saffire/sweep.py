"""
The sweep: what makes up for every event that was lost, late or never sent.

A PingSource asks for it every minute. It looks at each namespace that a source speaks for, with the code that
an event runs too, some namespaces at a time, and for no longer than its budget. Whatever that leaves out comes first
the next time.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from saffire import telemetry
from saffire.errors import SaffireError
from saffire.outcome import Outcome, Tally
from saffire.runs import Order

_AT_ONCE = 4
# A namespace that takes longer is looked at to its end, but not waited for: a sweep is to be answered within a minute.
_PATIENCE_SECONDS = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """How many `namespaces` there were, how many were `left` for the next sweep, and what became of the rest."""

    namespaces: int
    left: int
    tally: Tally

    def __str__(self) -> str:
        """Return it in one line."""
        left = f"; {self.left} left for the next sweep" if self.left else ""
        return f"swept {self.namespaces - self.left} of {self.namespaces} namespaces: {self.tally}{left}"


@dataclass(kw_only=True, slots=True)
class Sweeper:
    """
    Sweeps, and remembers in which order.

    Args:
        look: has an order carried out.
        seconds: for how long a sweep goes on to further namespaces.
        thorough: whether earlier failovers are looked at as well.

    """

    look: Callable[[Order], Awaitable[Outcome]]
    seconds: float
    thorough: bool = True
    _looked_at: dict[str, float] = field(default_factory=dict, init=False)

    async def sweep(self, namespaces: Iterable[str]) -> Swept:
        """Look at the namespaces, beginning with the one that has waited longest."""
        clock = asyncio.get_running_loop().time
        wanted = list(namespaces)
        known = frozenset(wanted)
        random.shuffle(wanted)  # an instance that has just started knows nothing of those that others have looked at
        queue = deque(sorted(wanted, key=lambda name: self._looked_at.get(name, 0.0)))
        self._looked_at = {name: at for name, at in self._looked_at.items() if name in known}
        tallies: list[Tally] = []
        end = clock() + self.seconds

        async def go_on() -> None:
            while queue and clock() < end:
                namespace = queue.popleft()
                tallies.append(await self._look(namespace))
                self._looked_at[namespace] = clock()

        await asyncio.gather(*(go_on() for _ in range(_AT_ONCE)))
        return Swept(namespaces=len(wanted), left=len(queue), tally=sum(tallies, Tally()))

    async def _look(self, namespace: str) -> Tally:
        """Look at one namespace; what goes wrong there keeps nobody from looking at the others."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return Tally.of(await self.look(Order(namespace=namespace, wide=True, thorough=self.thorough)))
        except (SaffireError, TimeoutError):
            return Tally(faults=1)
        except Exception as fault:  # noqa: BLE001 - nobody can write an object that keeps the sweep from everybody else
            telemetry.crashed(fault, {"namespace": namespace})
            return Tally(faults=1)
