"""Cache: what is worth knowing for some seconds, and never more of it than there is room for."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """
    Values that are forgotten after their time, or when newer ones need their room.

    Args: room: how many there may be. clock: tells seconds from any start.
    """

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._kept: dict[K, tuple[float, V]] = {}

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep a value for some seconds, in the place of what has been kept longest if there is no room."""
        self._kept.pop(key, None)
        if len(self._kept) >= self._max_entries:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (self._clock() + seconds, value)

    def get(self, key: K) -> V | None:
        """Return the value of a key; `None` where it is not known, or not any more."""
        until, value = self._kept.get(key, (0.0, None))
        if value is not None and until <= self._clock():
            del self._kept[key]
            return None
        return value
