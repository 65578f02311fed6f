"""
Workloads: the kinds that run pods, where their pod template lies, and what frees their stuck pods.

The *workload* is the controller on top of a pod that is patched. A template patch alone is not a recovery for every
kind, and an in-place patch of a pod is not either, so each kind has its own *steps*, in order:

=====================================  ===========================================================
Deployment, rolling with surge         template: new pods start beside the stuck ones
Deployment, maxSurge 0                 pods, template: the rollout would take the pods one by one
Deployment, Recreate                   pods, template: the rollout ends every old pod before any new one
Deployment, paused                     pods, template: the template takes effect on resume
ReplicaSet, ReplicationController      template, pods: existing pods never follow the template
StatefulSet                            template, pods: an ordered rollout waits for the stuck pod for ever
DaemonSet                              pods, template: a pod in place keeps its node served during the roll
CronJob                                template, pods: the stuck Job may forbid all later ones
Job, Pod, any other kind               pods: a Job's template is immutable
=====================================  ===========================================================
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from saffire.manifest import Manifest, annotation, items, mapping, name_of, text

IGNORE = "saffire.fairwinds.com/ignore"
_MIRROR = "kubernetes.io/config.mirror"


class Step(Enum):
    """One kind of patch."""

    TEMPLATE = auto()
    PODS = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """
    A kind of object that runs pods.

    `template` is the path of its pod template, or `None` where an image in it cannot be changed.
    """

    group: str
    version: str
    name: str
    plural: str
    template: tuple[str, ...] | None = ("spec", "template")

    @property
    def api_version(self) -> str:
        """`apiVersion` as manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version


POD = Kind(group="", version="v1", name="Pod", plural="pods", template=None)
KINDS = (
    POD,
    Kind(group="", version="v1", name="ReplicationController", plural="replicationcontrollers"),
    Kind(group="apps", version="v1", name="Deployment", plural="deployments"),
    Kind(group="apps", version="v1", name="ReplicaSet", plural="replicasets"),
    Kind(group="apps", version="v1", name="StatefulSet", plural="statefulsets"),
    Kind(group="apps", version="v1", name="DaemonSet", plural="daemonsets"),
    Kind(
        group="batch",
        version="v1",
        name="CronJob",
        plural="cronjobs",
        template=("spec", "jobTemplate", "spec", "template"),
    ),
    Kind(group="batch", version="v1", name="Job", plural="jobs", template=None),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnerReference:
    """The entry of `metadata.ownerReferences` with `controller: true`."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Owners:
    """
    The controllers above a pod, from its own to the one on top.

    `unseen` is the reference to a controller above the last one that could not be followed, and `forbidden` tells that
    RBAC was the reason, rather than a kind we do not know.
    """

    seen: tuple[Manifest, ...] = ()
    unseen: OwnerReference | None = None
    forbidden: bool = False


def kind_of(manifest: Manifest) -> Kind | None:
    """Return the kind of an object; `None` where it is not one of `KINDS`."""
    return kind_named(text(manifest, "apiVersion"), text(manifest, "kind"))


def kind_named(api_version: str, name: str) -> Kind | None:
    """Return the kind of that group and name in whatever version; `None` where it is not one of `KINDS`."""
    group = api_version.rpartition("/")[0]
    return next((kind for kind in KINDS if (kind.group, kind.name) == (group, name)), None)


def controller_of(manifest: Manifest) -> OwnerReference | None:
    """Return the one owner that controls this object (`ownerReferences[].controller`), if any does."""
    for owner in items(manifest, "metadata", "ownerReferences"):
        if owner.get("controller") is True:
            return OwnerReference(
                api_version=text(owner, "apiVersion"),
                kind=text(owner, "kind"),
                name=text(owner, "name"),
                uid=text(owner, "uid"),
            )
    return None


def template_image(manifest: Manifest, section: str, container: str) -> tuple[int, str] | None:
    """Return index and image of the container in the object's pod template; `None` where it has no such container."""
    kind = kind_of(manifest)
    if kind is None or kind.template is None:
        return None
    return named_image(mapping(manifest, *kind.template), section, container)


def named_image(template: Manifest, section: str, container: str) -> tuple[int, str] | None:
    """Return index and image of the container in a pod or a pod template; `None` where it has no such container."""
    for index, one in enumerate(items(template, "spec", section)):
        if text(one, "name") == container:
            return index, text(one, "image")
    return None


def image_manager(manifest: Manifest, section: str, container: str) -> str:
    """
    Return who last wrote the container's image in the object's template, by `metadata.managedFields`.

    That is the newest field manager that owns the field; `""` where none is known.
    """
    kind = kind_of(manifest)
    if kind is None or kind.template is None:
        return ""
    name = json.dumps({"name": container}, separators=(",", ":"))
    path = (*(f"f:{field}" for field in (*kind.template, "spec", section)), f"k:{name}", "f:image")
    owners = [entry for entry in items(manifest, "metadata", "managedFields") if _owns(entry, path)]
    return text(max(owners, key=lambda entry: text(entry, "time")), "manager") if owners else ""


def steps(manifest: Manifest) -> tuple[Step, ...]:
    """Return what frees the stuck pods of this workload, in order; the table stands above."""
    kind = kind_of(manifest)
    if kind is None or kind.template is None:
        return (Step.PODS,)
    match kind.name:
        case "Deployment":
            return (Step.TEMPLATE,) if _surges(manifest) else (Step.PODS, Step.TEMPLATE)
        case "DaemonSet":
            return (Step.PODS, Step.TEMPLATE)
        case _:
            return (Step.TEMPLATE, Step.PODS)


def is_static(pod: Manifest) -> bool:
    """Tell whether the pod is a mirror of a node's static pod, whose API object the kubelet does not obey."""
    owner = controller_of(pod)
    return bool(annotation(pod, _MIRROR)) or (owner is not None and owner.kind == "Node")


def opted_out(manifest: Manifest) -> bool:
    """Tell whether the object carries the annotation that keeps Saffire away."""
    return annotation(manifest, IGNORE) == "true"


def describe(manifest: Manifest) -> str:
    """Return `Kind/name`, as operators write it."""
    return f"{text(manifest, 'kind')}/{name_of(manifest)}"


def lineage(pod: Manifest, owners: Owners) -> Iterator[Manifest]:
    """Yield the objects from the one on top down to the pod."""
    yield from reversed(owners.seen)
    yield pod


def _owns(entry: Manifest, path: tuple[str, ...]) -> bool:
    """Tell whether an entry of `managedFields` has the field (FieldsV1 of meta/v1)."""
    fields = mapping(entry, "fieldsV1", *path[:-1])
    return path[-1] in fields


def _surges(deployment: Manifest) -> bool:
    """Tell whether a rollout starts new pods before it ends old ones (`spec.strategy.rollingUpdate.maxSurge`)."""
    if mapping(deployment, "spec").get("paused") is True or text(deployment, "spec", "strategy", "type") == "Recreate":
        return False
    surge = mapping(deployment, "spec", "strategy", "rollingUpdate").get("maxSurge", "25%")
    return str(surge) not in {"0", "0%"}
