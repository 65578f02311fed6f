"""
Decides what to do about one pull failure of a pod. No other module does.

The decision is a series of early returns over `Gathered`, which is what Saffire read about the pod. It has three parts.
`check_pod` needs the pod, its namespace and the sources. `find_options` also needs the pod's owners, and `pick` also
the answers of registries. `decide` runs all three. No function here reads a clock, a cluster or a registry, so each
early return is a row of a table in the tests.
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
    """
    What Saffire read about one failing pod.

    `namespace`, `pod` and `owners` are as the API server has them, and `owners` are the pod's controllers. `sources`
    are the valid sources that apply to the namespace. `evidence` has the answers of registries about the candidates.
    """

    namespace: Manifest
    pod: Manifest
    sources: tuple[Source, ...]
    owners: Owners = field(default_factory=Owners)
    evidence: Evidence = field(default_factory=Evidence)


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
    # No source lists the image's repository, or every source that does is paused.
    sources = applicable(reference, gathered.sources)
    all_candidates = candidates(reference, sources)
    if not all_candidates:
        return _leave(failure, Reason.NOT_LISTED, f"no source lists {reference.repository}")
    not_paused = [source for source in sources if source.mode is not Mode.PAUSED]
    if len(not_paused) < len(sources) and not candidates(reference, not_paused):
        return _leave(failure, Reason.PAUSED, f"{display_name(all_candidates[0].source.name)} is paused")
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


def decide(failure: PullFailure, gathered: Gathered, *, now: datetime) -> Plan:
    """Decide what to do about one pull failure of the pod."""
    options = check_pod(failure, gathered) or find_options(failure, gathered, now=now)
    return options if isinstance(options, Leave) else pick(options, gathered)


def find_options(failure: PullFailure, gathered: Gathered, *, now: datetime) -> Options | Leave:
    """
    Return the candidates and the target for a failure for which `check_pod` has no reason; else why nothing is done.

    Saffire asks registries only about the candidates in the result, and then calls `pick`.
    """
    target = find_target(failure, gathered.pod, gathered.owners, now=now)
    return target if isinstance(target, Leave) else _options(failure, gathered, target, now=now)


def _check_mutable(failure: PullFailure, pod: Manifest) -> Leave | None:
    """Return why the failing image can never be changed in this pod; `None` if the image can be changed."""
    if is_static(pod):
        return _leave(failure, Reason.STATIC_POD, "its node's kubelet reads it from disk, not from the API server")
    if failure.section is Section.EPHEMERAL_CONTAINERS:
        return _leave(failure, Reason.EPHEMERAL_CONTAINER, "its image cannot be changed")
    return None


def pick(options: Options, gathered: Gathered) -> Plan:
    """Return the plan for a pull failure: choose among its candidates, by the answers of registries."""
    failure, target, until = options.failure, options.target, options.cooling_until
    verified = [
        readable_by_pod(verify(candidate, failure, gathered.evidence), _steps(candidate, target))
        for candidate in options.usable
    ]
    chosen = pick_best(verified, template_image=target.template_image)
    if chosen is None or chosen.proof is None:
        lacks_secret = any(result.secret for result in verified)
        reason = Reason.UNREADABLE if lacks_secret else Reason.UNPROVEN
        detail = why_none_will_do(verified, failure)
        return Wait(failure=failure, until=until) if until else _leave(failure, reason, detail)
    candidate = chosen.candidate
    if candidate.source.strategy is Strategy.PODS and failure.section is Section.VOLUMES:
        return _leave(failure, Reason.IMAGE_VOLUME, "strategy: Pods leaves the template alone")
    failover = Failover(
        failure=failure,
        candidate=candidate,
        workload=target.workload,
        steps=_steps(candidate, target),
        image_field=target.image_field,
        proof=chosen.proof,
        observed=candidate.source.mode is Mode.OBSERVE,
        note=target.note,
    )
    return _by_template(failover, chosen.secret, gathered) if chosen.secret else failover


def _steps(candidate: Candidate, target: Target) -> tuple[Step, ...]:
    """Return the steps that move the container to a candidate, in order: patches of the template, of the pods."""
    return (Step.PODS,) if candidate.source.strategy is Strategy.PODS else target.steps


def _by_template(failover: Failover, secret: str, gathered: Gathered) -> Failover:
    """
    Return the failover with the step for the template alone.

    The live pod lacks the pull secret `secret` for the candidate, and cannot be given one. The template can name it.
    """
    note = f"its template {'would name' if failover.observed else 'names'} the pull secret {secret} for that"
    pod_leave = None
    if failover.steps == (Step.TEMPLATE, Step.PODS):
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
    histories = History.of(target.workload), History.of(gathered.pod)
    usable: list[Candidate] = []
    cooling: list[datetime] = []
    for candidate in (*acting, *observing):
        until = _cooling_until(candidate, failure, target.image_field, *histories)
        if until and until > now:
            cooling.append(until)
        else:
            usable.append(candidate)
    return Options(failure=failure, target=target, usable=tuple(usable), cooling_until=min(cooling, default=None))


def _cooling_until(
    candidate: Candidate, failure: PullFailure, image_field: ImageField | None, workload: History, pod: History
) -> datetime | None:
    """
    Return when the cooldown of a candidate ends, by the histories of the workload and of the pod.

    `None` if neither history says that the candidate failed in this container.
    """
    untils = (
        workload.cooling_until(failure.container, spell_candidate(candidate, failure, image_field)),
        pod.cooling_until(failure.container, candidate.image),
    )
    return max((until for until in untils if until), default=None)


def _leave(failure: PullFailure, reason: Reason, detail: str = "") -> Leave:
    return Leave(failure=failure, reason=reason, detail=detail)
