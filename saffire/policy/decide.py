"""
Decides what to do about one pull failure. Nothing else does.

The decision is a ladder of early returns over what was gathered, in three flights: `check_pod` needs the pod alone,
`find_options` its owners, and `pick` what registries say; `decide` goes all the way. Nothing reads a clock, a cluster
or a registry, so every rung is tested as a row of a table.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

from saffire.kube.manifest import Manifest, text
from saffire.kube.workload import Owners, Slot, describe, is_static
from saffire.policy.history import History
from saffire.policy.plan import Failover, Lack, Leave, Plan, Reason, Step, Wait, _spelled
from saffire.policy.pull_secrets import pull_secrets, within_reach
from saffire.policy.target import Place, find_place
from saffire.policy.verification import Knowledge, best, judge, reasons
from saffire.pulls.cause import Remedy
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.reference import InvalidReference, Reference
from saffire.sources.candidates import Candidate, candidates, speaking
from saffire.sources.spec import Mode, Source, Strategy, Verification, opted_out, titled


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What was gathered about one pod: live manifests, the sources that can be used, and what registries said."""

    namespace: Manifest
    pod: Manifest
    sources: tuple[Source, ...]
    owners: Owners = field(default_factory=Owners)
    knowledge: Knowledge = field(default_factory=Knowledge)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prospect:
    """What may be tried now for a failure of a pod, those that act first, and when the first of the others may be."""

    failure: PullFailure
    place: Place
    ready: tuple[Candidate, ...]
    until: datetime | None


def screen(failure: PullFailure, scene: Scene) -> Leave | None:
    """Return why a failure is left alone, as far as that can be told without reading the pod's owners."""
    # Another repository would fail too: the fault lies elsewhere.
    if failure.cause.remedy is Remedy.LEAVE:
        return _leave(failure, Reason.CANNOT_HELP, failure.cause.meaning)
    try:
        reference = Reference.parse(failure.image)
    except InvalidReference as error:
        return _leave(failure, Reason.INVALID_REFERENCE, str(error))
    # Nobody said where else this image lives, or whoever did has paused it.
    sources = speaking(reference, scene.sources)
    found = candidates(reference, sources)
    if not found:
        return _leave(failure, Reason.NOT_LISTED, f"no source lists {reference.repository}")
    awake = [source for source in sources if source.mode is not Mode.PAUSED]
    if len(awake) < len(sources) and not candidates(reference, awake):
        return _leave(failure, Reason.PAUSED, f"{titled(found[0].source.name)} is paused")
    # The user wants to be left alone.
    for manifest in (scene.namespace, scene.pod):
        if opted_out(manifest):
            return _leave(failure, Reason.OPTED_OUT, describe(manifest))
    # Its controller replaces a pod that is on its way out.
    if text(scene.pod, "metadata", "deletionTimestamp"):
        return _leave(failure, Reason.TERMINATING)
    # It was evicted or has ended: no kubelet pulls for it any more, and it says nothing of its workload.
    if text(scene.pod, "status", "phase") in {"Failed", "Succeeded"}:
        return _leave(failure, Reason.FINISHED)
    return _screen_immutable(failure, scene.pod)


def decide(failure: PullFailure, scene: Scene, *, now: datetime) -> Plan:
    """Decide what to do about one pull failure of the scene's pod."""
    found = screen(failure, scene) or consider(failure, scene, now=now)
    return found if isinstance(found, Leave) else choose(found, scene)


def consider(failure: PullFailure, scene: Scene, *, now: datetime) -> Prospect | Leave:
    """Return what may be tried for a failure that `screen` does not leave alone, before registries are asked."""
    place = find_place(failure, scene.pod, scene.owners, now=now)
    return place if isinstance(place, Leave) else _prospect(failure, scene, place, now=now)


def _screen_immutable(failure: PullFailure, pod: Manifest) -> Leave | None:
    """Return why this image cannot be changed at all, if it cannot."""
    if is_static(pod):
        return _leave(failure, Reason.STATIC_POD, "its node's kubelet reads it from disk, not from the API server")
    if failure.section is Section.EPHEMERAL_CONTAINERS:
        return _leave(failure, Reason.EPHEMERAL_CONTAINER, "its image cannot be changed")
    return None


def choose(prospect: Prospect, scene: Scene) -> Plan:
    """Choose among what may be tried, by what registries said."""
    failure, place, until = prospect.failure, prospect.place, prospect.until
    known = (judge(candidate, failure, scene.knowledge) for candidate in prospect.ready)
    judged = [within_reach(one, _steps(one.candidate, place)) for one in known]
    chosen = best(judged, beside=place.moved_to)
    if chosen is None or chosen.proof is None:
        lacks = any(one.secret for one in judged)
        reason = Reason.UNREADABLE if lacks else Reason.UNPROVEN
        return Wait(failure=failure, until=until) if until else _leave(failure, reason, reasons(judged))
    candidate = chosen.candidate
    if candidate.source.strategy is Strategy.PODS and failure.section is Section.VOLUMES:
        return _leave(failure, Reason.IMAGE_VOLUME, "strategy: Pods leaves the template alone")
    failover = Failover(
        failure=failure,
        candidate=candidate,
        workload=place.workload,
        steps=_steps(candidate, place),
        slot=place.slot,
        proof=chosen.proof,
        observed=candidate.source.mode is Mode.OBSERVE,
        note=place.note,
    )
    return _by_template(failover, chosen.secret, scene) if chosen.secret else failover


def _steps(candidate: Candidate, place: Place) -> tuple[Step, ...]:
    """Return what is patched to move to a candidate, in order."""
    return (Step.PODS,) if candidate.source.strategy is Strategy.PODS else place.steps


def _by_template(failover: Failover, secret: str, scene: Scene) -> Failover:
    """Return the failover without pods in place: they lack a pull secret, which their template is to name."""
    note = f"its template {'would name' if failover.observed else 'names'} the pull secret {secret} for that"
    left = None
    if failover.steps == (Step.TEMPLATE, Step.PODS):
        # No rollout is sure to replace it. A Job has a template of its own, which nobody can change.
        made = next((owner for owner in scene.owners.seen[:-1] if text(owner, "kind") == "Job"), scene.pod)
        detail = (
            f"the pod cannot read {failover.candidate.image} without the pull secret {secret}, which no live pod can "
            f"be given; the template of {describe(failover.workload)} names it now: delete {describe(made)}"
        )
        left = _leave(failover.failure, Reason.UNREADABLE, detail)
    return replace(
        failover,
        steps=(Step.TEMPLATE,),
        lack=Lack(secret=secret, has=pull_secrets(scene.pod)),
        left=left,
        note="; ".join(filter(None, (failover.note, note))),
    )


def _prospect(failure: PullFailure, scene: Scene, place: Place, *, now: datetime) -> Prospect:
    """Return what may be tried at a place."""
    reference = Reference.parse(failure.image)
    sources = speaking(reference, scene.sources)
    enforcing = [source for source in sources if source.mode is Mode.ENFORCE]
    acting = candidates(reference, enforcing)
    # A strict source may want more proof than there is of what another one would take.
    lax = [source for source in enforcing if source.verification is not Verification.STRICT]
    if len(lax) < len(enforcing):
        named = {(candidate.image, candidate.source.name) for candidate in acting}
        acting += tuple(one for one in candidates(reference, lax) if (one.image, one.source.name) not in named)
    watching = candidates(reference, (source for source in sources if source.mode is Mode.OBSERVE))
    histories = History.of(place.workload), History.of(scene.pod)
    ready: list[Candidate] = []
    cooling: list[datetime] = []
    for candidate in (*acting, *watching):
        until = _cooling_until(candidate, failure, place.slot, *histories)
        if until and until > now:
            cooling.append(until)
        else:
            ready.append(candidate)
    return Prospect(failure=failure, place=place, ready=tuple(ready), until=min(cooling, default=None))


def _cooling_until(
    candidate: Candidate, failure: PullFailure, slot: Slot | None, of_workload: History, of_pod: History
) -> datetime | None:
    """Return until when a candidate is not to be tried again, by what the workload and the pod went through."""
    untils = (
        of_workload.cooling_until(failure.container, _spelled(candidate, failure, slot)),
        of_pod.cooling_until(failure.container, candidate.image),
    )
    return max((until for until in untils if until), default=None)


def _leave(failure: PullFailure, reason: Reason, detail: str = "") -> Leave:
    return Leave(failure=failure, reason=reason, detail=detail)
