"""
The target: which object is patched, where its template names the image, and in what order with its pods.

It is the highest template that has the container by name *and* names the failing image. A higher object without one may
put back what is patched below it, and a template that names another image by now has moved on without this pod.

A template patch alone does not free the stuck pods of every kind, and neither does a patch of the pods in place. So
each kind has its own *steps*, in order:

=====================================  ===========================================================
Deployment, rolling with surge         template: new pods start beside the stuck ones
Deployment, maxSurge 0                 pods, template: the rollout would take the pods one by one
Deployment, Recreate                   pods, template: the rollout ends every old pod before any new one
Deployment, paused                     pods, template: the template takes effect on resume
ReplicaSet, ReplicationController      template, pods: existing pods never follow the template
StatefulSet                            template, pods: an ordered rollout waits for the stuck pod for ever
DaemonSet                              pods, template: a pod in place keeps its node served during the roll
CronJob                                template, pods: the stuck Job may forbid all later ones
Job, Pod                               pods: a Job's template is immutable
a foreign kind                         template, pods: its controller may hold back old pods, or new ones
=====================================  ===========================================================
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from saffire.kube.kinds import Kind
from saffire.kube.manifest import Manifest, items, mapping, text
from saffire.kube.workload import (
    ImageField,
    Owners,
    describe,
    find_image_field,
    from_top_down,
    image_manager,
    template_image_field,
)
from saffire.policy.history import History
from saffire.policy.plan import Leave, Reason, Step
from saffire.pulls.failure import PullFailure, Section
from saffire.sources.spec import opted_out


def steps(manifest: Manifest, kind: Kind | None) -> tuple[Step, ...]:
    """Return what frees the stuck pods of this workload, in order; the table stands above."""
    if kind is None or kind.template is None:
        return (Step.PODS,)
    match (kind.group, kind.name):
        case ("apps", "Deployment"):
            return (Step.TEMPLATE,) if _surges(manifest) else (Step.PODS, Step.TEMPLATE)
        case ("apps", "DaemonSet"):
            return (Step.PODS, Step.TEMPLATE)
        case _:
            return (Step.TEMPLATE, Step.PODS)


def _surges(deployment: Manifest) -> bool:
    """Tell whether a rollout starts new pods before it ends old ones (`spec.strategy.rollingUpdate.maxSurge`)."""
    if mapping(deployment, "spec").get("paused") is True or text(deployment, "spec", "strategy", "type") == "Recreate":
        return False
    surge = mapping(deployment, "spec", "strategy", "rollingUpdate").get("maxSurge", "25%")
    return str(surge) not in {"0", "0%"}


# So often may somebody put an image back before Saffire stops patching that template.
_REVERSIONS = 2
# A rollout that has not replaced a stuck pod by then may have no room for a new one.
_PATIENCE = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """
    Where to patch.

    `slot` is where the template of `workload` names the image, if it is patched; `moved_to` the image that it names by
    now, if that is another; `note` what an operator should know besides.
    """

    workload: Manifest
    steps: tuple[Step, ...]
    image_field: ImageField | None = None
    template_image: str = ""
    note: str = ""


def find_target(failure: PullFailure, pod: Manifest, owners: Owners, *, now: datetime) -> Target | Leave:
    """Return where to patch to move the failing image, or why nowhere."""
    for owner in _owners_that_speak(owners):
        if opted_out(owner):
            return Leave(failure=failure, reason=Reason.OPTED_OUT, detail=describe(owner))
    # An owner we may not see could put the image back, or could be the one to patch.
    if owners.unreadable and owners.forbidden:
        detail = f"{owners.unreadable.kind}/{owners.unreadable.name} may not be read"
        return Leave(failure=failure, reason=Reason.OWNER_UNSEEN, detail=detail)
    found = _highest(failure, pod, owners, now=now)
    if isinstance(found, Leave) or failure.section is not Section.VOLUMES:
        return found
    return _template_only(failure, found)


def _owners_that_speak(owners: Owners) -> tuple[Manifest, ...]:
    """
    Return the owners whose annotations say something of their own.

    A Deployment's are copied to its ReplicaSets and never taken away there again, and so are a Rollout's
    (`SetNewReplicaSetAnnotations` of kube-controller-manager).
    """
    below, top = owners.chain[:-1], owners.chain[-1:]
    return (*(owner for owner in below if text(owner, "kind") != "ReplicaSet"), *top)


def _highest(failure: PullFailure, pod: Manifest, owners: Owners, *, now: datetime) -> Target | Leave:
    """Find what to patch: the highest template that has the container by name, the pod, or both."""
    top = next(from_top_down(pod, owners))
    if owners.unreadable:
        return _in_place(top, above=f"{owners.unreadable.kind}/{owners.unreadable.name}")
    above = ""
    for owner in reversed(owners.chain):
        slot = template_image_field(owner, owners.kinds, failure.section, failure.container)
        if slot and above:
            return _in_place(top, above=above)
        if slot:
            return _at(slot, failure, owner, owners, now=now)
        kind = owners.kinds.of(owner)
        above = describe(owner) if kind and kind.is_foreign else above
    # No template names the container: it was injected, or a Job's template cannot change, or the pod stands alone.
    return Target(workload=top, steps=(Step.PODS,))


def _in_place(top: Manifest, *, above: str) -> Target:
    """Return the pod alone: whoever is `above` manages what lies below."""
    return Target(workload=top, steps=(Step.PODS,), note=f"its owner {above} may revert it")


def _at(slot: ImageField, failure: PullFailure, workload: Manifest, owners: Owners, *, now: datetime) -> Target | Leave:
    """Find what to patch of a workload whose template has the slot."""
    order = _order(workload, owners)
    if slot.image not in _spellings(failure, owners):
        # The pod is stale, and its rollout replaces it; or it stays, and goes where its template went.
        blocked_by = _blocked_rollout(slot, failure, workload, now=now)
        if Step.PODS not in order and _is_stale(failure, owners) and not blocked_by:
            detail = f"{describe(workload)} names {slot.image} by now"
            return Leave(failure=failure, reason=Reason.ROLLOUT, detail=detail)
        return Target(workload=workload, steps=(Step.PODS,), template_image=slot.image, note=blocked_by)
    # Somebody keeps putting the old image back: do not fight over the template.
    if History.of(workload).reversions(failure.container, slot.image, now=now) >= _REVERSIONS:
        who = image_manager(workload, slot) or "an unknown field manager"
        note = f"{describe(workload)} was put back twice, last by {who}, so its template is left alone"
        return Target(workload=workload, steps=(Step.PODS,), note=note)
    return Target(workload=workload, steps=order, image_field=slot)


def _blocked_rollout(slot: ImageField, failure: PullFailure, workload: Manifest, *, now: datetime) -> str:
    """
    Return what keeps a rollout from replacing the pod; `""` if nothing is known to, or it has time yet.

    That no pods can be made, for a quota or admission, its controller says in the condition `ReplicaFailure`
    (`DeploymentReplicaFailure` of apps/v1). Where nodes have no room, nobody says so.
    """
    for condition in items(workload, "status", "conditions"):
        if (text(condition, "type"), text(condition, "status")) == ("ReplicaFailure", "True"):
            return f"{describe(workload)} cannot make new pods: {text(condition, 'message')}"
    moved_at = History.of(workload).moved_at(failure.container, slot.image)
    is_late = moved_at is not None and now - moved_at >= _PATIENCE
    return f"the rollout of {describe(workload)} has not replaced the pod yet" if is_late else ""


def _order(workload: Manifest, owners: Owners) -> tuple[Step, ...]:
    """Return the steps of a workload, or of the foreign kind that takes its template from there."""
    kinds = [owners.kinds.of(owner) for owner in owners.chain]
    foreign = next((kind for kind in kinds if kind and kind.is_foreign), None)
    return (Step.TEMPLATE, Step.PODS) if foreign else steps(workload, owners.kinds.of(workload))


def _spellings(failure: PullFailure, owners: Owners) -> set[str]:
    """
    Return how templates may write the failing image.

    Knative resolves a tag once per Revision, whose status names the digest that the pods then have
    (`status.containerStatuses[].imageDigest` of serving.knative.dev/v1).
    """
    found = {failure.image}
    for revision in owners.chain:
        kind = owners.kinds.of(revision)
        if kind is None or (kind.group, kind.name) != ("serving.knative.dev", "Revision"):
            continue
        slot = find_image_field(revision, (), failure.section, failure.container)
        digests = {text(one, "name"): text(one, "imageDigest") for one in _statuses(revision)}
        if slot and digests.get(failure.container) == failure.image:
            found.add(slot.image)
    return found


def _statuses(revision: Manifest) -> tuple[Manifest, ...]:
    return (*items(revision, "status", "containerStatuses"), *items(revision, "status", "initContainerStatuses"))


def _is_stale(failure: PullFailure, owners: Owners) -> bool:
    """Tell a pod of an old revision from one whose image admission rewrote: the former's own controller names it."""
    slot = template_image_field(owners.chain[0], owners.kinds, failure.section, failure.container)
    return slot is not None and slot.image == failure.image


def _template_only(failure: PullFailure, place: Target) -> Target | Leave:
    """Return the place without the live pod, the image of whose volume cannot be changed."""
    if Step.TEMPLATE in place.steps:
        note = "the image of a live pod's volume cannot be changed: pods that no rollout replaces must be recreated"
        return replace(place, steps=(Step.TEMPLATE,), note=note)
    detail = place.note or "the image of a live pod's volume cannot be changed"
    if place.template_image:
        detail = f"{describe(place.workload)} names {place.template_image} by now: the pod must be recreated"
    return Leave(failure=failure, reason=Reason.IMAGE_VOLUME, detail=detail)
