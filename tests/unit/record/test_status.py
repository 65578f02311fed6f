"""Status: what an AlternateImageSource says of itself and of what was done on its word."""

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import FailBack, Failover, Step
from saffire.policy.readiness import ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.pulls.failure import PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.readiness import ProbeResults
from saffire.record.status import Review, new_records, status_after
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from saffire.sources.spec import Source
from testkit.builders import (
    FAILING,
    NOW,
    SECOND,
    THIRD,
    Object,
    annotated,
    cluster_source_manifest,
    moved,
    source,
    source_manifest,
    workload,
)
from testkit.strategies import json_values, paths_into, replaced

MINUTE = timedelta(minutes=1)
LATER = NOW + timedelta(hours=1)
STEPS = (Step.TEMPLATE, Step.PODS)
PODS = (Step.PODS,)
ALL = source()


def failover(before: str, after: str, declared: Source = ALL, target: Object | None = None, **fields: Any) -> Failover:
    """Return a failover of the container `web` from one image to another."""
    (candidate,) = (c for c in candidates(Reference.parse(before), [declared]) if c.image == after)
    failure = PullFailure(section=Section.CONTAINERS, container="web", image=before, reason="ErrImagePull")
    found = Failover(failure=failure, candidate=candidate, workload=target or workload("StatefulSet"), steps=STEPS)
    return replace(found, **fields)


def status(*failovers: Failover, before: Manifest | None = None, now: datetime = NOW, **spec: Any) -> Any:
    """Return the status of the usual source after these failovers, one a minute."""
    manifest = {**source_manifest(**spec), **({"status": before} if before is not None else {})}
    records = [FailoverRecord(failover=one, at=now + timedelta(minutes=number)) for number, one in enumerate(failovers)]
    return status_after(manifest, records, now=now)


def moves(entries: Iterable[Any], before: str, after: str) -> list[tuple[str, str]]:
    """Return from where to where the entries tell of a move."""
    return [(entry[before], entry[after]) for entry in entries]


def switched(found: Any) -> list[tuple[str, str]]:
    """Return the moves of `switches`."""
    return moves(found.get("switches", ()), "oldImage", "newImage")


def active(found: Any) -> list[tuple[str, str]]:
    """Return the moves of `active`."""
    return moves(found.get("active", ()), "from", "to")


AWAY = failover(FAILING, SECOND)
ON = failover(SECOND, THIRD)
BACK = failover(SECOND, FAILING)
OBSERVED = replace(AWAY, observed=True)
PUT_BACK = replace(
    AWAY, workload=annotated(workload("StatefulSet"), {ANNOTATION: History((moved(FAILING, SECOND),)).rendered()})
)
CONTESTED = replace(AWAY, steps=PODS, note="argocd")
TARGET = {
    "name": "a-statefulset",
    "namespace": "shop",
    "type": {"group": "apps", "version": "v1", "kind": "StatefulSet"},
    "container": "web",
    "uid": "statefulset-uid",
}


# Failovers


def test_a_failover_is_a_switch_in_the_original_s_shape() -> None:
    """Whoever reads the Go project's status finds what it looks for, and more."""
    expected = {
        "time": "2026-11-23T02:00:00Z",
        "oldImage": FAILING,
        "newImage": SECOND,
        "target": TARGET,
        "reason": "ErrImagePull",
        "proof": "unverified",
        "observed": False,
    }
    found = status(AWAY)
    assert [expected] == found["switches"]
    assert "2026-11-23T02:00:00Z" == found["lastFailoverTime"]


def test_a_switch_says_what_an_operator_should_know_besides() -> None:
    """In printable characters, and no more of them than an operator reads."""
    (switch,) = status(replace(AWAY, note="put back by \x1b" + "x" * 2000))["switches"]
    assert "put back by \\x1b" + "x" * 1008 == switch["note"]


def test_who_runs_on_an_alternative_is_active() -> None:
    """With where it came from, where it is, and since when."""
    expected = {
        "target": TARGET,
        "container": "web",
        "from": FAILING,
        "to": SECOND,
        "since": "2026-11-23T02:00:00Z",
        "proof": "unverified",
    }
    found = status(AWAY)
    assert [expected] == found["active"]
    assert 1 == found["activeCount"]


def test_whoever_moves_on_keeps_its_origin_and_its_time() -> None:
    """`from` is what the author asked for, however many failovers ago."""
    found = status(AWAY, ON)
    assert [(FAILING, THIRD)] == active(found)
    assert ("2026-11-23T02:00:00Z", "2026-11-23T02:01:00Z") == (found["active"][0]["since"], found["lastFailoverTime"])
    assert [(FAILING, SECOND), (SECOND, THIRD)] == switched(found)


def test_whoever_is_back_at_the_original_is_active_no_longer() -> None:
    """The way back is a switch like any other."""
    found = status(AWAY, BACK)
    assert ([], 0) == (active(found), found["activeCount"])
    assert [(FAILING, SECOND), (SECOND, FAILING)] == switched(found)


RETURNED = FailBack(
    **{one.name: getattr(BACK, one.name) for one in fields(BACK)}
    | {"failure": replace(BACK.failure, reason="FailedBack"), "steps": (Step.TEMPLATE,)}
)


def test_whoever_returned_is_active_no_longer() -> None:
    """The switch says that this was no failure, and the last failover stays the one that it was."""
    found = status(AWAY, RETURNED)
    assert ([], 0, "2026-11-23T02:00:00Z") == (active(found), found["activeCount"], found["lastFailoverTime"])
    assert ["ErrImagePull", "FailedBack"] == [one["reason"] for one in found["switches"]]


def test_whoever_returned_may_fail_again() -> None:
    """And again; each time is told."""
    again = replace(PUT_BACK, steps=(Step.TEMPLATE,))
    found = status(AWAY, RETURNED, again, RETURNED, again)
    assert (5, 1) == (len(found["switches"]), found["activeCount"])


def test_a_return_that_is_told_late_undoes_no_later_failover() -> None:
    """It was left unrecorded, and the original failed again before anybody found that out."""
    known = status(AWAY, RETURNED, replace(PUT_BACK, steps=(Step.TEMPLATE,)))
    lost = {**known, "switches": [known["switches"][0], known["switches"][2]]}
    found = status_after(
        {**source_manifest(), "status": lost}, [FailoverRecord(failover=RETURNED, at=NOW + MINUTE)], now=LATER
    )
    assert found
    assert (3, [(FAILING, SECOND)]) == (len(found["switches"]), active(found))


PROOF = {"healthySince": "2026-11-23T01:40:00Z", "provenAt": "2026-11-23T01:58:00Z"}


def proved(found: Any) -> list[bool]:
    """Tell of each entry of `active` whether its original is proven."""
    return ["healthySince" in entry for entry in found["active"]]


@pytest.mark.parametrize(
    ("expected", "records"),
    [
        pytest.param([True, True, True], [], id="nothing"),
        pytest.param([True, True], [RETURNED], id="one that returned"),
        pytest.param([True, True, True], [OBSERVED], id="one that is only observed"),
        pytest.param([True, True, True], [AWAY], id="one that is known"),
        pytest.param([False, False, False], [ON], id="one that moved on"),
        pytest.param([False] * 4, [failover(FAILING, SECOND, target=workload("DaemonSet"))], id="another that failed"),
    ],
)
def test_a_failover_ends_every_proof(expected: list[bool], records: list[Failover]) -> None:
    """Whoever waits to return waits until all has been healthy for as long once more."""
    before = status(AWAY, *many(2))
    before["active"] = [{**entry, **PROOF} for entry in before["active"]]
    assert expected == proved(status(*records, before=before, now=NOW) or before)


def test_what_is_known_of_an_original_is_written_down() -> None:
    """By whoever asked; an entry that is not true any more is not asked about."""
    before = status(AWAY, *many(2))
    found = status_after(
        {**source_manifest(), "status": before},
        [],
        now=NOW,
        review=Review(
            is_active=lambda entry: entry["target"]["uid"] != "uid-0", revised=lambda entry: {**entry, **PROOF}
        ),
    )
    assert found
    assert (["statefulset-uid", "uid-1"], [True, True]) == (
        [e["target"]["uid"] for e in found["active"]],
        proved(found),
    )


def test_the_original_is_known_in_any_spelling() -> None:
    """The source may write `docker.io/library/nginx` where the workload's author wrote `nginx`."""
    hub = source(["docker.io/library/nginx", "quay.io/mirror/nginx"])
    away = failover("nginx:1", "quay.io/mirror/nginx:1", hub)
    back = failover("quay.io/mirror/nginx:1", "docker.io/library/nginx:1", hub)
    assert [] == active(status(away, back))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(failover(FAILING, SECOND, target=workload("DaemonSet")), id="another-workload"),
        pytest.param(
            replace(AWAY, failure=replace(AWAY.failure, container="other"), steps=PODS), id="another-container"
        ),
    ],
)
def test_each_container_of_each_workload_is_active_for_itself(other: Failover) -> None:
    """The way back of one says nothing of another."""
    assert 2 == status(AWAY, other)["activeCount"]
    assert [(FAILING, SECOND)] == active(status(AWAY, other, BACK))


def test_each_has_its_own_origin() -> None:
    """Who was moved first says nothing of where another came from, nor since when."""
    found = status(AWAY, failover(SECOND, THIRD, target=workload("DaemonSet")))
    assert [(FAILING, SECOND), (SECOND, THIRD)] == active(found)
    assert ["2026-11-23T02:00:00Z", "2026-11-23T02:01:00Z"] == [entry["since"] for entry in found["active"]]


def test_a_new_workload_of_the_same_name_is_another_one() -> None:
    """The uid tells them apart."""
    reborn = {**workload("StatefulSet"), "metadata": {**workload("StatefulSet")["metadata"], "uid": "another"}}
    assert 2 == status(AWAY, failover(FAILING, SECOND, target=reborn))["activeCount"]


# Repetitions


@pytest.mark.parametrize(
    ("expected", "failovers"),
    [
        pytest.param(1, [AWAY, replace(AWAY, steps=PODS)], id="the-next-pod-of-a-moved-workload"),
        pytest.param(1, [replace(AWAY, steps=PODS)] * 3, id="pod-after-pod"),
        pytest.param(1, [replace(AWAY, steps=PODS), AWAY], id="the-pod-of-another-delivery-was-recorded-first"),
        pytest.param(1, [AWAY, AWAY], id="two-deliveries-raced"),
        pytest.param(2, [AWAY, OBSERVED, AWAY], id="observed-between-two-that-raced"),
        pytest.param(2, [AWAY, PUT_BACK], id="a-template-that-was-put-back"),
        pytest.param(3, [AWAY, BACK, replace(AWAY, steps=PODS)], id="away-again"),
        pytest.param(1, [AWAY, AWAY, AWAY], id="the-same-again"),
        pytest.param(2, [AWAY, replace(ON, steps=PODS)], id="a-pod-that-went-on"),
        pytest.param(2, [AWAY, CONTESTED], id="a-template-that-is-left-alone-from-now-on"),
        pytest.param(2, [AWAY, CONTESTED, CONTESTED], id="pod-after-pod-of-such-a-template"),
        pytest.param(2, [AWAY, CONTESTED, replace(AWAY, steps=PODS)], id="nothing-to-note-any-more"),
        pytest.param(3, [AWAY, CONTESTED, replace(CONTESTED, note="flux")], id="put-back-by-somebody-else"),
        pytest.param(1, [OBSERVED] * 3, id="observed-at-every-event"),
        pytest.param(2, [OBSERVED, AWAY], id="observed-then-done"),
        pytest.param(2, [AWAY, OBSERVED], id="done-then-observed"),
        pytest.param(2, [OBSERVED, replace(ON, observed=True)], id="observed-elsewhere"),
    ],
)
def test_what_says_nothing_new_is_not_a_switch(expected: int, failovers: list[Failover]) -> None:
    """Fifty pods of one workload, or a day of observing, do not push out the history."""
    assert expected == len(status(*failovers)["switches"])


@pytest.mark.parametrize(
    ("repeats", "again", "after"),
    [
        pytest.param(True, replace(AWAY, steps=PODS), timedelta(hours=1), id="pods-of-one-outage"),
        pytest.param(False, replace(AWAY, steps=PODS), timedelta(hours=1, seconds=1), id="another-outage"),
        pytest.param(True, AWAY, timedelta(hours=1), id="a-template-that-followed-its-pods"),
        pytest.param(False, AWAY, timedelta(hours=1, seconds=1), id="another-template"),
        pytest.param(False, PUT_BACK, timedelta(seconds=1), id="put-back-at-once"),
        pytest.param(True, PUT_BACK, timedelta(0), id="put-back-and-told-twice"),
        pytest.param(True, OBSERVED, timedelta(days=9), id="observed-for-days"),
    ],
)
def test_a_repetition_has_its_time(repeats: bool, again: Failover, after: timedelta) -> None:  # noqa: FBT001 - the row's expectation
    """What is patched pod by pod, or pods and then their template, is one failover for an hour."""
    first = OBSERVED if again.observed else replace(AWAY, steps=again.steps)
    found = status(again, before=status(first), now=NOW + after)
    assert repeats is (found is None)


def test_a_repetition_is_told_by_the_list_of_those_that_run_on_an_alternative_too() -> None:
    """Fifty other failovers may have pushed the switch out."""
    for again in (replace(AWAY, steps=PODS), CONTESTED):
        once = status(again)
        crowd = {**once, "switches": status(*many(50))["switches"]}
        assert crowd["switches"] == (status(again, before=crowd) or crowd)["switches"]


def test_what_is_observed_moves_nobody() -> None:
    """Neither `active` nor the time of the last failover knows of it."""
    found = status(OBSERVED)
    assert [True] == [switch["observed"] for switch in found["switches"]]
    assert not {"active", "activeCount", "lastFailoverTime"} & found.keys()


def test_the_same_records_again_change_nothing() -> None:
    """Pods in place and observations may come any number of times."""
    once = status(replace(AWAY, steps=PODS), OBSERVED)
    assert status(replace(AWAY, steps=PODS), OBSERVED, before=once, now=LATER) is None


# Bounds


def many(number: int) -> list[Failover]:
    """Return failovers of that many workloads."""
    found = []
    for count in range(number):
        target = workload("StatefulSet")
        target["metadata"]["uid"] = f"uid-{count}"
        found.append(failover(FAILING, SECOND, target=target))
    return found


@pytest.mark.parametrize(("field", "kept"), [("switches", 50), ("active", 100)])
def test_the_lists_keep_the_newest(field: str, kept: int) -> None:
    """The status stays small in any storm."""
    found = status(*many(120))
    assert [f"uid-{number}" for number in range(120 - kept, 120)] == [e["target"]["uid"] for e in found[field]]
    assert 100 == found["activeCount"]


def test_what_is_recorded_late_takes_its_place_by_its_time() -> None:
    """Else what fell out of the list would seem to be missing, and would be recorded again and again."""
    late, *others = many(3)
    records = [FailoverRecord(failover=one, at=NOW + timedelta(minutes=number)) for number, one in enumerate(others, 1)]
    found: Any = status_after(source_manifest(), [*records, FailoverRecord(failover=late, at=NOW)], now=LATER)
    assert ["uid-0", "uid-1", "uid-2"] == [one["target"]["uid"] for one in found["switches"]]
    assert "2026-11-23T02:02:00Z" == found["lastFailoverTime"]


def test_a_last_failover_that_cannot_be_read_is_written_anew() -> None:
    """Whatever another writer left there."""
    assert "2026-11-23T02:00:00Z" == status(AWAY, before={"lastFailoverTime": 7})["lastFailoverTime"]


def test_what_is_observed_does_not_turn_a_full_list_round_and_round() -> None:
    """Where more is observed than fits, the first tell enough for an hour; a failover still has its place."""
    crowd = [replace(one, observed=True) for one in many(60)]
    full = status(*crowd)
    assert [f"uid-{number}" for number in range(50)] == [one["target"]["uid"] for one in full["switches"]]
    again = [FailoverRecord(failover=one, at=NOW + timedelta(minutes=5)) for one in crowd]
    assert status_after({**source_manifest(), "status": full}, again, now=NOW) is None
    done = status(AWAY, before=full, now=NOW + timedelta(minutes=55))
    assert (50, False) == (len(done["switches"]), done["switches"][-1]["observed"])
    later = status(crowd[-1], before=full, now=NOW + timedelta(minutes=61))
    assert "uid-59" == later["switches"][-1]["target"]["uid"]


def test_a_list_that_grew_too_long_elsewhere_is_cut() -> None:
    """Whoever wrote it."""
    entry = status(AWAY)["switches"][0]
    assert 50 == len(status(ON, before={"switches": [entry] * 80})["switches"])


# What others left in the status


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "text",
        7,
        [],
        {"target": "web"},
        {"target": {"uid": 7}},
        {"target": {"container": []}},
        {"newImage": 1},
        {"newImage": "a.io/a:1", "to": 1},
        {"container": 1},
        {"to": {}},
        {"from": 1},
        {"since": 1},
        {"time": 1},
    ],
)
@pytest.mark.parametrize("field", ["switches", "active"])
def test_an_entry_that_cannot_be_read_is_dropped(entry: Any, field: str) -> None:
    """It does not keep the others from being read, nor a failover from being recorded."""
    good = status(many(1)[0])
    found = status(AWAY, before={**good, field: [entry, *good[field]]})
    assert 2 == len(found[field])
    assert entry not in found[field]


def test_the_go_project_s_entries_are_kept() -> None:
    """They have neither container nor uid, and are a history all the same."""
    theirs = {
        "time": "2026-01-01T00:00:00Z",
        "oldImage": "a.io/a:1",
        "newImage": "b.io/b:1",
        "target": {"name": "web", "type": {"group": "apps/v1", "kind": "Deployment"}},
    }
    assert [("a.io/a:1", "b.io/b:1"), (FAILING, SECOND)] == switched(status(AWAY, before={"switches": [theirs]}))


def test_fields_of_others_stay() -> None:
    """A newer version may have written them."""
    assert {"later": [1]} == status(AWAY, before={"new": {"later": [1]}})["new"]


ENTRIES = {field: status(AWAY)[field] for field in ("switches", "active")}


@given(st.sampled_from(["switches", "active"]), st.data(), json_values())
def test_no_entry_keeps_a_failover_from_being_recorded(field: str, data: st.DataObject, value: Any) -> None:
    """Any value at any place of an older entry, or of the list itself: the new one is written."""
    way = data.draw(paths_into(ENTRIES[field]))
    found = status(ON, before={**ENTRIES, field: replaced(ENTRIES[field], way, value)})
    assert [(SECOND, THIRD)] == switched({"switches": found["switches"][-1:]})


# Conditions


NOBODY_ASKED = "registries have not been asked about the images in use"


def conditions(found: Any) -> list[tuple[str, str, str]]:
    """Return type, status and reason of each condition."""
    return [(one["type"], one["status"], one["reason"]) for one in found["conditions"]]


@pytest.mark.parametrize(
    ("ready", "message", "spec"),
    [
        pytest.param(
            ("True", "Ready"),
            "verification: Off asks no registry, so that nothing is proven",
            {"verification": "Off"},
            id="off",
        ),
        pytest.param(
            ("False", "Observing"), "mode: Observe records and patches nothing", {"mode": "Observe"}, id="observing"
        ),
        pytest.param(("Unknown", "Unverified"), NOBODY_ASKED, {}, id="best-effort"),
        pytest.param(("Unknown", "Unverified"), NOBODY_ASKED, {"verification": "Strict"}, id="strict"),
        pytest.param(("False", "Paused"), "mode: Paused stops every failover", {"mode": "Paused"}, id="paused"),
    ],
)
def test_a_source_says_what_would_stop_a_failover_today(
    ready: tuple[str, str], message: str, spec: dict[str, Any]
) -> None:
    """`Accepted` is about the spec, `Ready` about the present."""
    found = status(**spec)
    assert [("Accepted", "True", "Valid"), ("Ready", *ready)] == conditions(found)
    assert ["", message] == [condition["message"] for condition in found["conditions"]]
    assert {3} == {found["observedGeneration"], *(one["observedGeneration"] for one in found["conditions"])}


def test_a_bad_source_is_told_all_its_faults() -> None:
    """It got past validation; its status says what is wrong, and that nothing happens until then."""
    found = status_after(source_manifest(["nginx"], mode="Off"), [], now=NOW)
    assert [("Accepted", "False", "Invalid"), ("Ready", "False", "Invalid")] == conditions(found)
    assert found
    assert (
        "spec.imageSourceReplacements[0].equivalentRepositories: wants 2 to 32 entries; "
        "spec.mode: wants one of Enforce, Observe, Paused"
    ) == found["conditions"][0]["message"]
    assert "nothing fails over on its word until it is valid" == found["conditions"][1]["message"]


def test_a_cluster_wide_source_is_told_what_is_wrong_with_its_selector() -> None:
    """In its own status, since it selects no namespace where anybody would look."""
    found: Any = status_after(cluster_source_manifest(namespaceSelector={"matchLabels": []}), (), now=NOW)
    accepted, ready = found["conditions"]
    assert ("False", "spec.namespaceSelector.matchLabels: not an object") == (accepted["status"], accepted["message"])
    assert "False" == ready["status"]


def test_a_bad_source_s_message_has_an_end() -> None:
    """Sixty-four sets of faults do not make a status that the API server refuses."""
    found = status_after(source_manifest(*[["é", "é"]] * 64), [], now=NOW)
    assert found
    assert 1020 < len(found["conditions"][0]["message"].encode()) <= 1024


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    """Another reason or message is no transition, another status is one."""
    first = status(verification="Off")
    known = [{**one, "message": "as of an older version"} for one in first["conditions"]]
    then = status(before={**first, "conditions": known}, now=LATER, verification="Off")
    last = status(before=then, now=LATER, mode="Paused")
    times = [[one["lastTransitionTime"] for one in found["conditions"]] for found in (first, then, last)]
    before, after = "2026-11-23T02:00:00Z", "2026-11-23T03:00:00Z"
    assert [[before, before], [before, before], [before, after]] == times


def test_a_condition_without_a_time_gets_one() -> None:
    """The API server demands it."""
    found = status(before={"conditions": [{"type": "Accepted", "status": "True"}]})
    assert ["2026-11-23T02:00:00Z"] * 2 == [one["lastTransitionTime"] for one in found["conditions"]]


# Readiness


def inspected(manifest: Object, *, state: ReadinessState | None = None) -> ProbeResults:
    """Return what a look finds where one image is in use, with what was just answered of its first equivalent."""
    found = ProbeResults.of([manifest], (ImageUse(image=FAILING),))
    return replace(found, answers={found.pairs(manifest)[0].key: state}) if state else found


def test_readiness_and_its_condition_are_written_together() -> None:
    """What registries answered is in the status, and `Ready` says what it means."""
    manifest = source_manifest()
    found = status_after(manifest, [], now=NOW, probe_results=inspected(manifest, state=ReadinessState.READY))
    assert found
    assert (1, 1) == (found["readiness"]["images"], found["readiness"]["ready"])
    assert ("Ready", "True", "Ready") == conditions(found)[1]
    again = {**manifest, "status": found}
    assert status_after(again, [], now=LATER, probe_results=inspected(again)) is None
    assert status_after(again, [], now=LATER) is None


def test_a_repair_in_an_incident_leaves_readiness_as_it_is() -> None:
    """It has not looked at what is in use."""
    manifest = source_manifest()
    before = status_after(manifest, [], now=NOW, probe_results=inspected(manifest, state=ReadinessState.READY))
    found = status(AWAY, before=before, now=LATER)
    assert before
    assert (before["readiness"], before["conditions"]) == (found["readiness"], found["conditions"])


def test_readiness_speaks_of_the_spec_that_is_told() -> None:
    """Once the spec has changed, only a look at the new one can tell; what an older one found is not taken for it."""
    manifest = source_manifest()
    before = status_after(manifest, [], now=NOW, probe_results=inspected(manifest, state=ReadinessState.READY))
    changed = {**manifest, "status": before, "metadata": {**manifest["metadata"], "generation": 4}}
    for probe_results in (None, inspected(manifest, state=ReadinessState.READY)):
        found = status_after(changed, [], now=LATER, probe_results=probe_results)
        assert found
        assert "readiness" not in found
        assert ("Ready", "Unknown", "Unverified") == conditions(found)[1]
    found = status_after(changed, [], now=LATER, probe_results=inspected(changed))
    assert found
    assert ("Ready", "True", "Ready") == conditions(found)[1]
    late = inspected(manifest, state=ReadinessState.ABSENT)
    assert status_after({**changed, "status": found}, [], now=LATER, probe_results=late) is None


def test_whoever_asks_nobody_has_no_readiness() -> None:
    """Paused, it would be out of date tomorrow."""
    manifest = source_manifest()
    before = status_after(manifest, [], now=NOW, probe_results=inspected(manifest, state=ReadinessState.READY))
    paused = {**source_manifest(mode="Paused"), "status": before}
    found = status_after(paused, [], now=LATER, probe_results=ProbeResults.of([paused], ()))
    assert found
    assert "readiness" not in found


# Writing


def test_a_status_that_is_up_to_date_is_not_written() -> None:
    """A look that changes nothing costs no request."""
    assert status(before=status(AWAY), now=LATER) is None


def test_a_new_generation_is_observed() -> None:
    """Whoever waits for the spec to be seen can wait for this."""
    manifest = source_manifest()
    manifest["metadata"]["generation"] = 4
    found = status_after({**manifest, "status": status()}, [], now=LATER)
    assert found
    assert 4 == found["observedGeneration"]


def test_what_was_read_is_not_changed() -> None:
    """The caller may compare, and try again after a conflict."""
    before = status(AWAY)
    again = status(AWAY)
    status(ON, BACK, before=before)
    assert again == before


# News


def test_only_what_the_status_does_not_tell_is_news() -> None:
    """A failover that is told in parts, its pods here and its template there, is news once."""
    parts = (replace(AWAY, steps=(Step.TEMPLATE,)), replace(AWAY, steps=(Step.PODS,)))
    records = [FailoverRecord(failover=part, at=NOW) for part in parts]
    assert (records[0],) == new_records(source_manifest(), records)
    assert () == new_records({**source_manifest(), "status": status(AWAY)}, records)
    onward = FailoverRecord(failover=ON, at=LATER)
    assert (onward,) == new_records({**source_manifest(), "status": status(AWAY)}, [*records, onward])
