"""The failover log: it does not matter how many failovers are added at once, and in which order."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import FailBack, Failover, Reversion, Step
from saffire.pulls.failure import PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.failover_log import SWITCHES, FailoverLog, active_of, container_key, switches_of
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, NOW, SECOND, THIRD, Object, annotated, moved, source, workload

WAYS = [(FAILING, SECOND), (SECOND, THIRD), (SECOND, FAILING), (THIRD, SECOND)]


@st.composite
def records(draw: st.DrawFn) -> FailoverRecord:
    """Draw a failover or a fail back of one of a few workloads within two hours."""
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


def add(records: list[FailoverRecord], status: Manifest) -> tuple[list[bool], Manifest]:
    """Add failovers to a status; return which of them were added, and the status after that."""
    log = FailoverLog(status)
    added = [log.add(record) for record in records]
    return added, {**status, **(log.fields if any(added) else {})}


@given(st.lists(records(), max_size=12), st.sampled_from([0, SWITCHES - 4, SWITCHES]))
def test_many_failovers_at_once_are_added_as_if_one_by_one(drawn: list[FailoverRecord], others: int) -> None:
    """It makes no difference whether the status is written in between."""
    crowd = [{"time": f"2026-11-23T03:{number:02}:00Z"} for number in range(others)]
    start: Manifest = {"switches": crowd} if crowd else {}
    one_by_one, status = [], start
    for drawn_record in drawn:
        added, status = add([drawn_record], status)
        one_by_one += added
    assert (one_by_one, status) == add(drawn, start)


@given(st.lists(records(), max_size=12))
def test_switches_are_in_order_and_no_container_is_active_twice(drawn: list[FailoverRecord]) -> None:
    """Failovers may be added in any order, and twice."""
    _, status = add([*drawn, *drawn], {})
    written = {"status": status}
    switches, active = switches_of(written), active_of(written)
    assert sorted(switches, key=lambda entry: str(entry["time"])) == switches
    assert len(set(map(container_key, active))) == len(active)


def switch(before: str, after: str, minute: int, uid: str = "uid-0", **fields: Any) -> Object:
    """Return the switch of a failover in that minute."""
    target = {"uid": uid, "container": "web"}
    return {"time": f"2026-11-23T02:0{minute}:00Z", "oldImage": before, "newImage": after, "target": target, **fields}


def record(kind: type[Failover], before: str, after: str, minute: int, container: str = "web") -> FailoverRecord:
    """Return the record of a failover or fail back of `uid-0` in that minute."""
    (candidate,) = (option for option in candidates(Reference.parse(before), [source()]) if option.image == after)
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
def test_a_container_that_is_back_is_active_no_longer(stays: bool, others: list[Object]) -> None:  # noqa: FBT001 - the row's answer
    """A fail back that is recorded after the next failover changes nothing in `active`."""
    entry = {"target": {"uid": "uid-0", "container": "web"}, "from": FAILING, "to": SECOND}
    _, status = add([record(FailBack, SECOND, FAILING, 1)], {"switches": others, "active": [entry]})
    assert [entry] * stays == status["active"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_failover_that_is_recorded_late_moves_no_container_back(order: tuple[int, int]) -> None:
    """Both failovers happened: the container is on the last alternative, and came from the original."""
    moves = [record(Failover, FAILING, SECOND, 1), record(Failover, SECOND, THIRD, 2)]
    status: Manifest = {}
    for number in order:
        _, status = add([moves[number]], status)
    assert [(FAILING, THIRD)] == [(entry["from"], entry["to"]) for entry in status["active"]]
    assert ["2026-11-23T02:01:00Z"] == [entry["since"] for entry in status["active"]]


def test_a_container_that_leaves_returns_and_leaves_within_a_second_is_active() -> None:
    """Times are whole seconds. By the fail back in between, a second failover is told from a repeated record."""
    leaves, back = record(Failover, FAILING, SECOND, 1), record(FailBack, SECOND, FAILING, 1)
    moved_before = annotated(
        dict(leaves.failover.workload), {ANNOTATION: History((moved(FAILING, SECOND),)).rendered()}
    )
    again = replace(leaves, failover=replace(leaves.failover, workload=moved_before))
    added, status = add([leaves, back, again, again], {})
    assert ([True, True, True, False], 3, 1) == (added, len(status["switches"]), len(status["active"]))


def test_switches_are_read_in_the_order_of_time() -> None:
    """Another writer may have left them in any other order."""
    switches = [switch(SECOND, THIRD, 2), switch(FAILING, SECOND, 1)]
    assert switches[::-1] == switches_of({"status": {"switches": switches}})


# Pods that were moved in place


def in_place(minute: int, *pods: str, **fields: Any) -> FailoverRecord:
    """Return the record of a failover of pods of `uid-0` in place, in that minute."""
    made = record(Failover, FAILING, SECOND, minute)
    return replace(made, failover=replace(made.failover, steps=(Step.PODS,), **fields), pods=pods)


def named(status: Manifest) -> list[list[str] | None]:
    """Return the names of the pods of each switch."""
    return [entry.get("pods") for entry in status["switches"]]


def test_a_switch_names_the_pods_that_were_moved_in_place() -> None:
    """A switch of a template names none."""
    _, status = add([in_place(0, "web-0", "web-1")], {})
    assert [["web-0", "web-1"]] == named(status)
    _, status = add([record(Failover, FAILING, SECOND, 0)], {})
    assert [None] == named(status)


def test_further_pods_of_a_failover_are_added_to_its_switch() -> None:
    """The pods of a workload fail one after the other, and are moved by one failover."""
    log = FailoverLog({})
    first = [log.add(in_place(0, "web-0")), log.add(in_place(1, "web-1")), log.add(in_place(2, "web-2"))]
    assert ([True, False, False], [["web-0", "web-1", "web-2"]]) == (first, named(log.fields))
    later = FailoverLog(log.fields)
    assert (False, False) == (later.add(in_place(0, "web-0")), later.has_changed)
    assert (False, True) == (later.add(in_place(3, "web-3")), later.has_changed)
    assert [["web-0", "web-1", "web-2"]] == named(log.fields)


def test_a_pod_that_is_moved_again_has_a_switch_of_its_own() -> None:
    """It was made anew under its name, with its old image."""
    added, status = add([in_place(0, "web-0", "web-1"), in_place(1, "web-0"), in_place(2, "web-1")], {})
    assert ([True, True, True], [["web-0", "web-1"], ["web-0"], ["web-1"]]) == (added, named(status))


def test_the_names_of_many_pods_are_bounded() -> None:
    """A DaemonSet may have thousands."""
    _, status = add([in_place(0, *(f"web-{number}" for number in range(100)))], {})
    log = FailoverLog(status)
    log.add(in_place(1, "another"))
    assert [16, 16] == [len(names or ()) for names in (*named(status), *named(log.fields))]
    assert "another" == (named(log.fields)[-1] or [""])[-1]


def test_pods_are_not_added_to_a_failover_of_the_template() -> None:
    """That one is known by the uid of the workload."""
    _, status = add([record(Failover, FAILING, SECOND, 0), in_place(1, "web-0")], {})
    assert [None] == named(status)


def test_a_template_that_is_moved_after_its_pods_is_the_same_failover() -> None:
    """Its switch names no pods any more: only such a switch tells that the template was moved."""
    log = FailoverLog({})
    added = [
        log.add(in_place(0, "web-0")),
        log.add(record(Failover, FAILING, SECOND, 1)),
        log.add(in_place(2, "web-1")),
    ]
    assert ([True, False, False], [None]) == (added, named(log.fields))
    assert log.has_changed


def test_the_note_about_pods_ends_when_their_template_moves() -> None:
    """It says why only pods were moved."""
    pods = in_place(0, "web-0")
    limited = replace(pods, failover=replace(pods.failover, note="its template stays"))
    added, status = add([limited, record(Failover, FAILING, SECOND, 1)], {})
    assert ([True, False], [None], [False]) == (added, named(status), ["note" in entry for entry in status["switches"]])
    moved_template = record(Failover, FAILING, SECOND, 1)
    costly = replace(moved_template, failover=replace(moved_template.failover, note="its rollout ends ready pods"))
    added, status = add([limited, costly], {})
    assert ([True, False], ["its rollout ends ready pods"]) == (added, [entry["note"] for entry in status["switches"]])


def test_a_template_that_was_undone_has_a_switch_for_each_failover() -> None:
    """Its history is lost, so only the decision knows that this failover repeats another."""
    first, second = record(Failover, FAILING, SECOND, 0), record(Failover, FAILING, SECOND, 1)
    undone = Reversion(
        workload=first.failover.workload, container="web", before=FAILING, after=SECOND, at=first.at, source="shop"
    )
    again = replace(second, failover=replace(second.failover, reversions=(undone,)))
    assert [True, False] == add([first, second], {})[0]
    assert [True, True] == add([first, again], {})[0]
