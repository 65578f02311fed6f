"""A day of registries that go up and down at random: what a workload goes through that pulls again and again."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum, auto
from itertools import cycle
from operator import itemgetter

from hypothesis import given, settings
from hypothesis import strategies as st

from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered, Options, find_options, pick
from saffire.policy.patch import render
from saffire.policy.plan import Failover
from saffire.policy.verification import Evidence
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Unreachable,
    is_known_bad,
)
from testkit.builders import NOW, chain, pod, source
from testkit.rfc6902 import patched

DAY, SWEEP, PULL = 24 * 3600, 60, 10
"""Seconds: what is played, from one sweep to the next, and until a pull has failed again."""
COOLDOWNS = (30, 60, 120, 240, 480, 600)
"""Seconds that a reference rests after its first failure within an hour, its second, and so on."""
HOUR = 3600
DIGEST = "sha256:" + 64 * "1"
REPOSITORIES = tuple(f"registry-{number}.example/acme/web" for number in range(4))
EXAMPLES, OF_EACH_SWEEP = 2000, 20
"""Days that are played, in a minute or two of one core; and days of which every sweep is, in some seconds."""


class State(Enum):
    """What a registry is like, for nodes and for us."""

    UP = auto()
    PRIVATE = auto()
    DOWN = auto()
    GONE = auto()
    BROKEN = auto()

    @property
    def can_pull(self) -> bool:
        """Whether nodes get the image."""
        return self in {State.UP, State.PRIVATE}


CAUSES = {State.DOWN: Cause.REFUSED, State.GONE: Cause.ABSENT, State.BROKEN: Cause.PARTIAL}


@dataclass(frozen=True)
class Schedule:
    """When a registry is in which state: for so many seconds in the first, then the next, and over again."""

    turns: tuple[tuple[int, State], ...]

    def changes(self) -> Iterator[tuple[int, State]]:
        """Yield at which second it comes into which state, for a day."""
        at, before = 0, None
        for seconds, state in cycle(self.turns):
            if at > DAY:
                return
            if state is not before:
                yield at, state
            at, before = at + seconds, state


def cooldown(failed: list[int]) -> int:
    """Return how long a reference rests that failed at these times, in order: longer with each within an hour."""
    recent = sum(failed[-1] - each <= HOUR for each in failed)
    return COOLDOWNS[min(recent, len(COOLDOWNS)) - 1]


lengths = st.one_of(st.integers(20, 300), st.integers(300, 6 * HOUR))
schedules = st.lists(st.tuples(lengths, st.sampled_from(State)), min_size=1, max_size=12).map(tuple).map(Schedule)


@dataclass
class Day:
    """
    One Deployment, whose pods always pull, and registries by schedule; what happened is kept in seconds of the day.

    Args:
        registries: one for each repository.
        verification: of the source.
        leaves_out: whether sweeps are left out that find the same as the one before.

    """

    registries: tuple[Schedule, ...]
    verification: str
    leaves_out: bool = True
    moves: list[tuple[int, str, str, State]] = field(default_factory=list, init=False)
    """When, from which image, to which, and what the registry of that was like."""
    failing: list[tuple[int, int]] = field(default_factory=list, init=False)
    """From when to when no pod could pull."""
    _failed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list), init=False)
    """When each image was moved away from."""

    def __post_init__(self) -> None:
        repositories = REPOSITORIES[: len(self.registries)]
        suffix = f":1.2@{DIGEST}" if self.verification == "Strict" else ":1.2"
        self._sources = (source([*repositories], verification=self.verification),)
        self.changes = {
            f"{repository}{suffix}": list(schedule.changes())
            for repository, schedule in zip(repositories, self.registries, strict=True)
        }
        """When the registry of each image comes into which state."""
        (self._replica_set, self._deployment) = chain("Deployment", web=next(iter(self.changes))).chain

    @property
    def image(self) -> str:
        """The image that the template names."""
        image: str = self._deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def state(self, image: str, second: int) -> State:
        """Return what the registry of an image is like."""
        changes = self.changes[image]
        return changes[bisect_right(changes, second, key=itemgetter(0)) - 1][1]

    def play(self) -> None:
        """
        Play the day: a sweep every minute, and an Event as soon as a pull fails that a failover led to.

        Where sweeps are left out, no registry has changed since the one before, and no cooldown ends.
        """
        second = 0
        since: int | None = None
        while second < DAY:
            if self.state(self.image, second).can_pull:
                if since is not None:
                    self.failing.append((since, second))
                    since = None
                second = self._next_change(self.image, second)
                continue
            since = second if since is None else since
            has_moved = self._look(second)
            second = second + PULL if has_moved else self._next_sweep(second)
        if since is not None:
            self.failing.append((since, second))

    def _next_sweep(self, second: int) -> int:
        """
        Return when the first sweep after `second` is that may find something else.

        That is the first after a registry's change, and after the end of a cooldown; and the last one before that end,
        which must not take it to be over.
        """
        following = second - second % SWEEP + SWEEP
        if not self.leaves_out:
            return following
        ends = [end for end in map(self._rested, self._failed) if end > second]
        looks = [each for end in ends for each in (end - 1 - (end - 1) % SWEEP, end + -end % SWEEP)]
        looks += [change + -change % SWEEP for change in (self._next_change(image, second) for image in self.changes)]
        return min((each for each in looks if each >= following), default=DAY)

    def _rested(self, image: str) -> int:
        """Return when an image has rested, by the rule and not by what is played."""
        failed = self._failed[image]
        return failed[-1] + cooldown(failed)

    def _next_change(self, image: str, second: int) -> int:
        changes = self.changes[image]
        following = bisect_right(changes, second, key=itemgetter(0))
        return changes[following][0] if following < len(changes) else DAY

    def _look(self, second: int) -> bool:
        """Look at the failing pod as a repair does; return whether it was moved."""
        now = NOW + timedelta(seconds=second)
        image = self.image
        failure = PullFailure(
            section=Section.CONTAINERS,
            container="web",
            image=image,
            reason="ErrImagePull",
            cause=CAUSES[self.state(image, second)],
        )
        stuck = pod(web=image)
        replica_set = {**self._replica_set, "spec": self._deployment["spec"]}
        scene = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=stuck,
            sources=self._sources,
            owners=Owners(chain=(replica_set, self._deployment)),
        )
        prospect = find_options(failure, scene, now=now)
        assert isinstance(prospect, Options)
        answers = {one.image: self.answer(one.image, second) for one in prospect.ready}
        plan = pick(prospect, replace(scene, evidence=Evidence(answers=answers)))
        if not isinstance(plan, Failover):
            return False
        ((patch,),) = render([(stuck, [plan])], now=now)
        self._deployment = patched(self._deployment, patch.operations)
        self.moves.append((second, image, self.image, self.state(self.image, second)))
        self._failed[image].append(second)
        return True

    def answer(self, image: str, second: int) -> Availability:
        """Return what a registry answers us."""
        match self.state(image, second):
            case State.UP:
                return Available(digest=DIGEST, suits=True, complete=True)
            case State.PRIVATE:
                return Denied()
            case State.DOWN:
                return Unreachable("connection refused")
            case State.GONE:
                return NotFound()
            case State.BROKEN:
                # Its manifest is answered; only who looks for the layers knows better.
                return Incomplete("layer") if self.verification == "Strict" else Available(digest=DIGEST, suits=True)

    def up(self, image: str) -> Iterator[tuple[int, int]]:
        """Yield from when to when the registry of an image had it, and said so."""
        since = 0
        changes = self.changes[image]
        for (at, state), (_, before) in zip([*changes[1:], (DAY, State.DOWN)], changes, strict=True):
            if before is not State.UP:
                since = at
            elif state is not State.UP:
                yield since, at
                since = at


days = st.builds(Day, st.lists(schedules, min_size=2, max_size=4).map(tuple), st.sampled_from(["BestEffort", "Strict"]))


@given(days)
@settings(max_examples=EXAMPLES, deadline=None)
def test_registries_may_go_up_and_down_all_day(day: Day) -> None:
    """No failover comes before its cooldown or to what is known bad, and whatever is there all the time is found."""
    day.play()
    assert_cooldowns_are_kept(day)
    assert [] == [move for move in day.moves if is_known_bad(day.answer(move[2], move[0]))]
    assert_what_is_there_is_found(day)


@given(days)
@settings(max_examples=OF_EACH_SWEEP, deadline=None)
def test_what_is_left_out_of_a_day_changes_nothing_in_it(day: Day) -> None:
    """Played sweep by sweep, the same moves come at the same times."""
    whole = replace(day, leaves_out=False)
    day.play()
    whole.play()
    assert whole.moves == day.moves
    assert [since for since, _ in whole.failing] == [since for since, _ in day.failing]


def assert_cooldowns_are_kept(day: Day) -> None:
    """See that nothing is tried again before it has rested, longer with each failure within an hour."""
    failed: dict[str, list[int]] = defaultdict(list)
    for second, before, after, _ in day.moves:
        if failed[after]:
            assert cooldown(failed[after]) <= second - failed[after][-1], day.moves
        failed[before].append(second)


def assert_what_is_there_is_found(day: Day) -> None:
    """See that no pod waits longer than a sweep and a cooldown while one registry has the image all the time."""
    longest = SWEEP + COOLDOWNS[-1] + PULL * len(day.registries)
    for image in day.changes:
        for up_since, up_until in day.up(image):
            for since, until in day.failing:
                assert min(until, up_until) - max(since, up_since) <= longest, day.moves
