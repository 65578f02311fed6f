"""
The target: which object Saffire patches to move a failing image, and in which field.

The target is the highest owner of the pod whose pod template has the container by name *and* names the failing image.
An owner of a *foreign* kind, one that does not belong to Kubernetes itself, may undo a patch of an owner below it. So
if such an owner is above and its template has no such container, Saffire patches the pod alone. If the template names
another image than the pod, the template has changed since its controller made this pod.

If somebody undoes failovers of a container twice within an hour, Saffire ends the fight. If the history annotation
survived, as below a tool that applies manifests, Saffire only leaves the template alone, and patches the stuck pods in
place. If the annotation was lost each time, or if a pod was made anew each time, Saffire patches nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from saffire.kube.kinds import Kind
from saffire.kube.manifest import Manifest, items, name_of, number, text
from saffire.kube.workload import (
    ImageField,
    Owners,
    describe,
    find_image_field,
    image_manager,
    image_written_at,
    is_of_older_template,
    template_image_field,
    why_not_owned,
)
from saffire.policy.history import MOST_REVERSIONS, NOTHING_RECORDED, Entry, History, RecordedMoves
from saffire.policy.plan import (
    Leave,
    Reason,
    Reversion,
    Rollout,
    Step,
    ends_ready_pods_first,
    rollout_cost,
    steps,
    waits_for_pods,
)
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.reference import Reference, is_made_of, same_image
from saffire.sources.spec import opted_out

# If a rollout has not replaced a stuck pod within this time, it may never do so.
_ROLLOUT_TIME = timedelta(minutes=1)
# Istio writes the image of its proxy into the pod, where the template says `auto`.
_PLACEHOLDERS = frozenset({"auto"})
_UNKNOWN_MANAGER = "an unknown field manager"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """
    Where Saffire patches to move a failing image.

    `steps` says whether Saffire patches the template of `workload`, the pod, or both, and in which order. `image_field`
    is the field of the workload's template that Saffire patches; `None` if it does not patch the template.
    `template_image` is set only if the template names another image than the pod: it is that image, else `""`. `note`
    is a fact for the operator; `""` if there is none. `reversions` are failovers of the container that somebody undid.
    """

    workload: Manifest
    steps: tuple[Step, ...]
    image_field: ImageField | None = None
    template_image: str = ""
    note: str = ""
    reversions: tuple[Reversion, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """A pull failure of `pod`, and what Saffire read about the pod. The other fields are those of `find_target`."""

    failure: PullFailure
    pod: Manifest
    owners: Owners
    recorded: RecordedMoves
    now: datetime


def find_target(
    failure: PullFailure,
    pod: Manifest,
    owners: Owners,
    *,
    now: datetime,
    recorded: RecordedMoves = NOTHING_RECORDED,
) -> Target | Leave:
    """
    Return where Saffire has to patch to move the failing image, or why it patches nothing.

    `owners` are the pod's owners, and `recorded` are the failovers that the status of sources has.
    """
    for owner in _owners_with_own_annotations(owners):
        if opted_out(owner):
            return Leave(failure=failure, reason=Reason.OPTED_OUT, detail=describe(owner))
    case = _Case(failure=failure, pod=pod, owners=owners, recorded=recorded, now=now)
    target: Target | Leave
    # Whoever may create pods may claim any owner: then the pod is proof of nothing but its own failure.
    if why := why_not_owned(pod, owners):
        target = Target(workload=pod, steps=(Step.PODS,), note=f"{why}, so Saffire takes the pod for one without owner")
    # If Saffire may not read an owner, that owner could put the old image back, or could itself be the target.
    elif owners.unreadable and owners.forbidden:
        detail = f"{owners.unreadable.kind}/{owners.unreadable.name} may not be read"
        return Leave(failure=failure, reason=Reason.OWNER_UNSEEN, detail=detail)
    else:
        target = _highest(case)
    if isinstance(target, Leave):
        return target
    return _template_only(failure, target) if failure.section is Section.VOLUMES else _unless_made_anew(case, target)


def is_placeholder(image: str) -> bool:
    """
    Tell whether the image of a container is no image: admission writes the image, when it makes the pod.

    >>> is_placeholder("auto"), is_placeholder("<image>"), is_placeholder("nginx")
    (True, True, False)
    """
    return image in _PLACEHOLDERS or Reference.parse_if_valid(image) is None


def _owners_with_own_annotations(owners: Owners) -> tuple[Manifest, ...]:
    """
    Return the owners whose annotations are not copies of another owner's annotations.

    The controller of a Deployment copies its annotations to its ReplicaSets, and never removes them there
    (`SetNewReplicaSetAnnotations` of kube-controller-manager). The controller of a Rollout does the same.
    """
    lower, top = owners.chain[:-1], owners.chain[-1:]
    return (*(owner for owner in lower if text(owner, "kind") != "ReplicaSet"), *top)


def _highest(case: _Case) -> Target | Leave:
    """Return the target for the highest owner whose template has the container by name; the pod alone if none has."""
    failure, owners = case.failure, case.owners
    top = owners.chain[-1] if owners.chain else case.pod
    if owners.unreadable:
        return _in_place(top, above=f"{owners.unreadable.kind}/{owners.unreadable.name}")
    above = ""
    for owner in reversed(owners.chain):
        image_field = template_image_field(owner, owners.kinds, failure.section, failure.container)
        if image_field and not is_placeholder(image_field.image):
            return _in_place(top, above=above) if above else _at(image_field, owner, case)
        kind = owners.kinds.of(owner)
        above = describe(owner) if kind and kind.is_foreign else above
    # No template that can be changed has the image of the container: the container was injected, a Job owns the pod,
    # the pod has no owner, or its owner makes pods by rules of its own.
    kind = owners.kinds.of(top)
    if kind and kind.is_foreign and kind.template is None:
        return _in_place(top, above=describe(top))
    return Target(workload=top, steps=(Step.PODS,))


def _in_place(top: Manifest, *, above: str) -> Target:
    """Return the pod alone as the target, since the owner `above` may undo a patch of an owner below it."""
    return Target(workload=top, steps=(Step.PODS,), note=f"its owner {above} may revert it")


def _at(image_field: ImageField, workload: Manifest, case: _Case) -> Target | Leave:
    """Return the target for a workload whose template has the container in `image_field`."""
    failure, owners, now = case.failure, case.owners, case.now
    # A foreign owner may take its template from the workload, as a Rollout may take it from a Deployment. Then no owner
    # of the pod rolls out as its own kind does.
    has_foreign = any(kind.is_foreign for kind in map(owners.kinds.of, owners.chain) if kind)
    kind = None if has_foreign else owners.kinds.of(workload)
    if not _is_made_from(image_field.image, case):
        # The template has changed since its controller made the pod. Either a rollout will replace the pod, or the pod
        # stays and Saffire moves it in place: to the template's image, or to its own version elsewhere. Controllers do
        # not compare the images of pods, so a rollout that goes on later replaces the pod all the same.
        is_replaced = Rollout.of(workload, kind).replaces_stuck_pods and _is_stale(case)
        blocked_by = _blocked_rollout(image_field, workload, kind, now=now) if is_replaced else ""
        if is_replaced and not blocked_by:
            detail = f"{describe(workload)} names {image_field.image} by now"
            return Leave(failure=failure, reason=Reason.ROLLOUT, detail=detail)
        return Target(workload=workload, steps=(Step.PODS,), template_image=image_field.image, note=blocked_by)
    annotated = History.of(workload).until(now)
    history = annotated.with_lost(case.recorded.of_template(workload))
    undone = history.reversions(failure.container, image_field.image, now=now)
    manager = image_manager(workload, image_field) or _UNKNOWN_MANAGER
    lost = _reversions((entry for entry in undone if entry not in annotated.entries), workload, by=manager)
    # The user opted out, and lost the annotation that says so.
    moves = [
        entry
        for entry in case.recorded.before_opt_out(workload, failure.container)
        if not annotated.has_moved(entry.container, entry.after)
    ]
    if before := _reversions(moves, workload, by=manager, opted_out=True):
        detail = f"{describe(workload)} had opted out until {manager} replaced its annotations"
        return Leave(failure=failure, reason=Reason.OPTED_OUT, detail=detail, reversions=(*before, *lost))
    if len(undone) >= MOST_REVERSIONS and lost:
        detail = f"{describe(workload)} was put back twice within an hour, last by {manager}"
        return Leave(failure=failure, reason=Reason.REVERTED, detail=detail, reversions=lost)
    # If a user or a controller keeps putting the old image back, leave the template alone.
    if len(undone) >= MOST_REVERSIONS:
        note = f"{describe(workload)} was put back twice, last by {manager}, so its template is left alone"
        return Target(workload=workload, steps=(Step.PODS,), note=note)
    order = steps(workload, kind) if kind else (Step.TEMPLATE, Step.PODS)
    note = rollout_cost(workload, kind)
    return Target(workload=workload, steps=order, image_field=image_field, note=note, reversions=lost)


def _unless_made_anew(case: _Case, target: Target) -> Target | Leave:
    """
    Return the target, unless a pod of its workload was moved in place and made anew with its old image, twice.

    A pod that comes back under its name is another object, without the history of the one before.
    """
    failure, pod = case.failure, case.pod
    annotated = History.of(pod).until(case.now)
    history = annotated.with_lost(case.recorded.of_pod(pod, target.workload))
    undone = history.reversions(failure.container, failure.image, now=case.now)
    not_annotated = (entry for entry in undone if entry not in annotated.entries)
    lost = _reversions(not_annotated, target.workload, by=_maker(case), pod=name_of(pod))
    all_reversions = (*target.reversions, *lost)
    others = case.recorded.undone_in_pods(target.workload, failure.container, failure.image, now=case.now)
    if len(undone) >= MOST_REVERSIONS:
        image_field = find_image_field(pod, (), failure.section, failure.container)
        manager = (image_manager(pod, image_field) if image_field else "") or _UNKNOWN_MANAGER
        how = f"made anew with its old image by {_maker(case)}" if lost else f"put back by {manager}"
        detail = f"{describe(pod)} was {how}, twice within an hour"
    elif name := next((name for name, count in others.items() if count >= MOST_REVERSIONS), ""):
        detail = f"Pod/{name} was made anew with its old image by {_maker(case)}, twice within an hour"
    else:
        return replace(target, reversions=all_reversions)
    return Leave(failure=failure, reason=Reason.REVERTED, detail=detail, reversions=all_reversions)


def _maker(case: _Case) -> str:
    """Return `Kind/name` of the owner that makes the pod; if nobody owns the pod, say so."""
    if unreadable := case.owners.unreadable:
        return f"{unreadable.kind}/{unreadable.name}"
    return describe(case.owners.chain[-1]) if case.owners.chain else "nobody that it names as its owner"


def _reversions(
    undone: Iterable[Entry], workload: Manifest, *, by: str, pod: str = "", opted_out: bool = False
) -> tuple[Reversion, ...]:
    """Return failovers that were undone together with the annotation, as the status of their source has them."""
    return tuple(
        Reversion(
            workload=workload,
            container=entry.container,
            before=entry.before,
            after=entry.after,
            at=entry.at,
            source=entry.source,
            pod=pod,
            by=by,
            opted_out=opted_out,
        )
        for entry in undone
    )


def _blocked_rollout(image_field: ImageField, workload: Manifest, kind: Kind | None, *, now: datetime) -> str:
    """
    Return why a rollout does not replace the pod; `""` if no reason is known and the rollout still has time.

    If a quota or admission keeps a controller from making pods, the controller says so in the condition
    `ReplicaFailure` of the workload (`DeploymentReplicaFailure` of apps/v1). If no node has room for a new pod, no
    condition says so. Or the new pods never become ready: then a Deployment and a parallel StatefulSet end no further
    old pod, even a stuck one. So a rollout counts as blocked one minute after somebody wrote the template's image. The
    rollout of a parallel StatefulSet could also end old pods that are ready before it comes to this one.
    """
    for condition in items(workload, "status", "conditions"):
        if (text(condition, "type"), text(condition, "status")) == ("ReplicaFailure", "True"):
            return f"{describe(workload)} cannot make new pods: {text(condition, 'message')}"
    if ends_ready_pods_first(workload, kind) and number(workload, "status", "updatedReplicas") < number(
        workload, "status", "readyReplicas"
    ):
        return f"the rollout of {describe(workload)} could end ready pods first"
    written_at = image_written_at(workload, image_field)
    is_late = written_at is not None and now - written_at >= _ROLLOUT_TIME
    return f"the rollout of {describe(workload)} has not replaced the pod yet" if is_late else ""


def _is_made_from(template_image: str, case: _Case) -> bool:
    """
    Tell whether the pod has the image of a template, be it in another spelling.

    If the pod has a digest in the place of the template's tag, the template of the pod's own controller, such as a
    ReplicaSet, has to name the same image as this template.
    """
    image = case.failure.image
    if any(same_image(template_image, spelling) for spelling in (image, *_resolved_tags(case))):
        return True
    if not is_made_of(image, template_image):
        return False
    if Reference.parse(image).tag:
        return True
    controller = case.owners.chain[0]
    image_field = template_image_field(controller, case.owners.kinds, case.failure.section, case.failure.container)
    is_current = image_field is not None and image_field.image == template_image
    return is_current and not is_of_older_template(case.pod, controller)


def _resolved_tags(case: _Case) -> set[str]:
    """
    Return the images with a tag that Knative has resolved to the failing image.

    Knative resolves a tag to a digest once for each Revision. The Revision's status names that digest
    (`status.containerStatuses[].imageDigest` of serving.knative.dev/v1), and its pods have the digest instead of the
    tag.
    """
    failure, owners = case.failure, case.owners
    tags = set()
    for revision in owners.chain:
        kind = owners.kinds.of(revision)
        if kind is None or (kind.group, kind.name) != ("serving.knative.dev", "Revision"):
            continue
        image_field = find_image_field(revision, (), failure.section, failure.container)
        digests = {text(status, "name"): text(status, "imageDigest") for status in _statuses(revision)}
        if image_field and digests.get(failure.container) == failure.image:
            tags.add(image_field.image)
    return tags


def _statuses(revision: Manifest) -> tuple[Manifest, ...]:
    return (*items(revision, "status", "containerStatuses"), *items(revision, "status", "initContainerStatuses"))


def _is_stale(case: _Case) -> bool:
    """
    Tell whether the pod is of an old revision of the workload.

    Then the template of the pod's own controller, such as a ReplicaSet, names the failing image, or the controller has
    a newer template than the pod. Otherwise admission moved the image to another repository when the pod was made.
    """
    controller, failure = case.owners.chain[0], case.failure
    image_field = template_image_field(controller, case.owners.kinds, failure.section, failure.container)
    is_of_controller = image_field is not None and is_made_of(failure.image, image_field.image)
    return is_of_older_template(case.pod, controller) or is_of_controller


def _template_only(failure: PullFailure, target: Target) -> Target | Leave:
    """Return the target without the step for pods, or why no step is left: a live pod's volume keeps its image."""
    if Step.TEMPLATE in target.steps and not waits_for_pods(target.workload, target.steps):
        note = "the image of a live pod's volume cannot be changed: pods that no rollout replaces must be recreated"
        return replace(target, steps=(Step.TEMPLATE,), note=note)
    detail = target.note or "the image of a live pod's volume cannot be changed"
    if target.template_image:
        detail = f"{describe(target.workload)} names {target.template_image} by now: the pod must be recreated"
    return Leave(failure=failure, reason=Reason.IMAGE_VOLUME, detail=detail)
