"""
The target: which object is patched, and in which field.

The target is the highest owner whose template has the container by name *and* names the failing image. If a foreign
owner above has no such container, it may undo a patch of an owner below, so only the pod is patched. If the template
names another image by now, it has changed since this pod was made.
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
    template_image_field,
)
from saffire.policy.history import History
from saffire.policy.plan import Leave, Reason, Step, steps
from saffire.pulls.failure import PullFailure, Section
from saffire.sources.spec import opted_out

# If somebody put an image back so often, Saffire no longer patches that template.
_REVERSIONS = 2
# If a rollout has not replaced a stuck pod by then, there may be no room for a new one.
_ROLLOUT_TIME = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """
    Where to patch.

    `image_field` is the field of the workload's template that is patched; `None` if the template is not patched.
    `template_image` is the image that the template names by now, if that is not the failing one. `note` is a fact for
    the operator.
    """

    workload: Manifest
    steps: tuple[Step, ...]
    image_field: ImageField | None = None
    template_image: str = ""
    note: str = ""


def find_target(failure: PullFailure, pod: Manifest, owners: Owners, *, now: datetime) -> Target | Leave:
    """Return where to patch to move the failing image, or why nothing is patched."""
    for owner in _owners_with_own_annotations(owners):
        if opted_out(owner):
            return Leave(failure=failure, reason=Reason.OPTED_OUT, detail=describe(owner))
    # An owner that Saffire may not read could put the image back, or could be the target.
    if owners.unreadable and owners.forbidden:
        detail = f"{owners.unreadable.kind}/{owners.unreadable.name} may not be read"
        return Leave(failure=failure, reason=Reason.OWNER_UNSEEN, detail=detail)
    target = _highest(failure, pod, owners, now=now)
    if isinstance(target, Leave) or failure.section is not Section.VOLUMES:
        return target
    return _template_only(failure, target)


def _owners_with_own_annotations(owners: Owners) -> tuple[Manifest, ...]:
    """
    Return the owners whose annotations are not copies of another owner's.

    A Deployment's annotations are copied to its ReplicaSets, and are never removed there; so are a Rollout's
    (`SetNewReplicaSetAnnotations` of kube-controller-manager).
    """
    lower, top = owners.chain[:-1], owners.chain[-1:]
    return (*(owner for owner in lower if text(owner, "kind") != "ReplicaSet"), *top)


def _highest(failure: PullFailure, pod: Manifest, owners: Owners, *, now: datetime) -> Target | Leave:
    """Return as the target the highest owner whose template has the container by name, else the pod alone."""
    top = next(from_top_down(pod, owners))
    if owners.unreadable:
        return _in_place(top, above=f"{owners.unreadable.kind}/{owners.unreadable.name}")
    above = ""
    for owner in reversed(owners.chain):
        image_field = template_image_field(owner, owners.kinds, failure.section, failure.container)
        if image_field and above:
            return _in_place(top, above=above)
        if image_field:
            return _at(image_field, failure, owner, owners, now=now)
        kind = owners.kinds.of(owner)
        above = describe(owner) if kind and kind.is_foreign else above
    # No template that can be changed has the container: it was injected, its owner is a Job, or the pod has no owner.
    return Target(workload=top, steps=(Step.PODS,))


def _in_place(top: Manifest, *, above: str) -> Target:
    """Return the pod alone as the target: the owner `above` may undo a patch of an owner below it."""
    return Target(workload=top, steps=(Step.PODS,), note=f"its owner {above} may revert it")


def _at(
    image_field: ImageField, failure: PullFailure, workload: Manifest, owners: Owners, *, now: datetime
) -> Target | Leave:
    """Return the target for a workload whose template has the container in `image_field`."""
    order = _order(workload, owners)
    if image_field.image not in _spellings(failure, owners):
        # The template has changed since the pod was made. Either a rollout replaces the pod, or the pod stays, and is
        # given the template's image.
        blocked_by = _blocked_rollout(image_field, failure, workload, now=now)
        if Step.PODS not in order and _is_stale(failure, owners) and not blocked_by:
            detail = f"{describe(workload)} names {image_field.image} by now"
            return Leave(failure=failure, reason=Reason.ROLLOUT, detail=detail)
        return Target(workload=workload, steps=(Step.PODS,), template_image=image_field.image, note=blocked_by)
    # Somebody keeps putting the old image back: leave the template to them.
    if History.of(workload).reversions(failure.container, image_field.image, now=now) >= _REVERSIONS:
        manager = image_manager(workload, image_field) or "an unknown field manager"
        note = f"{describe(workload)} was put back twice, last by {manager}, so its template is left alone"
        return Target(workload=workload, steps=(Step.PODS,), note=note)
    return Target(workload=workload, steps=order, image_field=image_field)


def _blocked_rollout(image_field: ImageField, failure: PullFailure, workload: Manifest, *, now: datetime) -> str:
    """
    Return why a rollout does not replace the pod; `""` if no reason is known, and the rollout still has time.

    If a quota or admission keeps a controller from making pods, it says so in the condition `ReplicaFailure`
    (`DeploymentReplicaFailure` of apps/v1). If no node has room, no condition says so.
    """
    for condition in items(workload, "status", "conditions"):
        if (text(condition, "type"), text(condition, "status")) == ("ReplicaFailure", "True"):
            return f"{describe(workload)} cannot make new pods: {text(condition, 'message')}"
    moved_at = History.of(workload).moved_at(failure.container, image_field.image)
    is_late = moved_at is not None and now - moved_at >= _ROLLOUT_TIME
    return f"the rollout of {describe(workload)} has not replaced the pod yet" if is_late else ""


def _order(workload: Manifest, owners: Owners) -> tuple[Step, ...]:
    """Return the steps of a workload, or those of the foreign owner that takes its template from it."""
    kinds = [owners.kinds.of(owner) for owner in owners.chain]
    foreign = next((kind for kind in kinds if kind and kind.is_foreign), None)
    return (Step.TEMPLATE, Step.PODS) if foreign else steps(workload, owners.kinds.of(workload))


def _spellings(failure: PullFailure, owners: Owners) -> set[str]:
    """
    Return the spellings of the failing image that a template may have.

    Knative resolves a tag once per Revision. The Revision's status names the digest that its pods then have
    (`status.containerStatuses[].imageDigest` of serving.knative.dev/v1).
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


def _is_stale(failure: PullFailure, owners: Owners) -> bool:
    """
    Tell whether the pod is of an old revision: then its own controller names the failing image.

    If admission rewrote the pod's image, its controller names another one.
    """
    image_field = template_image_field(owners.chain[0], owners.kinds, failure.section, failure.container)
    return image_field is not None and image_field.image == failure.image


def _template_only(failure: PullFailure, target: Target) -> Target | Leave:
    """Return the target without the step for pods: the image of a live pod's volume cannot be changed."""
    if Step.TEMPLATE in target.steps:
        note = "the image of a live pod's volume cannot be changed: pods that no rollout replaces must be recreated"
        return replace(target, steps=(Step.TEMPLATE,), note=note)
    detail = target.note or "the image of a live pod's volume cannot be changed"
    if target.template_image:
        detail = f"{describe(target.workload)} names {target.template_image} by now: the pod must be recreated"
    return Leave(failure=failure, reason=Reason.IMAGE_VOLUME, detail=detail)
