"""
One fail back run, at the end of a sweep of a namespace that has nothing else to do.

The original of each container that runs on an alternative is asked for, once each, in as few requests as give its
digest, and the answers are kept in the audit, for the record. `policy.failback` decides what returns, and when; it is
patched and recorded as a failover is. A crash loses nothing but the time of one run.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from saffire import logs
from saffire.errors import SaffireError
from saffire.kube.manifest import Manifest, mapping, text, uid_of
from saffire.kube.resources import Cluster
from saffire.kube.workload import describe
from saffire.logs import printable
from saffire.policy.failback import (
    OnAlternative,
    Returnable,
    blocking_failure,
    count_returning,
    find_on_alternative,
    next_batch,
    plan_return,
)
from saffire.policy.original_health import needs_alternative, running_digests, why_unproven, with_proof, without_proof
from saffire.policy.plan import FailBack
from saffire.reconcile.apply import apply_failovers
from saffire.reconcile.lookup import Lookup
from saffire.record.audit import Audit
from saffire.record.outcome import PodOutcome, RepairOutcome, WorkloadOutcome
from saffire.registry.availability import Availability, Denied, Unreachable
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Mode, Source, Verification, opted_out

_AT_ONCE = 16
_NOT_ASKED = Unreachable("nobody asked")


async def run_failback(
    outcome: RepairOutcome, *, cluster: Cluster, survey: Lookup, now: datetime, seconds: float
) -> RepairOutcome:
    """
    Return the outcome of a thorough look with what became of those that were to return, after `seconds` at the latest.

    Whatever goes wrong here, what was done before is recorded.
    """
    if outcome.audit is None:
        return outcome
    look = FailBackRun(cluster=cluster, survey=survey, ledger=outcome.audit, now=now)
    try:
        async with asyncio.timeout(seconds):
            await look.run(outcome)
    except (SaffireError, TimeoutError) as error:
        logs.failed("Could not bring workloads back", {"namespace": survey.namespace, "error": str(error)})
    except Exception as fault:  # noqa: BLE001 - nobody can write an object that keeps the sweep from its record
        logs.crashed(fault, {"namespace": survey.namespace})
    return replace(outcome, workloads=(*outcome.workloads, *look.outcomes))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """Who may return, and how."""

    away: OnAlternative
    plan: FailBack


class FailBackRun:
    """One look at those of a namespace that are away; `done` is what became of those that returned."""

    def __init__(self, *, cluster: Cluster, survey: Lookup, ledger: Audit, now: datetime) -> None:
        self.outcomes: list[WorkloadOutcome] = []
        self._cluster = cluster
        self._lookup = survey
        self._audit = ledger
        self._now = now
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def run(self, outcome: RepairOutcome) -> None:
        """Look, and bring back who may return by now."""
        away = [one for source in self._audit.sources for one in self._on_alternative(source)]
        failures = [plan.failure for treated in outcome.workloads for plan in treated.plans if plan.failure]
        if failing := blocking_failure(failures, self._audit.sources):
            for one in away:
                self._audit.revise(one.entry, without_proof(one.entry, failing))
            return
        # What nobody knows of yet, or no more of, may be the failure that is to stop us.
        is_told = not any(self._audit.unrecorded(now=self._now))
        if not away or not is_told or any(treated.fault for treated in outcome.workloads):
            return
        planned = await asyncio.gather(*map(self._plan, away))
        ready = await self._proven([one for one in planned if one])
        for source in self._audit.sources:
            mine = [one for one in ready if one.container.source.name == source.name]
            if mine:
                await self._return(source, mine)

    def _on_alternative(self, source: Source) -> Iterable[OnAlternative]:
        """Yield those that may return on the word of a source; of the others, take down why not."""
        if source.mode is Mode.PAUSED:
            return
        for entry in self._active(source):
            found = find_on_alternative(entry, source, self._audit.sources, self._cluster.kinds)
            if isinstance(found, OnAlternative):
                yield found
            else:
                self._audit.revise(entry, without_proof(entry, found))

    def _active(self, source: Source) -> list[Manifest]:
        """Return who of this namespace is away on the word of a source, which may speak for others too."""
        where = {"", self._lookup.namespace}
        return [one for one in self._audit.active(source) if text(one, "target", "namespace") in where]

    async def _plan(self, away: OnAlternative) -> _Candidate | None:
        """Return how one would return; if it does not, take down why."""
        workload = await self._workload(away)
        plan = plan_return(away, workload, self._cluster.kinds) if workload else "its workload is gone"
        if isinstance(plan, FailBack):
            return _Candidate(away=away, plan=plan)
        self._audit.revise(away.entry, without_proof(away.entry, plan))
        return None

    async def _workload(self, away: OnAlternative) -> Manifest | None:
        """Return the workload of one, which is read here only where a sweep does not list its kind."""
        known = self._audit.workloads.get(away.uid)
        if known:
            return known
        target = mapping(away.entry, "target")
        group, version, kind = (text(target, "type", key) for key in ("group", "version", "kind"))
        metadata = {"name": text(target, "name"), "namespace": self._lookup.namespace}
        api_version = f"{group}/{version}" if group else version
        named = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
        found = await self._cluster.read_again(named)
        return {**named, **found} if found else None

    # Whether the original is healthy

    async def _proven(self, candidates: list[_Candidate]) -> list[Returnable]:
        """Return those whose original is proven by now; of all, take down what was found."""
        groups: dict[str, list[_Candidate]] = {}
        for one in candidates:
            groups.setdefault(str(one.away.original.reference), []).append(one)
        doubts = await asyncio.gather(*map(self._reasons_against_group, groups.values()))
        ready = []
        for one, why in (pair for pairs in doubts for pair in pairs):
            entry = one.away.entry
            by_now = without_proof(entry, why) if why else with_proof(entry, one.away.fail_back_after, now=self._now)
            self._audit.revise(entry, by_now)
            if not why:
                ready.append(Returnable(container=one.away, entry=by_now, plan=one.plan))
        return ready

    async def _reasons_against_group(self, group: list[_Candidate]) -> list[tuple[_Candidate, str]]:
        """Return what speaks against each that has the same original, which is asked for once."""
        strict = (one for one in group if one.away.source.verification is Verification.STRICT)
        first = next(strict, group[0])
        answer = await self._ask(first, first.away.original)
        return [(one, await self._reason_against(one, answer)) for one in group]

    async def _reason_against(self, one: _Candidate, answer: Availability) -> str:
        """Return what speaks against one; its alternative is asked only if its pods do not tell enough."""
        alternative = one.away.alternative
        digests = running_digests(alternative, self._audit.running)
        known = await self._ask(one, alternative) if needs_alternative(answer, digests) else _NOT_ASKED
        return why_unproven(one.away.original, answer, known, digests)

    async def _ask(self, one: _Candidate, asked: Candidate) -> Availability:
        """
        Ask for a candidate as a pod of the workload would.

        An original is asked for without a platform, unless its parts matter: then HEAD tells, which no registry counts.
        """
        template = mapping(one.plan.workload, *(one.plan.image_field.template if one.plan.image_field else ()), "spec")
        # A pod also has the pull secrets of its ServiceAccount.
        spec = self._audit.running.pod_spec(one.away.alternative.image) or template
        is_precise = asked is one.away.alternative or asked.source.verification is Verification.STRICT
        node = text(spec, "nodeName") if is_precise else ""
        learnt = await self._lookup.check_candidates({"spec": {**spec, "nodeName": node}}, [asked])
        # What only the source has a pull secret for, its pods could not pull.
        return Denied() if asked.image in learnt.secrets else learnt.answer_for(asked)

    # Return

    async def _return(self, source: Source, ready: list[Returnable]) -> None:
        """Bring back who may return by now, on the word of one source."""
        on_the_way = count_returning(self._audit.workloads.values(), self._audit.running, source, now=self._now)
        active = len(self._active(source))
        chosen = next_batch(ready, active=active, on_the_way=on_the_way, now=self._now)
        namespace = await self._cluster.namespace(self._lookup.namespace) if chosen else None
        if namespace is None:
            return
        if opted_out(namespace):
            self._refuse(ready, f"{describe(namespace)} opted out")
            return
        by_workload: dict[str, list[FailBack]] = {}
        for plan in chosen:
            by_workload.setdefault(uid_of(plan.workload), []).append(plan)
        for treated in await asyncio.gather(*map(self._patch, by_workload.values())):
            self.outcomes.append(treated)
            for refusal in treated.refusals:
                uid = uid_of(refusal.patch.target)
                self._refuse((one for one in ready if one.container.uid == uid), printable(refusal.why))

    async def _patch(self, plans: list[FailBack]) -> WorkloadOutcome:
        """Patch one workload, for all of its containers that return."""
        verdict = PodOutcome(pod=plans[0].workload, plans=tuple(plans))
        treated, _ = await apply_failovers(self._cluster, (verdict,), now=self._now, slots=self._places)
        return treated

    def _refuse(self, ready: Iterable[Returnable], why: str) -> None:
        """Take down what keeps containers from returning although their original is healthy; they wait once more."""
        for one in ready:
            self._audit.revise(one.container.entry, without_proof(one.container.entry, why))
