"""
Reachability: when each registry last answered Saffire, and whom.

A registry that has answered lately and gives no response now is down, or the network between is. If a registry never
answered, for instance since only nodes can reach it, its silence says nothing.

Saffire asks registries for *askers*, which are namespaces, and their owners choose the registries. So what one asker's
registries do says nothing to another asker about Saffire's own network, unless a second asker has seen the same. And an
asker whose registries are many makes Saffire forget its own registries, not those that another asker has asked.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from saffire.registry.availability import Availability, Unreachable
from saffire.ttl_cache import TtlCache

_MAX_REGISTRIES = 2048
_MAX_ASKERS = 2048
_DAY = 86_400.0
# What so many other askers have seen is so for every asker.
_SEVERAL_ASKERS = 2
# If many workloads fail at once, not every repair waits for a registry that gave no response.
_SILENT_SECONDS = 5


class Reachability:
    """
    When each registry last answered, in the memory of one instance.

    An error of the registry (5xx) is an answer too: it shows that Saffire reaches the registry.

    Args:
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By asker and registry: when the registry last answered the asker. In both, the latest is the last.
        self._answers: dict[str, dict[str, float]] = {}
        self._count = 0
        self._questions: TtlCache[str, float] = TtlCache(_MAX_ASKERS, clock)
        self._last_question = float("-inf")

    def note(self, domain: str, answer: Availability, asker: str) -> None:
        """Take note of the answer of the registry `domain` to a question that was asked just now for an asker."""
        now = self._last_question = self._clock()
        self._questions.put(asker, now, _DAY)
        if isinstance(answer, Unreachable) and not (answer.is_server_error or answer.is_of_part):
            return
        answers = self._answers[asker] = self._answers.pop(asker, {})
        self._count += domain not in answers
        answers.pop(domain, None)
        answers[domain] = now
        if self._count > _MAX_REGISTRIES:
            self._forget_one()

    def seconds_since(self, domain: str) -> float | None:
        """Return how many seconds ago a registry last answered; `None` if it did not within the last day."""
        latest = max((answers[domain] for answers in self._answers.values() if domain in answers), default=None)
        age = None if latest is None else self._clock() - latest
        return age if age is not None and age < _DAY else None

    def answered_at(self, now: datetime) -> dict[str, datetime]:
        """Return when each registry last answered, by domain; `now` is the time in UTC."""
        oldest = self._clock() - _DAY
        latest: dict[str, float] = {}
        for answers in self._answers.values():
            for domain, at in answers.items():
                latest[domain] = max(at, latest.get(domain, at))
        return {domain: now - timedelta(seconds=self._clock() - at) for domain, at in latest.items() if at > oldest}

    def any_within(self, seconds: float, asker: str) -> bool:
        """Tell whether a registry answered this asker within the last `seconds`, or registries answered two others."""
        askers = enumerate(self._askers_answered_within(seconds), start=1)
        return any(other == asker or count >= _SEVERAL_ASKERS for count, other in askers)

    def none_within(self, seconds: float, asker: str | None = None) -> bool | None:
        """
        Tell whether no registry answers.

        If a registry has answered any asker within the last `seconds`, return `False`. Otherwise, if Saffire has asked
        registries for `asker` in that time, return `True`; if it has not, `None`. Without an asker, a question for any
        asker counts.
        """
        if next(self._askers_answered_within(seconds), None) is not None:
            return False
        last = self._last_question if asker is None else self._questions.get(asker)
        is_asked = last is not None and self._clock() - last <= seconds
        return True if is_asked else None

    def _askers_answered_within(self, seconds: float) -> Iterator[str]:
        """Yield the askers that got an answer within the last `seconds`, the latest first."""
        for asker, answers in reversed(self._answers.items()):
            if self._clock() - next(reversed(answers.values())) > seconds:
                return
            yield asker

    def _forget_one(self) -> None:
        """Forget the oldest answer to the asker with the most."""
        asker = max(self._answers, key=lambda name: len(self._answers[name]))
        answers = self._answers[asker]
        del answers[next(iter(answers))]
        self._count -= 1
        if not answers:
            del self._answers[asker]


class SilentRegistries:
    """
    The registries that gave no response, or a server error (5xx), in the last 5 seconds.

    A registry may also be silent for one of its accounts alone; then the account takes the place of the domain.
    A registry is silent for the asker that has seen it so. Once two askers have, it is silent for all: the owner of one
    namespace may know a path that makes a registry slow. `clock` returns the time in seconds since any fixed start.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        # By registry: its answer, and the asker that has seen it silent; `None` once several have.
        self._seen: TtlCache[str, tuple[Unreachable, str | None]] = TtlCache(_MAX_REGISTRIES, clock)

    def get(self, asker: str, domain: str) -> Unreachable | None:
        """Return the answer of a registry that is silent for an asker; `None` if it has to be asked."""
        answer, seen_by = self._seen.get(domain) or (None, None)
        return answer if seen_by in {asker, None} else None

    def put(self, asker: str, domain: str, answer: Unreachable) -> None:
        """Keep the answer of a registry that was silent when an asker asked it just now."""
        _, seen_by = self._seen.get(domain) or (answer, asker)
        self._seen.put(domain, (answer, asker if seen_by == asker else None), _SILENT_SECONDS)
