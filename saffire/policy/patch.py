"""
Patches: the API requests that carry out a failover or a fail back.

Each is a JSON Patch (RFC 6902) of a pod or a workload. Before a patch replaces an image, it tests the object's uid, the
container's name and the old image. So a patch needs no lock: if several patches race, the API server applies one of
them. The others fail a `test` and change nothing. The same patch adds the failover to the object's history annotation.
If the template lacks a pull secret for the new image, the patch adds the name of that secret too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from saffire.kube.manifest import Manifest, items, mapping, text, uid_of
from saffire.kube.workload import ImageField, find_image_field, reference_of
from saffire.policy.history import ANNOTATION, Entry, History
from saffire.policy.plan import Failover, Step
from saffire.policy.pull_secrets import secrets_to_add
from saffire.registry.reference import is_made_of
from saffire.sources.spec import opted_out

_HISTORY_PATH = "/metadata/annotations/" + ANNOTATION.replace("/", "~1")
# The API server refuses an object with more characters in its annotations, keys and values together
# (`TotalAnnotationSizeLimitB` of apimachinery).
_ANNOTATIONS = 256 * 1024
Operation = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """
    One JSON Patch, which carries out `failovers`.

    `target` is the object to patch, as Saffire read it from the API server. `step` says whether that is a pod or the
    workload, whose template is patched.
    """

    target: Manifest
    step: Step
    failovers: tuple[Failover, ...]
    operations: tuple[Operation, ...]


def render(pods: Iterable[tuple[Manifest, Sequence[Failover]]], *, now: datetime) -> tuple[tuple[Patch, ...], ...]:
    """
    Return the patches for the pods of one controller, as stages in the order in which they have to be applied.

    `pods` has each pod with its failovers. A stage has either the patches of the pods or those of the workloads'
    templates. The patches of one stage do not depend on each other. One patch moves all containers of one object, so
    that a workload has one rollout and not several. A failover of a source in mode Observe has no patch. If a template
    has to wait for its pods (`Failover.template_waits`), it has no patch yet.
    """
    in_place: list[Patch] = []
    by_workload: dict[str, dict[tuple[str, str], Failover]] = {}
    for pod, failovers in pods:
        acting = [failover for failover in failovers if not failover.observed]
        in_place += _patch(pod, Step.PODS, [failover for failover in acting if Step.PODS in failover.steps], now=now)
        for failover in acting:
            if Step.TEMPLATE in failover.steps and not failover.template_waits:
                container = (failover.failure.section, failover.failure.container)
                by_workload.setdefault(uid_of(failover.workload), {}).setdefault(container, failover)
    templates: list[Patch] = []
    pods_first = False
    for by_container in by_workload.values():
        failovers = list(by_container.values())
        templates += _patch(failovers[0].workload, Step.TEMPLATE, failovers, now=now)
        pods_first = pods_first or any(failover.steps[0] is Step.PODS for failover in failovers)
    stages = (in_place, templates) if pods_first else (templates, in_place)
    return tuple(tuple(stage) for stage in stages if stage)


def render_again(patch: Patch, target: Manifest, *, now: datetime) -> Patch | None:
    """
    Return `patch` made anew for `target`, which is its object as the API server has it now; `None` if it is not needed.

    It is not needed if `target` is another object of the same name, if a user has opted `target` out, or if no
    container of `target` has its old image any more.
    """
    if uid_of(target) != uid_of(patch.target) or opted_out(target):
        return None
    return next(_patch(target, patch.step, patch.failovers, now=now), None)


def images_found_instead(patch: Patch, target: Manifest) -> tuple[str, ...]:
    """
    Return the images that `target` has where `patch` wrote others; `()` if it has every image of the patch.

    Admission may have pinned an image of the patch to a digest, which is that image.

    `target` is the object of the patch, read after the patch. For a container that is gone, the result has the word
    `"nothing"`.
    """
    fields = (
        (_image_field(target, patch.step, failover), failover.images(patch.step)[1]) for failover in patch.failovers
    )
    return tuple(
        image_field.image if image_field else "nothing"
        for image_field, after in fields
        if image_field is None or not is_made_of(image_field.image, after)
    )


def _patch(target: Manifest, step: Step, failovers: Iterable[Failover], *, now: datetime) -> Iterator[Patch]:
    """Yield the patch of one object; yield nothing if no container has the old image of its failover any more."""
    moving: list[Failover] = []
    operations: list[Operation] = [_test("/metadata/uid", uid_of(target))]
    for failover in failovers:
        before, after = failover.images(step)
        image_field = _image_field(target, step, failover)
        if image_field is None or image_field.image != before:
            continue
        operations += [
            _test(f"{image_field.entry_pointer}/name", image_field.name or None),
            _test(image_field.image_pointer, before),
            {"op": "replace", "path": image_field.image_pointer, "value": after},
        ]
        moving.append(failover)
    if moving:
        template = _template(moving[0], step)
        missing = [failover.missing_secret for failover in moving if failover.missing_secret]
        secrets = secrets_to_add(mapping(target, *template), missing) if template and missing else ()
        if secrets:
            operations += _secret_operations(target, template, secrets)
        operations += _history_operations(target, [_entry(failover, step, secrets, now=now) for failover in moving])
        yield Patch(target=target, step=step, failovers=tuple(moving), operations=tuple(operations))


def _image_field(target: Manifest, step: Step, failover: Failover) -> ImageField | None:
    """Return the field of `target` that names the image of the failover's container; `None` if there is none."""
    failure = failover.failure
    return find_image_field(target, _template(failover, step), failure.section, failure.container)


def _template(failover: Failover, step: Step) -> tuple[str, ...]:
    """Return the path of the pod template in the object that `step` patches; `()` if that is a pod."""
    return failover.image_field.template if step is Step.TEMPLATE and failover.image_field else ()


def _secret_operations(target: Manifest, template: tuple[str, ...], secrets: Iterable[str]) -> Iterator[Operation]:
    """Yield the operations that add pull secrets to a template; a `test` fails if the list changed meanwhile."""
    path = "/".join(("", *template, "spec", "imagePullSecrets"))
    before = items(target, *template, "spec", "imagePullSecrets")
    if all(_is_comparable(text(entry, "name")) for entry in before):
        yield _test(path, mapping(target, *template, "spec").get("imagePullSecrets"))
    else:
        yield _test("/metadata/resourceVersion", text(target, "metadata", "resourceVersion"))
    yield {"op": "add", "path": path, "value": [*before, *({"name": secret} for secret in secrets)]}


def _history_operations(target: Manifest, entries: Sequence[Entry]) -> Iterator[Operation]:
    """
    Yield the operations that add `entries` to the history; a `test` fails if the annotation changed meanwhile.

    If the other annotations leave no room, older entries are dropped. If they leave no room at all, yield nothing: then
    only the status of the source has the failover.
    """
    annotations = mapping(target, "metadata", "annotations")
    others = sum(len(key) + len(value.encode()) for key, value in annotations.items() if key != ANNOTATION)
    longest = _ANNOTATIONS - others - len(ANNOTATION)
    kept = History.of(target).until(max(entry.at for entry in entries)).extended(entries).within(longest)
    history = kept.rendered()
    if not kept.entries:
        return
    if not _is_comparable(annotations.get(ANNOTATION)):
        yield _test("/metadata/resourceVersion", text(target, "metadata", "resourceVersion"))
        yield {"op": "add", "path": _HISTORY_PATH, "value": history}
    elif not annotations:
        yield _test("/metadata/annotations", None)
        yield {"op": "add", "path": "/metadata/annotations", "value": {ANNOTATION: history}}
    else:
        yield _test(_HISTORY_PATH, annotations.get(ANNOTATION))
        yield {"op": "add", "path": _HISTORY_PATH, "value": history}


def _entry(failover: Failover, step: Step, added_secrets: Sequence[str], *, now: datetime) -> Entry:
    """Return the history's entry of a failover; `added_secrets` are the pull secrets that the same patch adds."""
    before, after = failover.images(step)
    secret = failover.missing_secret.secret if failover.missing_secret else ""
    return Entry(
        container=failover.failure.container,
        before=before,
        after=after,
        at=now,
        source=failover.candidate.source.name,
        proof=failover.proof,
        reason=failover.failure.reason,
        workload=reference_of(failover.workload) if step is Step.PODS else None,
        template_next=failover.steps == (Step.PODS, Step.TEMPLATE) and step is Step.PODS,
        secret=secret if secret in added_secrets else "",
        fault=failover.fault or "",
    )


def _is_comparable(value: Any) -> bool:
    """Tell whether a `test` operation for this text can succeed; `None` stands for a field that is absent."""
    # The API server compares the texts as JSON, and Go escapes some characters that Python does not.
    return value is None or (value.isascii() and value.isprintable() and not set(value) & set("<>&"))


def _test(path: str, value: Any) -> Operation:
    """Return a `test` operation; with the value `None`, the operation succeeds only if the field is absent."""
    return {"op": "test", "path": path, "value": value}
