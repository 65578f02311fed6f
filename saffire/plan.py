"""
The plan: what to do about one pull failure. This is the only place that decides.

`decide` is a ladder of early returns over what was gathered. It reads no clock, no cluster and no registry, so every
rung can be tested as a row of a table. Its result is a value: `Failover` (write this candidate), `Wait` (every
candidate failed lately) or `Leave` (nothing to do, for this reason).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from saffire.alternates import Candidate, Mode, Source, Strategy, Verification, candidates
from saffire.failure import PullFailure, Section
from saffire.history import History
from saffire.manifest import Manifest, text
from saffire.reference import InvalidReference, Reference
from saffire.workload import (
    Owners,
    Step,
    describe,
    image_manager,
    is_static,
    lineage,
    opted_out,
    steps,
    template_image,
)

# So often may somebody put an image back before Saffire stops patching that template.
_REVERSIONS = 2


class Proof(StrEnum):
    """What is known of a candidate when it is chosen."""

    UNVERIFIED = "unverified"


class Reason(StrEnum):
    """Why nothing is done: one word per rung, for answers, logs, Events and tests."""

    NO_SUCH_POD = "NoSuchPod"
    NO_FAILURE = "NoPullFailure"
    NO_SOURCE = "NoSource"
    CANNOT_HELP = "AnotherRepositoryCannotHelp"
    INVALID_REFERENCE = "InvalidReference"
    NOT_LISTED = "RepositoryNotListed"
    PAUSED = "Paused"
    OPTED_OUT = "OptedOut"
    TERMINATING = "PodTerminating"
    FINISHED = "PodFinished"
    STATIC_POD = "StaticPod"
    EPHEMERAL_CONTAINER = "EphemeralContainer"
    IMAGE_VOLUME = "ImageVolume"
    OWNER_UNSEEN = "OwnerNotReadable"
    ROLLOUT = "RolloutInProgress"
    UNPROVEN = "CandidateNotProven"
    EXHAUSTED = "NoCandidateLeft"
    ALREADY_MOVED = "AlreadyMoved"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failover:
    """
    Move one container to `candidate`.

    `workload` is the object the record names, `steps` what to patch, in order; `observed` says that the source only
    watches, so that nothing is patched; `note` is what an operator should know besides.
    """

    failure: PullFailure
    candidate: Candidate
    workload: Manifest
    steps: tuple[Step, ...]
    proof: Proof = Proof.UNVERIFIED
    observed: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Nothing now: every candidate failed lately; the first may be tried again at `until`."""

    failure: PullFailure
    until: datetime
    reason: Reason = Reason.EXHAUSTED


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """Nothing: `reason` names the rung and `detail` what made it so; `failure` is `None` where there was none."""

    reason: Reason
    detail: str = ""
    failure: PullFailure | None = None


Plan = Failover | Wait | Leave


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What was gathered about one pod: live manifests, and the sources of its namespace that can be used."""

    namespace: Manifest
    pod: Manifest
    sources: tuple[Source, ...]
    owners: Owners = field(default_factory=Owners)


def screen(failure: PullFailure, scene: Scene) -> Leave | None:
    """Return why a failure is left alone, as far as that can be told without reading the pod's owners."""
    # Another repository would fail too: the fault lies elsewhere.
    if failure.helpless:
        return _leave(failure, Reason.CANNOT_HELP, failure.helpless)
    try:
        reference = Reference.parse(failure.image)
    except InvalidReference as error:
        return _leave(failure, Reason.INVALID_REFERENCE, str(error))
    # Nobody said where else this image lives, or whoever did has paused it.
    found = candidates(reference, scene.sources)
    if not found:
        return _leave(failure, Reason.NOT_LISTED, f"no source lists {reference.repository}")
    if not candidates(reference, (source for source in scene.sources if source.mode is not Mode.PAUSED)):
        return _leave(failure, Reason.PAUSED, f"AlternateImageSource/{found[0].source.name} is paused")
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
    found = screen(failure, scene) or _place(failure, scene, now=now)
    return found if isinstance(found, Leave) else _choose(failure, scene, found, now=now)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where to patch; `moved_to` is the image that the pod's template names by now, if it is another."""

    workload: Manifest
    steps: tuple[Step, ...]
    moved_to: str = ""
    note: str = ""


def _screen_immutable(failure: PullFailure, pod: Manifest) -> Leave | None:
    """Return why this image cannot be changed at all, if it cannot."""
    if is_static(pod):
        return _leave(failure, Reason.STATIC_POD, "its node's kubelet reads it from disk, not from the API server")
    if failure.section is Section.EPHEMERAL_CONTAINERS:
        return _leave(failure, Reason.EPHEMERAL_CONTAINER, "its image cannot be changed")
    if failure.section is Section.VOLUMES:
        return _leave(failure, Reason.IMAGE_VOLUME, "the image of a live pod's volume cannot be changed")
    return None


def _place(failure: PullFailure, scene: Scene, *, now: datetime) -> _Place | Leave:
    """Find what to patch: the highest template that has the container by name, the pod, or both."""
    owners = scene.owners
    for owner in owners.seen:
        if opted_out(owner):
            return _leave(failure, Reason.OPTED_OUT, describe(owner))
    # An owner we may not see could put the image back, or could be the one to patch.
    if owners.unseen and owners.forbidden:
        return _leave(failure, Reason.OWNER_UNSEEN, f"{owners.unseen.kind}/{owners.unseen.name} may not be read")
    top = next(lineage(scene.pod, owners))
    if owners.unseen:
        note = f"its owner {owners.unseen.kind}/{owners.unseen.name} may revert it"
        return _Place(workload=top, steps=(Step.PODS,), note=note)
    for owner in lineage(scene.pod, owners):
        named = template_image(owner, failure.section, failure.container)
        if named:
            return _place_below(failure, owner, named[1], owners, now=now)
    # No template names the container: it was injected, or a Job's template cannot change, or the pod stands alone.
    return _Place(workload=top, steps=(Step.PODS,))


def _place_below(
    failure: PullFailure, workload: Manifest, image: str, owners: Owners, *, now: datetime
) -> _Place | Leave:
    """Find what to patch of a workload whose template names `image` for the failing container."""
    order = steps(workload)
    if image != failure.image:
        # The pod is stale, and its rollout replaces it; or it stays, and goes where its template went.
        if Step.PODS not in order and _is_stale(failure, owners):
            return _leave(failure, Reason.ROLLOUT, f"{describe(workload)} names {image} by now")
        return _Place(workload=workload, steps=(Step.PODS,), moved_to=image)
    # Somebody keeps putting the old image back: do not fight over the template.
    if History.of(workload).reversions(failure.container, failure.image, now=now) >= _REVERSIONS:
        who = image_manager(workload, failure.section, failure.container) or "an unknown field manager"
        note = f"{describe(workload)} was put back twice, last by {who}, so its template is left alone"
        return _Place(workload=workload, steps=(Step.PODS,), note=note)
    return _Place(workload=workload, steps=order)


def _is_stale(failure: PullFailure, owners: Owners) -> bool:
    """Tell a pod of an old revision from one whose image admission rewrote: the former's own controller names it."""
    named = template_image(owners.seen[0], failure.section, failure.container)
    return named is not None and named[1] == failure.image


def _choose(failure: PullFailure, scene: Scene, place: _Place, *, now: datetime) -> Plan:
    """Choose the first candidate in order that did not fail lately."""
    usable = _usable(failure, scene.sources)
    if not usable:
        return _leave(failure, Reason.UNPROVEN, "verification is Strict, and candidates cannot be verified yet")
    # Whoever acts comes before whoever only watches; then, a stale pod goes where its template went, if it may.
    ordered = sorted(usable, key=lambda found: (found.source.mode is Mode.OBSERVE, found.image != place.moved_to))
    histories = (History.of(place.workload), History.of(scene.pod))
    cooling: list[datetime] = []
    for candidate in ordered:
        untils = [history.cooling_until(failure.container, candidate.image) for history in histories]
        until = max((until for until in untils if until), default=now)
        if until > now:
            cooling.append(until)
            continue
        pods_only = candidate.source.strategy is Strategy.PODS
        return Failover(
            failure=failure,
            candidate=candidate,
            workload=place.workload,
            steps=(Step.PODS,) if pods_only else place.steps,
            observed=candidate.source.mode is Mode.OBSERVE,
            note=place.note,
        )
    return Wait(failure=failure, until=min(cooling))


def _usable(failure: PullFailure, sources: Iterable[Source]) -> tuple[Candidate, ...]:
    """Return the candidates of sources that act, then of those that watch; a strict one wants proof nobody has yet."""
    reference = Reference.parse(failure.image)
    willing = [source for source in sources if source.verification is not Verification.STRICT]
    acting = candidates(reference, (source for source in willing if source.mode is Mode.ENFORCE))
    return acting + candidates(reference, (source for source in willing if source.mode is Mode.OBSERVE))


def _leave(failure: PullFailure, reason: Reason, detail: str = "") -> Leave:
    return Leave(failure=failure, reason=reason, detail=detail)
