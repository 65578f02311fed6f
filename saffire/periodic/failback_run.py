"""
One fail back run: it moves containers of a namespace back to their original image, once that is healthy again.

The run is the last part of a sweep's repair of the namespace. For each container that runs on an alternative, it asks
the registry of the original, the image that the container left. It asks about each original once, in as few requests as
give the digest, and keeps the result in the audit, from which Saffire writes it into the status of the source.
`policy.failback` decides which containers return to their original, and when. Saffire patches and records a fail back
like a failover. If the process crashes, only the time of one run is lost.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from saffire import logs
from saffire.errors import SaffireError
from saffire.kube.manifest import Manifest, mapping, printable, text, uid_of
from saffire.kube.resources import Cluster
from saffire.kube.workload import describe
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
from saffire.policy.plan import Failover
from saffire.policy.pull_secrets import pull_secrets
from saffire.reconcile.apply import apply_failovers
from saffire.reconcile.candidate_lookup import Lookup
from saffire.record.history_audit import Audit
from saffire.record.outcome import PodOutcome, RepairOutcome, WorkloadOutcome
from saffire.registry.availability import NOT_ASKED, Availability, Denied
from saffire.sources.candidates import Candidate
from saffire.sources.spec import Mode, Source, Verification, opted_out

_PATCHES_AT_ONCE = 16


async def run_failback(
    outcome: RepairOutcome, *, cluster: Cluster, lookup: Lookup, now: datetime, seconds: float
) -> RepairOutcome:
    """
    Return the outcome of a repair with the fail backs added; if it has no audit, return the outcome as it is.

    The run ends after `seconds` at the latest. If an error ends the run, the error is only logged, so that Saffire
    still records what the repair did.
    """
    if outcome.audit is None:
        return outcome
    failback = FailBackRun(cluster=cluster, lookup=lookup, audit=outcome.audit, now=now)
    try:
        async with asyncio.timeout(seconds):
            await failback.run(outcome)
    except (SaffireError, TimeoutError) as error:
        logs.failed("Could not bring workloads back", {"namespace": lookup.namespace, "error": str(error)})
    except Exception as fault:  # noqa: BLE001 - no object that a user can write keeps the sweep from its record
        logs.crashed(fault, {"namespace": lookup.namespace})
    return replace(outcome, workloads=(*outcome.workloads, *failback.outcomes))


class FailBackRun:
    """One fail back run of a namespace; `outcomes` are the outcomes for the workloads that it patched."""

    def __init__(self, *, cluster: Cluster, lookup: Lookup, audit: Audit, now: datetime) -> None:
        self.outcomes: list[WorkloadOutcome] = []
        self._cluster = cluster
        self._lookup = lookup
        self._audit = audit
        self._now = now
        self._patch_slots = asyncio.Semaphore(_PATCHES_AT_ONCE)

    async def run(self, outcome: RepairOutcome) -> None:
        """Ask about originals, and bring back containers that are due; `outcome` is of the repair before the run."""
        containers = [container for source in self._audit.sources for container in self._on_alternative(source)]
        plans = [plan for workload_outcome in outcome.workloads for plan in workload_outcome.plans]
        failures = [plan.failure for plan in plans if plan.failure]
        if failing := blocking_failure(failures, self._audit.sources):
            for container in containers:
                self._audit.revise(container.entry, without_proof(container.entry, failing))
            return
        # If a failover is not recorded yet, or an error ended the repair of a workload, an image may fail that blocks
        # the return.
        has_unrecorded = any(self._audit.unrecorded(now=self._now))
        if not containers or has_unrecorded or any(workload_outcome.fault for workload_outcome in outcome.workloads):
            return
        returnable = await self._proven(list(filter(None, map(self._plan, containers))))
        for source in self._audit.sources:
            of_source = [option for option in returnable if option.container.source.name == source.name]
            if of_source:
                await self._return(source, of_source)

    # Which containers may return

    def _on_alternative(self, source: Source) -> Iterable[OnAlternative]:
        """Yield the containers of a source that may return; note in the `status.active` of others why they may not."""
        if source.mode is Mode.PAUSED:
            return
        for entry in self._active(source):
            container = find_on_alternative(entry, source, self._audit.sources, self._cluster.kinds)
            if isinstance(container, OnAlternative):
                yield container
            else:
                self._audit.revise(entry, without_proof(entry, container))

    def _active(self, source: Source) -> list[Manifest]:
        """Return the entries of a source's `status.active` that are of this namespace, or that name no namespace."""
        namespaces = {"", self._lookup.namespace}
        return [entry for entry in self._audit.active(source) if text(entry, "target", "namespace") in namespaces]

    def _plan(self, container: OnAlternative) -> Returnable | None:
        """
        Plan the return of a container to its original.

        If the container may not return, note why in its entry of `status.active`, and return `None`.
        """
        workload = self._audit.workloads.get(container.uid)
        plan = plan_return(container, workload, self._cluster.kinds) if workload else "its workload is gone"
        if isinstance(plan, Failover):
            return Returnable(container=container, entry=container.entry, plan=plan)
        self._audit.revise(container.entry, without_proof(container.entry, plan))
        return None

    # Whether the original is healthy

    async def _proven(self, planned: list[Returnable]) -> list[Returnable]:
        """
        Return the containers whose original is proven healthy.

        Note in the `status.active` entry of every container whether its original is proven, or why not.
        """
        by_original: dict[str, list[Returnable]] = {}
        for option in planned:
            by_original.setdefault(str(option.container.original.reference), []).append(option)
        checked = await asyncio.gather(*map(self._check_original, by_original.values()))
        proven = []
        for option, why in (pair for group in checked for pair in group):
            entry, after = option.entry, option.container.fail_back_after
            revised = without_proof(entry, why) if why else with_proof(entry, after, now=self._now)
            self._audit.revise(entry, revised)
            if not why:
                proven.append(replace(option, entry=revised))
        return proven

    async def _check_original(self, group: list[Returnable]) -> list[tuple[Returnable, str]]:
        """
        Ask the registry about an original once, for all containers of `group`, which left that original.

        If a container's source has `verification: Strict`, ask as that source demands. Return each container with the
        reason why the original is not proven to be the image that the container runs now; `""` if it is proven.
        """
        strict = (option for option in group if option.container.source.verification is Verification.STRICT)
        first = next(strict, group[0])
        answer = await self._ask(first, first.container.original)
        return [(option, await self._why_unproven(option, answer)) for option in group]

    async def _why_unproven(self, option: Returnable, answer: Availability) -> str:
        """
        Return why an original is not proven to be the image that the container runs now; `""` if it is proven.

        `answer` is that of the original's registry. If the digests of the running pods do not prove the two images
        equal, ask the alternative's registry too.
        """
        container = option.container
        digests = running_digests(container.alternative, self._audit.running)
        of_alternative: Availability = NOT_ASKED
        if needs_alternative(answer, digests):
            of_alternative = await self._ask(option, container.alternative)
        return why_unproven(container.original, answer, of_alternative, digests)

    async def _ask(self, option: Returnable, candidate: Candidate) -> Availability:
        """
        Ask the registry of a candidate with the pull secrets that a pod of the workload has.

        Ask about an original without a platform, since then a HEAD request is enough, which no registry counts as a
        pull. With `verification: Strict` the parts of the original matter, so ask with the platform of a node.
        """
        plan, alternative = option.plan, option.container.alternative
        template = mapping(plan.workload, *(plan.image_field.template if plan.image_field else ()))
        # A running pod also has the pull secrets of its ServiceAccount, which the template does not name.
        pod = self._audit.running.pod_of(alternative.image) or template
        needs_platform = candidate is alternative or candidate.source.verification is Verification.STRICT
        node = text(pod, "spec", "nodeName") if needs_platform else ""
        evidence = await self._lookup.check_candidates([candidate], pull_secrets(pod), node)
        # If only the source names the pull secret for an image, the pods could not pull the image.
        return Denied() if candidate.image in evidence.secrets else evidence.answer_for(candidate)

    # Return

    async def _return(self, source: Source, returnable: list[Returnable]) -> None:
        """Bring back a batch of the containers of one source that are due."""
        on_the_way = count_returning(self._audit.workloads.values(), self._audit.running, source, now=self._now)
        active = len(self._active(source))
        plans = next_batch(returnable, active=active, on_the_way=on_the_way, now=self._now)
        namespace = await self._cluster.namespace(self._lookup.namespace) if plans else None
        if namespace is None:
            return
        if opted_out(namespace):
            self._block(returnable, f"{describe(namespace)} opted out")
            return
        by_workload: dict[str, list[Failover]] = {}
        for plan in plans:
            by_workload.setdefault(uid_of(plan.workload), []).append(plan)
        for outcome in await asyncio.gather(*map(self._patch, by_workload.values())):
            self.outcomes.append(outcome)
            for refusal in outcome.refusals:
                uid = uid_of(refusal.patch.target)
                of_workload = (option for option in returnable if option.container.uid == uid)
                self._block(of_workload, printable(refusal.why))

    async def _patch(self, plans: list[Failover]) -> WorkloadOutcome:
        """Patch one workload, for all of its containers that return to their original."""
        planned = PodOutcome(pod=plans[0].workload, plans=tuple(plans))
        outcome, _ = await apply_failovers(self._cluster, (planned,), now=self._now, slots=self._patch_slots)
        return outcome

    def _block(self, returnable: Iterable[Returnable], why: str) -> None:
        """
        Note what keeps containers from returning although their original is healthy.

        Their original has to be healthy for the whole of `spec.failBack.after` again before they return.
        """
        for option in returnable:
            self._audit.revise(option.container.entry, without_proof(option.container.entry, why))
