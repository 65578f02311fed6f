"""
Which image is probed at which registry next, on a calm day.

There are a few *probes* a minute, for all namespaces together. A probe asks one registry about one image. Namespaces
take turns, so that a namespace with thousands of images gets no more probes than one with two. Within a namespace, a
pair that was never probed comes first, then the pair with the oldest answer. A good answer holds for an hour.

A registry gets at most half of the probes. After 429 it gets none for as long as it asks for. If it is down, it gets
none for some minutes.

The schedule is kept in the memory of one instance, and may be lost: then every pair is probed once more, in its turn.
"""

import itertools
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.registry.availability import Availability, Throttled, Unreachable
from saffire.ttl_cache import TtlCache

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
# Sweeps come once a minute, but not exactly: an answer of the last sweep is at least this old.
_NEXT_SWEEP = 30.0
# A bad answer holds for a shorter time, since somebody may have mended the image.
_BAD_ANSWER = 600.0
# A registry that is down is probed again after this time, since it may be back.
_DOWN = 230.0
# For 429 without `Retry-After`.
_THROTTLED = 600.0
# A packet may be lost now and then: a registry counts as down if it is silent in two sweeps in a row.
_MISSES = 2
_CACHE_ENTRIES = 10_000
# Docker Hub counts each manifest that is read as a pull, and allows an address a hundred pulls in six hours.
_READS_AN_HOUR = {"docker.io": 6}


@dataclass(frozen=True, slots=True)
class Probe:
    """A pair in a namespace, to be probed; `has_state` if the source's status has a state for it."""

    namespace: str
    pair: ImagePair
    has_state: bool

    @property
    def key(self) -> tuple[str, bytes]:
        """The namespace and the key of the pair."""
        return self.namespace, self.pair.key


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    state: ReadinessState
    expected: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Host:
    """The state of a registry; `changed_at` is when it was last found to be down, or to answer again."""

    quiet_until: float = 0.0
    misses: int = 0
    missed_at: float = float("-inf")
    changed_at: float = float("-inf")


class ProbeSchedule:
    """
    The probes of one instance; times are seconds from any start.

    Args:
        probes_per_minute: how many probes may be sent in a minute.

    """

    def __init__(self, probes_per_minute: int) -> None:
        self.probes_per_minute = probes_per_minute
        self._now = 0.0
        self._sent: deque[tuple[float, str]] = deque()
        self._reads: dict[str, deque[float]] = {host: deque(maxlen=most) for host, most in _READS_AN_HOUR.items()}
        self._offered: dict[str, list[Probe]] = {}
        self._turns = itertools.count()
        self._last_turns: TtlCache[str, int] = TtlCache(_CACHE_ENTRIES, self._clock)
        self._news_given_at: TtlCache[str, float] = TtlCache(_CACHE_ENTRIES, self._clock)
        self._hosts: TtlCache[str, _Host] = TtlCache(_CACHE_ENTRIES, self._clock)
        self._answers: TtlCache[tuple[str, bytes], _Answer] = TtlCache(_CACHE_ENTRIES, self._clock)
        self._manifests: TtlCache[tuple[str, bytes], tuple[str, _Answer]] = TtlCache(_CACHE_ENTRIES, self._clock)

    # Which probes are next

    def offer(self, namespace: str, probes: Iterable[Probe], now: float) -> None:
        """Replace the probes that a namespace offers; those that are not due yet are left out."""
        self._now = now
        due = [(since, probe) for probe in probes if (since := self._due_since(probe)) is not None]
        due.sort(key=lambda entry: entry[0])
        self._offered.pop(namespace, None)
        if due:
            self._offered[namespace] = [probe for _, probe in due]
        # No more namespaces than probes are kept: the namespace whose turn was last is dropped.
        if len(self._offered) > self.probes_per_minute:
            del self._offered[max(self._offered, key=self._last_turn)]

    @property
    def waiting(self) -> Collection[str]:
        """The namespaces that offer probes."""
        return self._offered.keys()

    def take(self, now: float) -> tuple[Probe, ...]:
        """Return the probes to send now, and count them as sent."""
        self._now = now
        while self._sent and self._sent[0][0] <= now - _MINUTE:
            self._sent.popleft()
        order = sorted(self._offered, key=self._last_turn)
        queues = {namespace: self._offered.pop(namespace) for namespace in order}
        # A namespace has had its turn even if its registries have had their share, and no probe of it is sent.
        for namespace in order:
            self._end_turn(namespace)
        of_hosts = Counter(host for _, host in self._sent)
        taken: list[Probe] = []
        share, before = max(1, self.probes_per_minute // 2), -1
        while before < len(taken):
            before = len(taken)
            for namespace in order:
                queue = queues[namespace]
                position = next((index for index, probe in enumerate(queue) if of_hosts[probe.pair.host] < share), None)
                if position is not None and len(self._sent) < self.probes_per_minute:
                    taken.append(queue.pop(position))
                    self._sent.append((now, taken[-1].pair.host))
                    of_hosts[taken[-1].pair.host] += 1
                    self._end_turn(namespace)
        return tuple(taken)

    def may_read(self, host: str, now: float) -> bool:
        """Tell whether a manifest may be read from a registry now; if so, count it as read."""
        reads = self._reads.get(host)
        if reads is None:
            return True
        if len(reads) == reads.maxlen and now - reads[0] < _HOUR:
            return False
        reads.append(now)
        return True

    def _due_since(self, probe: Probe) -> tuple[bool, float] | None:
        """Return the key by which due probes are sorted; `None` if the probe is not due."""
        host, last = self._hosts.get(probe.pair.host) or _Host(), self._answers.get(probe.key)
        if host.quiet_until > self._now:
            return None
        if last is None:
            return probe.has_state, float("-inf")
        is_good = probe.has_state and not host.misses and probe.pair.expected_digests() <= last.expected
        good_for = _HOUR if last.state is ReadinessState.READY else _BAD_ANSWER
        if not is_good and last.state is not ReadinessState.UNASKED:
            good_for = _NEXT_SWEEP
        return (probe.has_state, last.at) if self._now - last.at >= good_for else None

    def _end_turn(self, namespace: str) -> None:
        """Put a namespace behind all others."""
        self._last_turns.put(namespace, next(self._turns), _DAY)

    def _last_turn(self, namespace: str) -> int:
        turn = self._last_turns.get(namespace)
        return -1 if turn is None else turn

    # Answers

    def record(
        self, probe: Probe, answer: Availability | None, state: ReadinessState, now: float
    ) -> ReadinessState | None:
        """
        Record the answer to a probe, `None` if there was none, and the state of the pair.

        Returns:
            The state to write into the source's status; `None` if it is not news.

        """
        self._now = now
        self._answers.put(probe.key, _Answer(now, state, probe.pair.expected_digests()), _DAY)
        if answer is None:
            return None
        is_silent = isinstance(answer, Unreachable) and answer.is_silent
        self._record_host(probe.pair.host, answer, is_silent=is_silent)
        # An answer that tells nothing of the image is not news. If the registry is down, `news` says so for all images.
        is_no_news = probe.has_state and (is_silent or state is ReadinessState.THROTTLED)
        return None if is_no_news else state

    def manifest_read(self, probe: Probe, digest: str, state: ReadinessState, now: float) -> None:
        """Keep the state that a manifest gave, for a day or until the registry returns another digest."""
        self._now = now
        self._manifests.put(probe.key, (digest, _Answer(now, state, probe.pair.expected_digests())), _DAY)

    def state_when_read(self, probe: Probe, digest: str) -> ReadinessState | None:
        """Return the state that the manifest of that digest gave when it was read; `None` if it was not read."""
        read_digest, answer = self._manifests.get(probe.key) or ("", None)
        expected = probe.pair.expected_digests()
        return answer.state if answer and (read_digest, answer.expected) == (digest, expected) else None

    # Registries

    def is_down(self, host: str) -> bool:
        """Tell whether a registry was silent in two sweeps in a row."""
        state = self._hosts.get(host)
        return state is not None and state.misses >= _MISSES

    def news(self, namespace: str, hosts: Iterable[str], now: float) -> dict[str, bool]:
        """Return the registries that went down (`True`) or answer again (`False`) since the namespace last asked."""
        self._now = now
        given_at = self._news_given_at.get(namespace)
        self._news_given_at.put(namespace, now, _DAY)
        states = {host: state for host in hosts if (state := self._hosts.get(host))}
        new = {host: state for host, state in states.items() if given_at is None or state.changed_at > given_at}
        return {host: self.is_down(host) for host, state in new.items() if state.changed_at > float("-inf")}

    def _record_host(self, name: str, answer: Availability, *, is_silent: bool) -> None:
        """Record what an answer shows of the registry itself."""
        now = self._now
        host = self._hosts.get(name) or _Host()
        if not is_silent:
            is_news = host.misses or host.changed_at == float("-inf")
            host = replace(host, misses=0, changed_at=now if is_news else host.changed_at)
        elif now - host.missed_at >= _NEXT_SWEEP:
            host = replace(host, misses=host.misses + 1, missed_at=now)
            if host.misses >= _MISSES:
                host = replace(host, changed_at=now, quiet_until=now + _DOWN)
        if isinstance(answer, Throttled):
            seconds = _THROTTLED if answer.retry_after is None else answer.retry_after
            host = replace(host, quiet_until=max(host.quiet_until, now + max(_MINUTE, seconds)))
        self._hosts.put(name, host, _DAY)

    def _clock(self) -> float:
        return self._now
