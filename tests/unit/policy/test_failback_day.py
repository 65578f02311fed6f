"""A day of an original that comes and goes, and of a function that is not always there: who returns, and when."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from saffire.kube.kinds import Kinds
from saffire.kube.manifest import Manifest
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered, decide
from saffire.policy.failback import OnAlternative, Returnable, find_on_alternative, next_batch, plan_return
from saffire.policy.original_health import why_unproven, with_proof, without_proof
from saffire.policy.patch import render
from saffire.policy.plan import Failover, Step
from saffire.policy.verification import Evidence
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
from saffire.record.audit import Audit
from saffire.record.events import FailoverRecord
from saffire.record.status import Review, status_after
from saffire.registry.availability import Availability, Available, NotFound, Throttled, Unreachable
from testkit.builders import FAILING, NOW, SECOND, Object, pod, source, source_manifest, workload
from testkit.rfc6902 import patched

MINUTES = 24 * 60
DIGEST = "sha256:" + 64 * "1"
THERE = Available(digest=DIGEST, suits=True)
OTHER = Available(digest="sha256:" + 64 * "2", suits=True)
AFTER = 30
"""Minutes."""
SPEC: dict[str, Any] = {"failBack": {"policy": "Automatic", "after": f"{AFTER}m"}}
GAP = timedelta(minutes=AFTER / 5 + 3)


@dataclass
class Day:
    """
    One StatefulSet whose pods pull every minute, and its original's registry.

    Args:
        answers: what the registry answers, for so many minutes each, over and over.
        absences: when the function begins to be away, and for how many minutes.

    """

    answers: tuple[tuple[int, Availability], ...]
    absences: tuple[tuple[int, int], ...]
    returns: list[int] = field(default_factory=list)
    failovers: list[int] = field(default_factory=list)
    looks: dict[int, Availability] = field(default_factory=dict)
    """What each sweep was answered that asked, by the minute."""

    def __post_init__(self) -> None:
        self._away = {minute + more for minute, length in self.absences for more in range(length)}
        self._answers = [answer for length, answer in self.answers for _ in range(length)]
        self._workload: Object = workload("StatefulSet", web=FAILING)
        self._source: Object = source_manifest(**SPEC)

    def answer(self, minute: int) -> Availability:
        """Return what the registry of the original says."""
        return self._answers[minute % len(self._answers)]

    def play(self) -> None:
        """Play the day: a sweep every minute in which the function is there."""
        for minute in sorted(set(range(MINUTES)) - self._away):
            if self._image() == SECOND:
                self._look(minute)
            elif self.answer(minute) is not THERE:
                self._fail(minute)

    def _image(self) -> str:
        image: str = self._workload["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def _fail(self, minute: int) -> None:
        failure = PullFailure(
            section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull", cause=Cause.REFUSED
        )
        scene = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=pod(web=FAILING),
            sources=(source(**SPEC),),
            owners=Owners(chain=(self._workload,)),
            evidence=Evidence(answers={SECOND: THERE}),
        )
        plan = decide(failure, scene, now=NOW + timedelta(minutes=minute))
        assert isinstance(plan, Failover)
        self._do(replace(plan, steps=(Step.TEMPLATE,)), minute)
        self.failovers.append(minute)

    def _look(self, minute: int) -> None:
        """Ask for the original, write down what is known, and return if it is time."""
        now = NOW + timedelta(minutes=minute)
        (entry,) = self._source["status"]["active"]
        away = find_on_alternative(entry, source(**SPEC), [source(**SPEC)], Kinds())
        assert isinstance(away, OnAlternative)
        self.looks[minute] = self.answer(minute)
        why = why_unproven(away.original, self.answer(minute), THERE, frozenset({DIGEST}))
        by_now = without_proof(entry, why) if why else with_proof(entry, away.patience, now=now)
        plan = plan_return(away, self._workload, Kinds())
        assert not isinstance(plan, str)
        ready = [] if why else [Returnable(container=away, entry=by_now, plan=plan)]
        self._write((), minute, lambda _: by_now)
        for chosen in next_batch(ready, active=1, on_the_way=0, now=now):
            self._do(chosen, minute)
            self.returns.append(minute)

    def _do(self, plan: Failover, minute: int) -> None:
        now = NOW + timedelta(minutes=minute)
        ((patch,),) = render([(pod(web=plan.failure.image), [plan])], now=now)
        self._write((FailoverRecord(failover=plan, at=now),), minute)
        self._workload = patched(self._workload, patch.operations)

    def _write(
        self,
        records: tuple[FailoverRecord, ...],
        minute: int,
        revised: Callable[[Manifest], Manifest] = lambda entry: entry,
    ) -> None:
        status = status_after(
            self._source, records, now=NOW + timedelta(minutes=minute), review=Review(revised=revised)
        )
        self._source = {**self._source, "status": status or self._source["status"]}

    @property
    def ledger(self) -> Audit:
        """The ledger of a look at the end of the day."""
        kept = Audit([self._source], [source(**SPEC)], Kinds(), namespace="shop")
        kept.observe_workload(self._workload)
        return kept


lengths = st.one_of(st.integers(1, 10), st.integers(10, 200))
kinds = st.sampled_from([THERE, THERE, Unreachable("refused"), NotFound(), Throttled(), OTHER])
days = st.builds(
    Day,
    st.lists(st.tuples(lengths, kinds), min_size=1, max_size=12).map(lambda answers: ((3, NotFound()), *answers)),
    st.lists(st.tuples(st.integers(0, MINUTES), lengths), max_size=8).map(tuple),
)


@given(days)
@settings(max_examples=60, deadline=None)
def test_nobody_returns_before_the_original_was_there_for_long_enough(day: Day) -> None:
    """By every look of that time, without a gap; and everybody does who could have."""
    day.play()
    for minute in day.returns:
        begun = minute - AFTER
        looks = [at for at in sorted(day.looks) if begun <= at <= minute]
        assert {day.looks[at] for at in looks} == {THERE}
        ends = [begun, *looks]
        assert max(timedelta(minutes=later - at) for at, later in zip(ends, looks, strict=False)) <= GAP
        since_failover = max(at for at in day.failovers if at < minute)
        assert minute - since_failover >= AFTER
    assert_nobody_waits_in_vain(day)
    assert [] == list(day.ledger.unrecorded(now=NOW + timedelta(minutes=MINUTES)))


def assert_nobody_waits_in_vain(day: Day) -> None:
    """See that no time was long enough, and watched all along, at whose end the workload was still away."""
    run = 0
    for minute in range(MINUTES):
        run = run + 1 if day.looks.get(minute) is THERE and minute not in day.returns else 0
        assert run <= AFTER
