"""
Rounds: looks at many namespaces on one request.

That is the sweep, and the look around at all for which a cluster-wide source speaks, when it has changed. Both begin
with the cluster-wide sources themselves: the status of one tells what is wrong with it even where it selects nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from saffire import telemetry
from saffire.directory import Directory
from saffire.errors import SaffireError
from saffire.inspector import Inspector
from saffire.manifest import name_of
from saffire.outcome import Outcome, Tally
from saffire.recorder import Recorder
from saffire.runs import Order, Runs, Tell
from saffire.scope import where
from saffire.sources import Sources, Territory
from saffire.status import Review
from saffire.sweep import Sweeper, Swept

Look = Callable[[Order], Awaitable[Outcome]]


@dataclass(kw_only=True, slots=True)
class Rounds:
    """
    The rounds of one instance: of each kind one at a time, and one more for all who ask meanwhile.

    Args:
        directory: knows the namespaces with sources of their own.
        sources: knows the cluster-wide ones.
        recorder: writes the status of sources.
        inspector: asks registries after a sweep.
        look: has an order carried out.
        seconds: for how long a round goes on to further namespaces.
        clock: tells the time, in UTC.

    """

    directory: Directory
    sources: Sources
    recorder: Recorder
    inspector: Inspector
    look: Look
    seconds: float
    clock: Callable[[], datetime]
    _sweeper: Sweeper = field(init=False)
    _sweeps: Runs[Swept] = field(init=False)
    _changes: Runs[Swept] = field(init=False)

    def __post_init__(self) -> None:
        self._sweeper = Sweeper(look=self.look, seconds=self.seconds)
        self._sweeps = Runs(self._sweep)
        self._changes = Runs(self._look_around)

    async def sweep(self) -> Swept:
        """Look thoroughly at every namespace for which a source speaks."""
        return await self._sweeps.join(Order(namespace=""))

    async def look_around(self, source: str, *, whole: bool) -> Swept:
        """Look at every namespace for which a cluster-wide source speaks; but for `whole`, return when that begins."""
        return await self._changes.join(Order(namespace=source), is_enough=lambda _: not whole)

    async def _sweep(self, _: Order, __: Tell[Swept]) -> Swept:
        clock = asyncio.get_running_loop().time
        end = clock() + self.seconds
        own, wide = await asyncio.gather(self.directory.namespaces(), self._taken())
        swept = await self._sweeper.sweep(own | wide)
        # In calm weather, where there is time left.
        if not swept.left and clock() < end:
            await self.inspector.go(self.clock())
        return swept

    async def _taken(self) -> frozenset[str]:
        """Return the namespaces that cluster-wide sources select; none while the API server does not tell."""
        try:
            return await self._report(await self.sources.territories())
        except SaffireError as error:
            telemetry.failed("Could not list what cluster-wide sources select", {"error": str(error)})
            return frozenset()

    async def _look_around(self, order: Order, tell: Tell[Swept]) -> Swept:
        mine = [one for one in await self.sources.territories() if name_of(one.source) == order.namespace]
        namespaces = await self._report(mine)
        tell(Swept(namespaces=len(namespaces), left=len(namespaces), tally=Tally()))
        return await Sweeper(look=self.look, seconds=self.seconds, thorough=False).sweep(namespaces)

    async def _report(self, territories: Iterable[Territory]) -> frozenset[str]:
        """Bring the status of cluster-wide sources up to date, and return their namespaces."""
        found, now = list(territories), self.clock()
        # Whoever is in none of its namespaces any more is not looked after any more.
        updates = (self.recorder.update(one.source, (), now=now, review=Review(is_active=one.holds)) for one in found)
        for one, end in zip(found, await asyncio.gather(*updates, return_exceptions=True), strict=True):
            if isinstance(end, Exception):  # nobody can write an object that keeps the round from everybody else
                telemetry.crashed(end, {"source": where(one.source)})
        return frozenset().union(*(one.namespaces for one in found))
