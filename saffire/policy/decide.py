"""
Decides what to do about one pull failure of a pod. No other module does.

The decision is a series of early returns over `Gathered`, which is what Saffire read about the pod. It has three parts.
`check_pod` needs the pod, its namespace and the sources. `find_options` also needs the pod's owners, and `pick` also
the answers of registries. No function here reads a clock, a cluster or a registry, so each early return is a row of a
table in the tests.

`pick` asks `reach` how far the repair may go: to the workload's template, to the stuck pods alone, or not before the
kubelet has tried once more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from saffire.kube.manifest import Manifest, text
from saffire.kube.workload import ImageField, Owners, describe, is_static, ready_pods
from saffire.policy.history import NOTHING_RECORDED, WINDOW, History, RecordedMoves
from saffire.policy.plan import Failover, Leave, MissingSecret, Plan, Reason, Step, Wait, spell_candidate
from saffire.policy.pull_secrets import pull_secrets, readable_by_pod
from saffire.policy.reach import (
    CONNECTION,
    STATUS_LAG,
    Fault,
    FaultEvidence,
    Reach,
    diagnose,
    may_be_taken_down,
    reach_of,
    why_limited,
)
from saffire.policy.target import Target, find_target, is_placeholder
from saffire.policy.verification import Evidence, Verified, pick_best, verify, why_none_will_do
from saffire.pulls.cause import Remedy
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import Proof
from saffire.registry.reference import InvalidReference, Reference, domain_of
from saffire.sources.candidates import Candidate, applicable, candidates, first_candidate
from saffire.sources.spec import Mode, Source, Strategy, Trigger, Verification, display_name, opted_out

# Patching these kinds replaces no pod. In a list, the API server leaves out the kind of a pod.
_WITHOUT_ROLLOUT = frozenset({"", "Pod", "Job", "CronJob"})
# A pod's own next try is due by now: Saffire looks again at once.
_SOON = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """
    What Saffire read about one failing pod.

    `namespace`, `pod` and `owners` are as the API server has them, and `owners` are the pod's controllers. `sources`
    are the valid sources that apply to the namespace. `evidence` has the answers of registries about the candidates,
    and `faults` what is known of the fault behind each pull failure. `recorded` are the failovers that the status of
    sources has. `denied` are the candidates' images that the API server allows neither template nor pod to have.
    """

    namespace: Manifest
    pod: Manifest
    sources: tuple[Source, ...]
    owners: Owners = field(default_factory=Owners)
    evidence: Evidence = field(default_factory=Evidence)
    faults: Mapping[PullFailure, FaultEvidence] = field(default_factory=dict)
    recorded: RecordedMoves = NOTHING_RECORDED
    denied: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """
    The candidates for a pull failure, and the target, which is the object to patch.

    `usable` are the candidates that Saffire may try now. Candidates of sources in mode Enforce come first. The other
    candidates failed lately and have a cooldown: `cooling_until` is when the first of these cooldowns ends. It is
    `None` if no candidate has a cooldown.
    """

    failure: PullFailure
    target: Target
    usable: tuple[Candidate, ...]
    cooling_until: datetime | None


def check_pod(failure: PullFailure, gathered: Gathered) -> Leave | None:
    """
    Return the first reason to do nothing about a pull failure, by the pod, its namespace and the sources.

    `None` if there is no such reason: then `find_options` decides further.
    """
    # The cause is such that a pull from another repository would fail too.
    if failure.cause.remedy is Remedy.LEAVE:
        return _leave(failure, Reason.CANNOT_HELP, failure.why)
    try:
        reference = Reference.parse(failure.image)
    except InvalidReference as error:
        return _leave(failure, Reason.INVALID_REFERENCE, str(error))
    if is_placeholder(failure.image):
        detail = f"{failure.image} is a placeholder, which admission should have replaced"
        return _leave(failure, Reason.INVALID_REFERENCE, detail)
    # No source lists the image's repository, or every source that does is paused.
    sources = applicable(reference, gathered.sources)
    first = first_candidate(reference, sources)
    if first is None:
        return _leave(failure, Reason.NOT_LISTED, f"no source lists {reference.repository}")
    not_paused = [source for source in sources if source.mode is not Mode.PAUSED]
    if len(not_paused) < len(sources) and first_candidate(reference, not_paused) is None:
        return _leave(failure, Reason.PAUSED, f"{display_name(first.source.name)} is paused")
    # A user opted out, by an annotation of the namespace or of the pod.
    for manifest in (gathered.namespace, gathered.pod):
        if opted_out(manifest):
            return _leave(failure, Reason.OPTED_OUT, describe(manifest))
    # If the pod is terminating, its controller replaces it.
    if text(gathered.pod, "metadata", "deletionTimestamp"):
        return _leave(failure, Reason.TERMINATING)
    # If the pod was evicted or has ended, no kubelet pulls its images any more. The pod then tells nothing about its
    # workload.
    if text(gathered.pod, "status", "phase") in {"Failed", "Succeeded"}:
        return _leave(failure, Reason.FINISHED)
    return _check_mutable(failure, gathered.pod)


def find_options(failure: PullFailure, gathered: Gathered, *, now: datetime) -> Options | Leave:
    """
    Return the candidates and the target for a failure for which `check_pod` has no reason; else why nothing is done.

    Saffire asks registries only about the candidates in the result, and then calls `pick`.
    """
    target = find_target(failure, gathered.pod, gathered.owners, now=now, recorded=gathered.recorded)
    return target if isinstance(target, Leave) else _options(failure, gathered, target, now=now)


def _check_mutable(failure: PullFailure, pod: Manifest) -> Leave | None:
    """Return why the failing image can never be changed in this pod; `None` if the image can be changed."""
    if is_static(pod):
        return _leave(failure, Reason.STATIC_POD, "its node's kubelet reads it from disk, not from the API server")
    if failure.section is Section.EPHEMERAL_CONTAINERS:
        return _leave(failure, Reason.EPHEMERAL_CONTAINER, "its image cannot be changed")
    return None


def pick(options: Options, gathered: Gathered, *, now: datetime) -> Plan:
    """Return the plan for a pull failure: choose among its candidates, by the answers of registries."""
    failure, target, until = options.failure, options.target, options.cooling_until
    fault = replace(gathered.faults.get(failure, FaultEvidence()), ready_pods=_ready_pods(target, gathered.owners))
    # The node cannot pull from two registries that answer Saffire, so another failover would not help.
    if detail := _why_node_fails(failure, gathered, target, fault, now=now):
        return _leave(failure, Reason.NODE_FAULT, detail)
    acts_on_any_failure = options.usable and all(
        candidate.source.trigger is Trigger.ANY_FAILURE for candidate in options.usable
    )
    if may_be_taken_down(failure, fault) and fault.other_image_is_there and not acts_on_any_failure:
        registry = domain_of(failure.image)
        detail = f"{registry} has other images of this namespace and refuses this one, which may have been taken down"
        return _leave(failure, Reason.TAKEN_DOWN, detail)
    left = [candidate for candidate in options.usable if _was_left_lately(candidate, options, fault, now=now)]
    usable = [candidate for candidate in options.usable if candidate not in left]
    chosen, verified, is_for_all_nodes = _choose(usable, options, gathered)
    if chosen is None or chosen.proof is None:
        lacks_secret = any(result.secret for result in verified)
        reason = Reason.UNREADABLE if lacks_secret else Reason.UNPROVEN
        detail = why_none_will_do((*verified, *(_ruled_out(candidate, target) for candidate in left)), failure)
        return Wait(failure=failure, until=until) if until else _leave(failure, reason, detail)
    candidate = chosen.candidate
    if candidate.source.strategy is Strategy.PODS and failure.section is Section.VOLUMES:
        return _leave(failure, Reason.IMAGE_VOLUME, "strategy: Pods leaves the template alone")
    failover = Failover(
        failure=failure,
        candidate=candidate,
        workload=target.workload,
        steps=_steps(candidate, target) if is_for_all_nodes else (Step.PODS,),
        image_field=target.image_field,
        proof=chosen.proof,
        observed=candidate.source.mode is Mode.OBSERVE,
        note=target.note if is_for_all_nodes else _for_this_node(candidate, target),
        fault=diagnose(failure, fault),
        reversions=target.reversions,
    )
    limited = _within_reach(failover, fault, now=now)
    if chosen.is_down and fault.ready_pods != 0 and limited is failover and Step.TEMPLATE in failover.steps:
        # New pods could not start either, and the rollout would end ready ones for them.
        limited = _in_place(failover, f"{candidate.reference.repository.domain} is down too")
    if isinstance(limited, Failover) and limited.template_waits and chosen.secret:
        # The stuck pods would wait for the secret in the template, and the template for the pods.
        limited = _in_place(limited, "its rollout could end ready pods first")
    if not isinstance(limited, Failover):
        return limited
    best = _best_in_place(usable, options, gathered) if limited.steps != failover.steps else None
    if best and best.proof and (chosen.is_down or not best.is_down):
        # The first choice was for the template. The pod may not be able to read that one, or may do with another.
        observed = best.candidate.source.mode is Mode.OBSERVE
        return replace(limited, candidate=best.candidate, proof=best.proof, observed=observed)
    return _by_template(limited, chosen.secret, gathered) if chosen.secret else limited


def _ready_pods(target: Target, owners: Owners) -> int | None:
    """
    Return how many ready pods a patch of the target's template could replace; `None` if that is not known.

    The target itself may not tell: a Deployment of which a Rollout takes the template may have no pods, and a Knative
    Service counts none. So the largest number counts that any owner of the pod has.
    """
    if text(target.workload, "kind") in _WITHOUT_ROLLOUT:
        return 0
    numbers = (ready_pods(owner, owners.kinds.of(owner)) for owner in owners.chain)
    return max((number for number in numbers if number is not None), default=None)


def _why_node_fails(
    failure: PullFailure, gathered: Gathered, target: Target, fault: FaultEvidence, *, now: datetime
) -> str:
    """
    Return why the pod's node cannot pull from anywhere, as far as that is known; `""` if it is not.

    That is known if the registry answers Saffire, and the node cannot pull from a second registry that answers too, or
    that answered when Saffire moved the container away from it, up to an hour before this pull began to fail.
    """
    if diagnose(failure, fault) is not Fault.NODE or failure.cause not in CONNECTION:
        return ""
    name = text(gathered.pod, "spec", "nodeName")
    node = f"node {name}" if name else "the pod's node"
    entries = (*History.of(gathered.pod).entries, *History.of(target.workload).entries)
    here = [entry for entry in entries if (entry.container, entry.after) == (failure.container, failure.image)]
    latest = max(here, key=lambda entry: entry.at, default=None)
    # After an outage, or a fail back, that the node cannot pull this image says nothing of its way to other registries.
    if latest and latest.fault == Fault.NODE and now - fault.failing_for - latest.at <= WINDOW:
        return f"{node} cannot pull from {domain_of(failure.image)} either, which answers Saffire"
    if fault.other_registries:
        names = " and ".join(sorted({domain_of(failure.image), *fault.other_registries})[:3])
        return f"{node} cannot pull from {names}, which answer Saffire"
    return ""


def _was_left_lately(candidate: Candidate, options: Options, fault: FaultEvidence, *, now: datetime) -> bool:
    """
    Tell whether the workload left a candidate's image within the last hour, while the alternative runs elsewhere.

    Only a fail back returns to that image, unless an outage of the alternative's registry is proven. After an hour, the
    fault for which the workload left the image tells nothing any more.
    """
    failure, target = options.failure, options.target
    if not fault.ready_pods or diagnose(failure, fault) is Fault.OUTAGE:
        return False
    image = spell_candidate(candidate, failure, target.image_field)
    current = target.image_field.image if target.image_field else failure.image
    # An image that a fail back left did not fail there.
    moves = [
        entry
        for entry in History.of(target.workload).until(now).entries
        if entry.container == failure.container and not entry.is_fail_back and now - entry.at <= WINDOW
    ]
    return any(entry.before == image != entry.after for entry in moves) and any(
        entry.after == current for entry in moves
    )


def _ruled_out(candidate: Candidate, target: Target) -> Verified:
    """Return the result for a candidate that is ruled out, since the workload left it within the last hour."""
    why = f"{describe(target.workload)} left it within the last hour"
    return Verified(candidate=candidate, why=why, advice="move it back to {} by hand")


def _choose(
    usable: Sequence[Candidate], options: Options, gathered: Gathered
) -> tuple[Verified | None, list[Verified], bool]:
    """
    Return the best candidate, all candidates verified, and whether the best suits every node of the workload's pods.

    A pod template serves every node on which its pods may run. A candidate that suits only the node of this pod is
    chosen only if no other candidate suits every node, and then only for this pod, in place.
    """
    failure, target, evidence = options.failure, options.target, gathered.evidence
    verified, for_template = [], evidence.for_all_nodes(failure.image)
    for candidate in usable:
        steps = _steps(candidate, target)
        for_steps = for_template if Step.TEMPLATE in steps else evidence
        verified.append(readable_by_pod(verify(candidate, failure, for_steps), steps))
    chosen = pick_best(verified, template_image=target.template_image)
    if chosen or not evidence.on_all_nodes or failure.section is Section.VOLUMES:
        return chosen, verified, True
    return _best_in_place(usable, options, gathered), verified, False


def _best_in_place(usable: Sequence[Candidate], options: Options, gathered: Gathered) -> Verified | None:
    """Return the best candidate for the pod alone, by what it can read and by its own node; `None` if none will do."""
    verified = (verify(candidate, options.failure, gathered.evidence) for candidate in usable)
    in_place = [readable_by_pod(result, (Step.PODS,)) for result in verified]
    return pick_best(in_place, template_image=options.target.template_image)


def _for_this_node(candidate: Candidate, target: Target) -> str:
    """Return the note for a candidate that suits the pod's node, and not every node of the workload's pods."""
    return f"{candidate.image} has no build for every node of {describe(target.workload)}, so its template stays"


def _within_reach(failover: Failover, fault: FaultEvidence, *, now: datetime) -> Plan:
    """Return the failover as far as the fault is proven: whole, for the stuck pods alone, or not yet."""
    failure = failover.failure
    reach = reach_of(failure, fault)
    # A pod without a rollout above it is stuck alone, and the candidate is proven to be the same image.
    is_alone = text(failover.workload, "kind") in {"Pod", "Job"} and fault.in_status
    if failover.candidate.source.trigger is Trigger.ANY_FAILURE or (is_alone and failover.proof is Proof.EQUAL):
        reach = Reach.WORKLOAD
    if reach is Reach.WORKLOAD:
        return failover
    if reach is Reach.NEXT_TRY:
        due = fault.waits - fault.failing_for if fault.in_status else STATUS_LAG
        return Wait(
            failure=failure,
            until=now + max(due, _SOON),
            reason=Reason.NEXT_TRY,
            detail=why_limited(failure, fault),
        )
    return _in_place(failover, why_limited(failure, fault))


def _in_place(failover: Failover, why: str) -> Failover | Leave:
    """Return the failover for the pod alone, since its template stays for the reason `why`."""
    if failover.failure.section is Section.VOLUMES:
        return _leave(failover.failure, Reason.IMAGE_VOLUME, f"its template stays, since {why}")
    return failover if failover.steps == (Step.PODS,) else failover.in_place(why)


def _steps(candidate: Candidate, target: Target) -> tuple[Step, ...]:
    """Return the steps that move the container to a candidate, in order: patches of the template, of the pods."""
    return (Step.PODS,) if candidate.source.strategy is Strategy.PODS else target.steps


def _by_template(failover: Failover, secret: str, gathered: Gathered) -> Failover | Leave:
    """Return the failover of the template alone, since no live pod can be given the pull secret; or why not."""
    if Step.TEMPLATE not in failover.steps:
        detail = f"the pod cannot read {failover.candidate.image} without the pull secret {secret}; {failover.note}"
        return _leave(failover.failure, Reason.UNREADABLE, detail)
    note = f"its template {'would name' if failover.observed else 'names'} the pull secret {secret} for that"
    pod_leave = None
    if Step.PODS in failover.steps:
        # It is not certain that a rollout replaces the pod, so the text says what to delete. If a Job owns the pod, the
        # Job has to be deleted: its own template cannot be changed, so a new pod of it would lack the pull secret too.
        to_delete = next((owner for owner in gathered.owners.chain[:-1] if text(owner, "kind") == "Job"), gathered.pod)
        detail = (
            f"the pod cannot read {failover.candidate.image} without the pull secret {secret}, which no live pod can "
            f"be given; the template of {describe(failover.workload)} names it now: delete {describe(to_delete)}"
        )
        pod_leave = _leave(failover.failure, Reason.UNREADABLE, detail)
    return replace(
        failover,
        steps=(Step.TEMPLATE,),
        missing_secret=MissingSecret(secret=secret, pod_secrets=pull_secrets(gathered.pod)),
        pod_leave=pod_leave,
        note="; ".join(filter(None, (failover.note, note))),
    )


def _options(failure: PullFailure, gathered: Gathered, target: Target, *, now: datetime) -> Options:
    """Return the candidates for a failure with this target, each either usable now or with a cooldown."""
    reference = Reference.parse(failure.image)
    sources = applicable(reference, gathered.sources)
    enforcing = [source for source in sources if source.mode is Mode.ENFORCE]
    acting = candidates(reference, enforcing)
    # `candidates` names one source for each repository. If that source has `verification: Strict`, another source that
    # declares the same repository may accept the image with less proof. So such a candidate is added.
    not_strict = [source for source in enforcing if source.verification is not Verification.STRICT]
    if len(not_strict) < len(enforcing):
        listed = {(candidate.image, candidate.source.name) for candidate in acting}
        acting += tuple(
            candidate
            for candidate in candidates(reference, not_strict)
            if (candidate.image, candidate.source.name) not in listed
        )
    observing = candidates(reference, (source for source in sources if source.mode is Mode.OBSERVE))
    histories = History.of(target.workload).until(now), History.of(gathered.pod).until(now)
    usable: list[Candidate] = []
    cooling: list[datetime] = []
    for candidate in (*acting, *observing):
        if candidate.image in gathered.denied:
            continue
        until = _cooling_until(candidate, failure, target.image_field, *histories)
        if until and until > now:
            cooling.append(until)
        else:
            usable.append(candidate)
    return Options(failure=failure, target=target, usable=tuple(usable), cooling_until=min(cooling, default=None))


def _cooling_until(
    candidate: Candidate, failure: PullFailure, image_field: ImageField | None, workload: History, pod: History
) -> datetime | None:
    """Return when the cooldown of a candidate ends, by both histories; `None` if it has none in this container."""
    untils = (
        workload.cooling_until(failure.container, spell_candidate(candidate, failure, image_field)),
        pod.cooling_until(failure.container, candidate.image),
    )
    return max((until for until in untils if until), default=None)


def _leave(failure: PullFailure, reason: Reason, detail: str = "") -> Leave:
    return Leave(failure=failure, reason=reason, detail=detail)
