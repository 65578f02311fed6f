"""Switches: it does not matter how many failovers are told at once."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import FailBack, Failover, Step
from saffire.pulls.failure import PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.failover_log import SWITCHES, FailoverLog, active_of, container_key, switches_of
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, NOW, SECOND, THIRD, Object, annotated, moved, source, workload

WAYS = [(FAILING, SECOND), (SECOND, THIRD), (SECOND, FAILING), (THIRD, SECOND)]


@st.composite
def records(draw: st.DrawFn) -> FailoverRecord:
    """Draw what may happen to one of a few workloads within two hours, in any order."""
    before, after = draw(st.sampled_from(WAYS))
    kind = draw(st.sampled_from([Failover, Failover, FailBack]))
    drawn = record(kind, before, after, draw(st.integers(0, 120)), draw(st.sampled_from(["web", "side"])))
    target = dict(drawn.failover.workload)
    target["metadata"] = {**target["metadata"], "uid": f"uid-{draw(st.integers(0, 3))}"}
    if draw(st.booleans()):
        target = annotated(target, {ANNOTATION: History((moved(before, after),)).rendered()})
    failover = replace(
        drawn.failover,
        workload=target,
        steps=draw(st.sampled_from([(Step.TEMPLATE,), (Step.PODS,)])),
        observed=kind is Failover and draw(st.booleans()),
        note=draw(st.sampled_from(["", "argocd"])),
    )
    return replace(drawn, failover=failover)


def told(found: list[FailoverRecord], status: Manifest) -> tuple[list[bool], Manifest]:
    """Return which of these failovers are news to a status, and the status that tells of them."""
    switches = FailoverLog(status)
    news = [switches.add(record) for record in found]
    return news, {**status, **(switches.fields if any(news) else {})}


@given(st.lists(records(), max_size=12), st.sampled_from([0, SWITCHES - 4, SWITCHES]))
def test_many_at_once_are_told_as_one_after_the_other(found: list[FailoverRecord], others: int) -> None:
    """It makes no difference whether the status was written in between."""
    crowd = [{"time": f"2026-11-23T03:{number:02}:00Z"} for number in range(others)]
    start: Manifest = {"switches": crowd} if crowd else {}
    one_by_one, status = [], start
    for record in found:
        news, status = told([record], status)
        one_by_one += news
    assert (one_by_one, status) == told(found, start)


@given(st.lists(records(), max_size=12))
def test_the_list_is_in_order_and_nobody_is_away_twice(found: list[FailoverRecord]) -> None:
    """They may come in any order, and twice."""
    _, status = told([*found, *found], {})
    written = {"status": status}
    switches, active = switches_of(written), active_of(written)
    assert sorted(switches, key=lambda one: str(one["time"])) == switches
    assert len(set(map(container_key, active))) == len(active)


def switch(before: str, after: str, minute: int, uid: str = "uid-0", **fields: Any) -> Object:
    """Return the entry of a move of that minute."""
    target = {"uid": uid, "container": "web"}
    return {"time": f"2026-11-23T02:0{minute}:00Z", "oldImage": before, "newImage": after, "target": target, **fields}


def record(kind: type[Failover], before: str, after: str, minute: int, container: str = "web") -> FailoverRecord:
    """Return what happened to `uid-0` in that minute."""
    (candidate,) = (one for one in candidates(Reference.parse(before), [source()]) if one.image == after)
    target = workload("StatefulSet")
    target["metadata"]["uid"] = "uid-0"
    failure = PullFailure(section=Section.CONTAINERS, container=container, image=before, reason="ErrImagePull")
    failover = kind(failure=failure, candidate=candidate, workload=target, steps=(Step.TEMPLATE,))
    return FailoverRecord(failover=failover, at=NOW + timedelta(minutes=minute))


@pytest.mark.parametrize(
    ("stays", "others"),
    [
        pytest.param(False, [], id="nothing else"),
        pytest.param(False, [switch(FAILING, SECOND, 0)], id="the way there"),
        pytest.param(True, [switch(FAILING, SECOND, 2)], id="it failed again since"),
        pytest.param(False, [switch(FAILING, SECOND, 2, "uid-1")], id="another one failed since"),
        pytest.param(False, [switch(FAILING, SECOND, 2, observed=True)], id="it was only observed"),
    ],
)
def test_whoever_is_back_is_away_no_longer(stays: bool, others: list[Object]) -> None:  # noqa: FBT001 - the row's expectation
    """A return that is told late, after the next failover, sends nobody home."""
    entry = {"target": {"uid": "uid-0", "container": "web"}, "from": FAILING, "to": SECOND}
    _, status = told([record(FailBack, SECOND, FAILING, 1)], {"switches": others, "active": [entry]})
    assert [entry] * stays == status["active"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_failover_that_is_told_late_leaves_everybody_where_they_are(order: tuple[int, int]) -> None:
    """Both moves happened: whoever moved on is on the last alternative, and came from the original."""
    moves = [record(Failover, FAILING, SECOND, 1), record(Failover, SECOND, THIRD, 2)]
    status: Manifest = {}
    for number in order:
        _, status = told([moves[number]], status)
    assert [(FAILING, THIRD)] == [(entry["from"], entry["to"]) for entry in status["active"]]
    assert ["2026-11-23T02:01:00Z"] == [entry["since"] for entry in status["active"]]


def test_who_leaves_returns_and_leaves_within_a_second_is_away() -> None:
    """Times are of whole seconds: what is told twice is told apart from what happens twice by what came in between."""
    away, back = record(Failover, FAILING, SECOND, 1), record(FailBack, SECOND, FAILING, 1)
    moved_before = annotated(dict(away.failover.workload), {ANNOTATION: History((moved(FAILING, SECOND),)).rendered()})
    again = replace(away, failover=replace(away.failover, workload=moved_before))
    news, status = told([away, back, again, again], {})
    assert ([True, True, True, False], 3, 1) == (news, len(status["switches"]), len(status["active"]))


def test_switches_are_read_in_the_order_of_time() -> None:
    """Another writer may have left them in any other."""
    found = [switch(SECOND, THIRD, 2), switch(FAILING, SECOND, 1)]
    assert found[::-1] == switches_of({"status": {"switches": found}})
