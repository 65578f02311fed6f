"""
Decides which image Saffire probes at which registry next, while nothing fails.

A *pair* is an image in use and one of its equivalents in another repository. A *probe* asks the registry of the
equivalent about the equivalent. Saffire sends a few probes a minute, for all namespaces together. Namespaces take
turns, so that a namespace with thousands of images gets no more probes than a namespace with two. Within a namespace, a
pair that was never probed comes first, then the pair with the oldest answer. If an answer proves that a failover would
work, it is valid for an hour.

A registry gets at most half of the probes of a minute. If a registry answers with 429 (Too Many Requests), Saffire
sends it no probe for the time that its `Retry-After` asks for. If a registry is down, Saffire sends it no probe for
some minutes.

The schedule is kept in the memory of one instance. If it is lost, every pair is probed once more, in its turn.
"""

import itertools
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from saffire.policy.readiness import ImagePair, ReadinessState
from saffire.registry.availability import Availability, Throttled, is_silent
from saffire.ttl_cache import TtlCache

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
# Sweeps come once a minute, but not exactly: an answer of the last sweep is at least this old.
_NEXT_SWEEP = 30.0
# Any other answer is valid for a shorter time, since a user may have mended the image.
_BAD_ANSWER = 600.0
# If a registry is down, Saffire probes it again after this time, since it may be back.
_DOWN = 230.0
# For 429 without `Retry-After`.
_THROTTLED = 600.0
# A packet may be lost now and then: a registry counts as down if it gives no response in two sweeps in a row.
_MISSES = 2
_CACHE_ENTRIES = 10_000
# Docker Hub counts each manifest that is read as a pull, and allows an address a hundred pulls in six hours.
_READS_AN_HOUR = {"docker.io": 6}


@dataclass(frozen=True, slots=True)
class Probe:
    """A pair in a namespace that may be probed; `has_state` says that the source's status has a state for the pair."""

    namespace: str
    pair: ImagePair
    has_state: bool

    @property
    def key(self) -> tuple[str, bytes]:
        """The name of the namespace, and the key of the pair."""
        return self.namespace, self.pair.key


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    state: ReadinessState
    expected: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Host:
    """
    The state of a registry.

    Until `quiet_until`, Saffire sends it no probe. `misses` counts the sweeps in a row in which it gave no response,
    the last at `missed_at`. `changed_at` is when Saffire last found that it is down, or that it answers again.
    """

    quiet_until: float = 0.0
    misses: int = 0
    missed_at: float = float("-inf")
    changed_at: float = float("-inf")


class ProbeSchedule:
    """
    The probes that one instance has to send; times are seconds since any start.

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
        # By probe, the digest of the manifest that was read, and the digests of the image in use.
        self._manifests: TtlCache[tuple[object, ...], ReadinessState] = TtlCache(_CACHE_ENTRIES, self._clock)

    # Which probes are next

    def offer(self, namespace: str, probes: Iterable[Probe], now: float) -> None:
        """
        Keep those of `probes` that are due until the namespace's turn, in place of the probes that it has waiting.

        `now` is in seconds since any start.
        """
        self._now = now
        due = [(since, probe) for probe in probes if (since := self._due_since(probe)) is not None]
        due.sort(key=lambda entry: entry[0])
        self._offered.pop(namespace, None)
        if due:
            self._offered[namespace] = [probe for _, probe in due]
        # No more namespaces are kept than probes may be sent in a minute: the one whose turn was last is dropped.
        if len(self._offered) > self.probes_per_minute:
            del self._offered[max(self._offered, key=self._last_turn)]

    @property
    def waiting(self) -> Collection[str]:
        """The namespaces whose probes wait for their turn."""
        return self._offered.keys()

    def spend(self, host: str, now: float) -> bool:
        """
        Count a question to a registry as a probe.

        Return false if the probes of this minute are spent, or those of this registry.
        """
        self._now = now
        self._forget_sent()
        of_host = sum(sent_host == host for _, sent_host in self._sent)
        state = self._hosts.get(host) or _Host()
        if len(self._sent) >= self.probes_per_minute or of_host >= self._share or state.quiet_until > now:
            return False
        self._sent.append((now, host))
        return True

    @property
    def _share(self) -> int:
        """How many probes of a minute one registry may get."""
        return max(1, self.probes_per_minute // 2)

    def _forget_sent(self) -> None:
        while self._sent and self._sent[0][0] <= self._now - _MINUTE:
            self._sent.popleft()

    def take(self, now: float) -> tuple[Probe, ...]:
        """Return the probes to send now, and count them as sent; drop the other probes that wait."""
        self._now = now
        self._forget_sent()
        order = sorted(self._offered, key=self._last_turn)
        queues = {namespace: self._offered.pop(namespace) for namespace in order}
        # A namespace has had its turn even if its registries have had their share, and no probe of it is sent.
        for namespace in order:
            self._end_turn(namespace)
        of_hosts = Counter(host for _, host in self._sent)
        taken: list[Probe] = []
        before = -1
        while before < len(taken):
            before = len(taken)
            for namespace in order:
                queue = queues[namespace]
                position = next(
                    (index for index, probe in enumerate(queue) if of_hosts[probe.pair.host] < self._share), None
                )
                if position is not None and len(self._sent) < self.probes_per_minute:
                    taken.append(queue.pop(position))
                    self._sent.append((now, taken[-1].pair.host))
                    of_hosts[taken[-1].pair.host] += 1
                    self._end_turn(namespace)
        return tuple(taken)

    def may_read(self, host: str, now: float) -> bool:
        """
        Tell whether Saffire may read a manifest from a registry now; if so, count the manifest as read.

        From Docker Hub, Saffire reads at most 6 manifests in an hour; from any other registry, as many as are due.
        """
        reads = self._reads.get(host)
        if reads is None:
            return True
        if len(reads) == reads.maxlen and now - reads[0] < _HOUR:
            return False
        reads.append(now)
        return True

    def _due_since(self, probe: Probe) -> tuple[bool, float] | None:
        """Return what due probes are sorted by: has the status a state, when was the last answer; `None` if not due."""
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
        """Put a namespace behind all others in the order of turns."""
        self._last_turns.put(namespace, next(self._turns), _DAY)

    def _last_turn(self, namespace: str) -> int:
        turn = self._last_turns.get(namespace)
        return -1 if turn is None else turn

    # Answers

    def record(
        self, probe: Probe, answer: Availability | None, state: ReadinessState, now: float
    ) -> ReadinessState | None:
        """
        Record the registry's answer to a probe, `None` if there was none, and the state of the pair by that answer.

        Returns:
            The state to write into the source's status; `None` if it is not news.

        """
        self._now = now
        self._answers.put(probe.key, _Answer(now, state, probe.pair.expected_digests()), _DAY)
        if answer is None:
            return None
        self._record_host(probe.pair.host, answer)
        # If the status has a state, an answer that tells nothing of the image is not news. If the registry is down,
        # `news` says so for all images.
        is_no_news = probe.has_state and (is_silent(answer) or state is ReadinessState.THROTTLED)
        return None if is_no_news else state

    def manifest_read(self, probe: Probe, digest: str, state: ReadinessState, now: float) -> None:
        """Record, for a day, which state Saffire found for a pair when it read the manifest with this digest."""
        self._now = now
        self._manifests.put((probe.key, digest, probe.pair.expected_digests()), state, _DAY)

    def state_when_read(self, probe: Probe, digest: str) -> ReadinessState | None:
        """
        Return the state of a pair that Saffire found when it read the manifest with this digest.

        Return `None` if Saffire has not read that manifest for the pair, or if the image in use has other digests now.
        """
        return self._manifests.get((probe.key, digest, probe.pair.expected_digests()))

    # Registries

    def is_down(self, host: str) -> bool:
        """Tell whether a registry gave no response in two sweeps in a row."""
        state = self._hosts.get(host)
        return state is not None and state.misses >= _MISSES

    def news(self, namespace: str, hosts: Iterable[str], now: float) -> dict[str, bool]:
        """Return which registries went down (`True`) or answer again (`False`) since the namespace's last call."""
        self._now = now
        given_at = self._news_given_at.get(namespace)
        self._news_given_at.put(namespace, now, _DAY)
        states = {host: state for host in hosts if (state := self._hosts.get(host))}
        new = {host: state for host, state in states.items() if given_at is None or state.changed_at > given_at}
        return {host: self.is_down(host) for host, state in new.items() if state.changed_at > float("-inf")}

    def _record_host(self, name: str, answer: Availability) -> None:
        """Record what an answer shows of the registry itself: whether it is down, and whether it throttles."""
        now = self._now
        host = self._hosts.get(name) or _Host()
        if not is_silent(answer):
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
