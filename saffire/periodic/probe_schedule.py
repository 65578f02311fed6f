"""
Which image to ask which registry about next, on a calm day.

There are a few *probes* a minute, for all namespaces together; a probe is one image at one registry. Namespaces take
turns, so that one with thousands of images gets no more of them than one with two. Within a namespace, an image that
was never asked about comes first, then the oldest answer; a good answer holds for an hour. A registry gets at most half
of the probes, is left alone for as long as it wants to be (429), and for some minutes while it is down.

The schedule is one instance's, and may be lost: then everything is asked once more, in its turn.
"""

import itertools
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.registry.availability import Availability, Throttled, Unreachable
from saffire.ttl_cache import TtlCache

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
# Sweeps come once a minute, and not to the millisecond.
_NEXT_SWEEP = 30.0
# What is not as it should be is looked after more often, since somebody may have mended it; and who is down, too.
_SOON = 600.0
_DOWN = 230.0
# Where 429 comes without a time.
_THROTTLED = 600.0
# Once in a while a packet is lost: a registry is down when the next sweep finds it so, too.
_MISSES = 2
_ROOM = 10_000
# A manifest that is read counts as a pull there, of which a node's address may have a hundred in six hours.
_READS_AN_HOUR = {"docker.io": 6}


@dataclass(frozen=True, slots=True)
class Probe:
    """A pair of a namespace, to be asked about; `is_known` tells that there is an answer already."""

    namespace: str
    pair: ImagePair
    is_known: bool

    @property
    def key(self) -> tuple[str, bytes]:
        """What tells it from others."""
        return self.namespace, self.pair.key


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    state: ReadinessState
    expected: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Host:
    """What is known of a registry; `turned_at` is when it was last found to be down, or to answer again."""

    quiet_until: float = 0.0
    misses: int = 0
    missed_at: float = float("-inf")
    turned_at: float = float("-inf")


class ProbeSchedule:
    """
    The questions of one instance; times are seconds from any start.

    Args:
        a_minute: how many questions there may be.

    """

    def __init__(self, a_minute: int) -> None:
        self.a_minute = a_minute
        self._now = 0.0
        self._asked: deque[tuple[float, str]] = deque()
        self._reads: dict[str, deque[float]] = {host: deque(maxlen=most) for host, most in _READS_AN_HOUR.items()}
        self._offered: dict[str, list[Probe]] = {}
        self._order = itertools.count()
        self._served: TtlCache[str, int] = TtlCache(_ROOM, self._clock)
        self._told: TtlCache[str, float] = TtlCache(_ROOM, self._clock)
        self._hosts: TtlCache[str, _Host] = TtlCache(_ROOM, self._clock)
        self._answers: TtlCache[tuple[str, bytes], _Answer] = TtlCache(_ROOM, self._clock)
        self._read: TtlCache[tuple[str, bytes], tuple[str, _Answer]] = TtlCache(_ROOM, self._clock)

    # Whose turn it is

    def offer(self, namespace: str, turns: Iterable[Probe], now: float) -> None:
        """Take note of what a namespace might ask."""
        self._now = now
        due = [(since, turn) for turn in turns if (since := self._due_since(turn)) is not None]
        due.sort(key=lambda one: one[0])
        self._offered.pop(namespace, None)
        if due:
            self._offered[namespace] = [turn for _, turn in due]
        # More namespaces than questions need not be remembered: those that had theirs last have to wait.
        if len(self._offered) > self.a_minute:
            del self._offered[max(self._offered, key=self._served_at)]

    @property
    def waiting(self) -> Collection[str]:
        """The namespaces that may be asked for."""
        return self._offered.keys()

    def take(self, now: float) -> tuple[Probe, ...]:
        """Return what is to be asked now, and count it as asked."""
        self._now = now
        while self._asked and self._asked[0][0] <= now - _MINUTE:
            self._asked.popleft()
        order = sorted(self._offered, key=self._served_at)
        queues = {namespace: self._offered.pop(namespace) for namespace in order}
        # Also who cannot be asked now has had its turn: its registry may have had its share, and others wait.
        for namespace in order:
            self._serve(namespace)
        of_hosts = Counter(host for _, host in self._asked)
        taken: list[Probe] = []
        most, before = max(1, self.a_minute // 2), -1
        while before < len(taken):
            before = len(taken)
            for namespace in order:
                queue = queues[namespace]
                place = next((place for place, turn in enumerate(queue) if of_hosts[turn.pair.host] < most), None)
                if place is not None and len(self._asked) < self.a_minute:
                    taken.append(queue.pop(place))
                    self._asked.append((now, taken[-1].pair.host))
                    of_hosts[taken[-1].pair.host] += 1
                    self._serve(namespace)
        return tuple(taken)

    def may_read(self, host: str, now: float) -> bool:
        """Tell whether a manifest may be read from a registry now, and count it."""
        reads = self._reads.get(host)
        if reads is None:
            return True
        if len(reads) == reads.maxlen and now - reads[0] < _HOUR:
            return False
        reads.append(now)
        return True

    # What came of it

    def record(
        self, turn: Probe, answer: Availability | None, state: ReadinessState, now: float
    ) -> ReadinessState | None:
        """Keep what came of a turn, `None` if it was not settled; return what is to be written, if anything."""
        self._now = now
        self._answers.put(turn.key, _Answer(now, state, turn.pair.expected_digests()), _DAY)
        if answer is None:
            return None
        is_silent = isinstance(answer, Unreachable) and answer.is_silent
        self._learn_of(turn.pair.host, answer, is_silent=is_silent)
        # That nobody could tell is no news of an image. Where its registry is down, that is told of all images there.
        is_no_news = turn.is_known and (is_silent or state is ReadinessState.THROTTLED)
        return None if is_no_news else state

    def read(self, turn: Probe, digest: str, state: ReadinessState, now: float) -> None:
        """Keep what a manifest came to that was read, for as long as the registry tells the same digest, or a day."""
        self._now = now
        self._read.put(turn.key, (digest, _Answer(now, state, turn.pair.expected_digests())), _DAY)

    def recall(self, turn: Probe, digest: str) -> ReadinessState | None:
        """Return what the manifest of that digest came to when it was read."""
        known, answer = self._read.get(turn.key) or ("", None)
        return answer.state if answer and (known, answer.expected) == (digest, turn.pair.expected_digests()) else None

    def is_down(self, host: str) -> bool:
        """Tell whether a registry was found to be down, twice in a row."""
        known = self._hosts.get(host)
        return known is not None and known.misses >= _MISSES

    def news(self, namespace: str, hosts: Iterable[str], now: float) -> dict[str, bool]:
        """Return which registries are down, or answer again, that a namespace was not told of; it is told with this."""
        self._now = now
        told_at = self._told.get(namespace)
        self._told.put(namespace, now, _DAY)
        found = {host: known for host in hosts if (known := self._hosts.get(host))}
        new = {host: known for host, known in found.items() if told_at is None or known.turned_at > told_at}
        return {host: self.is_down(host) for host, known in new.items() if known.turned_at > float("-inf")}

    def _learn_of(self, name: str, answer: Availability, *, is_silent: bool) -> None:
        """Keep what an answer says of the registry itself."""
        now = self._now
        host = self._hosts.get(name) or _Host()
        if not is_silent:
            is_news = host.misses or host.turned_at == float("-inf")
            host = replace(host, misses=0, turned_at=now if is_news else host.turned_at)
        elif now - host.missed_at >= _NEXT_SWEEP:
            host = replace(host, misses=host.misses + 1, missed_at=now)
            if host.misses >= _MISSES:
                host = replace(host, turned_at=now, quiet_until=now + _DOWN)
        if isinstance(answer, Throttled):
            seconds = _THROTTLED if answer.retry_after is None else answer.retry_after
            host = replace(host, quiet_until=max(host.quiet_until, now + max(_MINUTE, seconds)))
        self._hosts.put(name, host, _DAY)

    def _due_since(self, turn: Probe) -> tuple[bool, float] | None:
        """Return what orders the turns that are due; `None` for one that is not."""
        host, last = self._hosts.get(turn.pair.host) or _Host(), self._answers.get(turn.key)
        if host.quiet_until > self._now:
            return None
        if last is None:
            return turn.is_known, float("-inf")
        is_good = turn.is_known and not host.misses and turn.pair.expected_digests() <= last.expected
        good_for = _HOUR if last.state is ReadinessState.READY else _SOON
        if not is_good and last.state is not ReadinessState.UNASKED:
            good_for = _NEXT_SWEEP
        return (turn.is_known, last.at) if self._now - last.at >= good_for else None

    def _serve(self, namespace: str) -> None:
        """Have a namespace wait behind all others."""
        self._served.put(namespace, next(self._order), _DAY)

    def _served_at(self, namespace: str) -> int:
        at = self._served.get(namespace)
        return -1 if at is None else at

    def _clock(self) -> float:
        return self._now
