"""
Memory: what this instance has looked at, so that news which are older than its look cost no request.

A registry's death makes thousands of Events, and the event source delivers them one by one: most tell of what a repair
has seen already. Nothing depends on this memory. An instance without it asks once more, and finds the work done.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from saffire.triage import Hint

Image = tuple[str, str]
"""A container of a pod, and the reference that it cannot pull."""

K = TypeVar("K")
T = TypeVar("T")

# A pod's status lags its Events by up to a second on a real node, and their times are whole seconds.
_LAG = timedelta(seconds=2)
# A patch that was denied is tried again with the next sweep.
_DENIED = timedelta(seconds=50)
_KEPT_PODS = 20_000
_KEPT_NAMESPACES = 2_000
_NEVER: tuple[datetime, frozenset[Any]] = (datetime.min.replace(tzinfo=UTC), frozenset())


class Memory:
    """The newest looks at pods, and at namespaces as a whole, those under way, and what was denied; bounded."""

    def __init__(self) -> None:
        self._pods: OrderedDict[str, tuple[datetime, frozenset[Image]]] = OrderedDict()
        self._gone: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self._namespaces: OrderedDict[str, tuple[datetime, frozenset[str]]] = OrderedDict()
        self._denied: OrderedDict[tuple[str, str], tuple[datetime, str]] = OrderedDict()
        self._under_way: dict[str, tuple[datetime, frozenset[str]]] = {}

    def saw_pod(self, uid: str, failing: frozenset[Image], at: datetime) -> None:
        """Keep that a pod was read at that time, and that it was settled what to do about these images of it."""
        _keep(self._pods, uid, (at, failing), _KEPT_PODS)

    def saw_gone(self, hint: Hint) -> None:
        """Keep that there is no pod of that name and uid, which stays so; a uid under another name may be alive."""
        _keep(self._gone, _named(hint), None, _KEPT_PODS)

    @contextmanager
    def looking(self, namespace: str, at: datetime, *, but: frozenset[str]) -> Iterator[None]:
        """Keep for as long that every pod of a namespace `but` these is being looked at, as of that time or later."""
        self._under_way[namespace] = at, but
        try:
            yield
        finally:
            self._under_way.pop(namespace, None)

    def is_being_seen(self, hint: Hint) -> bool:
        """Tell whether a look is under way that finds whatever a hint points to, since the hint is older."""
        at, but = self._under_way.get(hint.namespace, _NEVER)
        return hint.at is not None and hint.pod_uid not in but and at - hint.at >= _LAG

    def saw_all(self, namespace: str, at: datetime, *, but: frozenset[str]) -> None:
        """Keep that every pod of a namespace was looked at, from that time on, and all is settled `but` about these."""
        _keep(self._namespaces, namespace, (at, but), _KEPT_NAMESPACES)

    def was_denied(self, uid: str, image: str, at: datetime, *, why: str) -> None:
        """Keep that the object of that uid may not be patched to have this image, in the API server's words."""
        _keep(self._denied, (uid, image), (at, why), _KEPT_PODS)

    def denial(self, uid: str, image: str, *, now: datetime) -> str:
        """Return why such a patch was denied lately; `""` if it was not."""
        at, why = self._denied.get((uid, image), (_NEVER[0], ""))
        return why if now - at < _DENIED else ""

    def knows(self, hint: Hint) -> bool:
        """Tell whether a hint is older than the look at what it points to."""
        if _named(hint) in self._gone:
            return True
        if hint.at is None:
            return False
        listed_at, unsettled = self._namespaces.get(hint.namespace, _NEVER)
        if hint.pod_uid in unsettled:
            return False
        if listed_at - hint.at >= _LAG:
            return True
        seen_at, failing = self._pods.get(hint.pod_uid, _NEVER)
        if hint.at > seen_at:
            return False
        return any(container == hint.container and hint.image in {"", image} for container, image in failing)


def _named(hint: Hint) -> tuple[str, str, str]:
    return hint.namespace, hint.pod, hint.pod_uid


def _keep(kept: OrderedDict[K, T], key: K, value: T, most: int) -> None:
    """Keep a value as the newest, and forget the oldest beyond `most`."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
