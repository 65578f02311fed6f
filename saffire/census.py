"""
The census: which images are in use in a namespace, by its pods.

An image is *in use* where the spec of a pod names it, whatever the pod has come to: the pods that a CronJob keeps tell
what it will pull again. Pods that Saffire would not move, or that are on their way out, do not count.
"""

from dataclasses import dataclass, field

from saffire.failure import digests
from saffire.manifest import Manifest, items, text
from saffire.workload import is_static, opted_out

_SECTIONS = ("initContainers", "containers")
# Clusters of mixed platforms have few kinds of nodes, and each of these may have to be read.
_NODES = 4
_SECRETS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """
    An image in use, and what its pods tell: the `digests` it stands for, some of their `nodes`, and their pull secrets.

    Where pods of one image name different secrets, those of all are told.
    """

    image: str
    digests: frozenset[str] = frozenset()
    nodes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    digests: set[str] = field(default_factory=set)
    nodes: dict[str, None] = field(default_factory=dict)
    secrets: dict[str, None] = field(default_factory=dict)


class Census:
    """Counts the images of one namespace, pod by pod; `namespace` is its object, if that is known."""

    def __init__(self) -> None:
        self.namespace: Manifest = {}
        self._seen: dict[str, _Seen] = {}

    def see(self, pod: Manifest) -> None:
        """Take note of what a pod uses."""
        if opted_out(self.namespace) or opted_out(pod) or is_static(pod) or text(pod, "metadata", "deletionTimestamp"):
            return
        named = [text(container, "image") for section in _SECTIONS for container in items(pod, "spec", section)]
        named += [text(volume, "image", "reference") for volume in items(pod, "spec", "volumes")]
        node = text(pod, "spec", "nodeName")
        secrets = [text(one, "name") for one in items(pod, "spec", "imagePullSecrets")]
        for image in filter(None, named):
            seen = self._seen.setdefault(image, _Seen())
            _add(seen.nodes, [node], _NODES)
            _add(seen.secrets, secrets, _SECRETS)
        for image, digest in digests(pod):
            if image in self._seen:
                self._seen[image].digests.add(digest)

    def uses(self) -> tuple[Use, ...]:
        """Return the images in use, by name."""
        return tuple(
            Use(image=image, digests=frozenset(seen.digests), nodes=tuple(seen.nodes), secrets=tuple(seen.secrets))
            for image, seen in sorted(self._seen.items())
        )


def _add(known: dict[str, None], more: list[str], most: int) -> None:
    for name in more:
        if name and len(known) < most:
            known[name] = None
