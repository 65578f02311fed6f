"""Digests: what the images of a namespace stand for, as its running pods tell (`imageID`), kept between repairs."""

from collections.abc import Callable

from saffire import failure
from saffire.cache import Cache
from saffire.manifest import Manifest

Digests = dict[str, set[str]]
"""By image, under which digests it runs."""

# From one sweep to the next.
_KNOWN_SECONDS = 120
# Pods that are freed one by one, as they fail, need not have their siblings listed each time.
_SEEN_SECONDS = 5
_ROOM = 2048
# A namespace's owner writes what he likes as an image; a reference of more than 255 characters, tag and digest is none.
_LONGEST = 512
_MOST_IMAGES = 2000


def add_digests(found: Digests, pod: Manifest) -> None:
    """Add what images stand for where a pod runs them; none that is too long for a reference."""
    for image, digest in failure.digests(pod):
        if len(image) <= _LONGEST:
            found.setdefault(image, set()).add(digest)


class KnownDigests:
    """The digests of many namespaces, and when their pods were last seen; `clock` tells seconds from any start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: Cache[str, Cache[str, frozenset[str]]] = Cache(_ROOM, clock)
        self._seen: Cache[str, bool] = Cache(_ROOM, clock)

    def of(self, namespace: str, image: str) -> frozenset[str]:
        """Return what is known of a namespace's image, for two minutes since it was seen running; nothing else."""
        known = self._known.get(namespace)
        return (known.get(image) if known else None) or frozenset()

    def were_seen(self, namespace: str) -> bool:
        """Tell whether pods of a namespace were seen so lately that another look would tell nothing new."""
        return self._seen.get(namespace) is not None

    def keep(self, namespace: str, found: Digests) -> None:
        """Keep what images of a namespace stand for, whose pods were seen now."""
        known = self._known.get(namespace) or Cache(_MOST_IMAGES, self._clock)
        for image, digests in found.items():
            known.keep(image, frozenset(digests), _KNOWN_SECONDS)
        self._known.keep(namespace, known, _KNOWN_SECONDS)
        self._seen.keep(namespace, True, _SEEN_SECONDS)  # noqa: FBT003 - that it is so is the value

    def keep_new(self, namespace: str, found: Digests) -> None:
        """Keep that of images of which nothing is known: its pods were seen as they were before."""
        self.keep(namespace, {image: digests for image, digests in found.items() if not self.of(namespace, image)})
