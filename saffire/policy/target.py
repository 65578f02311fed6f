"""
The target: which object Saffire patches to move a failing image, and in which field.

The target is the highest owner of the pod whose pod template has the container by name *and* names the failing image.
An owner of a *foreign* kind, one that does not belong to Kubernetes itself, may undo a patch of an owner below it. So
if such an owner is above and its template has no such container, Saffire patches the pod alone. If the template names
another image than the pod, the template has changed since its controller made this pod.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from saffire.kube.manifest import Manifest, items, text
from saffire.kube.workload import (
    ImageField,
    Owners,
    describe,
    find_image_field,
    from_top_down,
    image_manager,
    is_of_older_template,
    template_image_field,
    why_not_owned,
)
from saffire.policy.history import History
from saffire.policy.plan import Leave, Reason, Rollout, Step, rollout_cost, steps
from saffire.pulls.failure import PullFailure, Section
from saffire.sources.spec import opted_out

# If a user or a controller has put an image back so often within an hour, Saffire no longer patches that template.
_REVERSIONS = 2
# If a rollout has not replaced a stuck pod within this time, there may be no room for a new pod.
_ROLLOUT_TIME = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """
    Where Saffire patches to move a failing image.

    `steps` says whether Saffire patches the template of `workload`, the pod, or both, and in which order. `image_field`
    is the field of the workload's template that Saffire patches; `None` if it does not patch the template.
    `template_image` is the image that the template names now, if that is not the failing image; else `""`. `note` is a
    fact for the operator; `""` if there is none.
    """

    workload: Manifest
    steps: tuple[Step, ...]
    image_field: ImageField | None = None
    template_image: str = ""
    note: str = ""


def find_target(failure: PullFailure, pod: Manifest, owners: Owners, *, now: datetime) -> Target | Leave:
    """Return where Saffire has to patch to move the failing image, or why it patches nothing."""
    for owner in _owners_with_own_annotations(owners):
        if opted_out(owner):
            return Leave(failure=failure, reason=Reason.OPTED_OUT, detail=describe(owner))
    # Whoever may create pods may claim any owner: then the pod is proof of nothing but its own failure.
    if why := why_not_owned(pod, owners):
        target = Target(workload=pod, steps=(Step.PODS,), note=f"{why}, so Saffire takes the pod for one without owner")
        return target if failure.section is not Section.VOLUMES else _template_only(failure, target)
    # If Saffire may not read an owner, that owner could put the old image back, or could itself be the target.
    if owners.unreadable and owners.forbidden:
        detail = f"{owners.unreadable.kind}/{owners.unreadable.name} may not be read"
        return Leave(failure=failure, reason=Reason.OWNER_UNSEEN, detail=detail)
    target = _highest(failure, pod, owners, now=now)
    if isinstance(target, Leave) or failure.section is not Section.VOLUMES:
        return target
    return _template_only(failure, target)


def _owners_with_own_annotations(owners: Owners) -> tuple[Manifest, ...]:
    """
    Return the owners whose annotations are not copies of another owner's annotations.

    The controller of a Deployment copies its annotations to its ReplicaSets, and never removes them there
    (`SetNewReplicaSetAnnotations` of kube-controller-manager). The controller of a Rollout does the same.
    """
    lower, top = owners.chain[:-1], owners.chain[-1:]
    return (*(owner for owner in lower if text(owner, "kind") != "ReplicaSet"), *top)


def _highest(failure: PullFailure, pod: Manifest, owners: Owners, *, now: datetime) -> Target | Leave:
    """
    Return the target for the highest owner whose template has the container by name.

    If no template has the container, or if an owner above may undo the patch, the target is the pod alone. If a rollout
    is about to replace the pod, return that as the reason to do nothing.
    """
    top = next(from_top_down(pod, owners))
    if owners.unreadable:
        return _in_place(top, above=f"{owners.unreadable.kind}/{owners.unreadable.name}")
    above = ""
    for owner in reversed(owners.chain):
        image_field = template_image_field(owner, owners.kinds, failure.section, failure.container)
        if image_field and above:
            return _in_place(top, above=above)
        if image_field:
            return _at(image_field, failure, owner, pod, owners, now=now)
        kind = owners.kinds.of(owner)
        above = describe(owner) if kind and kind.is_foreign else above
    # No template that can be changed has the container: the container was injected, a Job owns the pod, the pod has no
    # owner, or its owner makes pods by rules of its own.
    kind = owners.kinds.of(top)
    if kind and kind.is_foreign and kind.template is None:
        return _in_place(top, above=describe(top))
    return Target(workload=top, steps=(Step.PODS,))


def _in_place(top: Manifest, *, above: str) -> Target:
    """Return the pod alone as the target, since the owner `above` may undo a patch of an owner below it."""
    return Target(workload=top, steps=(Step.PODS,), note=f"its owner {above} may revert it")


def _at(
    image_field: ImageField, failure: PullFailure, workload: Manifest, pod: Manifest, owners: Owners, *, now: datetime
) -> Target | Leave:
    """Return the target for a workload whose template has the container in `image_field`."""
    kind = None if _has_foreign(owners) else owners.kinds.of(workload)
    if image_field.image not in _spellings(failure, owners):
        # The template has changed since its controller made the pod. Either a rollout will replace the pod, or the pod
        # stays and Saffire gives it the template's image.
        blocked_by = _blocked_rollout(image_field, failure, workload, now=now)
        is_replaced = Rollout.of(workload, kind).replaces_stuck_pods and _is_stale(failure, pod, owners)
        if is_replaced and not blocked_by:
            detail = f"{describe(workload)} names {image_field.image} by now"
            return Leave(failure=failure, reason=Reason.ROLLOUT, detail=detail)
        return Target(workload=workload, steps=(Step.PODS,), template_image=image_field.image, note=blocked_by)
    # If a user or a controller keeps putting the old image back, leave the template alone.
    if History.of(workload).reversions(failure.container, image_field.image, now=now) >= _REVERSIONS:
        manager = image_manager(workload, image_field) or "an unknown field manager"
        note = f"{describe(workload)} was put back twice, last by {manager}, so its template is left alone"
        return Target(workload=workload, steps=(Step.PODS,), note=note)
    order = steps(workload, kind) if kind else (Step.TEMPLATE, Step.PODS)
    return Target(workload=workload, steps=order, image_field=image_field, note=rollout_cost(workload, kind))


def _blocked_rollout(image_field: ImageField, failure: PullFailure, workload: Manifest, *, now: datetime) -> str:
    """
    Return why a rollout does not replace the pod; `""` if no reason is known and the rollout still has time.

    If a quota or admission keeps a controller from making pods, the controller says so in the condition
    `ReplicaFailure` of the workload (`DeploymentReplicaFailure` of apps/v1). If no node has room for a new pod, no
    condition says so. So a rollout that Saffire started counts as blocked after one minute.
    """
    for condition in items(workload, "status", "conditions"):
        if (text(condition, "type"), text(condition, "status")) == ("ReplicaFailure", "True"):
            return f"{describe(workload)} cannot make new pods: {text(condition, 'message')}"
    moved_at = History.of(workload).moved_at(failure.container, image_field.image)
    is_late = moved_at is not None and now - moved_at >= _ROLLOUT_TIME
    return f"the rollout of {describe(workload)} has not replaced the pod yet" if is_late else ""


def _has_foreign(owners: Owners) -> bool:
    """
    Tell whether any owner of the pod is of a foreign kind.

    Such an owner may take its template from the workload, as a Rollout may take it from a Deployment. So no owner of
    the pod rolls out as its own kind does.
    """
    kinds = [owners.kinds.of(owner) for owner in owners.chain]
    return any(kind.is_foreign for kind in kinds if kind)


def _spellings(failure: PullFailure, owners: Owners) -> set[str]:
    """
    Return the spellings of the failing image that a template may have: the pod's own, and the one with a tag.

    Knative resolves a tag to a digest once for each Revision. The Revision's status names that digest
    (`status.containerStatuses[].imageDigest` of serving.knative.dev/v1), and its pods have the digest instead of the
    tag.
    """
    spellings = {failure.image}
    for revision in owners.chain:
        kind = owners.kinds.of(revision)
        if kind is None or (kind.group, kind.name) != ("serving.knative.dev", "Revision"):
            continue
        image_field = find_image_field(revision, (), failure.section, failure.container)
        digests = {text(status, "name"): text(status, "imageDigest") for status in _statuses(revision)}
        if image_field and digests.get(failure.container) == failure.image:
            spellings.add(image_field.image)
    return spellings


def _statuses(revision: Manifest) -> tuple[Manifest, ...]:
    return (*items(revision, "status", "containerStatuses"), *items(revision, "status", "initContainerStatuses"))


def _is_stale(failure: PullFailure, pod: Manifest, owners: Owners) -> bool:
    """
    Tell whether the pod is of an old revision of the workload.

    Then the template of the pod's own controller, such as a ReplicaSet, names the failing image, or the controller has
    a newer template than the pod. Otherwise admission rewrote the image when the pod was made.
    """
    controller = owners.chain[0]
    image_field = template_image_field(controller, owners.kinds, failure.section, failure.container)
    return is_of_older_template(pod, controller) or (image_field is not None and image_field.image == failure.image)


def _template_only(failure: PullFailure, target: Target) -> Target | Leave:
    """
    Return the target without the step for pods, since the image of a live pod's volume cannot be changed.

    If no step is left, return that as the reason to do nothing.
    """
    if Step.TEMPLATE in target.steps:
        note = "the image of a live pod's volume cannot be changed: pods that no rollout replaces must be recreated"
        return replace(target, steps=(Step.TEMPLATE,), note=note)
    detail = target.note or "the image of a live pod's volume cannot be changed"
    if target.template_image:
        detail = f"{describe(target.workload)} names {target.template_image} by now: the pod must be recreated"
    return Leave(failure=failure, reason=Reason.IMAGE_VOLUME, detail=detail)
