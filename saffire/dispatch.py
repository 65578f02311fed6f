"""
Dispatches what triage lets through: answers it from memory, or has it repaired.

The dispatcher holds what one instance has while it runs: its clients, the repairs that run and wait, and what it read
lately. All of that can be lost at any time; the cluster has everything that matters.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from saffire import logs
from saffire.clients import Connection
from saffire.errors import OWN_FAULT, TransientError
from saffire.kube.workload import told_uid
from saffire.periodic.failback import come_home
from saffire.periodic.sweep import Rounds
from saffire.policy.plan import Failover, Leave, Reason, Step
from saffire.reconcile.lookup import Survey
from saffire.reconcile.queue import Runs, Tell, Turns
from saffire.reconcile.recent import Memory
from saffire.reconcile.repair import Repair
from saffire.reconcile.request import Hint, Look, LookAround, Order, Sweep
from saffire.record.events import explain, in_fields
from saffire.record.outcome import Outcome, Tally
from saffire.settings import Settings
from saffire.sources.index import Directory

# Namespaces whose pods are looked at, at once: each takes some megabytes. Most Events are answered before that.
_AROUND_AT_ONCE = 4
# Plans in one line of the log: pods of one controller differ in little.
_LOGGED = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An HTTP status, one line of text, and for the log the plans in fields; `is_redundant` if nothing was asked."""

    status: int
    line: str
    plans: tuple[dict[str, str], ...] = ()
    is_redundant: bool = False


class Desk:
    """
    Answers hints, looks and sweeps.

    Args:
        settings: of this instance.
        clock: tells the time, in UTC.

    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._memory = Memory()
        self._runs: Runs[Outcome] = Runs(self._carry_out, frees=_left_templates)
        self._turns = Turns()
        self._rooms = asyncio.Semaphore(_AROUND_AT_ONCE)
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None
        self._directory = Directory(self._list, self._select)
        self._rounds: Rounds | None = None

    async def close(self) -> None:
        """Close all connections; a served function leaves that to the end of its process."""
        if self._connection:
            await self._connection.close()

    async def answer(self, found: Hint | Look | LookAround | Sweep, *, whole: bool = False) -> Answer:
        """
        Answer what triage found worth a look; raise a `SaffireError` that says why that was not possible.

        A hint is answered when its pod is taken care of, and a look around when it begins; with `whole`, at their end.
        """
        match found:
            case Hint():
                return await self._in_time(self._answer_hint(found, whole=whole))
            case Look():
                return await self._in_time(self._answer_look(found))
            case LookAround():
                return await self._in_time(self._answer_look_around(found, whole=whole))
            case Sweep():
                # Faults are in the line: the next sweep comes in a minute, and a PingSource would ask for five at once.
                return Answer(status=200, line=str(await (await self._connected_rounds()).sweep()))

    async def _in_time(self, answering: Awaitable[Answer]) -> Answer:
        """
        Answer before Knative gives up on us, with time for a repair that is under way and for the event's own.

        A repair that is not waited for any more goes on.
        """
        try:
            async with asyncio.timeout(2 * self._settings.repair_timeout_seconds):
                return await answering
        except TimeoutError as error:
            raise TransientError("the repair took too long") from error

    async def _answer_look(self, look: Look) -> Answer:
        outcome = await self._runs.join(Order(namespace=look.namespace, wide=True))
        is_short = outcome.nothing or outcome.fault
        line = str(outcome) if is_short else f"looked at {look.namespace}: {Tally.of(outcome)}"
        return Answer(status=outcome.http_status, line=line)

    async def _answer_look_around(self, look: LookAround, *, whole: bool) -> Answer:
        swept = await (await self._connected_rounds()).look_around(look.source, whole=whole)
        return Answer(status=200, line=str(swept) if whole else f"begins to look at {swept.namespaces} namespaces")

    async def _answer_hint(self, hint: Hint, *, whole: bool) -> Answer:
        if self._memory.knows(hint):
            return Answer(status=200, line="ignored: older than the last look at it", is_redundant=True)
        if self._memory.is_being_seen(hint) and not whole:
            return Answer(status=200, line="ignored: its namespace is being looked at", is_redundant=True)
        if not await self._has_source(hint.namespace):
            nothing = Leave(reason=Reason.NO_SOURCE, detail="the namespace has no AlternateImageSource")
            return Answer(status=200, line=explain(nothing), plans=(in_fields(nothing),))
        order = Order(namespace=hint.namespace, hints=(hint,))
        outcome = await self._runs.join(order, is_enough=lambda so_far: not whole and so_far.tells_of(hint.pod_uid))
        mine = outcome.about(hint.pod_uid)
        return Answer(status=mine.http_status, line=str(mine), plans=tuple(map(in_fields, mine.plans)))

    async def _has_source(self, namespace: str) -> bool:
        try:
            async with asyncio.timeout(self._settings.repair_timeout_seconds):
                return await self._directory.has_source(namespace)
        except TimeoutError as error:
            raise TransientError("the repair took too long") from error

    async def _carry_out(self, order: Order, tell: Tell[Outcome]) -> Outcome:
        """Repair and record; the repair bounds its own time, and recovery does not wait for records for ever."""
        if order.hints and not order.wide and all(map(self._memory.knows, order.hints)):
            return Outcome(nothing=Leave(reason=Reason.ALREADY_MOVED, detail="by the repair that was under way"))
        connection, now = await self._connected(), self._clock()
        survey = Survey(surveyor=connection.surveyor, namespace=order.namespace)
        repair = self._repair(connection, survey, order, now)
        begun = await repair.begin()
        if not repair.goes_on:
            return await self._conclude(connection, order, begun, survey, now)
        is_early = bool(begun.treated) and not order.thorough
        if is_early:
            tell(begun)
        try:
            whole = await self._go_on(order, repair, begun, survey, now)
            if not is_early:
                tell(whole)
            return await self._conclude(connection, order, whole, survey, now)
        except Exception as fault:
            if is_early:  # whoever asked has an answer already, and hears of nothing more
                logs.crashed(fault, {"namespace": order.namespace})
            raise

    async def _go_on(self, order: Order, repair: Repair, begun: Outcome, survey: Survey, now: datetime) -> Outcome:
        """Have the rest done, and return all that was done, to be recorded whatever goes wrong."""
        seconds = self._settings.repair_timeout_seconds
        try:
            whole = await self._whole(order, repair, begun, now)
            return await come_home(whole, cluster=repair.cluster, survey=survey, now=now, seconds=seconds)
        except Exception as fault:  # noqa: BLE001 - what is done is done
            logs.crashed(fault, {"namespace": order.namespace})
            return replace(repair.so_far, fault=TransientError(OWN_FAULT))

    def _repair(self, connection: Connection, survey: Survey, order: Order, now: datetime) -> Repair:
        return Repair(
            cluster=connection.cluster,
            sources=connection.sources,
            memory=self._memory,
            survey=survey,
            order=order,
            now=now,
            seconds=self._settings.repair_timeout_seconds,
            stalls_after=timedelta(seconds=self._settings.stalled_seconds),
        )

    async def _conclude(
        self, connection: Connection, order: Order, outcome: Outcome, survey: Survey, now: datetime
    ) -> Outcome:
        """Log and record what became of an order; where a whole namespace is calm, also what is in use there."""
        _log(order, outcome)
        inspection = None
        if order.wide and outcome.is_calm:
            inspection = connection.inspector.inspect(order.namespace, outcome.sources, survey.census.uses())
        sources = await connection.record(outcome, now=now, inspection=inspection)
        if inspection and order.thorough:
            connection.inspector.offer(order.namespace, sources, inspection)
        return outcome

    async def _whole(self, order: Order, repair: Repair, begun: Outcome, now: datetime) -> Outcome:
        """Have the rest of a namespace looked at, when there is room for its pods, unless another repair does."""

        async def look() -> Outcome:
            # A sweep does not read the Events of pods whose status lags, and what has failed is for the next delivery.
            unsettled = frozenset(uid for treated in begun.treated for uid in treated.unsettled)
            with self._memory.looking(order.namespace, now, but=unsettled) if not order.thorough else nullcontext():
                async with self._rooms:
                    return await repair.go_on()

        must = order.wide or repair.has_put_off or not begun.treated
        return await self._turns.take(order.namespace, look, must=must) or begun

    async def _list(self) -> tuple[str, ...]:
        return await (await self._connected()).declared.namespaces()

    async def _select(self, namespace: str) -> bool:
        return await (await self._connected()).sources.select(namespace)

    async def _connected_rounds(self) -> Rounds:
        """Return what looks at many namespaces; there is one of it, so that sweeps do not overlap."""
        connection = await self._connected()
        if self._rounds is None:
            self._rounds = Rounds(
                directory=self._directory,
                sources=connection.sources,
                recorder=connection.recorder,
                inspector=connection.inspector,
                look=self._runs.join,
                seconds=self._settings.sweep_seconds,
                clock=self._clock,
            )
        return self._rounds

    async def _connected(self) -> Connection:
        """Return the way to the cluster; connect on first use, since framework and server fork after import."""
        async with self._connecting:
            if self._connection is None:
                self._connection = await Connection.open(self._settings)
            return self._connection


def _left_templates(begun: Outcome) -> bool:
    """Tell whether no template was moved: then the next pod that fails needs a patch of its own, if any."""
    steps = {step for plan in begun.plans if isinstance(plan, Failover) for step in plan.steps}
    return Step.TEMPLATE not in steps


def _log(order: Order, outcome: Outcome) -> None:
    """Log what was done to others than those that were pointed at, whose events have lines of their own."""
    if outcome.fault:
        fields = {"namespace": order.namespace, "error": str(outcome.fault)}
        logs.failed("Could not look at every pod of a namespace", fields)
    pointed_at = {hint.pod_uid for hint in order.hints}
    for treated in outcome.treated:
        if treated.is_news and pointed_at.isdisjoint(told_uid(verdict.pod) for verdict in treated.verdicts):
            plans = {str(fields): fields for fields in map(in_fields, treated.plans)}
            logs.repaired(order.namespace, tuple(plans.values())[:_LOGGED], str(treated.fault or ""))
