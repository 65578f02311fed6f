"""
The rehearsal: what the function would do about a set of failing containers, by the function's own plan.

The plugin makes up pull failures, as of containers whose registry has died, and has `reconcile.gather.Decisions` decide
about them, with the sources, owners and nodes of the live cluster. So a rehearsal has no rules of its own. What it adds
is only what an operator asks: which pods are affected, how many ready pods a rollout replaces, and whether the
container would hang.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from kubectl_saffire.estate import Estate, ListedSources
from kubectl_saffire.registries import RehearsedRegistries
from kubectl_saffire.session import Session
from saffire.concurrency import gather_in_turns
from saffire.kube.manifest import Manifest, items, name_of, text, uid_of
from saffire.kube.owners import OwnerLookup
from saffire.kube.workload import Owners, describe, is_ending, is_static, ready_pods
from saffire.policy.decide import Gathered
from saffire.policy.plan import Failover, Leave, Plan, Reason, Rollout, Step, Wait
from saffire.pulls.cause import Cause
from saffire.pulls.failure import FailingPod, PullFailure, Section, containers_of
from saffire.reconcile.candidate_lookup import Lookup, LookupCache
from saffire.reconcile.fault_lookup import FaultLookup
from saffire.reconcile.gather import Decisions
from saffire.record.outcome import PodOutcome
from saffire.record.reversions import recorded_moves
from saffire.record.status import answered_at
from saffire.registry.reference import Reference, domain_of
from saffire.sources.candidates import candidates, parse_valid
from saffire.sources.index import SourceIndex

OBSERVED = "Observed"
"""Why a container would hang: its source is in mode Observe, in which Saffire patches nothing."""
DOWN_TOO = "AlternativeDownToo"
"""Why a container would hang: Saffire would move it, to an alternative whose registry counts as dead, too."""
# For these reasons, Saffire leaves a pod alone that does not stay stuck.
_NOT_STUCK = frozenset(
    {
        Reason.ROLLOUT,
        Reason.TERMINATING,
        Reason.FINISHED,
        Reason.ALREADY_MOVED,
        Reason.NO_SUCH_POD,
        Reason.NO_FAILURE,
    }
)
# A rehearsal tells how things are so long after the registry died: what waits for a kubelet's next try has had it.
_OUTAGE_LASTS = timedelta(minutes=5)
# Nobody waits for a failover here, so a registry may take longer to answer than the function lets it.
_ASK_SECONDS = 10.0
# So many namespaces are rehearsed at the same time: each may wait for registries.
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """
    What becomes of one container of a workload.

    Args:
        namespace: the namespace of the workload.
        workload: the workload as `Kind/name`.
        container: the name of the container, or of the image volume.
        image: the image that cannot be pulled.
        pods: the names of the pods with this fate; none if the next run of a CronJob would have it.
        plan: what the function decides about the first of them.
        reason: why the container would hang; `""` if Saffire would move it.
        steps: the patches that move it, in order.
        ready_replaced: how many ready pods the rollout replaces.
        owners: the owners of the first of the pods.
        node: the name of the node of the first of the pods.
        sources: the sources that apply to the namespace, as they are stored.

    """

    namespace: str
    workload: str
    container: str
    image: str
    pods: tuple[str, ...]
    plan: Plan
    reason: str = ""
    steps: tuple[Step, ...] = ()
    ready_replaced: int = 0
    owners: Owners = field(default_factory=Owners, repr=False)
    node: str = ""
    sources: tuple[Manifest, ...] = field(default=(), repr=False)

    @property
    def hangs(self) -> bool:
        """Whether the container would hang."""
        return bool(self.reason)

    @property
    def to(self) -> str:
        """The image to which Saffire would move the container; `""` if it would move it nowhere."""
        return self.plan.candidate.image if isinstance(self.plan, Failover) else ""

    @property
    def detail(self) -> str:
        """The fact behind the reason, or the note of the failover; `""` if there is none."""
        match self.plan:
            case Failover(pod_leave=Leave(detail=detail)):
                return detail
            case Failover(note=note):
                return note
            case Wait(detail=detail):
                return detail or "every alternative failed lately or will not do"
            case Leave(detail=detail):
                return detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """
    Rehearses the failure of containers.

    Args:
        estate: reads the cluster.
        sources: reads the sources of the estate.
        index: finds the sources that apply to a namespace.
        registries: answer about images.
        cache: looks up nodes and Secrets, and asks `registries`.
        now: the time, in UTC.

    """

    estate: Estate
    sources: ListedSources
    index: SourceIndex
    registries: RehearsedRegistries
    cache: LookupCache
    now: datetime

    def with_dead(self, dead: frozenset[str]) -> "Rehearsal":
        """Return a rehearsal in which these registries are dead, and which knows no answer of a registry yet."""
        registries = self.registries.with_dead(dead)
        return replace(self, registries=registries, cache=_cache(self.estate, registries))

    async def fates(
        self,
        pods_in: Mapping[str, Sequence[Manifest]],
        failing_of: Callable[[Sequence[Manifest]], list[FailingPod]],
        progress: Callable[[str], None],
    ) -> list[Fate]:
        """
        Return the fates of all failing pods, in the order of namespaces and workloads.

        Args:
            pods_in: all pods, by namespace.
            failing_of: returns those of a namespace's pods that fail, with their failures.
            progress: is called with words for a user meanwhile.

        """
        slots, done = asyncio.Semaphore(_AT_ONCE), 0

        async def rehearse(namespace: str, pods: Sequence[Manifest]) -> list[Fate]:
            nonlocal done
            failing = failing_of(pods)
            async with slots:
                fates = await self.fates_in(namespace, pods, failing) if failing else []
            done += 1
            progress(f"rehearsed {done} of {len(pods_in)} namespaces")
            return fates

        rehearsals = (rehearse(namespace, pods) for namespace, pods in sorted(pods_in.items()))
        return [fate for fates in await gather_in_turns(rehearsals) for fate in fates]

    async def fates_in(self, namespace: str, pods: Iterable[Manifest], failing: Sequence[FailingPod]) -> list[Fate]:
        """Return the fates of the failing pods of a namespace; `pods` are all pods there."""
        sources, manifest = await self.index.sources_for(namespace, fresh=True)
        owners = OwnerLookup(self.estate, namespace)
        lookup = Lookup(cache=self.cache, namespace=namespace)
        if not sources or manifest is None:
            leave = Leave(reason=Reason.NO_SOURCE, detail="no AlternateImageSource applies to the namespace")
            outcomes: tuple[PodOutcome, ...] = tuple(_left(pod, leave) for pod in failing)
        else:
            lookup.images_in_use.namespace = manifest
            for pod in pods:
                lookup.observe(pod)
            lookup.all_pods_observed()
            outcomes = await self._decide(lookup, owners, manifest, sources, failing)
        fates = [
            fate
            for outcome in outcomes
            for fate in self._fates(outcome, await owners.owners_of(outcome.pod), namespace, sources)
        ]
        return _merged(fates)

    async def _decide(
        self,
        lookup: Lookup,
        owners: OwnerLookup,
        namespace: Manifest,
        sources: tuple[Manifest, ...],
        failing: Sequence[FailingPod],
    ) -> tuple[PodOutcome, ...]:
        """Decide about failing pods as a repair of their namespace does; a dead registry has been dead for minutes."""
        parsed = parse_valid(sources)
        for image in {failure.image for pod in failing for failure in pod.failures}:
            if reference := Reference.parse_if_valid(image):
                digests = lookup.digests_of(image)
                self.registries.take_as_equal(lookup.namespace, candidates(reference, parsed), digests)
        lasts = _OUTAGE_LASTS if self.registries.dead else timedelta()
        faults = FaultLookup(lookup=lookup, answered_at=answered_at(sources), now=self.now + lasts)
        faults.observe(failing)
        gathered = Gathered(namespace=namespace, pod={}, sources=parsed, recorded=recorded_moves(sources))
        return await Decisions(gathered=gathered, owners=owners, lookup=lookup, faults=faults, now=self.now).decide(
            failing
        )

    def _fates(
        self, outcome: PodOutcome, owners: Owners, namespace: str, sources: tuple[Manifest, ...]
    ) -> Iterator[Fate]:
        for plan in outcome.plans:
            if plan.failure is None or (isinstance(plan, Leave) and plan.reason in _NOT_STUCK):
                continue
            reason = self._why_hanging(plan)
            moved = plan if isinstance(plan, Failover) and not reason else None
            yield Fate(
                namespace=namespace,
                workload=describe(plan.workload) if isinstance(plan, Failover) else workload_of(outcome.pod, owners),
                container=plan.failure.container,
                image=plan.failure.image,
                pods=(name_of(outcome.pod),) if uid_of(outcome.pod) else (),
                plan=plan,
                reason=reason,
                steps=moved.steps if moved else (),
                ready_replaced=_replaced(moved, owners) if moved else 0,
                owners=owners,
                node=text(outcome.pod, "spec", "nodeName"),
                sources=sources,
            )

    def _why_hanging(self, plan: Plan) -> str:
        """Return why a container would hang; `""` if the plan moves it to an image that can be pulled."""
        if not isinstance(plan, Failover):
            return plan.reason
        if plan.observed:
            return OBSERVED
        return DOWN_TOO if plan.candidate.reference.repository.domain in self.registries.dead else ""


@asynccontextmanager
async def rehearsing(session: Session, *, asks: bool, namespace: str = "") -> AsyncIterator[Rehearsal]:
    """
    Yield a rehearsal in which no registry is dead yet; it is limited to a namespace if it is given.

    With `asks`, registries are asked; else each of them has every image.
    """
    estate = Estate(session.server, session.settings.kinds, namespace=namespace, is_live=asks)
    sources = ListedSources(session.server, namespace=namespace)
    registries = RehearsedRegistries.of(session.settings, asks=asks)
    try:
        yield Rehearsal(
            estate=estate,
            sources=sources,
            index=SourceIndex(estate, sources),
            registries=registries,
            cache=_cache(estate, registries),
            now=session.now,
        )
    finally:
        await registries.close()


def _cache(estate: Estate, registries: RehearsedRegistries) -> LookupCache:
    return LookupCache(estate, registries, budget_seconds=_ASK_SECONDS)


# Failures


def failures_without(dead: frozenset[str], pod: Manifest) -> tuple[PullFailure, ...]:
    """
    Return the pull failures that a pod would have if the registries `dead` died and each image had to be pulled again.

    A container that never pulls (`imagePullPolicy: Never`) has none, nor has an ephemeral container: no new pod has it.
    """
    failures = [
        _refused(container.section, container.name, container.image)
        for container in containers_of(pod)
        if container.is_pulled and container.section is not Section.EPHEMERAL_CONTAINERS
    ]
    failures += [
        _refused(Section.VOLUMES, text(volume, "name"), image)
        for volume in items(pod, "spec", "volumes")
        if (image := text(volume, "image", "reference")) and text(volume, "image", "pullPolicy") != "Never"
    ]
    return tuple(failure for failure in failures if domain_of(failure.image) in dead)


def failing_without(dead: frozenset[str], pods: Iterable[Manifest]) -> list[FailingPod]:
    """Return the pods that would fail if the registries died; pods that are ending pull nothing any more."""
    return [
        FailingPod(pod=pod, failures=failures)
        for pod in pods
        if not is_ending(pod) and (failures := failures_without(dead, pod))
    ]


def _refused(section: Section, container: str, image: str) -> PullFailure:
    return PullFailure(section=section, container=container, image=image, reason="ErrImagePull", cause=Cause.REFUSED)


# Fates


def workload_of(pod: Manifest, owners: Owners) -> str:
    """Return `Kind/name` of the workload of a pod, as far as its owners can be read."""
    if is_static(pod) or not (owners.chain or owners.unreadable):
        return describe(pod)
    if owners.unreadable and not owners.chain:
        return f"{owners.unreadable.kind}/{owners.unreadable.name}"
    return describe(owners.chain[-1])


def _replaced(failover: Failover, owners: Owners) -> int:
    """Return how many ready pods the rollout of a failover replaces, by the status of the workload."""
    kind = owners.kinds.of(failover.workload)
    is_foreign = any(of_owner.is_foreign for of_owner in map(owners.kinds.of, owners.chain) if of_owner)
    rolls_out = is_foreign or Rollout.of(failover.workload, kind) is not Rollout.NONE
    if Step.TEMPLATE not in failover.steps or not rolls_out:
        return 0
    numbers = (ready_pods(owner, owners.kinds.of(owner)) for owner in owners.chain)
    return max((number for number in numbers if number is not None), default=0)


def _left(failing: FailingPod, leave: Leave) -> PodOutcome:
    """Return the outcome for a pod that is left alone with all its failures."""
    return PodOutcome(pod=failing.pod, plans=tuple(replace(leave, failure=failure) for failure in failing.failures))


def _merged(fates: Iterable[Fate]) -> list[Fate]:
    """Return the fates with those that pods of one workload share made one; each pod may add a step."""
    merged: dict[tuple[str, ...], Fate] = {}
    for fate in fates:
        key = (fate.workload, fate.container, fate.image, fate.to, fate.reason)
        first = merged.get(key)
        if first is None:
            merged[key] = fate
            continue
        merged[key] = replace(
            first,
            pods=(*first.pods, *fate.pods),
            steps=tuple(dict.fromkeys((*first.steps, *fate.steps))),
            ready_replaced=max(first.ready_replaced, fate.ready_replaced),
        )
    return sorted(merged.values(), key=lambda fate: (fate.namespace, fate.workload, fate.container))
