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


def read_digests(pods: Iterable[Manifest]) -> Digests:
    """Return what images stand for where these pods run them."""
    found: Digests = {}
    for pod in pods:
        for image, digest in failure.digests(pod):
            found.setdefault(image, set()).add(digest)
    return found


class KnownDigests:
    """The digests of many namespaces, and when their pods were last seen; `clock` tells seconds from any start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: Cache[str, dict[str, tuple[float, frozenset[str]]]] = Cache(_ROOM, clock)
        self._seen: Cache[str, bool] = Cache(_ROOM, clock)

    def of(self, namespace: str) -> dict[str, frozenset[str]]:
        """Return what is known of a namespace's images: each for two minutes since it was seen running."""
        now, known = self._clock(), self._known.get(namespace) or {}
        return {image: digests for image, (until, digests) in known.items() if until > now}

    def were_seen(self, namespace: str) -> bool:
        """Tell whether pods of a namespace were seen so lately that another look would tell nothing new."""
        return self._seen.get(namespace) is not None

    def saw_all(self, namespace: str, found: Digests) -> None:
        """Keep what images stand for in a namespace, every pod of which was seen now."""
        self._keep(namespace, found)

    def saw_some(self, namespace: str, found: Digests) -> None:
        """Keep that of images of which nothing is known: some pods of a namespace were seen, as they were before."""
        known = self.of(namespace)
        self._keep(namespace, {image: digests for image, digests in found.items() if image not in known})

    def _keep(self, namespace: str, found: Digests) -> None:
        now, until = self._clock(), self._clock() + _KNOWN_SECONDS
        before = {image: one for image, one in (self._known.get(namespace) or {}).items() if one[0] > now}
        new = {image: (until, frozenset(digests)) for image, digests in found.items()}
        self._known.keep(namespace, before | new, _KNOWN_SECONDS)
        self._seen.keep(namespace, True, _SEEN_SECONDS)  # noqa: FBT003 - that it is so is the value
