"""
The images of the pods of one namespace: those that run, and those that are in use.

An image *runs* (`RunningImages`) if a live pod has pulled it. The pods tell its digests, and whether all pods of a
workload have followed its template. The pods of a workload are those that its selector matches and whose controller is
the workload itself, or a ReplicaSet whose name begins with the workload's. A workload without a selector, such as a
CronJob, has no pods that follow.

An image is *in use* (`ImagesInUse`) if the spec of a pod names it, in whatever phase the pod is: the pods that a
CronJob keeps name the images that it will pull again. Pods that Saffire would not move, and pods that are terminating,
do not count.
"""

from dataclasses import dataclass, field

from saffire.kube.manifest import InvalidManifest, Manifest, items, mapping, name_of, number, text
from saffire.kube.workload import controller_of, is_static
from saffire.pulls.failure import Section, image_digests
from saffire.sources.spec import opted_out

# Images that run

_STATUSES = {Section.CONTAINERS: "containerStatuses", Section.INIT_CONTAINERS: "initContainerStatuses"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _LivePod:
    """A live pod: its controller's name, its labels, and each container's image by name, with whether it has run."""

    controller: str
    labels: Manifest
    containers: dict[str, tuple[str, bool]]


class RunningImages:
    """The images of the live pods of one namespace that were observed."""

    def __init__(self) -> None:
        self._pods: list[_LivePod] = []
        self._digests: dict[str, set[str]] = {}
        self._specs: dict[str, Manifest] = {}

    def observe(self, pod: Manifest) -> None:
        """Add a pod, unless it has ended or is terminating."""
        if text(pod, "metadata", "deletionTimestamp") or text(pod, "status", "phase") in {"Failed", "Succeeded"}:
            return
        containers: dict[str, tuple[str, bool]] = {}
        for section, list_name in _STATUSES.items():
            has_run = {text(status, "name") for status in items(pod, "status", list_name) if text(status, "imageID")}
            for container in items(pod, "spec", section):
                name = text(container, "name")
                containers[name] = text(container, "image"), name in has_run
        owner = controller_of(pod)
        labels = mapping(pod, "metadata", "labels")
        self._pods.append(_LivePod(controller=owner.name if owner else "", labels=labels, containers=containers))
        for image, digest in image_digests(pod):
            self._digests.setdefault(image, set()).add(digest)
            self._specs[image] = {key: pod["spec"].get(key) for key in ("nodeName", "imagePullSecrets")}

    def digests(self, image: str) -> frozenset[str]:
        """Return the digests of an image, by the status of the pods that run it."""
        return frozenset(self._digests.get(image, ()))

    def pod_spec(self, image: str) -> Manifest | None:
        """Return node and pull secrets of a pod that runs an image; `None` if no pod does."""
        return self._specs.get(image)

    def has_followed(self, workload: Manifest, container: str, image: str) -> bool:
        """Tell whether all pods of a workload run `image` in `container`, and its controller has seen the template."""
        try:
            observed = mapping(workload, "status").get("observedGeneration")
            labels = mapping(workload, "spec", "selector", "matchLabels")
            replicas = number(workload, "spec", "replicas")
        except InvalidManifest:  # the schema of a foreign kind may let anything pass
            return True
        if isinstance(observed, int) and observed < number(workload, "metadata", "generation"):
            return False
        controlled = (pod for pod in self._pods if labels and f"{pod.controller}-".startswith(f"{name_of(workload)}-"))
        pods = [pod for pod in controlled if labels.items() <= pod.labels.items()]
        # All pods may be gone for a moment, as with `strategy: Recreate`.
        if labels and replicas and not pods:
            return False
        in_container = [pod.containers[container] for pod in pods if container in pod.containers]
        return all(has_run and pod_image == image for pod_image, has_run in in_container)


# Images in use

_SECTIONS = ("initContainers", "containers")
# A cluster of mixed platforms has few kinds of nodes, and Saffire may have to read each of these nodes.
_NODES = 4
_SECRETS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageUse:
    """
    An image in use: its digests, at most 4 nodes of its pods, and at most 16 names of their pull secrets.

    If its pods name different secrets, `secrets` has those of all.
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
    """The images that the pods of one namespace use; `namespace` is the Namespace, `{}` until it is read."""

    def __init__(self) -> None:
        self.namespace: Manifest = {}
        self._uses: dict[str, _Observed] = {}

    def observe(self, pod: Manifest) -> None:
        """Add the images that a pod uses."""
        if opted_out(self.namespace) or opted_out(pod) or is_static(pod) or text(pod, "metadata", "deletionTimestamp"):
            return
        images = [text(container, "image") for section in _SECTIONS for container in items(pod, "spec", section)]
        images += [text(volume, "image", "reference") for volume in items(pod, "spec", "volumes")]
        node = text(pod, "spec", "nodeName")
        secrets = [text(secret, "name") for secret in items(pod, "spec", "imagePullSecrets")]
        for image in filter(None, images):
            use = self._uses.setdefault(image, _Observed())
            _add(use.nodes, [node], _NODES)
            _add(use.secrets, secrets, _SECRETS)
        for image, digest in image_digests(pod):
            if image in self._uses:
                self._uses[image].digests.add(digest)

    def uses(self) -> tuple[ImageUse, ...]:
        """Return the images in use, by name."""
        return tuple(
            ImageUse(image=image, digests=frozenset(use.digests), nodes=tuple(use.nodes), secrets=tuple(use.secrets))
            for image, use in sorted(self._uses.items())
        )


def _add(names: dict[str, None], new_names: list[str], limit: int) -> None:
    """Add names that are not empty, in order, until there are `limit`."""
    for name in new_names:
        if name and len(names) < limit:
            names[name] = None
