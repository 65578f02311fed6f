"""Switches: it does not matter how many failovers are told at once."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from objects import FAILING, NOW, SECOND, THIRD, source, workload

from saffire.candidates import candidates
from saffire.failure import PullFailure, Section
from saffire.kinds import Step
from saffire.manifest import Manifest
from saffire.plan import FailBack, Failover
from saffire.record import Record
from saffire.reference import Reference
from saffire.switches import SWITCHES, Switches, active_of, switches_of

WAYS = [(FAILING, SECOND), (SECOND, THIRD), (SECOND, FAILING), (THIRD, SECOND)]


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Draw what may happen to one of a few workloads within two hours, in any order."""
    before, after = draw(st.sampled_from(WAYS))
    (candidate,) = (one for one in candidates(Reference.parse(before), [source()]) if one.image == after)
    target = workload("StatefulSet")
    target["metadata"]["uid"] = f"uid-{draw(st.integers(0, 3))}"
    kind = draw(st.sampled_from([Failover, Failover, FailBack]))
    failover = kind(
        failure=PullFailure(section=Section.CONTAINERS, container="web", image=before, reason="ErrImagePull"),
        candidate=candidate,
        workload=target,
        steps=draw(st.sampled_from([(Step.TEMPLATE,), (Step.PODS,)])),
        observed=kind is Failover and draw(st.booleans()),
        note=draw(st.sampled_from(["", "argocd"])),
    )
    return Record(failover=failover, at=NOW + timedelta(minutes=draw(st.integers(0, 120))))


def told(found: list[Record], status: Manifest) -> tuple[list[bool], Manifest]:
    """Return which of these failovers are news to a status, and the status that tells of them."""
    switches = Switches(status)
    news = [switches.add(record) for record in found]
    return news, {**status, **(switches.fields if any(news) else {})}


@given(st.lists(records(), max_size=12), st.sampled_from([0, SWITCHES - 4, SWITCHES]))
def test_many_at_once_are_told_as_one_after_the_other(found: list[Record], others: int) -> None:
    """Whoever wrote the status in between."""
    crowd = [{"time": f"2026-11-23T03:{number:02}:00Z"} for number in range(others)]
    start: Manifest = {"switches": crowd} if crowd else {}
    one_by_one, status = [], start
    for record in found:
        news, status = told([record], status)
        one_by_one += news
    assert (one_by_one, status) == told(found, start)


@given(st.lists(records(), max_size=12))
def test_the_list_is_in_order_and_nobody_is_away_twice(found: list[Record]) -> None:
    """However often it is delivered, and in whatever order it happened."""
    _, status = told([*found, *found], {})
    written = {"status": status}
    switches, active = switches_of(written), active_of(written)
    assert sorted(switches, key=lambda one: str(one["time"])) == switches
    assert len({one["target"]["uid"] for one in active}) == len(active)
