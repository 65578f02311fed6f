"""
Reachability: when each registry last answered Saffire.

A registry that has answered lately and gives no response now is down, or the network between is. If a registry never
answered, for instance since only nodes can reach it, its silence says nothing.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from saffire.registry.availability import Availability, Unreachable
from saffire.ttl_cache import TtlCache

_MAX_REGISTRIES = 2048
_DAY = 86_400.0


class Reachability:
    """
    When each registry last answered, in the memory of one instance.

    An error of the registry (5xx) is an answer too: it shows that Saffire reaches the registry.

    Args:
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._registries: TtlCache[str, float] = TtlCache(_MAX_REGISTRIES, clock)
        self._last_question = float("-inf")
        self._last_answer = float("-inf")

    def note(self, domain: str, answer: Availability) -> None:
        """Take note of the answer of the registry `domain` to a question that was asked just now."""
        self._last_question = self._clock()
        if isinstance(answer, Unreachable) and not answer.is_server_error:
            return
        self._last_answer = self._last_question
        self._registries.put(domain, self._last_answer, _DAY)

    def seconds_since(self, domain: str) -> float | None:
        """Return how many seconds ago a registry last answered; `None` if it did not within the last day."""
        at = self._registries.get(domain)
        return None if at is None else self._clock() - at

    def answered_at(self, now: datetime) -> dict[str, datetime]:
        """Return when each registry last answered, by domain; `now` is the time in UTC."""
        ages = {domain: self.seconds_since(domain) for domain in self._registries}
        return {domain: now - timedelta(seconds=age) for domain, age in ages.items() if age is not None}

    def any_within(self, seconds: float) -> bool:
        """Tell whether any registry answered within the last `seconds`."""
        return self._clock() - self._last_answer <= seconds

    def none_within(self, seconds: float) -> bool:
        """Tell whether Saffire has asked registries within the last `seconds`, and none has answered."""
        return self._clock() - self._last_question <= seconds and not self.any_within(seconds)
