"""
Workloads: the controllers above a pod, and the places that name an image.

The *workload* is the controller on top of a pod that is patched. A *slot* is one place that names an image: that of a
container, or of an image volume, in a pod or in a pod template.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from saffire.kube.kinds import Kinds
from saffire.kube.manifest import InvalidManifest, Manifest, annotation, items, mapping, name_of, text, uid_of

_MIRROR = "kubernetes.io/config.mirror"
_CONFIG_HASH = "kubernetes.io/config.hash"


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

    One that takes its template from another object has that right above it. `unseen` is the reference to a controller
    above the last one that could not be followed, and `forbidden` tells that RBAC was the reason, rather than a kind
    that is none of `kinds`.
    """

    chain: tuple[Manifest, ...] = ()
    unreadable: OwnerReference | None = None
    forbidden: bool = False
    kinds: Kinds = field(default_factory=Kinds, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageField:
    """
    A place that names an image.

    Args:
        template: the path of the pod template in its object; empty in a pod.
        section: the list of the pod's spec: that of containers of a sort, or `volumes`.
        index: the place in that list.
        name: of the container or the volume; `""` where a template leaves it to be filled in.
        image: the reference as written there.

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
        """The JSON Pointer of the image."""
        return "/".join((self.entry_pointer, *_image_field(self.section)))


def controller_of(manifest: Manifest) -> OwnerReference | None:
    """Return the one owner that controls this object (`ownerReferences[].controller`), if any does."""
    owner = _controlling(manifest)
    if owner is None:
        return None
    return OwnerReference(
        api_version=text(owner, "apiVersion"),
        kind=text(owner, "kind"),
        name=text(owner, "name"),
        uid=text(owner, "uid"),
    )


def _controlling(manifest: Manifest) -> Manifest | None:
    """Return the entry of `ownerReferences` that controls this object, if any does."""
    owners = items(manifest, "metadata", "ownerReferences")
    return next((owner for owner in owners if owner.get("controller") is True), None)


def deployment_of(pod: Manifest) -> OwnerReference | None:
    """
    Return the Deployment that is probably above a pod's ReplicaSet, without a uid; `None` where none is.

    The Deployment controller names a ReplicaSet after its Deployment and the hash of the template, which is a label of
    the pods, too (Kubernetes, "Pod-template-hash label").
    """
    owner, labels = controller_of(pod), mapping(pod, "metadata", "labels")
    if owner is None or owner.kind != "ReplicaSet" or "pod-template-hash" not in labels:
        return None
    name, _, digits = owner.name.rpartition("-")
    if not name or digits != labels["pod-template-hash"]:
        return None
    return OwnerReference(api_version=owner.api_version, kind="Deployment", name=name, uid="")


def template_image_field(manifest: Manifest, kinds: Kinds, section: str, name: str) -> ImageField | None:
    """Return the slot of that name in the object's pod template; `None` where it has none."""
    kind = kinds.of(manifest)
    if kind is None or kind.template is None:
        return None
    try:
        return find_image_field(manifest, kind.template, section, name)
    except InvalidManifest:  # a foreign kind's schema may let anything pass
        return None


def find_image_field(manifest: Manifest, template: tuple[str, ...], section: str, name: str) -> ImageField | None:
    """
    Return the slot of that name below `template`, or in a pod if that is empty; `None` where there is none.

    A template's only container may go without a name (Knative names it in the pod).
    """
    entries = items(mapping(manifest, *template), "spec", section)
    for index, entry in enumerate(entries):
        named = text(entry, "name")
        if named == name or (not named and len(entries) == 1):
            image = text(entry, *_image_field(section))
            return (
                ImageField(template=template, section=section, index=index, name=named, image=image) if image else None
            )
    return None


def image_manager(manifest: Manifest, slot: ImageField) -> str:
    """
    Return who last wrote the image of a slot, by `metadata.managedFields`.

    That is the newest field manager that owns the field, or a list around it that is owned as a whole; `""` where none
    is known.
    """
    above = (f"f:{step}" for step in (*slot.template, "spec", slot.section))
    below = (f"f:{step}" for step in _image_field(slot.section))
    path = (*above, "k:" + json.dumps({"name": slot.name}, separators=(",", ":")), *below)
    owners = [entry for entry in items(manifest, "metadata", "managedFields") if _owns(entry, path)]
    return text(max(owners, key=lambda entry: text(entry, "time")), "manager") if owners else ""


def is_static(pod: Manifest) -> bool:
    """Tell whether the pod is a mirror of a node's static pod, whose API object the kubelet does not obey."""
    owner = _controlling(pod)
    return bool(annotation(pod, _MIRROR)) or (owner is not None and text(owner, "kind") == "Node")


def event_uid(pod: Manifest) -> str:
    """Return the uid by which the kubelet's Events call a pod: of a static one, the hash of its file."""
    return annotation(pod, _CONFIG_HASH) if is_static(pod) else uid_of(pod)


def describe(manifest: Manifest) -> str:
    """Return `Kind/name`, as operators write it."""
    return f"{text(manifest, 'kind')}/{name_of(manifest)}"


def from_top_down(pod: Manifest, owners: Owners) -> Iterator[Manifest]:
    """Yield the objects from the one on top down to the pod."""
    yield from reversed(owners.chain)
    yield pod


def _image_field(section: str) -> tuple[str, ...]:
    """Return the path of the image in an entry of that section."""
    return ("image", "reference") if section == "volumes" else ("image",)


def _owns(entry: Manifest, path: tuple[str, ...]) -> bool:
    """Tell whether an entry of `managedFields` has the field, or all of something around it (FieldsV1 of meta/v1)."""
    fields = mapping(entry, "fieldsV1")
    for step in path:
        if step not in fields:
            return False
        fields = mapping(fields, step)
        if not fields:
            return True
    return False
