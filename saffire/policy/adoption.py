"""
Adoption: a stuck pod of an ordered StatefulSet becomes a pod of the new revision, and is not made again.

Saffire patches the template of such a StatefulSet and then its stuck pod in place, since the rollout waits for the pod
for ever. Once the pod is ready, the rollout goes on: it would end the pod, and make it again from the new template. It
does so for each pod whose label `controller-revision-hash` names another revision than `status.updateRevision` of the
StatefulSet. So the patch of the pod also sets this label, if the pod is then what the StatefulSet would make.

A *revision* is a ControllerRevision (apps/v1). The StatefulSet's controller makes one for each template, and keeps a
copy of the template in its `data`.
"""

from collections.abc import Mapping
from dataclasses import replace

from saffire.kube.manifest import InvalidManifest, Manifest, items, mapping, name_of, number, text, uid_of
from saffire.kube.workload import REVISION_LABEL, controller_of
from saffire.policy.patch import Patch
from saffire.policy.plan import Step

_LABEL_PATH = f"/metadata/labels/{REVISION_LABEL}"
_STATUSES = ("containerStatuses", "initContainerStatuses")
_Container = tuple[str, str]
"""The section of a pod's spec, such as `containers`, and the name of a container in it."""


def may_adopt(pod: Manifest, workload: Manifest) -> bool:
    """
    Tell whether a stuck pod may become one of the new revision of its workload, as far as these two objects tell.

    The workload has to be a StatefulSet that makes its pods in order, rolls them out, and has no controller. The pod
    has to be within the rollout (`spec.updateStrategy.rollingUpdate.partition`), and must not have a container that is
    ready.
    """
    owner = controller_of(pod)
    is_ordered = (text(workload, "apiVersion"), text(workload, "kind")) == ("apps/v1", "StatefulSet") and (
        text(workload, "spec", "podManagementPolicy") in {"", "OrderedReady"}
        and text(workload, "spec", "updateStrategy", "type") in {"", "RollingUpdate"}
    )
    if not is_ordered or owner is None or owner.uid != uid_of(workload) or controller_of(workload):
        return False
    first = number(workload, "spec", "ordinals", "start")
    first += number(workload, "spec", "updateStrategy", "rollingUpdate", "partition")
    ordinal = name_of(pod).removeprefix(f"{name_of(workload)}-")
    statuses = (status for key in _STATUSES for status in items(pod, "status", key))
    is_ready = any(status.get("ready") is True and mapping(status, "state", "running") for status in statuses)
    return ordinal.isdecimal() and int(ordinal) >= first and not is_ready


def revisions(pod: Manifest, stateful_set: Manifest) -> tuple[str, str] | None:
    """
    Return the names of the revision from which a pod was made, and of the newest revision of its StatefulSet.

    `None` if either is unknown, or if both are the same.
    """
    old, new = text(mapping(pod, "metadata", "labels"), REVISION_LABEL), text(stateful_set, "status", "updateRevision")
    return (old, new) if old and new and old != new else None


def adopting(patch: Patch, stateful_set: Manifest, old: Manifest, new: Manifest) -> Patch | None:
    """
    Return the patch of a pod in place that also makes it a pod of the revision `new`; `None` if it must not.

    `old` is the revision from which the pod was made. The two revisions of `stateful_set` must differ in the images of
    `patch` alone. A `test` of the patch fails if the pod is of another revision meanwhile.
    """
    images = {
        (failover.failure.section.value, failover.failure.container): failover.images(Step.PODS)[1]
        for failover in patch.failovers
    }
    owners = [controller_of(revision) for revision in (old, new)]
    try:
        differ = _with_images(old, images) != mapping(new, "data")
    except InvalidManifest:  # `data` may be anything
        return None
    if differ or any(owner is None or owner.uid != uid_of(stateful_set) for owner in owners):
        return None
    labels = (
        {"op": "test", "path": _LABEL_PATH, "value": name_of(old)},
        {"op": "replace", "path": _LABEL_PATH, "value": name_of(new)},
    )
    return replace(patch, operations=(*patch.operations, *labels))


def _with_images(revision: Manifest, images: Mapping[_Container, str]) -> Manifest:
    """Return the `data` of a revision, with these images in its template."""
    data = mapping(revision, "data")
    spec = mapping(data, "spec", "template", "spec")
    sections = {
        section: [
            {**container, "image": images.get((section, text(container, "name")), container.get("image"))}
            for container in items(spec, section)
        ]
        for section, _ in images
    }
    template = {**mapping(data, "spec", "template"), "spec": {**spec, **sections}}
    return {**data, "spec": {**mapping(data, "spec"), "template": template}}
