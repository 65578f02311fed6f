"""
What runs: which images the live pods of a namespace have, under which digests, and whether they followed a template.

Pods of a rollout are found by the selector of their workload, and by their controller: that is the workload itself, or
a ReplicaSet whose name begins with its own. A workload without a selector, such as a CronJob, has none that follow.
"""

from dataclasses import dataclass

from saffire.failure import Section, digests
from saffire.manifest import InvalidManifest, Manifest, items, mapping, name_of, number, text
from saffire.workload import controller_of

_STATUSES = {Section.CONTAINERS: "containerStatuses", Section.INIT_CONTAINERS: "initContainerStatuses"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pod:
    """A live pod: its controller, its labels, and of each container by name the image, and whether that has run."""

    controller: str
    labels: Manifest
    containers: dict[str, tuple[str, bool]]


class Running:
    """The live pods of one namespace, as far as they were seen."""

    def __init__(self) -> None:
        self._pods: list[_Pod] = []
        self._digests: dict[str, set[str]] = {}
        self._specs: dict[str, Manifest] = {}

    def see(self, pod: Manifest) -> None:
        """Take note of a pod, unless it is over or on its way out."""
        if text(pod, "metadata", "deletionTimestamp") or text(pod, "status", "phase") in {"Failed", "Succeeded"}:
            return
        containers: dict[str, tuple[str, bool]] = {}
        for section, field in _STATUSES.items():
            ran = {text(one, "name") for one in items(pod, "status", field) if text(one, "imageID")}
            for one in items(pod, "spec", section):
                containers[text(one, "name")] = text(one, "image"), text(one, "name") in ran
        owner = controller_of(pod)
        labels = mapping(pod, "metadata", "labels")
        self._pods.append(_Pod(controller=owner.name if owner else "", labels=labels, containers=containers))
        for image, digest in digests(pod):
            self._digests.setdefault(image, set()).add(digest)
            self._specs[image] = {key: pod["spec"].get(key) for key in ("nodeName", "imagePullSecrets")}

    def digests(self, image: str) -> frozenset[str]:
        """Return what an image stands for, as the pods tell that run it."""
        return frozenset(self._digests.get(image, ()))

    def spec(self, image: str) -> Manifest | None:
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
