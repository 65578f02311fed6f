"""
Images that run, and images in use, by the pods of one namespace.

`RunningImages` says which images the live pods have, under which digests, and whether the pods of a workload have
followed its template. Pods of a rollout are found by the selector of their workload and by their controller: that is
the workload itself, or a ReplicaSet whose name begins with its own. A workload without a selector, such as a CronJob,
has none that follow.

An image is *in use* (`ImagesInUse`) if the spec of a pod names it, whatever the pod's phase: the pods that a CronJob
keeps say what it will pull again. Pods that Saffire would not move, or that are terminating, do not count.
"""

from dataclasses import dataclass, field

from saffire.kube.manifest import InvalidManifest, Manifest, items, mapping, name_of, number, text
from saffire.kube.workload import controller_of, is_static
from saffire.pulls.failure import Section, image_digests
from saffire.sources.spec import opted_out

_STATUSES = {Section.CONTAINERS: "containerStatuses", Section.INIT_CONTAINERS: "initContainerStatuses"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _LivePod:
    """A live pod: its controller, its labels, and of each container by name the image, and whether that has run."""

    controller: str
    labels: Manifest
    containers: dict[str, tuple[str, bool]]


class RunningImages:
    """The live pods of one namespace, as far as they were seen."""

    def __init__(self) -> None:
        self._pods: list[_LivePod] = []
        self._digests: dict[str, set[str]] = {}
        self._specs: dict[str, Manifest] = {}

    def observe(self, pod: Manifest) -> None:
        """Take note of a pod, unless it is over or on its way out."""
        if text(pod, "metadata", "deletionTimestamp") or text(pod, "status", "phase") in {"Failed", "Succeeded"}:
            return
        containers: dict[str, tuple[str, bool]] = {}
        for section, list_name in _STATUSES.items():
            ran = {text(one, "name") for one in items(pod, "status", list_name) if text(one, "imageID")}
            for one in items(pod, "spec", section):
                containers[text(one, "name")] = text(one, "image"), text(one, "name") in ran
        owner = controller_of(pod)
        labels = mapping(pod, "metadata", "labels")
        self._pods.append(_LivePod(controller=owner.name if owner else "", labels=labels, containers=containers))
        for image, digest in image_digests(pod):
            self._digests.setdefault(image, set()).add(digest)
            self._specs[image] = {key: pod["spec"].get(key) for key in ("nodeName", "imagePullSecrets")}

    def digests(self, image: str) -> frozenset[str]:
        """Return what an image stands for, as the pods tell that run it."""
        return frozenset(self._digests.get(image, ()))

    def pod_spec(self, image: str) -> Manifest | None:
        """Return node and pull secrets of a pod that runs an image; `None` where none is known."""
        return self._specs.get(image)

    def has_followed(self, workload: Manifest, container: str, image: str) -> bool:
        """Tell whether every pod of a workload runs this image in this container, and its controller knows of it."""
        try:
            observed = mapping(workload, "status").get("observedGeneration")
            labels = mapping(workload, "spec", "selector", "matchLabels")
            replicas = number(workload, "spec", "replicas")
        except InvalidManifest:  # a foreign kind's schema may let anything pass
            return True
        if isinstance(observed, int) and observed < number(workload, "metadata", "generation"):
            return False
        mine = (one for one in self._pods if labels and f"{one.controller}-".startswith(f"{name_of(workload)}-"))
        pods = [one for one in mine if labels.items() <= one.labels.items()]
        # All of them may be gone for a moment, as with `strategy: Recreate`.
        if labels and replicas and not pods:
            return False
        named = [one.containers[container] for one in pods if container in one.containers]
        return all(has_run and image == other for other, has_run in named)


_SECTIONS = ("initContainers", "containers")
# Clusters of mixed platforms have few kinds of nodes, and each of these may have to be read.
_NODES = 4
_SECRETS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageUse:
    """
    An image in use, and what its pods tell: the `digests` it stands for, some of their `nodes`, and their pull secrets.

    Where pods of one image name different secrets, those of all are told.
    """

    image: str
    digests: frozenset[str] = frozenset()
    nodes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(slots=True)
class _Observed:
    digests: set[str] = field(default_factory=set)
    nodes: dict[str, None] = field(default_factory=dict)
    secrets: dict[str, None] = field(default_factory=dict)


class ImagesInUse:
    """Counts the images of one namespace, pod by pod; `namespace` is its object, if that is known."""

    def __init__(self) -> None:
        self.namespace: Manifest = {}
        self._seen: dict[str, _Observed] = {}

    def observe(self, pod: Manifest) -> None:
        """Take note of what a pod uses."""
        if opted_out(self.namespace) or opted_out(pod) or is_static(pod) or text(pod, "metadata", "deletionTimestamp"):
            return
        named = [text(container, "image") for section in _SECTIONS for container in items(pod, "spec", section)]
        named += [text(volume, "image", "reference") for volume in items(pod, "spec", "volumes")]
        node = text(pod, "spec", "nodeName")
        secrets = [text(one, "name") for one in items(pod, "spec", "imagePullSecrets")]
        for image in filter(None, named):
            seen = self._seen.setdefault(image, _Observed())
            _add(seen.nodes, [node], _NODES)
            _add(seen.secrets, secrets, _SECRETS)
        for image, digest in image_digests(pod):
            if image in self._seen:
                self._seen[image].digests.add(digest)

    def uses(self) -> tuple[ImageUse, ...]:
        """Return the images in use, by name."""
        return tuple(
            ImageUse(image=image, digests=frozenset(seen.digests), nodes=tuple(seen.nodes), secrets=tuple(seen.secrets))
            for image, seen in sorted(self._seen.items())
        )


def _add(known: dict[str, None], more: list[str], most: int) -> None:
    for name in more:
        if name and len(known) < most:
            known[name] = None
