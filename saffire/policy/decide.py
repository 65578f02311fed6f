"""
Decides what to do about one pull failure. Nothing else does.

The decision is a ladder of early returns over what was gathered, in three flights: `check_pod` needs the pod alone,
`find_options` its owners, and `pick` what registries say; `decide` goes all the way. Nothing reads a clock, a cluster
or a registry, so every rung is tested as a row of a table.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

from saffire.kube.manifest import Manifest, text
from saffire.kube.workload import ImageField, Owners, describe, is_static
from saffire.policy.history import History
from saffire.policy.plan import Failover, Leave, MissingSecret, Plan, Reason, Step, Wait, spell_candidate
from saffire.policy.pull_secrets import pull_secrets, readable_by_pod
from saffire.policy.target import Target, find_target
from saffire.policy.verification import Evidence, pick_best, verify, why_none_will_do
from saffire.pulls.cause import Remedy
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.reference import InvalidReference, Reference
from saffire.sources.candidates import Candidate, applicable, candidates
from saffire.sources.spec import Mode, Source, Strategy, Verification, display_name, opted_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """What was gathered about one pod: live manifests, the sources that can be used, and what registries said."""

    namespace: Manifest
    pod: Manifest
    sources: tuple[Source, ...]
    owners: Owners = field(default_factory=Owners)
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What may be tried now for a failure of a pod, those that act first, and when the first of the others may be."""

    failure: PullFailure
    target: Target
    ready: tuple[Candidate, ...]
    cooling_until: datetime | None


def check_pod(failure: PullFailure, scene: Gathered) -> Leave | None:
    """Return why a failure is left alone, as far as that can be told without reading the pod's owners."""
    # Another repository would fail too: the fault lies elsewhere.
    if failure.cause.remedy is Remedy.LEAVE:
        return _leave(failure, Reason.CANNOT_HELP, failure.why)
    try:
        reference = Reference.parse(failure.image)
    except InvalidReference as error:
        return _leave(failure, Reason.INVALID_REFERENCE, str(error))
    # Nobody said where else this image lives, or whoever did has paused it.
    sources = applicable(reference, scene.sources)
    found = candidates(reference, sources)
    if not found:
        return _leave(failure, Reason.NOT_LISTED, f"no source lists {reference.repository}")
    awake = [source for source in sources if source.mode is not Mode.PAUSED]
    if len(awake) < len(sources) and not candidates(reference, awake):
        return _leave(failure, Reason.PAUSED, f"{display_name(found[0].source.name)} is paused")
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
    return _check_mutable(failure, scene.pod)


def decide(failure: PullFailure, scene: Gathered, *, now: datetime) -> Plan:
    """Decide what to do about one pull failure of the scene's pod."""
    found = check_pod(failure, scene) or find_options(failure, scene, now=now)
    return found if isinstance(found, Leave) else pick(found, scene)


def find_options(failure: PullFailure, scene: Gathered, *, now: datetime) -> Options | Leave:
    """Return what may be tried for a failure that `check_pod` does not leave alone, before registries are asked."""
    place = find_target(failure, scene.pod, scene.owners, now=now)
    return place if isinstance(place, Leave) else _options(failure, scene, place, now=now)


def _check_mutable(failure: PullFailure, pod: Manifest) -> Leave | None:
    """Return why this image cannot be changed at all, if it cannot."""
    if is_static(pod):
        return _leave(failure, Reason.STATIC_POD, "its node's kubelet reads it from disk, not from the API server")
    if failure.section is Section.EPHEMERAL_CONTAINERS:
        return _leave(failure, Reason.EPHEMERAL_CONTAINER, "its image cannot be changed")
    return None


def pick(prospect: Options, scene: Gathered) -> Plan:
    """Choose among what may be tried, by what registries said."""
    failure, place, until = prospect.failure, prospect.target, prospect.cooling_until
    known = (verify(candidate, failure, scene.evidence) for candidate in prospect.ready)
    judged = [readable_by_pod(one, _steps(one.candidate, place)) for one in known]
    chosen = pick_best(judged, template_image=place.template_image)
    if chosen is None or chosen.proof is None:
        lacks = any(one.secret for one in judged)
        reason = Reason.UNREADABLE if lacks else Reason.UNPROVEN
        detail = why_none_will_do(judged, failure)
        return Wait(failure=failure, until=until) if until else _leave(failure, reason, detail)
    candidate = chosen.candidate
    if candidate.source.strategy is Strategy.PODS and failure.section is Section.VOLUMES:
        return _leave(failure, Reason.IMAGE_VOLUME, "strategy: Pods leaves the template alone")
    failover = Failover(
        failure=failure,
        candidate=candidate,
        workload=place.workload,
        steps=_steps(candidate, place),
        image_field=place.image_field,
        proof=chosen.proof,
        observed=candidate.source.mode is Mode.OBSERVE,
        note=place.note,
    )
    return _by_template(failover, chosen.secret, scene) if chosen.secret else failover


def _steps(candidate: Candidate, place: Target) -> tuple[Step, ...]:
    """Return what is patched to move to a candidate, in order."""
    return (Step.PODS,) if candidate.source.strategy is Strategy.PODS else place.steps


def _by_template(failover: Failover, secret: str, scene: Gathered) -> Failover:
    """Return the failover without pods in place: they lack a pull secret, which their template is to name."""
    note = f"its template {'would name' if failover.observed else 'names'} the pull secret {secret} for that"
    left = None
    if failover.steps == (Step.TEMPLATE, Step.PODS):
        # No rollout is sure to replace it. A Job has a template of its own, which nobody can change.
        made = next((owner for owner in scene.owners.chain[:-1] if text(owner, "kind") == "Job"), scene.pod)
        detail = (
            f"the pod cannot read {failover.candidate.image} without the pull secret {secret}, which no live pod can "
            f"be given; the template of {describe(failover.workload)} names it now: delete {describe(made)}"
        )
        left = _leave(failover.failure, Reason.UNREADABLE, detail)
    return replace(
        failover,
        steps=(Step.TEMPLATE,),
        missing_secret=MissingSecret(secret=secret, pod_secrets=pull_secrets(scene.pod)),
        left=left,
        note="; ".join(filter(None, (failover.note, note))),
    )


def _options(failure: PullFailure, scene: Gathered, place: Target, *, now: datetime) -> Options:
    """Return what may be tried at a place."""
    reference = Reference.parse(failure.image)
    sources = applicable(reference, scene.sources)
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
        until = _cooling_until(candidate, failure, place.image_field, *histories)
        if until and until > now:
            cooling.append(until)
        else:
            ready.append(candidate)
    return Options(failure=failure, target=place, ready=tuple(ready), cooling_until=min(cooling, default=None))


def _cooling_until(
    candidate: Candidate, failure: PullFailure, slot: ImageField | None, of_workload: History, of_pod: History
) -> datetime | None:
    """Return until when a candidate is not to be tried again, by what the workload and the pod went through."""
    untils = (
        of_workload.cooling_until(failure.container, spell_candidate(candidate, failure, slot)),
        of_pod.cooling_until(failure.container, candidate.image),
    )
    return max((until for until in untils if until), default=None)


def _leave(failure: PullFailure, reason: Reason, detail: str = "") -> Leave:
    return Leave(failure=failure, reason=reason, detail=detail)
