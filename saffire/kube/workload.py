"""
Workloads: the object on top of a pod's controllers, and the fields that name an image.

A pod may have a controller, such as a ReplicaSet, which may have a controller too, such as a Deployment. The *workload*
of a pod is the last of these controllers, or the pod itself if it has none. `policy.target` decides which of these
objects Saffire patches. An *image field* names one image, of a container or of an image volume, in a pod or in a pod
template.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from saffire.kube.kinds import Kind, Kinds
from saffire.kube.manifest import (
    InvalidManifest,
    Manifest,
    annotation,
    items,
    mapping,
    moment,
    name_of,
    number,
    text,
    uid_of,
)
from saffire.kube.selector import InvalidSelector, parse_selector

REVISION_LABEL = "controller-revision-hash"
"""The label of a StatefulSet's pod that names the ControllerRevision from which the pod was made (apps/v1)."""
_GENERATION_LABEL = "pod-template-generation"
_GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"
_MIRROR = "kubernetes.io/config.mirror"
_CONFIG_HASH = "kubernetes.io/config.hash"
_LABEL_SELECTOR = {"matchLabels", "matchExpressions"}


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnerReference:
    """A reference to a controller of pods, or to a pod's workload, as in `metadata.ownerReferences` (meta/v1)."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Owners:
    """
    The controllers of a pod.

    Args:
        chain: the controllers, from the pod's own controller to the pod's workload. If the pod template of a controller
            is in another object (`Kind.reference`), that object is next to the controller.
        unreadable: the reference to the next controller, if Saffire could not read that controller. Then `chain` ends
            too early. `None` if every controller was read.
        forbidden: whether the API server refused to show the controller `unreadable`. If this is false, the kind of
            that controller is not in `kinds`, or the API server does not serve the kind.
        kinds: the kinds of controllers that Saffire can read.

    """

    chain: tuple[Manifest, ...] = ()
    unreadable: OwnerReference | None = None
    forbidden: bool = False
    kinds: Kinds = field(default_factory=Kinds, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageField:
    """
    A field that names an image, in a pod or in a pod template.

    Args:
        template: the path of the pod template in the object; `()` if the object is a pod.
        section: the name of the list in the pod's spec: a list of containers such as `initContainers`, or `volumes`.
        index: the index of the container or volume in that list.
        name: the name of the container or volume; `""` if the template leaves the name out.
        image: the image reference, as written in the field.

    """

    template: tuple[str, ...]
    section: str
    index: int
    name: str
    image: str

    @property
    def entry_pointer(self) -> str:
        """The JSON Pointer (RFC 6901) of the container or volume."""
        return "/".join(("", *self.template, "spec", self.section, str(self.index)))

    @property
    def image_pointer(self) -> str:
        """The JSON Pointer (RFC 6901) of the image reference."""
        return "/".join((self.entry_pointer, *_image_path(self.section)))


def reference_of(owner: Manifest) -> OwnerReference:
    """Return the reference by which an object that `owner` controls names `owner`."""
    return OwnerReference(
        api_version=text(owner, "apiVersion"), kind=text(owner, "kind"), name=name_of(owner), uid=uid_of(owner)
    )


def controller_of(manifest: Manifest) -> OwnerReference | None:
    """Return the owner reference of an object with `controller: true`; `None` if the object has no controller."""
    for owner in items(manifest, "metadata", "ownerReferences"):
        if owner.get("controller") is True:
            return OwnerReference(
                api_version=text(owner, "apiVersion"),
                kind=text(owner, "kind"),
                name=text(owner, "name"),
                uid=text(owner, "uid"),
            )
    return None


def why_not_owned(pod: Manifest, owners: Owners) -> str:
    """
    Return why a pod does not belong to the controllers that it claims to have; `""` if Saffire knows no such reason.

    Whoever may create pods may write any `ownerReferences` into them. So Saffire believes a pod only what Kubernetes's
    controllers believe. A controller takes no pod for its own whose labels its selector does not select, and removes
    itself from such a pod (`ControllerRefManager` of kube-controller-manager). A StatefulSet takes only pods that have
    its name and a number. The controllers of some kinds make no pods at all (`Kind.makes_pods`), and a pod is no
    workload of other pods.

    If a pod has all labels, and the name, of a real pod, a controller of Kubernetes itself takes it for its own. So
    Saffire does, too. Of an owner without a selector, nothing can be known.
    """
    if reference := controller_of(pod):
        group = reference.api_version.rpartition("/")[0]
        kind, name = owners.kinds.named(reference.api_version, reference.kind), f"{reference.kind}/{reference.name}"
        if kind and not kind.makes_pods:
            return f"{name} makes no pods itself"
        is_set = (group, reference.kind) == ("apps", "StatefulSet")
        if is_set and not re.fullmatch(rf"{re.escape(reference.name)}-[0-9]+", name_of(pod)):
            return f"{name} names no pod {name_of(pod)}"
    labels = mapping(pod, "metadata", "labels")
    for owner in owners.chain:
        if (text(owner, "apiVersion"), text(owner, "kind")) == ("v1", "Pod"):
            return f"its owner {describe(owner)} is a pod"
        if not _selects(owner, labels):
            return f"the selector of {describe(owner)} does not select its labels"
    return ""


def _selects(owner: Manifest, labels: Manifest) -> bool:
    """Tell whether the selector of an owner (`spec.selector`) selects labels; true if it has none that can be read."""
    selector = owner["spec"].get("selector") if isinstance(owner.get("spec"), Mapping) else None
    if not isinstance(selector, Mapping):
        return True
    if selector.keys() <= _LABEL_SELECTOR:
        try:
            return parse_selector(owner, "spec", "selector").matches(labels)
        except InvalidSelector:
            return True
    # A ReplicationController and a DeploymentConfig have a mapping of labels there, and other kinds a `LabelSelector`.
    wanted = {key: value for key, value in selector.items() if isinstance(value, str)}
    return len(wanted) < len(selector) or wanted.items() <= labels.items()


def deployment_of(pod: Manifest) -> OwnerReference | None:
    """
    Return a reference, without uid, to the Deployment that probably controls the pod's ReplicaSet.

    Return `None` if the pod has no ReplicaSet as its controller, or if the names do not match. The Deployment
    controller names a ReplicaSet after its Deployment and the hash of the pod template. The pods have that hash as a
    label (Kubernetes, "Pod-template-hash label").
    """
    owner, labels = controller_of(pod), mapping(pod, "metadata", "labels")
    if owner is None or owner.kind != "ReplicaSet" or "pod-template-hash" not in labels:
        return None
    name, _, digits = owner.name.rpartition("-")
    if not name or digits != labels["pod-template-hash"]:
        return None
    return OwnerReference(api_version=owner.api_version, kind="Deployment", name=name, uid="")


def template_image_field(manifest: Manifest, kinds: Kinds, section: str, name: str) -> ImageField | None:
    """
    Return the image field of the container or volume `name` in the pod template of an object.

    Return `None` if there is no such field, or if Saffire cannot change the template of this kind.
    """
    kind = kinds.of(manifest)
    if kind is None or kind.template is None:
        return None
    try:
        return find_image_field(manifest, kind.template, section, name)
    except InvalidManifest:  # the schema of a foreign kind may allow anything
        return None


def find_image_field(manifest: Manifest, template: tuple[str, ...], section: str, name: str) -> ImageField | None:
    """
    Return the image field of the container or volume `name`; `None` if there is none.

    `template` is the path of the pod template in the object; `()` if the object is a pod. In a template, a single
    container may have no name, since Knative adds the name in the pod. Such a container matches every `name`.
    """
    entries = items(mapping(manifest, *template), "spec", section)
    for index, entry in enumerate(entries):
        entry_name = text(entry, "name")
        if entry_name == name or (not entry_name and len(entries) == 1):
            image = text(entry, *_image_path(section))
            if not image:
                return None
            return ImageField(template=template, section=section, index=index, name=entry_name, image=image)
    return None


def image_manager(manifest: Manifest, image_field: ImageField) -> str:
    """Return the name of the field manager that last wrote an image; `""` if none is known."""
    return text(_last_writer(manifest, image_field), "manager")


def image_written_at(manifest: Manifest, image_field: ImageField) -> datetime | None:
    """
    Return the time since when an image is certain to be in its field, in UTC; `None` if none is known.

    That is the time of the last change by the field manager that wrote the image. The image itself may be older.
    """
    return moment(text(_last_writer(manifest, image_field), "time"))


def _last_writer(manifest: Manifest, image_field: ImageField) -> Manifest:
    """Return the item of `metadata.managedFields` for the field manager that last wrote an image; `{}` if none did."""
    parents = (f"f:{step}" for step in (*image_field.template, "spec", image_field.section))
    steps = (f"f:{step}" for step in _image_path(image_field.section))
    path = (*parents, "k:" + json.dumps({"name": image_field.name}, separators=(",", ":")), *steps)
    owners = [entry for entry in items(manifest, "metadata", "managedFields") if _owns(entry, path)]
    return max(owners, key=lambda entry: text(entry, "time"), default={})


def ready_pods(manifest: Manifest, kind: Kind | None) -> int | None:
    """
    Return how many pods of a workload are ready, by its own status; `None` if objects of this kind do not say.

    `kind` is the kind of `manifest`; `None` for a kind that Saffire does not know. A DaemonSet says `numberReady`. The
    other kinds of Kubernetes say `readyReplicas`, which is absent if no pod is ready. A foreign kind may say the same.
    If its status has neither that field nor `replicas`, nothing is known. CronJobs, Jobs and pods do not say.
    """
    if kind is None or kind.template is None or kind.name == "CronJob":
        return None
    field_name = "numberReady" if kind.name == "DaemonSet" else "readyReplicas"
    if not kind.is_foreign:
        return number(manifest, "status", field_name)
    try:
        says = not {field_name, "replicas"}.isdisjoint(mapping(manifest, "status"))
        return number(manifest, "status", field_name) if says else None
    except InvalidManifest:  # the schema of a foreign kind may allow anything
        return None


def is_observed(workload: Manifest) -> bool:
    """Tell whether the controller of a workload has seen its newest spec (`status.observedGeneration`)."""
    return number(workload, "status", "observedGeneration") >= number(workload, "metadata", "generation")


def is_of_older_template(pod: Manifest, workload: Manifest) -> bool:
    """
    Tell whether a StatefulSet or a DaemonSet made a pod from an older template than the workload has now.

    A StatefulSet names the revision of its template in `status.updateRevision`. If its controller has not seen the
    newest template yet, the pod is of an older one. A DaemonSet counts its templates. For other kinds, return false.
    """
    labels = mapping(pod, "metadata", "labels")
    match text(workload, "kind"):
        case "StatefulSet":
            revision = text(workload, "status", "updateRevision")
            return bool(revision) and (not is_observed(workload) or text(labels, REVISION_LABEL) != revision)
        case "DaemonSet":
            generation = annotation(workload, _GENERATION_ANNOTATION)
            return bool(generation) and text(labels, _GENERATION_LABEL) != generation
        case _:
            return False


def is_static(pod: Manifest) -> bool:
    """
    Tell whether a pod of the API server mirrors a static pod of a node.

    The kubelet ignores changes of such a pod in the API server.
    """
    owner = controller_of(pod)
    return bool(annotation(pod, _MIRROR)) or (owner is not None and owner.kind == "Node")


def is_ending(pod: Manifest) -> bool:
    """
    Tell whether a pod is terminating or has ended, so that its status tells nothing of how things are now.

    If its node is lost, a pod stays terminating, and a pod that was evicted stays (`status.phase` is Failed). Both keep
    the last status of their containers.
    """
    return bool(text(pod, "metadata", "deletionTimestamp")) or text(pod, "status", "phase") in {"Failed", "Succeeded"}


def event_uid(pod: Manifest) -> str:
    """
    Return the uid by which the kubelet's Events name a pod.

    For a static pod, the kubelet writes the hash of the pod's file instead of the uid.
    """
    file_hash = annotation(pod, _CONFIG_HASH)
    return file_hash if file_hash and is_static(pod) else uid_of(pod)


def describe(manifest: Manifest) -> str:
    """Return `Kind/name` of an object, the form that operators write."""
    return f"{text(manifest, 'kind')}/{name_of(manifest)}"


def _image_path(section: str) -> tuple[str, ...]:
    """Return the path of the image reference in a container or, for `volumes`, in a volume."""
    return ("image", "reference") if section == "volumes" else ("image",)


def _owns(entry: Manifest, path: tuple[str, ...]) -> bool:
    """Tell whether an item of `managedFields` owns the field at `path` (FieldsV1), or the whole of a part around it."""
    fields = mapping(entry, "fieldsV1")
    for step in path:
        if step not in fields:
            return False
        fields = mapping(fields, step)
        if not fields:
            return True
    return False
