"""A day on which registries go up and down at random: the failovers of a workload whose pods pull all the time."""

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
"""Seconds: the length of the day, the time between sweeps, and the time until a pull fails."""
COOLDOWNS = (30, 60, 120, 240, 480, 600)
"""Seconds of cooldown after a reference's first failure within an hour, its second, and so on."""
HOUR = 3600
DIGEST = "sha256:" + 64 * "1"
REPOSITORIES = tuple(f"registry-{number}.example/acme/web" for number in range(4))
EXAMPLES, OF_EACH_SWEEP = 2000, 20
"""Days that are simulated, in a minute or two of one core; days of which every sweep is, in some seconds."""


class State(Enum):
    """What nodes and Saffire get from a registry."""

    UP = auto()
    PRIVATE = auto()
    DOWN = auto()
    GONE = auto()
    BROKEN = auto()

    @property
    def can_pull(self) -> bool:
        """Whether nodes can pull the image."""
        return self in {State.UP, State.PRIVATE}


CAUSES = {State.DOWN: Cause.REFUSED, State.GONE: Cause.ABSENT, State.BROKEN: Cause.PARTIAL}


@dataclass(frozen=True)
class Schedule:
    """The states of a registry, each for so many seconds, repeated over the day."""

    turns: tuple[tuple[int, State], ...]

    def changes(self) -> Iterator[tuple[int, State]]:
        """Yield each change of a day, as its second and the new state."""
        at, before = 0, None
        for seconds, state in cycle(self.turns):
            if at > DAY:
                return
            if state is not before:
                yield at, state
            at, before = at + seconds, state


def cooldown(failed: list[int]) -> int:
    """Return the cooldown of a reference that failed at these seconds, in order."""
    recent = sum(failed[-1] - second <= HOUR for second in failed)
    return COOLDOWNS[min(recent, len(COOLDOWNS)) - 1]


lengths = st.one_of(st.integers(20, 300), st.integers(300, 6 * HOUR))
schedules = st.lists(st.tuples(lengths, st.sampled_from(State)), min_size=1, max_size=12).map(tuple).map(Schedule)


@dataclass
class Day:
    """
    One Deployment whose pods always pull, and registries by schedule; all times are seconds of the day.

    Args:
        registries: the schedule of each repository's registry.
        verification: that of the source.
        skips: whether sweeps are skipped that find the same as the one before.

    """

    registries: tuple[Schedule, ...]
    verification: str
    skips: bool = True
    moves: list[tuple[int, str, str, State]] = field(default_factory=list, init=False)
    """Second, image before, image after, and the state of the second image's registry."""
    failing: list[tuple[int, int]] = field(default_factory=list, init=False)
    """Start and end of each time in which no pod could pull."""
    _failed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list), init=False)
    """The seconds at which each image was replaced."""

    def __post_init__(self) -> None:
        repositories = REPOSITORIES[: len(self.registries)]
        suffix = f":1.2@{DIGEST}" if self.verification == "Strict" else ":1.2"
        self._sources = (source([*repositories], verification=self.verification),)
        self.changes = {
            f"{repository}{suffix}": list(schedule.changes())
            for repository, schedule in zip(repositories, self.registries, strict=True)
        }
        """For each image, the changes of its registry."""
        (self._replica_set, self._deployment) = chain("Deployment", web=next(iter(self.changes))).chain

    @property
    def image(self) -> str:
        """The image that the template names."""
        image: str = self._deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def state(self, image: str, second: int) -> State:
        """Return the state of an image's registry."""
        changes = self.changes[image]
        return changes[bisect_right(changes, second, key=itemgetter(0)) - 1][1]

    def run(self) -> None:
        """
        Run the day: a sweep every minute, and an Event as soon as a pull after a failover fails.

        A sweep is skipped if no registry has changed since the one before, and no cooldown ends.
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
            has_moved = self._repair(second)
            second = second + PULL if has_moved else self._next_sweep(second)
        if since is not None:
            self.failing.append((since, second))

    def _next_sweep(self, second: int) -> int:
        """
        Return the second of the next sweep that may find something else.

        That is the first sweep after a registry's change or after the end of a cooldown, or the last one before that
        end, at which the cooldown must not be over.
        """
        following = second - second % SWEEP + SWEEP
        if not self.skips:
            return following
        ends = [end for end in map(self._cooldown_end, self._failed) if end > second]
        sweeps = [sweep for end in ends for sweep in (end - 1 - (end - 1) % SWEEP, end + -end % SWEEP)]
        sweeps += [change + -change % SWEEP for change in (self._next_change(image, second) for image in self.changes)]
        return min((sweep for sweep in sweeps if sweep >= following), default=DAY)

    def _cooldown_end(self, image: str) -> int:
        """Return the end of an image's cooldown, by the rule and not by the code under test."""
        failed = self._failed[image]
        return failed[-1] + cooldown(failed)

    def _next_change(self, image: str, second: int) -> int:
        changes = self.changes[image]
        following = bisect_right(changes, second, key=itemgetter(0))
        return changes[following][0] if following < len(changes) else DAY

    def _repair(self, second: int) -> bool:
        """Decide about the failing pod as a repair does; return whether it was moved."""
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
        gathered = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=stuck,
            sources=self._sources,
            owners=Owners(chain=(replica_set, self._deployment)),
        )
        options = find_options(failure, gathered, now=now)
        assert isinstance(options, Options)
        answers = {candidate.image: self.answer(candidate.image, second) for candidate in options.usable}
        plan = pick(options, replace(gathered, evidence=Evidence(answers=answers)), now=now)
        if not isinstance(plan, Failover):
            return False
        ((patch,),) = render([(stuck, [plan])], now=now)
        self._deployment = patched(self._deployment, patch.operations)
        self.moves.append((second, image, self.image, self.state(self.image, second)))
        self._failed[image].append(second)
        return True

    def answer(self, image: str, second: int) -> Availability:
        """Return a registry's answer to Saffire."""
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
                # The manifest is there; only Strict checks the layers.
                return Incomplete("layer") if self.verification == "Strict" else Available(digest=DIGEST, suits=True)

    def up(self, image: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of each time in which the registry had the image, and said so."""
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
    """No failover breaks a cooldown or goes to a known bad image, and a registry that stays up is found."""
    day.run()
    assert_cooldowns_are_kept(day)
    assert [] == [move for move in day.moves if is_known_bad(day.answer(move[2], move[0]))]
    assert_an_available_image_is_found(day)


@given(days)
@settings(max_examples=OF_EACH_SWEEP, deadline=None)
def test_skipped_sweeps_change_nothing(day: Day) -> None:
    """With every sweep, the same failovers come at the same times."""
    whole = replace(day, skips=False)
    day.run()
    whole.run()
    assert whole.moves == day.moves
    assert [since for since, _ in whole.failing] == [since for since, _ in day.failing]


def assert_cooldowns_are_kept(day: Day) -> None:
    """Check that no image is tried again within its cooldown."""
    failed: dict[str, list[int]] = defaultdict(list)
    for second, before, after, _ in day.moves:
        if failed[after]:
            assert cooldown(failed[after]) <= second - failed[after][-1], day.moves
        failed[before].append(second)


def assert_an_available_image_is_found(day: Day) -> None:
    """Check that no pod waits longer than a sweep and a cooldown while a registry has the image all the time."""
    longest = SWEEP + COOLDOWNS[-1] + PULL * len(day.registries)
    for image in day.changes:
        for up_since, up_until in day.up(image):
            for since, until in day.failing:
                assert min(until, up_until) - max(since, up_since) <= longest, day.moves
