"""A day on which an original comes and goes, and the function is absent at times: when a workload returns."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from saffire.kube.kinds import Kinds
from saffire.kube.manifest import Manifest
from saffire.kube.workload import Owners
from saffire.policy.decide import Gathered
from saffire.policy.failback import OnAlternative, Returnable, find_on_alternative, next_batch, plan_return
from saffire.policy.original_health import why_unproven, with_proof, without_proof
from saffire.policy.patch import render
from saffire.policy.plan import Failover, Step
from saffire.policy.verification import Evidence
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.history_audit import Audit
from saffire.record.status import Review, status_after
from saffire.registry.availability import Availability, Available, NotFound, Throttled, Unreachable
from testkit.builders import FAILING, NOW, SECOND, Object, pod, source, source_manifest, workload
from testkit.decisions import decide
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
    One StatefulSet whose pods pull every minute, and the registry of its original.

    Args:
        answers: pairs of minutes and the registry's answer in that time, repeated over the day.
        absences: pairs of the minute at which the function becomes absent, and for how many minutes.

    """

    answers: tuple[tuple[int, Availability], ...]
    absences: tuple[tuple[int, int], ...]
    returns: list[int] = field(default_factory=list)
    failovers: list[int] = field(default_factory=list)
    observed: dict[int, Availability] = field(default_factory=dict)
    """The registry's answer to each sweep that asked, by the minute."""

    def __post_init__(self) -> None:
        self._absent = {start + minute for start, length in self.absences for minute in range(length)}
        self._answers = [answer for length, answer in self.answers for _ in range(length)]
        self._workload: Object = workload("StatefulSet", web=FAILING)
        self._source: Object = source_manifest(**SPEC)

    def answer(self, minute: int) -> Availability:
        """Return the answer of the original's registry."""
        return self._answers[minute % len(self._answers)]

    def run(self) -> None:
        """Run the day: a sweep every minute in which the function is present."""
        for minute in sorted(set(range(MINUTES)) - self._absent):
            if self._image() == SECOND:
                self._sweep(minute)
            elif self.answer(minute) is not THERE:
                self._fail(minute)

    def _image(self) -> str:
        image: str = self._workload["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def _fail(self, minute: int) -> None:
        failure = PullFailure(
            section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull", cause=Cause.REFUSED
        )
        gathered = Gathered(
            namespace={"metadata": {"name": "shop"}},
            pod=pod(web=FAILING),
            sources=(source(**SPEC),),
            owners=Owners(chain=(self._workload,)),
            evidence=Evidence(answers={SECOND: THERE}),
        )
        plan = decide(failure, gathered, now=NOW + timedelta(minutes=minute))
        assert isinstance(plan, Failover)
        self._patch(replace(plan, steps=(Step.TEMPLATE,)), minute)
        self.failovers.append(minute)

    def _sweep(self, minute: int) -> None:
        """Ask for the original, write the entry's proof, and return the workload if it is due."""
        now = NOW + timedelta(minutes=minute)
        (entry,) = self._source["status"]["active"]
        container = find_on_alternative(entry, source(**SPEC), [source(**SPEC)], Kinds())
        assert isinstance(container, OnAlternative)
        self.observed[minute] = self.answer(minute)
        why = why_unproven(container.original, self.answer(minute), THERE, frozenset({DIGEST}))
        revised_entry = without_proof(entry, why) if why else with_proof(entry, container.fail_back_after, now=now)
        plan = plan_return(container, self._workload, Kinds())
        assert not isinstance(plan, str)
        returnable = [] if why else [Returnable(container=container, entry=revised_entry, plan=plan)]
        self._write((), minute, lambda _: revised_entry)
        for chosen in next_batch(returnable, active=1, on_the_way=0, now=now):
            self._patch(chosen, minute)
            self.returns.append(minute)

    def _patch(self, plan: Failover, minute: int) -> None:
        now = NOW + timedelta(minutes=minute)
        ((patch,),) = render([(pod(web=plan.failure.image), [plan])], now=now)
        self._write((FailoverRecord(failover=plan, at=now, regarding=plan.workload),), minute)
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
    def audit(self) -> Audit:
        """The audit at the end of the day."""
        audit = Audit([self._source], [source(**SPEC)], Kinds(), namespace="shop")
        audit.observe_workload(self._workload)
        return audit


lengths = st.one_of(st.integers(1, 10), st.integers(10, 200))
answers = st.sampled_from([THERE, THERE, Unreachable("refused"), NotFound(), Throttled(), OTHER])
days = st.builds(
    Day,
    st.lists(st.tuples(lengths, answers), min_size=1, max_size=12).map(lambda drawn: ((3, NotFound()), *drawn)),
    st.lists(st.tuples(st.integers(0, MINUTES), lengths), max_size=8).map(tuple),
)


@given(days)
@settings(max_examples=60, deadline=None)
def test_no_workload_returns_before_the_original_was_healthy_for_long_enough(day: Day) -> None:
    """Every sweep of that time found it healthy, without a gap; and a workload returns as soon as it may."""
    day.run()
    for minute in day.returns:
        start = minute - AFTER
        sweeps = [at for at in sorted(day.observed) if start <= at <= minute]
        assert {day.observed[at] for at in sweeps} == {THERE}
        starts = [start, *sweeps]
        assert max(timedelta(minutes=later - at) for at, later in zip(starts, sweeps, strict=False)) <= GAP
        since_failover = max(at for at in day.failovers if at < minute)
        assert minute - since_failover >= AFTER
    assert_no_workload_waits_too_long(day)
    assert [] == list(day.audit.unrecorded(now=NOW + timedelta(minutes=MINUTES)))


def assert_no_workload_waits_too_long(day: Day) -> None:
    """Check that the workload returned whenever sweeps had found the original healthy for long enough without a gap."""
    healthy_minutes = 0
    for minute in range(MINUTES):
        healthy_minutes = healthy_minutes + 1 if day.observed.get(minute) is THERE and minute not in day.returns else 0
        assert healthy_minutes <= AFTER
