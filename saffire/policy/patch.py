"""
Patches: the API form of a failover.

Each is a JSON Patch (RFC 6902) that tests before it replaces: the object's uid, the container's name and the failing
image. So a patch is its own lock. Of any number that race, one is applied, and the rest fail a `test` and change
nothing. The record of what was done is part of the same patch, and so is a pull secret that the template has to name.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saffire.kube.manifest import Manifest, items, mapping, name_of, text, uid_of
from saffire.kube.workload import ImageField, find_image_field
from saffire.policy.history import ANNOTATION, Entry, History, WorkloadName
from saffire.policy.plan import Failover, Step
from saffire.policy.pull_secrets import secrets_to_add
from saffire.sources.spec import opted_out

_HISTORY_PATH = "/metadata/annotations/" + ANNOTATION.replace("/", "~1")
Operation = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """One JSON Patch for `target`, a manifest as it was read; `failovers` are what it does."""

    target: Manifest
    step: Step
    failovers: tuple[Failover, ...]
    operations: tuple[Operation, ...]


def render(pods: Iterable[tuple[Manifest, Sequence[Failover]]], *, now: datetime) -> tuple[tuple[Patch, ...], ...]:
    """
    Return the patches for pods of one controller and the failovers of each, in the order that frees them.

    Patches of one stage do not depend on each other. All containers of one object are in one patch, so that it starts
    one rollout and not several.
    """
    in_place: list[Patch] = []
    by_workload: dict[str, dict[tuple[str, str], Failover]] = {}
    for pod, failovers in pods:
        acting = [failover for failover in failovers if not failover.observed]
        in_place += _patch(pod, Step.PODS, [one for one in acting if Step.PODS in one.steps], now=now)
        for one in acting:
            if Step.TEMPLATE in one.steps:
                key = (one.failure.section, one.failure.container)
                by_workload.setdefault(uid_of(one.workload), {}).setdefault(key, one)
    moving = [list(failovers.values()) for failovers in by_workload.values()]
    templates = [patch for group in moving for patch in _patch(group[0].workload, Step.TEMPLATE, group, now=now)]
    pods_first = any(one.steps[0] is Step.PODS for group in moving for one in group)
    stages = (in_place, templates) if pods_first else (templates, in_place)
    return tuple(tuple(stage) for stage in stages if stage)


def render_again(patch: Patch, target: Manifest, *, now: datetime) -> Patch | None:
    """
    Return the patch for the object as it is by now; `None` where there is nothing left to do.

    That is so when it is another object of the same name, when it opted out, or when every image has changed.
    """
    if uid_of(target) != uid_of(patch.target) or opted_out(target):
        return None
    return next(_patch(target, patch.step, patch.failovers, now=now), None)


def images_not_taken(patch: Patch, target: Manifest) -> tuple[str, ...]:
    """Return the images that `target` has, after the patch was taken, in place of those that it wrote."""
    slots = ((_slot(target, patch.step, failover), failover.images(patch.step)[1]) for failover in patch.failovers)
    return tuple(slot.image if slot else "nothing" for slot, after in slots if slot is None or slot.image != after)


def _patch(target: Manifest, step: Step, failovers: Iterable[Failover], *, now: datetime) -> Iterator[Patch]:
    """Yield the patch of one object, unless none of the containers names its failing image any more."""
    moving: list[Failover] = []
    operations: list[Operation] = [_test("/metadata/uid", uid_of(target))]
    for failover in failovers:
        before, after = failover.images(step)
        slot = _slot(target, step, failover)
        if slot is None or slot.image != before:
            continue
        operations += [
            _test(f"{slot.entry_pointer}/name", slot.name or None),
            _test(slot.image_pointer, before),
            {"op": "replace", "path": slot.image_pointer, "value": after},
        ]
        moving.append(failover)
    if moving:
        template = _template(moving[0], step)
        names = _named(target, template, moving) if template else ()
        if names:
            operations += _secret_operations(target, template, names)
        operations += _history_operations(target, [_entry(one, step, names, now=now) for one in moving])
        yield Patch(target=target, step=step, failovers=tuple(moving), operations=tuple(operations))


def _slot(target: Manifest, step: Step, failover: Failover) -> ImageField | None:
    """Return where the object to patch names the image."""
    failure = failover.failure
    return find_image_field(target, _template(failover, step), failure.section, failure.container)


def _template(failover: Failover, step: Step) -> tuple[str, ...]:
    """Return the path of the pod template in the object to patch; none in a pod."""
    return failover.image_field.template if step is Step.TEMPLATE and failover.image_field else ()


def _named(target: Manifest, template: tuple[str, ...], failovers: Iterable[Failover]) -> tuple[str, ...]:
    """Return the pull secrets that the template is to name besides, so that its pods can read where they go."""
    lacks = [failover.missing_secret for failover in failovers if failover.missing_secret]
    return secrets_to_add(mapping(target, *template), lacks) if lacks else ()


def _secret_operations(target: Manifest, template: tuple[str, ...], names: Iterable[str]) -> Iterator[Operation]:
    """Yield the operations that have a template name pull secrets, guarded against another writer of the list."""
    path = "/".join(("", *template, "spec", "imagePullSecrets"))
    before = items(target, *template, "spec", "imagePullSecrets")
    if all(_is_comparable(text(one, "name")) for one in before):
        yield _test(path, mapping(target, *template, "spec").get("imagePullSecrets"))
    else:
        yield _test("/metadata/resourceVersion", text(target, "metadata", "resourceVersion"))
    yield {"op": "add", "path": path, "value": [*before, *({"name": name} for name in names)]}


def _history_operations(target: Manifest, entries: Iterable[Entry]) -> Iterator[Operation]:
    """Yield the operations that write the history, guarded against another writer of it."""
    history = History.of(target).extended(entries).rendered()
    annotations = mapping(target, "metadata", "annotations")
    if not _is_comparable(annotations.get(ANNOTATION)):
        yield _test("/metadata/resourceVersion", text(target, "metadata", "resourceVersion"))
        yield {"op": "add", "path": _HISTORY_PATH, "value": history}
    elif not annotations:
        yield _test("/metadata/annotations", None)
        yield {"op": "add", "path": "/metadata/annotations", "value": {ANNOTATION: history}}
    else:
        yield _test(_HISTORY_PATH, annotations.get(ANNOTATION))
        yield {"op": "add", "path": _HISTORY_PATH, "value": history}


def _entry(failover: Failover, step: Step, names: Sequence[str], *, now: datetime) -> Entry:
    """Return what the history is to say of a failover, by which the template came to name these pull secrets."""
    before, after = failover.images(step)
    return Entry(
        container=failover.failure.container,
        before=before,
        after=after,
        at=now,
        source=failover.candidate.source.name,
        proof=failover.proof,
        reason=failover.failure.reason,
        of=_target(failover.workload) if step is Step.PODS else None,
        template=failover.steps == (Step.PODS, Step.TEMPLATE) and step is Step.PODS,
        secret=failover.missing_secret.secret
        if failover.missing_secret and failover.missing_secret.secret in names
        else "",
    )


def _target(workload: Manifest) -> WorkloadName:
    """Return what records call a workload."""
    return WorkloadName(
        api_version=text(workload, "apiVersion"),
        kind=text(workload, "kind"),
        name=name_of(workload),
        uid=uid_of(workload),
    )


def _is_comparable(value: Any) -> bool:
    """
    Tell whether a `test` of the value can succeed.

    The API server compares JSON texts, and Go writes some characters in another way than Python.
    """
    return value is None or (value.isascii() and value.isprintable() and not set(value) & set("<>&"))


def _test(path: str, value: Any) -> Operation:
    """Return a guard; a value of `None` demands that the field is absent."""
    return {"op": "test", "path": path, "value": value}
