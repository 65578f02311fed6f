"""
The images of the pods of one namespace: those that run, and those that are in use.

An image *runs* (`RunningImages`) if a live pod has pulled the image. By the live pods, Saffire knows the digests of the
image, and whether all pods of a workload run the images of the workload's template. A pod belongs to a workload if the
workload's selector matches the pod, and the pod's controller is the workload itself, or a ReplicaSet whose name begins
with the workload's name. A workload without a selector, such as a CronJob, has no such pods, and Saffire waits for
none.

An image is *in use* (`ImagesInUse`) if the spec of a pod names the image, whatever the pod's phase is: a CronJob keeps
finished pods, and they name the images that its next pods will pull. Three kinds of pods do not count: pods that are
terminating, static pods, and pods that a user has opted out. Saffire would not move the last two.
"""

from dataclasses import dataclass, field

from saffire.kube.manifest import InvalidManifest, Manifest, items, mapping, name_of, number, text
from saffire.kube.workload import controller_of, is_ending, is_static
from saffire.pulls.failure import Section, containers_of
from saffire.sources.spec import opted_out

# Images that run


@dataclass(frozen=True, kw_only=True, slots=True)
class _LivePod:
    """
    A live pod: the name of its controller (`""` if it has none), its labels and its containers.

    `containers` has, by the container's name, the image in the spec and whether the container has run.
    """

    controller: str
    labels: Manifest
    containers: dict[str, tuple[str, bool]]


class RunningImages:
    """The images that run in one namespace, by the live pods that Saffire has passed to `observe`."""

    def __init__(self) -> None:
        self._pods: list[_LivePod] = []
        self._digests: dict[str, set[str]] = {}
        self._running: dict[str, Manifest] = {}

    def observe(self, pod: Manifest) -> None:
        """Add the images of a pod, unless the pod has ended or is terminating."""
        if is_ending(pod):
            return
        containers: dict[str, tuple[str, bool]] = {}
        for container in containers_of(pod):
            containers[container.name] = container.image, bool(text(container.status, "imageID"))
            if digest := container.digest:
                spec = {key: pod["spec"].get(key) for key in ("nodeName", "imagePullSecrets")}
                self._digests.setdefault(container.image, set()).add(digest)
                self._running[container.image] = {"spec": spec}
        owner = controller_of(pod)
        labels = mapping(pod, "metadata", "labels")
        self._pods.append(_LivePod(controller=owner.name if owner else "", labels=labels, containers=containers))

    def digests(self, image: str) -> frozenset[str]:
        """Return the digests of an image, by the status of the pods that run it; the set is empty if no pod does."""
        return frozenset(self._digests.get(image, ()))

    def pod_of(self, image: str) -> Manifest | None:
        """
        Return a pod that runs an image, with its node and its pull secrets alone; `None` if no pod runs the image.

        They are the fields `nodeName` and `imagePullSecrets` of the pod's spec.
        """
        return self._running.get(image)

    def has_followed(self, workload: Manifest, container: str, image: str) -> bool:
        """
        Tell whether a rollout is finished: all pods of a workload run `image` in the container named `container`.

        False until the workload's controller has seen the newest template (`status.observedGeneration`).
        """
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
        # During a rollout all pods may be gone for a moment, for instance with `strategy: Recreate`.
        if labels and replicas and not pods:
            return False
        in_container = [pod.containers[container] for pod in pods if container in pod.containers]
        return all(has_run and pod_image == image for pod_image, has_run in in_container)


# Images in use

# The most nodes that are kept for an image. Saffire may have to read each of these nodes for its platform, and even a
# cluster with several platforms has few kinds of nodes.
_NODES = 4
_SECRETS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageUse:
    """
    An image in use: the digests that its pods report, and what Saffire needs to ask a registry as these pods would.

    `nodes` has the names of at most 4 nodes of the pods. `secrets` has the names of at most 16 of their pull secrets;
    if the pods name different secrets, it has the secrets of all pods.
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
    """
    The images in use in one namespace, by the pods that Saffire has passed to `observe`.

    `namespace` is the manifest of the Namespace; it is `{}` until Saffire has read the Namespace.
    """

    def __init__(self) -> None:
        self.namespace: Manifest = {}
        self._uses: dict[str, _Observed] = {}

    def observe(self, pod: Manifest) -> None:
        """Add the images that the spec of a pod names, unless the pod does not count."""
        if opted_out(self.namespace) or opted_out(pod) or is_static(pod) or text(pod, "metadata", "deletionTimestamp"):
            return
        containers = tuple(containers_of(pod))
        images = [entry.image for entry in containers if entry.section is not Section.EPHEMERAL_CONTAINERS]
        images += [text(volume, "image", "reference") for volume in items(pod, "spec", "volumes")]
        node = text(pod, "spec", "nodeName")
        secrets = [text(secret, "name") for secret in items(pod, "spec", "imagePullSecrets")]
        for image in filter(None, images):
            use = self._uses.setdefault(image, _Observed())
            _add(use.nodes, [] if is_ending(pod) else [node], _NODES)
            _add(use.secrets, secrets, _SECRETS)
        for container in containers:
            if container.image in self._uses and (digest := container.digest):
                self._uses[container.image].digests.add(digest)

    def nodes_of(self, image: str) -> frozenset[str]:
        """Return the names of at most 4 nodes of the pods whose spec names an image, in this spelling."""
        return frozenset(self._uses[image].nodes) if image in self._uses else frozenset()

    def uses(self) -> tuple[ImageUse, ...]:
        """Return the images in use, sorted by name."""
        return tuple(
            ImageUse(image=image, digests=frozenset(use.digests), nodes=tuple(use.nodes), secrets=tuple(use.secrets))
            for image, use in sorted(self._uses.items())
        )


def _add(names: dict[str, None], new_names: list[str], limit: int) -> None:
    """Add to `names` the names in `new_names` that are not empty, in order, until `names` has `limit` of them."""
    for name in new_names:
        if name and len(names) < limit:
            names[name] = None
