"""A cache with a limited number of entries, each of which expires after some seconds."""

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """
    A cache whose values expire after a time. If the cache is full, a new value replaces the oldest one.

    Args:
        max_entries: the largest number of entries.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, max_entries: int, clock: Callable[[], float]) -> None:
        self._max_entries = max_entries
        self._clock = clock
        # By key: when the value expires, by `clock`, and the value. The oldest entry is the first.
        self._entries: dict[K, tuple[float, V]] = {}

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep `value` under `key` for so many `seconds`. If the cache is full, drop the oldest entry."""
        self._entries.pop(key, None)
        if len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._clock() + seconds, value)

    def get(self, key: K) -> V | None:
        """Return the value of a key; `None` if the key has no value, or if the value has expired."""
        expires_at, value = self._entries.get(key, (0.0, None))
        if value is not None and expires_at <= self._clock():
            del self._entries[key]
            return None
        return value

    def __iter__(self) -> Iterator[K]:
        """Yield the keys, the oldest first; the values of some may have expired."""
        return iter(tuple(self._entries))
