"""
Writes records of failovers: it updates the status of sources, and posts Events.

For each source, an instance writes one update of the status after the other. So if many workloads fail at once, its own
updates do not conflict. If further records of failovers are due during a write, the next write to that source has them
all. If Saffire cannot write a record, the failover stays as it is. Saffire logs the error, and keeps the record for the
next write to that source.

The API server drops the fields of a status that the CRD does not have (Kubernetes documentation, "Field pruning"). So
while the CRD is older than Saffire, no status becomes as it should be. Saffire notices which fields are dropped, logs
them once an hour, and writes no status that would differ from the stored one only in these.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

from saffire import logs
from saffire.errors import ConflictError, SaffireError
from saffire.kube.manifest import Manifest, name_of, text, uid_of
from saffire.kube.resources import Cluster
from saffire.policy.plan import Failover, Leave, Plan, Reason, Reversion, Wait
from saffire.record.events import (
    FailoverRecord,
    failover_event,
    failover_events,
    leave_event,
    node_fault_event,
    refusal_event,
)
from saffire.record.history_audit import Audit
from saffire.record.left import hangs_on, is_left_news
from saffire.record.outcome import RepairOutcome, WorkloadOutcome
from saffire.record.readiness_status import ProbeResults
from saffire.record.status import NOT_REVIEWED, RegistryAnswers, Review, new_records, status_after
from saffire.record.status_lists import bounded, status_of
from saffire.sources.spec import is_cluster_wide, log_name, record_name
from saffire.sources.store import SourceStore

# Other instances of Saffire write too. Each conflict means that one of them made progress.
_ATTEMPTS = 8
# As many as `status.active` has entries. If a record is dropped, a sweep of its namespace finds the failover again.
_MAX_WAITING_RECORDS = 100
# An Event is posted again once it may have expired (`--event-ttl` of the API server, an hour by default).
_POST_AGAIN_AFTER = timedelta(minutes=30)
_MAX_POSTED_EVENTS = 5_000
# Per namespace. If many workloads fail at once, the API server has patches to carry out, and one namespace must not
# delay the Events of another.
_POSTS_AT_ONCE = 2
# Per controller: the reason why Saffire did nothing is the same for all of its pods.
_MAX_POD_EVENTS = 16
# After this time Saffire forgets which fields an older CRD drops: somebody may have updated the CRD.
_DROPPED_FOR = timedelta(hours=1)
# Per repair: so many nodes that cannot pull are named at the sources.
_MAX_NODE_EVENTS = 16

_Path = tuple[str, ...]
"""The way to a field of a status: names of fields, and `_ITEM` for the step into any item of a list."""
_ITEM = "[]"


class RecordWriter:
    """Writes the status of sources, and posts Events, for one instance."""

    def __init__(self, cluster: Cluster, store: SourceStore) -> None:
        self._cluster = cluster
        self._store = store
        self._posted: OrderedDict[tuple[str, str], datetime] = OrderedDict()
        self._waiting: dict[str, list[FailoverRecord | Reversion]] = {}
        self._posting: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # By whether a source is cluster-wide: the fields that the API server drops, and since when Saffire knows.
        self._dropped: dict[bool, tuple[frozenset[_Path], datetime]] = {}

    async def write(
        self,
        outcome: RepairOutcome,
        *,
        now: datetime,
        probe_results: ProbeResults | None = None,
        registry_answers: RegistryAnswers | None = None,
    ) -> tuple[Manifest, ...]:
        """
        Record an outcome: write the status of the sources, and post Events about workloads, sources and pods.

        If the outcome has an audit, also record the failovers that Saffire made earlier and has not recorded.

        Args:
            outcome: the outcome of a repair.
            now: the time of the repair, in UTC.
            probe_results: the images in use, if the repair counted them.
            registry_answers: when registries last answered; `None` if that is not to be written.

        Returns:
            The sources of the outcome, as they are after the writes.

        """
        audit = outcome.audit
        unsorted = [*outcome.records(at=now), *(audit.unrecorded(now=now) if audit else ())]
        records = sorted(unsorted, key=lambda record: record.at)
        review = replace(_review(audit, now), registry_answers=registry_answers) if audit else NOT_REVIEWED
        # In a storm, each repair may leave other containers. Only a sweep writes a status for that alone.
        review = replace(review, left=outcome.left if audit or records else None)
        updates, posts, reversions = [], [], outcome.reversions
        faults = [plan for plan in outcome.plans if isinstance(plan, Leave) and plan.reason is Reason.NODE_FAULT]
        node_faults = list({plan.detail: plan for plan in faults}.values())[:_MAX_NODE_EVENTS]
        for source in outcome.sources:
            name = record_name(source)
            failovers = [record for record in records if record.failover.candidate.source.name == name]
            own = [*failovers, *(reversion for reversion in reversions if reversion.source == name)]
            updates.append(self.write_status(source, own, now=now, review=review, probe_results=probe_results))
            # If Saffire patches a pod after its template, or if another instance patched the pod before the template,
            # that is part of the same failover, which has one Event about the source.
            new = new_records(source, failovers)
            posts += [self.post_event(event, now=now) for event in failover_events(new, source)]
            posts += [self.post_event(node_fault_event(plan, source, now=now), now=now) for plan in node_faults]
        posts += [self.post_event(failover_event(record, record.regarding), now=now) for record in records]
        for workload_outcome in outcome.workloads:
            posts += [self.post_event(event, now=now) for event in _unmoved_events(workload_outcome, now=now)]
        sources, _ = await asyncio.gather(asyncio.gather(*updates), asyncio.gather(*posts))
        return tuple(sources)

    async def write_status(
        self,
        source: Manifest,
        records: Iterable[FailoverRecord | Reversion],
        *,
        now: datetime,
        review: Review = NOT_REVIEWED,
        probe_results: ProbeResults | None = None,
    ) -> Manifest:
        """
        Bring the status of `source` up to date, add `records` to it, and return the source as it is then.

        `review` is about the entries of `status.active` that `source` has. If the status cannot be written, log the
        error, keep the records for the next write, and return `source`.
        """
        uid, own_records = uid_of(source), list(records)
        self._waiting.setdefault(uid, []).extend(own_records)
        lock = self._locks.setdefault(uid, asyncio.Lock())
        if lock.locked() and not _has_news(source, own_records, review, probe_results):
            return source  # the write that runs now brings the conditions up to date as well
        async with lock:
            waiting = self._waiting.pop(uid, [])
            if own_records and not waiting:
                return source
            try:
                return await self._write(
                    source,
                    waiting,
                    now=now,
                    review=review,
                    probe_results=probe_results,
                )
            except BaseException as error:
                records_to_keep = (*waiting, *self._waiting.get(uid, ()))
                self._waiting[uid] = bounded(records_to_keep, _MAX_WAITING_RECORDS, _namespace)
                if not isinstance(error, SaffireError):
                    raise
                fields = {"source": log_name(source), "error": str(error)}
                logs.failed("Could not write a source's status", fields)
                return source

    async def post_event(self, event: Manifest, *, now: datetime) -> None:
        """Post an Event, unless this instance posted it within the last 30 minutes; if that fails, log the error."""
        key = text(event, "metadata", "namespace"), name_of(event)
        if key in self._posted and now - self._posted[key] < _POST_AGAIN_AFTER:
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
        if len(self._posted) > _MAX_POSTED_EVENTS:
            self._posted.popitem(last=False)

    async def _write(
        self,
        source: Manifest,
        records: Sequence[FailoverRecord | Reversion],
        *,
        now: datetime,
        review: Review,
        probe_results: ProbeResults | None,
    ) -> Manifest:
        """
        Write the status of a source, and return the source as it is then; `source` itself if the source is gone.

        After a conflict, read the source again and write again. After 8 conflicts, raise `ConflictError`.
        """
        current: Manifest | None = source
        for _ in range(_ATTEMPTS):
            if current is None:
                return source
            # Other instances may have written `active` since. Its entries were not audited, so all count as true, and a
            # container that it lacks may have returned.
            unaudited = replace(review, is_active=bool, on_alternative=NOT_REVIEWED.on_alternative)
            status = status_after(
                current,
                records,
                now=now,
                review=review if current is source else unaudited,
                probe_results=probe_results,
            )
            if status is None or self._is_all_dropped(current, status, now=now):
                return current
            try:
                stored = await self._store.write_status(current, status)
            except ConflictError:
                if not _has_news(source, records, review, probe_results):
                    return source  # the other instance brought the conditions up to date as well
                current = await self._store.read_again(source)
            else:
                self._learn_dropped(stored, status, now=now)
                return stored
        raise ConflictError("others keep writing it")

    def _is_all_dropped(self, source: Manifest, status: Manifest, *, now: datetime) -> bool:
        """Tell whether a status differs from the stored one only in fields that the API server drops."""
        dropped, since = self._dropped.get(is_cluster_wide(source), (frozenset(), now))
        return bool(dropped) and now - since < _DROPPED_FOR and source.get("status") == _without(status, dropped)

    def _learn_dropped(self, stored: Manifest, status: Manifest, *, now: datetime) -> None:
        """Compare a status with what the API server stored of it; log the fields that it dropped, if they are news."""
        kind, dropped = is_cluster_wide(stored), frozenset(_missing(status, stored.get("status")))
        known, since = self._dropped.get(kind, (frozenset(), now))
        if now - since >= _DROPPED_FOR:
            known, since = frozenset(), now
        if dropped - known:
            names = sorted({".".join(step for step in path if step != _ITEM) for path in dropped})
            fields = {"source": log_name(stored), "fields": names}
            logs.failed("The CRD is older than Saffire and drops fields of the status", fields)
        self._dropped[kind] = known | dropped, since


# Fields that an older CRD drops


def _missing(written: Any, stored: Any, path: _Path = ()) -> Iterator[_Path]:
    """Yield the paths of fields that were written and are not stored."""
    if isinstance(written, dict) and isinstance(stored, dict):
        for key, value in written.items():
            if key in stored:
                yield from _missing(value, stored[key], (*path, key))
            else:
                yield (*path, key)
    elif isinstance(written, list | tuple) and isinstance(stored, list):
        for value, kept in zip(written, stored, strict=False):
            yield from _missing(value, kept, (*path, _ITEM))


def _without(value: Any, paths: frozenset[_Path], path: _Path = ()) -> Any:
    """Return a value without the fields at these paths."""
    if isinstance(value, dict):
        return {key: _without(field, paths, (*path, key)) for key, field in value.items() if (*path, key) not in paths}
    if isinstance(value, list | tuple):
        return [_without(item, paths, (*path, _ITEM)) for item in value]
    return value


def _namespace(record: FailoverRecord | Reversion) -> str:
    workload = record.workload if isinstance(record, Reversion) else record.failover.workload
    return text(workload, "metadata", "namespace")


def _has_news(
    source: Manifest,
    records: Sequence[FailoverRecord | Reversion],
    review: Review,
    probe_results: ProbeResults | None,
) -> bool:
    """Tell whether a write has more to say than conditions, which whoever writes to the source brings up to date."""
    is_probed = probe_results is not None and probe_results.has_news
    return bool(records) or is_probed or is_left_news(status_of(source), record_name(source), review.left)


def _review(audit: Audit, now: datetime) -> Review:
    """Return what an audit knows of the entries of `status.active`."""
    return Review(
        is_active=audit.is_active,
        revised=audit.revised,
        lost_opt_out=audit.lost_opt_out,
        on_alternative=lambda source: audit.on_alternative(source, now=now),
    )


def _unmoved_events(workload_outcome: WorkloadOutcome, *, now: datetime) -> Iterator[Manifest]:
    """Yield the Events that say why Saffire did not move pods of one controller."""
    events = (
        event
        for pod_outcome in workload_outcome.pods
        for plan in map(_why_unmoved, pod_outcome.plans)
        if plan
        and plan.failure
        and (event := leave_event(plan, pod_outcome.pod, now=now))
        and hangs_on(pod_outcome.pod, plan.failure)
    )
    yield from islice(events, _MAX_POD_EVENTS)
    for refusal in workload_outcome.refusals:
        yield refusal_event(refusal.why, refusal.patch.target, now=now)


def _why_unmoved(plan: Plan) -> Wait | Leave | None:
    """Return the plan that says why Saffire left a pod as it is; `None` for a failover that gives no such reason."""
    if not isinstance(plan, Failover):
        return plan
    return plan.pod_leave if plan.steps and not plan.observed else None
