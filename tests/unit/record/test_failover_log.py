"""The failover log: it does not matter how many failovers are added at once, and in which order."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import Failover, Reversion, Step
from saffire.pulls.failure import PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.failover_log import SWITCHES, FailoverLog, active_of, switches_of
from saffire.record.reversions import recorded_moves
from saffire.record.status_lists import container_key
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, NOW, SECOND, THIRD, Object, annotated, moved, source, source_manifest, workload

WAYS = [(FAILING, SECOND), (SECOND, THIRD), (SECOND, FAILING), (THIRD, SECOND)]


@st.composite
def records(draw: st.DrawFn) -> FailoverRecord:
    """Draw a failover or a fail back of one of a few workloads within two hours."""
    before, after = draw(st.sampled_from(WAYS))
    is_back = draw(st.sampled_from([False, False, True]))
    minute, container = draw(st.integers(0, 120)), draw(st.sampled_from(["web", "side"]))
    drawn = record(before, after, minute, container, is_back=is_back)
    target = dict(drawn.failover.workload)
    names = {"namespace": draw(st.sampled_from(["shop", "bank"])), "uid": f"uid-{draw(st.integers(0, 3))}"}
    target["metadata"] = {**target["metadata"], **names}
    if draw(st.booleans()):
        target = annotated(target, {ANNOTATION: History((moved(before, after),)).rendered()})
    failover = replace(
        drawn.failover,
        workload=target,
        steps=draw(st.sampled_from([(Step.TEMPLATE,), (Step.PODS,)])),
        observed=not is_back and draw(st.booleans()),
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
    target = {"namespace": "shop", "uid": uid, "container": "web"}
    return {"time": f"2026-11-23T02:0{minute}:00Z", "oldImage": before, "newImage": after, "target": target, **fields}


def record(before: str, after: str, minute: int, container: str = "web", *, is_back: bool = False) -> FailoverRecord:
    """Return the record of a failover or fail back of `uid-0` in that minute."""
    (candidate,) = (option for option in candidates(Reference.parse(before), [source()]) if option.image == after)
    target = workload("StatefulSet")
    target["metadata"]["uid"] = "uid-0"
    failure = PullFailure(section=Section.CONTAINERS, container=container, image=before, reason="ErrImagePull")
    failover = Failover(failure=failure, candidate=candidate, workload=target, steps=(Step.TEMPLATE,), is_back=is_back)
    return FailoverRecord(failover=failover, at=NOW + timedelta(minutes=minute), regarding=target)


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
    entry = {"target": {"namespace": "shop", "uid": "uid-0", "container": "web"}, "from": FAILING, "to": SECOND}
    _, status = add([record(SECOND, FAILING, 1, is_back=True)], {"switches": others, "active": [entry]})
    assert [entry] * stays == status["active"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_failover_that_is_recorded_late_moves_no_container_back(order: tuple[int, int]) -> None:
    """Both failovers happened: the container is on the last alternative, and came from the original."""
    moves = [record(FAILING, SECOND, 1), record(SECOND, THIRD, 2)]
    status: Manifest = {}
    for number in order:
        _, status = add([moves[number]], status)
    assert [(FAILING, THIRD)] == [(entry["from"], entry["to"]) for entry in status["active"]]
    assert ["2026-11-23T02:01:00Z"] == [entry["since"] for entry in status["active"]]


def test_a_container_that_leaves_returns_and_leaves_within_a_second_is_active() -> None:
    """Times are whole seconds. By the fail back in between, a second failover is told from a repeated record."""
    leaves, back = record(FAILING, SECOND, 1), record(SECOND, FAILING, 1, is_back=True)
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
    made = record(FAILING, SECOND, minute)
    return replace(made, failover=replace(made.failover, steps=(Step.PODS,), **fields), pods=pods)


def named(status: Manifest) -> list[list[str] | None]:
    """Return the names of the pods of each switch."""
    return [entry.get("pods") for entry in status["switches"]]


def test_a_switch_names_the_pods_that_were_moved_in_place() -> None:
    """A switch of a template names none."""
    _, status = add([in_place(0, "web-0", "web-1")], {})
    assert [["web-0", "web-1"]] == named(status)
    _, status = add([record(FAILING, SECOND, 0)], {})
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
    _, status = add([record(FAILING, SECOND, 0), in_place(1, "web-0")], {})
    assert [None] == named(status)


def test_a_template_that_is_moved_after_its_pods_is_the_same_failover() -> None:
    """Its switch names no pods any more: only such a switch tells that the template was moved."""
    log = FailoverLog({})
    added = [
        log.add(in_place(0, "web-0")),
        log.add(record(FAILING, SECOND, 1)),
        log.add(in_place(2, "web-1")),
    ]
    assert ([True, False, False], [None]) == (added, named(log.fields))
    assert log.has_changed


def test_a_template_that_is_moved_after_its_pods_was_never_lost() -> None:
    """Its annotation has a later time than the switch: if somebody puts it back once, that is one reversion."""
    template = record(FAILING, SECOND, 1)
    _, status = add([in_place(0, "web-0"), template], {})
    recorded = recorded_moves([{**source_manifest(), "status": status}])
    history = History((moved(FAILING, SECOND, template.at),))
    assert history == history.with_lost(recorded.of_template(template.failover.workload))
    assert history != History().with_lost(recorded.of_template(template.failover.workload))


def test_the_note_about_pods_ends_when_their_template_moves() -> None:
    """It says why only pods were moved."""
    pods = in_place(0, "web-0")
    limited = replace(pods, failover=replace(pods.failover, note="its template stays"))
    added, status = add([limited, record(FAILING, SECOND, 1)], {})
    assert ([True, False], [None], [False]) == (added, named(status), ["note" in entry for entry in status["switches"]])
    moved_template = record(FAILING, SECOND, 1)
    costly = replace(moved_template, failover=replace(moved_template.failover, note="its rollout ends ready pods"))
    added, status = add([limited, costly], {})
    assert ([True, False], ["its rollout ends ready pods"]) == (added, [entry["note"] for entry in status["switches"]])


def test_a_template_that_was_undone_has_a_switch_for_each_failover() -> None:
    """Its history is lost, so only the decision knows that this failover repeats another."""
    first, second = record(FAILING, SECOND, 0), record(FAILING, SECOND, 1)
    undone = Reversion(
        workload=first.failover.workload, container="web", before=FAILING, after=SECOND, at=first.at, source="shop"
    )
    again = replace(second, failover=replace(second.failover, reversions=(undone,)))
    assert [True, False] == add([first, second], {})[0]
    assert [True, True] == add([first, again], {})[0]


# Tenants of a cluster-wide source


def of_tenant(namespace: str, number: int, minute: float, *, uid: str = "", **fields: Any) -> FailoverRecord:
    """Return the record of a failover of the workload with this number in a namespace, in that minute."""
    return _of_tenant(record(FAILING, SECOND, 0), namespace, uid or f"{namespace}-{number}", minute, **fields)


def back_of_tenant(namespace: str, uid: str, minute: float) -> FailoverRecord:
    """Return the record of a fail back of a workload of a namespace, in that minute."""
    return _of_tenant(record(SECOND, FAILING, 0, is_back=True), namespace, uid, minute)


def _of_tenant(made: FailoverRecord, namespace: str, uid: str, minute: float, **fields: Any) -> FailoverRecord:
    target = workload("StatefulSet")
    target["metadata"] |= {"namespace": namespace, "uid": uid}
    failover = replace(made.failover, workload=target, **fields)
    return replace(made, failover=failover, at=NOW + timedelta(minutes=minute))


def shares(status: Manifest, field: str) -> dict[str, int]:
    """Return how many entries of a list each namespace has."""
    return Counter(entry["target"]["namespace"] for entry in status[field])


@pytest.mark.parametrize("observed", [False, True])
def test_no_namespace_pushes_out_the_failovers_of_another(*, observed: bool) -> None:
    """A namespace with many failovers, before or after those of another, leaves the other its entries."""
    quiet = [of_tenant("quiet", number, 0, observed=observed) for number in range(3)]
    loud = [of_tenant("loud", number, 1, observed=observed) for number in range(300)]
    late = [of_tenant("late", number, 2, observed=observed) for number in range(2)]
    _, status = add([*quiet, *loud, *late], {})
    assert {"quiet": 3, "loud": 45, "late": 2} == shares(status, "switches")
    if not observed:
        assert {"quiet": 3, "loud": 95, "late": 2} == shares(status, "active")
    added, again = add([*quiet, *loud, *late], status)
    assert not any(added) or not observed
    assert {"quiet": 3, "late": 2} == {name: count for name, count in shares(again, "switches").items() if count < 9}


def test_a_list_that_others_made_too_long_loses_as_many_entries_of_each_namespace() -> None:
    """Another writer may list any number of failovers."""
    listed = [
        {**switch(FAILING, SECOND, 0), "target": {"namespace": name, "uid": f"{name}-{number}", "container": "web"}}
        for name in ("loud", "quiet")
        for number in range(30)
    ]
    _, status = add([of_tenant("late", 0, 1)], {"switches": listed})
    assert {"loud": 24, "quiet": 25, "late": 1} == shares(status, "switches")


def test_a_workload_that_claims_another_s_uid_is_another_one() -> None:
    """A pod's history names the workload, and users of another namespace may write one: `active` has both."""
    victim, claimed = of_tenant("quiet", 0, 0), of_tenant("loud", 0, 1, uid="quiet-0")
    returned = back_of_tenant("loud", "quiet-0", 2)
    added, status = add([victim, claimed], {})
    assert ([True, True], {"quiet": 1, "loud": 1}) == (added, shares(status, "active"))
    assert {"quiet": 1} == shares(add([returned], status)[1], "active")


# Entries of `active` that were lost


def active(status: Manifest) -> list[str]:
    """Return the uids of the workloads in `active`."""
    return [entry["target"]["uid"] for entry in status["active"]]


def restored(status: Manifest, names: range, *records_too: FailoverRecord, namespace: str = "quiet") -> Manifest:
    """Return a status after records, and after an audit found workloads of a namespace on alternatives."""
    log = FailoverLog(status)
    for added in records_too:
        log.add(added)
    _, known = add([of_tenant(namespace, number, number / 100) for number in names], {})
    log.restore_active(known["active"], moved=records_too)
    return {**status, **(log.fields if log.has_changed else {})}


def test_entries_that_active_lost_return_when_there_is_a_place() -> None:
    """Those that were moved last return first, and count as the oldest."""
    _, status = add([of_tenant("quiet", number, 5) for number in range(97, 101)], {})
    full = restored(status, range(97))
    assert [f"quiet-{number}" for number in range(1, 101)] == active(full)
    assert full == restored(full, range(97))
    assert status["switches"] == full["switches"]
    assert status["lastFailoverTime"] == full["lastFailoverTime"]


def test_a_namespace_with_fewer_entries_takes_a_place() -> None:
    """In the end both have as many, and the next audits of both change nothing."""
    _, crowded = add([of_tenant("loud", number, 5) for number in range(100)], {})
    fair = restored(crowded, range(70))
    assert {"loud": 50, "quiet": 50} == shares(fair, "active")
    assert fair == restored(restored(fair, range(100), namespace="loud"), range(70))


def test_an_entry_that_is_moved_again_is_not_restored() -> None:
    """The audit saw the container before a fail back that is recorded together with what the audit found."""
    _, known = add([of_tenant("quiet", 0, 0)], {})
    returned = back_of_tenant("quiet", "quiet-0", 2)
    assert [] == active(restored(known, range(1), returned))
    assert ["quiet-1"] == active(restored({}, range(2), returned))


def test_an_observed_failover_keeps_no_entry_away() -> None:
    """In mode Observe, a container that runs on an alternative stays there."""
    assert ["quiet-0"] == active(restored({}, range(1), of_tenant("quiet", 0, 0, observed=True)))
