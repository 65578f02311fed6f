"""Digests: what the images of a namespace stand for, as its running pods tell (`imageID`), kept between repairs."""

from collections.abc import Callable, Iterable

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
_UNKNOWN: tuple[float, frozenset[str]] = (float("-inf"), frozenset())


def read_digests(pods: Iterable[Manifest]) -> Digests:
    """Return what images stand for where these pods run them; none that is too long for a reference."""
    found: Digests = {}
    for pod in pods:
        for image, digest in failure.digests(pod):
            if len(image) <= _LONGEST:
                found.setdefault(image, set()).add(digest)
    return found


class KnownDigests:
    """The digests of many namespaces, and when their pods were last seen; `clock` tells seconds from any start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: Cache[str, dict[str, tuple[float, frozenset[str]]]] = Cache(_ROOM, clock)
        self._seen: Cache[str, bool] = Cache(_ROOM, clock)

    def of(self, namespace: str, image: str) -> frozenset[str]:
        """Return what is known of a namespace's image, for two minutes since it was seen running; nothing else."""
        until, digests = (self._known.get(namespace) or {}).get(image, _UNKNOWN)
        return digests if until > self._clock() else frozenset()

    def were_seen(self, namespace: str) -> bool:
        """Tell whether pods of a namespace were seen so lately that another look would tell nothing new."""
        return self._seen.get(namespace) is not None

    def saw_all(self, namespace: str, found: Digests) -> None:
        """Keep what images stand for in a namespace, every pod of which was seen now."""
        self._keep(namespace, found)

    def saw_some(self, namespace: str, found: Digests) -> None:
        """Keep that of images of which nothing is known: some pods of a namespace were seen, as they were before."""
        self._keep(namespace, {image: digests for image, digests in found.items() if not self.of(namespace, image)})

    def _keep(self, namespace: str, found: Digests) -> None:
        """Keep that, and of what was known before the newest, as far as there is room."""
        now, until = self._clock(), self._clock() + _KNOWN_SECONDS
        known = (self._known.get(namespace) or {}).items()
        before = [(image, one) for image, one in known if one[0] > now and image not in found]
        new = [(image, (until, frozenset(digests))) for image, digests in found.items()]
        self._known.keep(namespace, dict([*before, *new][-_MOST_IMAGES:]), _KNOWN_SECONDS)
        self._seen.keep(namespace, True, _SEEN_SECONDS)  # noqa: FBT003 - that it is so is the value
