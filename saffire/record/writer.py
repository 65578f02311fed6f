"""
Writes records: the status of sources, and Events. One writer per source, so that a storm's failovers do not conflict.

Records that arrive while a write is under way wait, and go together with the next one. Recovery comes first: a record
that cannot be written undoes no patch. It is logged, and kept for the next write to that source.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from weakref import WeakValueDictionary

from saffire import logs
from saffire.errors import ConflictError, SaffireError
from saffire.kube.manifest import Manifest, name_of, text, uid_of
from saffire.kube.resources import Cluster
from saffire.policy.plan import Failover, Leave, Plan, Step, Wait
from saffire.record.audit import PlacedRecord
from saffire.record.events import FailoverRecord, failover_event, failover_events, leave_event, refusal_event
from saffire.record.outcome import RepairOutcome, WorkloadOutcome
from saffire.record.readiness import ProbeResults
from saffire.record.status import NOT_REVIEWED, Review, new_records, status_after
from saffire.sources.spec import log_name, record_name
from saffire.sources.store import SourceStore

# Other instances write too; each conflict means that one of them made progress.
_ATTEMPTS = 8
# As many as a status keeps of those that run on an alternative.
_KEPT = 100
# An Event is told again once it may have expired (`--event-ttl` of the API server, an hour by default).
_TOLD_FOR = timedelta(minutes=30)
_TOLD_AT_MOST = 5_000
# Of one namespace: in a storm the API server has patches to make, and nobody waits behind another's complaints.
_POSTS_AT_ONCE = 2
# Of the pods of one controller: why nothing was done is the same for all.
_PODS_TOLD = 16


class RecordWriter:
    """Writes the status of sources and posts Events."""

    def __init__(self, cluster: Cluster, declared: SourceStore) -> None:
        self._cluster = cluster
        self._store = declared
        self._posted: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        self._waiting: dict[str, list[FailoverRecord]] = {}
        self._posting: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def write(
        self, outcome: RepairOutcome, *, now: datetime, inspection: ProbeResults | None = None
    ) -> tuple[Manifest, ...]:
        """
        Leave the record of an outcome behind: status of the sources, Events on workloads, sources and pods.

        After a thorough look, also of what was done earlier and never recorded, and of an `inspection`. Return the
        sources as they are by now.
        """
        ledger = outcome.audit
        found = [*_placed_records(outcome, now=now), *(ledger.unrecorded(now=now) if ledger else ())]
        told = sorted(found, key=lambda one: one[0].at)
        review = Review(is_active=ledger.is_active, revised=ledger.revised) if ledger else NOT_REVIEWED
        updates, writes = [], []
        for source in outcome.sources:
            mine = [record for record, _ in told if record.failover.candidate.source.name == record_name(source)]
            updates.append(self.write_status(source, mine, now=now, review=review, inspection=inspection))
            # A pod that is freed after its template, or before it by another process, is part of the same failover.
            writes += [
                self.post_event(event, now=now) for event in failover_events(tuple(new_records(source, mine)), source)
            ]
        writes += [self.post_event(failover_event(record, place), now=now) for record, place in told]
        for treated in outcome.workloads:
            writes += [self.post_event(event, now=now) for event in _complaints(treated, now=now)]
        sources, _ = await asyncio.gather(asyncio.gather(*updates), asyncio.gather(*writes))
        return tuple(sources)

    async def write_status(
        self,
        source: Manifest,
        records: Iterable[FailoverRecord],
        *,
        now: datetime,
        review: Review = NOT_REVIEWED,
        inspection: ProbeResults | None = None,
    ) -> Manifest:
        """
        Bring the status of `source` up to date, add `records` to it, and return the source as it is by then.

        The `review` is of the entries of `status.active` that it has now.
        """
        uid, mine = uid_of(source), list(records)
        self._waiting.setdefault(uid, []).extend(mine)
        lock = self._locks.setdefault(uid, asyncio.Lock())
        if not mine and not (inspection and inspection.has_news) and lock.locked():
            return source  # whoever writes now brings the conditions up to date as well
        async with lock:
            together = self._waiting.pop(uid, [])
            if mine and not together:
                return source
            try:
                return await self._write(source, together, now=now, review=review, inspection=inspection)
            except BaseException as error:
                self._waiting[uid] = [*together, *self._waiting.get(uid, ())][-_KEPT:]
                if not isinstance(error, SaffireError):
                    raise
                fields = {"source": log_name(source), "error": str(error)}
                logs.failed("Could not write a source's status", fields)
                return source

    async def post_event(self, event: Manifest, *, now: datetime) -> None:
        """Post an Event that was not posted lately; whatever keeps the API server from taking it is only logged."""
        key = text(event, "metadata", "namespace"), name_of(event)
        if key in self._posted and now - self._posted[key] < _TOLD_FOR:
            return
        posting = self._posting.setdefault(key[0], asyncio.Semaphore(_POSTS_AT_ONCE))
        try:
            async with posting:
                await self._cluster.post_event(event)
        except SaffireError as error:
            logs.failed("Could not post an Event", {"name": name_of(event), "error": str(error)})
            return
        self._posted[key] = now
        self._posted.move_to_end(key)
        if len(self._posted) > _TOLD_AT_MOST:
            self._posted.popitem(last=False)

    async def _write(
        self,
        source: Manifest,
        records: Sequence[FailoverRecord],
        *,
        now: datetime,
        review: Review,
        inspection: ProbeResults | None,
    ) -> Manifest:
        """Write the status, and return the source; read that again as long as others write it too."""
        current: Manifest | None = source
        for _ in range(_ATTEMPTS):
            if current is None:
                return source
            # Of what others have written since, nobody has looked whether it is true.
            seen = review if current is source else replace(review, is_active=bool)
            status = status_after(current, records, now=now, review=seen, inspection=inspection)
            if status is None:
                return current
            try:
                return await self._store.write_status(current, status)
            except ConflictError:
                if not records and not (inspection and inspection.has_news):
                    return source  # whoever was first brought the conditions up to date as well
                current = await self._store.read_again(source)
        raise ConflictError("others keep writing it")


def _complaints(treated: WorkloadOutcome, *, now: datetime) -> Iterator[Manifest]:
    """Yield the Events that tell an operator why something was not done."""
    told = (
        leave_event(plan, verdict.pod, now=now)
        for verdict in treated.pods
        for plan in map(_undone, verdict.plans)
        if plan
    )
    yield from islice(filter(None, told), _PODS_TOLD)
    for refusal in treated.refusals:
        yield refusal_event(refusal.why, refusal.patch.target, now=now)


def _undone(plan: Plan) -> Wait | Leave | None:
    """Return why nothing was done for a pod; `None` where it was freed, or is by what was done."""
    if not isinstance(plan, Failover):
        return plan
    return plan.left if plan.steps and not plan.observed else None


def _placed_records(outcome: RepairOutcome, *, now: datetime) -> Iterator[PlacedRecord]:
    """Yield the records of an outcome, each with the workload, or the one pod that was freed."""
    for record, pod in outcome.records(at=now):
        yield record, record.failover.workload if _concerns_workload(record.failover) else pod


def _concerns_workload(failover: Failover) -> bool:
    """Tell whether the workload is where an operator would look, rather than the one pod that was patched."""
    return failover.observed or Step.TEMPLATE in failover.steps
