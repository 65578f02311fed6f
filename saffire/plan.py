"""
The plan: what to do about one pull failure. Nothing else decides.

`decide` is a ladder of early returns over what was gathered. It reads no clock, no cluster and no registry, so every
rung can be tested as a row of a table. Its result is a value: `Failover` (write this candidate), `Wait` (every
candidate failed lately) or `Leave` (nothing to do, for this reason).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from saffire.alternates import Candidate, Mode, Source, Strategy, Verification, candidates
from saffire.availability import Proof
from saffire.cause import Remedy
from saffire.failure import PullFailure, Section
from saffire.history import History
from saffire.kinds import Step
from saffire.leave import Leave, Reason
from saffire.manifest import Manifest, text
from saffire.place import Place, find_place
from saffire.reference import InvalidReference, Reference, same_repository
from saffire.workload import Owners, Slot, describe, is_static, opted_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Failover:
    """
    Move one container to `candidate`.

    `workload` is the object the record names, `steps` what to patch, in order, and `slot` where its template names the
    image; `observed` says that the source only watches, so that nothing is patched; `note` is what an operator should
    know besides.
    """

    failure: PullFailure
    candidate: Candidate
    workload: Manifest
    steps: tuple[Step, ...]
    slot: Slot | None = None
    proof: Proof = Proof.UNVERIFIED
    observed: bool = False
    note: str = ""

    def images(self, step: Step) -> tuple[str, str]:
        """Return the images from and to, as the object of that step writes them."""
        if step is Step.PODS or self.slot is None:
            return self.failure.image, self.candidate.image
        return self.slot.image, _spelled(self.candidate, self.failure, self.slot)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Nothing now: every candidate failed lately; the first may be tried again at `until`."""

    failure: PullFailure
    until: datetime
    reason: Reason = Reason.EXHAUSTED


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
    if failure.cause.remedy is Remedy.LEAVE:
        return _leave(failure, Reason.CANNOT_HELP, failure.cause.meaning)
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
    found = screen(failure, scene) or find_place(failure, scene.pod, scene.owners, now=now)
    return found if isinstance(found, Leave) else _choose(failure, scene, found, now=now)


def _screen_immutable(failure: PullFailure, pod: Manifest) -> Leave | None:
    """Return why this image cannot be changed at all, if it cannot."""
    if is_static(pod):
        return _leave(failure, Reason.STATIC_POD, "its node's kubelet reads it from disk, not from the API server")
    if failure.section is Section.EPHEMERAL_CONTAINERS:
        return _leave(failure, Reason.EPHEMERAL_CONTAINER, "its image cannot be changed")
    return None


def _choose(failure: PullFailure, scene: Scene, place: Place, *, now: datetime) -> Plan:
    """Choose the first candidate in order that did not fail lately."""
    usable = _usable(failure, scene.sources)
    if not usable:
        return _leave(failure, Reason.UNPROVEN, "verification is Strict, and candidates cannot be verified yet")
    cooling: list[datetime] = []
    for candidate in sorted(usable, key=lambda found: _rank(found, place)):
        until = _cooling_until(candidate, failure, scene, place)
        if until and until > now:
            cooling.append(until)
            continue
        pods_only = candidate.source.strategy is Strategy.PODS
        if pods_only and failure.section is Section.VOLUMES:
            return _leave(failure, Reason.IMAGE_VOLUME, "strategy: Pods leaves the template alone")
        return Failover(
            failure=failure,
            candidate=candidate,
            workload=place.workload,
            steps=(Step.PODS,) if pods_only else place.steps,
            slot=place.slot,
            observed=candidate.source.mode is Mode.OBSERVE,
            note=place.note,
        )
    return Wait(failure=failure, until=min(cooling))


def _rank(candidate: Candidate, place: Place) -> tuple[bool, bool]:
    """Rank who acts before who only watches; then, a stale pod goes where its template went, if it may."""
    elsewhere = not place.moved_to or not same_repository(candidate.image, place.moved_to)
    return candidate.source.mode is Mode.OBSERVE, elsewhere


def _cooling_until(candidate: Candidate, failure: PullFailure, scene: Scene, place: Place) -> datetime | None:
    """Return until when a candidate is not to be tried again, by what the workload and the pod went through."""
    spelled = _spelled(candidate, failure, place.slot)
    untils = (
        History.of(place.workload).cooling_until(failure.container, spelled),
        History.of(scene.pod).cooling_until(failure.container, candidate.image),
    )
    return max((until for until in untils if until), default=None)


def _spelled(candidate: Candidate, failure: PullFailure, slot: Slot | None) -> str:
    """Return the candidate with the tag that the template has, where the pod has the digest it was resolved to."""
    if slot is None or slot.image == failure.image:
        return candidate.image
    repository = candidate.image.removesuffix(candidate.reference.suffix)
    return repository + Reference.parse(slot.image).suffix


def _usable(failure: PullFailure, sources: Iterable[Source]) -> tuple[Candidate, ...]:
    """Return the candidates of sources that act, then of those that watch; a strict one wants proof nobody has yet."""
    reference = Reference.parse(failure.image)
    willing = [source for source in sources if source.verification is not Verification.STRICT]
    acting = candidates(reference, (source for source in willing if source.mode is Mode.ENFORCE))
    return acting + candidates(reference, (source for source in willing if source.mode is Mode.OBSERVE))


def _leave(failure: PullFailure, reason: Reason, detail: str = "") -> Leave:
    return Leave(failure=failure, reason=reason, detail=detail)
