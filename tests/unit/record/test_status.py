"""The status of an AlternateImageSource: its conditions, and the failovers by it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest
from saffire.kube.workload import reference_of
from saffire.policy.history import ANNOTATION, History
from saffire.policy.plan import Failover, Step
from saffire.policy.readiness import ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.pulls.failure import PullFailure, Section
from saffire.record.events import FailoverRecord
from saffire.record.left import LeftContainer, LeftInNamespace
from saffire.record.readiness_status import ProbeResults
from saffire.record.status import RegistryAnswers, Review, answered_at, new_records, status_after
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


def failover(before: str, after: str, parsed: Source = ALL, target: Object | None = None, **fields: Any) -> Failover:
    """Return a failover of the container `web` from one image to another."""
    (candidate,) = (option for option in candidates(Reference.parse(before), [parsed]) if option.image == after)
    failure = PullFailure(section=Section.CONTAINERS, container="web", image=before, reason="ErrImagePull")
    plan = Failover(failure=failure, candidate=candidate, workload=target or workload("StatefulSet"), steps=STEPS)
    return replace(plan, **fields)


def record_of(failover: Failover, at: datetime = NOW) -> FailoverRecord:
    """Return the record of a failover at that time."""
    return FailoverRecord(failover=failover, at=at, regarding=failover.workload)


def status(*failovers: Failover, before: Manifest | None = None, now: datetime = NOW, **spec: Any) -> Any:
    """Return the status of the usual source after these failovers, one a minute."""
    manifest = {**source_manifest(**spec), **({"status": before} if before is not None else {})}
    records = [record_of(made, now + minute * MINUTE) for minute, made in enumerate(failovers)]
    return status_after(manifest, records, now=now)


def moves(entries: Iterable[Any], before: str, after: str) -> list[tuple[str, str]]:
    """Return from which image to which each entry leads."""
    return [(entry[before], entry[after]) for entry in entries]


def switched(written: Any) -> list[tuple[str, str]]:
    """Return the moves of `switches`."""
    return moves(written.get("switches", ()), "oldImage", "newImage")


def active(written: Any) -> list[tuple[str, str]]:
    """Return the moves of `active`."""
    return moves(written.get("active", ()), "from", "to")


FIRST = failover(FAILING, SECOND)
ON = failover(SECOND, THIRD)
BACK = failover(SECOND, FAILING)
OBSERVED = replace(FIRST, observed=True)
PUT_BACK = replace(
    FIRST, workload=annotated(workload("StatefulSet"), {ANNOTATION: History((moved(FAILING, SECOND),)).rendered()})
)
CONTESTED = replace(FIRST, steps=PODS, note="argocd")
TARGET = {
    "name": "a-statefulset",
    "namespace": "shop",
    "type": {"group": "apps", "version": "v1", "kind": "StatefulSet"},
    "container": "web",
    "uid": "statefulset-uid",
}


# Failovers


def test_a_failover_is_a_switch_in_the_original_s_shape() -> None:
    """A reader of the Go project's status finds the same fields, and more."""
    expected = {
        "time": "2026-11-23T02:00:00Z",
        "oldImage": FAILING,
        "newImage": SECOND,
        "target": TARGET,
        "reason": "ErrImagePull",
        "proof": "unverified",
        "observed": False,
    }
    written = status(FIRST)
    assert [expected] == written["switches"]
    assert "2026-11-23T02:00:00Z" == written["lastFailoverTime"]


def test_a_switch_has_the_note_for_the_operator() -> None:
    """It is printable, and at most 1024 characters long."""
    (switch,) = status(replace(FIRST, note="put back by \x1b" + "x" * 2000))["switches"]
    assert "put back by \\x1b" + "x" * 1008 == switch["note"]


def test_a_container_on_an_alternative_is_active() -> None:
    """Its entry has both images, and since when."""
    expected = {
        "target": TARGET,
        "container": "web",
        "from": FAILING,
        "to": SECOND,
        "since": "2026-11-23T02:00:00Z",
        "proof": "unverified",
    }
    written = status(FIRST)
    assert [expected] == written["active"]
    assert 1 == written["activeCount"]


def test_a_container_that_hangs_on_its_alternative_does_not_count() -> None:
    """It is in `left` instead: together they tell how many run, and how many do not."""
    owner = reference_of(workload("StatefulSet"))
    hangs = LeftContainer(
        source="shop",
        namespace="shop",
        owner=owner,
        container="web",
        image=SECOND,
        reason="NoCandidateLeft",
        message="repair one of the registries",
        since=NOW,
    )
    left = LeftInNamespace(namespace="shop", containers=(hangs,))
    manifest = {**source_manifest(), "status": status(FIRST)}
    written: Any = status_after(manifest, (), now=LATER, review=Review(left=left))
    assert (1, 0, 1) == (len(written["active"]), written["activeCount"], written["leftCount"])
    again: Any = status_after({**manifest, "status": written}, (), now=LATER)
    assert again is None
    runs = LeftInNamespace(namespace="shop")
    written = status_after({**manifest, "status": written}, (), now=LATER, review=Review(left=runs))
    assert (1, 1, 0) == (len(written["active"]), written["activeCount"], written["leftCount"])


def test_a_container_that_moves_on_keeps_its_original_and_its_time() -> None:
    """`from` is the image that the author wrote, however many failovers ago."""
    written = status(FIRST, ON)
    assert [(FAILING, THIRD)] == active(written)
    assert ("2026-11-23T02:00:00Z", "2026-11-23T02:01:00Z") == (
        written["active"][0]["since"],
        written["lastFailoverTime"],
    )
    assert [(FAILING, SECOND), (SECOND, THIRD)] == switched(written)


def test_a_container_that_is_back_at_the_original_is_active_no_longer() -> None:
    """The failover back is a switch like any other."""
    written = status(FIRST, BACK)
    assert ([], 0) == (active(written), written["activeCount"])
    assert [(FAILING, SECOND), (SECOND, FAILING)] == switched(written)


RETURNED = replace(BACK, failure=replace(BACK.failure, reason="FailedBack"), steps=(Step.TEMPLATE,), is_back=True)


def test_a_container_that_failed_back_is_active_no_longer() -> None:
    """The switch has the reason of a fail back, and `lastFailoverTime` does not change."""
    written = status(FIRST, RETURNED)
    assert ([], 0, "2026-11-23T02:00:00Z") == (active(written), written["activeCount"], written["lastFailoverTime"])
    assert ["ErrImagePull", "FailedBack"] == [switch["reason"] for switch in written["switches"]]


def test_a_container_that_failed_back_may_fail_again() -> None:
    """Each failover has a switch."""
    again = replace(PUT_BACK, steps=(Step.TEMPLATE,))
    written = status(FIRST, RETURNED, again, RETURNED, again)
    assert (5, 1) == (len(written["switches"]), written["activeCount"])


def test_a_fail_back_that_is_recorded_late_undoes_no_later_failover() -> None:
    """It was left unrecorded, and the original failed again before an audit."""
    complete = status(FIRST, RETURNED, replace(PUT_BACK, steps=(Step.TEMPLATE,)))
    lost = {**complete, "switches": [complete["switches"][0], complete["switches"][2]]}
    written = status_after({**source_manifest(), "status": lost}, [record_of(RETURNED, NOW + MINUTE)], now=LATER)
    assert written
    assert (3, [(FAILING, SECOND)]) == (len(written["switches"]), active(written))


PROOF = {"healthySince": "2026-11-23T01:40:00Z", "provenAt": "2026-11-23T01:58:00Z"}


def proved(written: Any) -> list[bool]:
    """Tell for each entry of `active` whether its original is proven."""
    return ["healthySince" in entry for entry in written["active"]]


@pytest.mark.parametrize(
    ("expected", "records"),
    [
        pytest.param([True, True, True], [], id="nothing"),
        pytest.param([True, True], [RETURNED], id="one that returned"),
        pytest.param([True, True, True], [OBSERVED], id="one that is only observed"),
        pytest.param([True, True, True], [FIRST], id="one that is recorded"),
        pytest.param([False, False, False], [ON], id="one that moved on"),
        pytest.param([False] * 4, [failover(FAILING, SECOND, target=workload("DaemonSet"))], id="another that failed"),
    ],
)
def test_a_failover_ends_every_proof(expected: list[bool], records: list[Failover]) -> None:
    """Containers that wait to return wait for the whole time again."""
    before = status(FIRST, *many(2))
    before["active"] = [{**entry, **PROOF} for entry in before["active"]]
    assert expected == proved(status(*records, before=before, now=NOW) or before)


def test_revised_entries_are_written() -> None:
    """An entry that is not true any more is removed."""
    before = status(FIRST, *many(2))
    written = status_after(
        {**source_manifest(), "status": before},
        [],
        now=NOW,
        review=Review(
            is_active=lambda entry: entry["target"]["uid"] != "uid-0", revised=lambda entry: {**entry, **PROOF}
        ),
    )
    assert written
    assert (["statefulset-uid", "uid-1"], [True, True]) == (
        [entry["target"]["uid"] for entry in written["active"]],
        proved(written),
    )


def test_the_original_is_recognised_in_any_spelling() -> None:
    """The source may write `docker.io/library/nginx` where the workload's author wrote `nginx`."""
    hub = source(["docker.io/library/nginx", "quay.io/mirror/nginx"])
    first = failover("nginx:1", "quay.io/mirror/nginx:1", hub)
    back = failover("quay.io/mirror/nginx:1", "docker.io/library/nginx:1", hub)
    assert [] == active(status(first, back))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(failover(FAILING, SECOND, target=workload("DaemonSet")), id="another-workload"),
        pytest.param(
            replace(FIRST, failure=replace(FIRST.failure, container="other"), steps=PODS), id="another-container"
        ),
    ],
)
def test_each_container_of_each_workload_is_active_for_itself(other: Failover) -> None:
    """The failover back of one does not change the entry of another."""
    assert 2 == status(FIRST, other)["activeCount"]
    assert [(FAILING, SECOND)] == active(status(FIRST, other, BACK))


def test_each_entry_has_its_own_original() -> None:
    """It also has its own time."""
    written = status(FIRST, failover(SECOND, THIRD, target=workload("DaemonSet")))
    assert [(FAILING, SECOND), (SECOND, THIRD)] == active(written)
    assert ["2026-11-23T02:00:00Z", "2026-11-23T02:01:00Z"] == [entry["since"] for entry in written["active"]]


def test_a_new_workload_of_the_same_name_is_another_one() -> None:
    """It has another uid."""
    reborn = {**workload("StatefulSet"), "metadata": {**workload("StatefulSet")["metadata"], "uid": "another"}}
    assert 2 == status(FIRST, failover(FAILING, SECOND, target=reborn))["activeCount"]


# Repetitions


@pytest.mark.parametrize(
    ("expected", "failovers"),
    [
        pytest.param(1, [FIRST, replace(FIRST, steps=PODS)], id="the-next-pod-of-a-moved-workload"),
        pytest.param(1, [replace(FIRST, steps=PODS)] * 3, id="pod-after-pod"),
        pytest.param(1, [replace(FIRST, steps=PODS), FIRST], id="the-pod-of-another-delivery-was-recorded-first"),
        pytest.param(1, [FIRST, FIRST], id="two-deliveries-raced"),
        pytest.param(2, [FIRST, OBSERVED, FIRST], id="observed-between-two-that-raced"),
        pytest.param(2, [FIRST, PUT_BACK], id="a-template-that-was-put-back"),
        pytest.param(3, [FIRST, BACK, replace(FIRST, steps=PODS)], id="moved-again"),
        pytest.param(1, [FIRST, FIRST, FIRST], id="the-same-again"),
        pytest.param(2, [FIRST, replace(ON, steps=PODS)], id="a-pod-that-went-on"),
        pytest.param(2, [FIRST, CONTESTED], id="a-template-that-is-left-alone-from-now-on"),
        pytest.param(2, [FIRST, CONTESTED, CONTESTED], id="pod-after-pod-of-such-a-template"),
        pytest.param(2, [FIRST, CONTESTED, replace(FIRST, steps=PODS)], id="nothing-to-note-any-more"),
        pytest.param(3, [FIRST, CONTESTED, replace(CONTESTED, note="flux")], id="put-back-by-somebody-else"),
        pytest.param(1, [OBSERVED] * 3, id="observed-at-every-event"),
        pytest.param(2, [OBSERVED, FIRST], id="observed-then-done"),
        pytest.param(2, [FIRST, OBSERVED], id="done-then-observed"),
        pytest.param(2, [OBSERVED, replace(ON, observed=True)], id="observed-elsewhere"),
    ],
)
def test_a_repetition_is_not_a_switch(expected: int, failovers: list[Failover]) -> None:
    """Fifty pods of one workload, or a day of observing, do not push other switches out."""
    assert expected == len(status(*failovers)["switches"])


@pytest.mark.parametrize(
    ("repeats", "again", "after"),
    [
        pytest.param(True, replace(FIRST, steps=PODS), timedelta(hours=1), id="pods-of-one-outage"),
        pytest.param(False, replace(FIRST, steps=PODS), timedelta(hours=1, seconds=1), id="another-outage"),
        pytest.param(True, FIRST, timedelta(hours=1), id="a-template-that-followed-its-pods"),
        pytest.param(False, FIRST, timedelta(hours=1, seconds=1), id="another-template"),
        pytest.param(False, PUT_BACK, timedelta(seconds=1), id="put-back-at-once"),
        pytest.param(True, PUT_BACK, timedelta(0), id="put-back-and-recorded-twice"),
        pytest.param(True, OBSERVED, timedelta(days=9), id="observed-for-days"),
    ],
)
def test_a_repetition_has_its_time(repeats: bool, again: Failover, after: timedelta) -> None:  # noqa: FBT001 - the row's expectation
    """Patches pod by pod, or of pods and then of their template, are one failover for an hour."""
    first = OBSERVED if again.observed else replace(FIRST, steps=again.steps)
    written = status(again, before=status(first), now=NOW + after)
    assert repeats is (written is None)


def test_a_repetition_is_recognised_by_active_too() -> None:
    """Fifty other failovers may have pushed the switch out."""
    for again in (replace(FIRST, steps=PODS), CONTESTED):
        once = status(again)
        crowd = {**once, "switches": status(*many(50))["switches"]}
        assert crowd["switches"] == (status(again, before=crowd) or crowd)["switches"]


def test_an_observed_failover_moves_no_container() -> None:
    """It changes neither `active` nor `lastFailoverTime`."""
    written = status(OBSERVED)
    assert [True] == [switch["observed"] for switch in written["switches"]]
    assert not {"active", "activeCount", "lastFailoverTime"} & written.keys()


def test_the_same_records_again_change_nothing() -> None:
    """Patches of pods and observations may be repeated any number of times."""
    once = status(replace(FIRST, steps=PODS), OBSERVED)
    assert status(replace(FIRST, steps=PODS), OBSERVED, before=once, now=LATER) is None


# Limits


def many(number: int) -> list[Failover]:
    """Return failovers of that many workloads."""
    made = []
    for count in range(number):
        target = workload("StatefulSet")
        target["metadata"]["uid"] = f"uid-{count}"
        made.append(failover(FAILING, SECOND, target=target))
    return made


@pytest.mark.parametrize(("field", "count"), [("switches", 50), ("active", 100)])
def test_the_lists_keep_the_newest(field: str, count: int) -> None:
    """The status stays small in any storm."""
    written = status(*many(120))
    assert [f"uid-{number}" for number in range(120 - count, 120)] == [
        entry["target"]["uid"] for entry in written[field]
    ]
    assert 100 == written["activeCount"]


def test_a_failover_that_is_recorded_late_is_inserted_by_its_time() -> None:
    """Otherwise a failover that fell out of the list would seem to be missing, and be recorded again and again."""
    late, *others = many(3)
    records = [record_of(other, NOW + minute * MINUTE) for minute, other in enumerate(others, 1)]
    written: Any = status_after(source_manifest(), [*records, record_of(late)], now=LATER)
    assert ["uid-0", "uid-1", "uid-2"] == [switch["target"]["uid"] for switch in written["switches"]]
    assert "2026-11-23T02:02:00Z" == written["lastFailoverTime"]


def test_a_last_failover_time_that_cannot_be_read_is_replaced() -> None:
    """Another writer may have left any value."""
    assert "2026-11-23T02:00:00Z" == status(FIRST, before={"lastFailoverTime": 7})["lastFailoverTime"]


def test_observed_failovers_do_not_rotate_a_full_list() -> None:
    """If more are observed than fit, the first are kept for an hour. A failover that is made is still added."""
    crowd = [replace(made, observed=True) for made in many(60)]
    full = status(*crowd)
    assert [f"uid-{number}" for number in range(50)] == [switch["target"]["uid"] for switch in full["switches"]]
    again = [record_of(observed, NOW + 5 * MINUTE) for observed in crowd]
    assert status_after({**source_manifest(), "status": full}, again, now=NOW) is None
    with_made = status(FIRST, before=full, now=NOW + timedelta(minutes=55))
    assert (50, False) == (len(with_made["switches"]), with_made["switches"][-1]["observed"])
    later = status(crowd[-1], before=full, now=NOW + timedelta(minutes=61))
    assert "uid-59" == later["switches"][-1]["target"]["uid"]


def test_a_list_that_is_too_long_is_cut() -> None:
    """Another writer may have made it so."""
    entry = status(FIRST)["switches"][0]
    assert 50 == len(status(ON, before={"switches": [entry] * 80})["switches"])


# Values of other writers


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
    """The other entries are read, and a failover is recorded."""
    good = status(many(1)[0])
    written = status(FIRST, before={**good, field: [entry, *good[field]]})
    assert 2 == len(written[field])
    assert entry not in written[field]


def test_the_go_project_s_entries_are_kept() -> None:
    """They have neither container nor uid, and are read all the same."""
    theirs = {
        "time": "2026-01-01T00:00:00Z",
        "oldImage": "a.io/a:1",
        "newImage": "b.io/b:1",
        "target": {"name": "web", "type": {"group": "apps/v1", "kind": "Deployment"}},
    }
    assert [("a.io/a:1", "b.io/b:1"), (FAILING, SECOND)] == switched(status(FIRST, before={"switches": [theirs]}))


def test_fields_of_others_stay() -> None:
    """A newer version may have written them."""
    assert {"later": [1]} == status(FIRST, before={"new": {"later": [1]}})["new"]


ENTRIES = {field: status(FIRST)[field] for field in ("switches", "active")}


@given(st.sampled_from(["switches", "active"]), st.data(), json_values())
def test_no_entry_keeps_a_failover_from_being_recorded(field: str, data: st.DataObject, value: Any) -> None:
    """
    The new entry is written, whatever value is at any path of an older entry or of the list itself.

    It is not always the last one: the older entry may have any text as its time.
    """
    path = data.draw(paths_into(ENTRIES[field]))
    written = status(ON, before={**ENTRIES, field: replaced(ENTRIES[field], path, value)})
    assert (SECOND, THIRD) in [(switch.get("oldImage"), switch.get("newImage")) for switch in written["switches"]]


# Conditions


NOT_ASKED = "registries have not been asked about the images in use"


def conditions(written: Any) -> list[tuple[str, str, str]]:
    """Return the type, status and reason of each condition."""
    return [(condition["type"], condition["status"], condition["reason"]) for condition in written["conditions"]]


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
        pytest.param(("Unknown", "Unverified"), NOT_ASKED, {}, id="best-effort"),
        pytest.param(("Unknown", "Unverified"), NOT_ASKED, {"verification": "Strict"}, id="strict"),
        pytest.param(("False", "Paused"), "mode: Paused stops every failover", {"mode": "Paused"}, id="paused"),
    ],
)
def test_a_source_says_what_would_stop_a_failover_today(
    ready: tuple[str, str], message: str, spec: dict[str, Any]
) -> None:
    """`Accepted` is about the spec, `Ready` about the present."""
    written = status(**spec)
    assert [("Accepted", "True", "Valid"), ("Ready", *ready)] == conditions(written)
    assert ["", message] == [condition["message"] for condition in written["conditions"]]
    assert {3} == {
        written["observedGeneration"],
        *(condition["observedGeneration"] for condition in written["conditions"]),
    }


def test_the_status_of_an_invalid_source_has_all_its_faults() -> None:
    """It got past validation. Its status says what is wrong, and that nothing fails over until that is mended."""
    written = status_after(source_manifest(["nginx"], mode="Off"), [], now=NOW)
    assert [("Accepted", "False", "Invalid"), ("Ready", "False", "Invalid")] == conditions(written)
    assert written
    assert (
        "spec.imageSourceReplacements[0].equivalentRepositories: wants 2 to 32 entries; "
        "spec.mode: wants one of Enforce, Observe, Paused"
    ) == written["conditions"][0]["message"]
    assert "Saffire uses this source for no failover until it is valid" == written["conditions"][1]["message"]


def test_the_status_of_a_cluster_wide_source_says_what_is_wrong_with_its_selector() -> None:
    """The source selects no namespace in which it could be seen otherwise."""
    written: Any = status_after(cluster_source_manifest(namespaceSelector={"matchLabels": []}), (), now=NOW)
    accepted, ready = written["conditions"]
    assert ("False", "spec.namespaceSelector.matchLabels: not an object") == (accepted["status"], accepted["message"])
    assert "False" == ready["status"]


def test_the_message_of_an_invalid_source_is_cut() -> None:
    """The API server accepts the status even if 64 sets have faults."""
    written = status_after(source_manifest(*[["é", "é"]] * 64), [], now=NOW)
    assert written
    assert 1020 < len(written["conditions"][0]["message"].encode()) <= 1024


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    """Another reason or message is no transition, another status is one."""
    first = status(verification="Off")
    older = [{**condition, "message": "as of an older version"} for condition in first["conditions"]]
    then = status(before={**first, "conditions": older}, now=LATER, verification="Off")
    last = status(before=then, now=LATER, mode="Paused")
    times = [
        [condition["lastTransitionTime"] for condition in written["conditions"]] for written in (first, then, last)
    ]
    before, after = "2026-11-23T02:00:00Z", "2026-11-23T03:00:00Z"
    assert [[before, before], [before, before], [before, after]] == times


def test_a_condition_without_a_time_gets_one() -> None:
    """The API server requires it."""
    written = status(before={"conditions": [{"type": "Accepted", "status": "True"}]})
    assert ["2026-11-23T02:00:00Z"] * 2 == [condition["lastTransitionTime"] for condition in written["conditions"]]


# Readiness


def probed(manifest: Object, *, state: ReadinessState | None = None) -> ProbeResults:
    """Return the results of a sweep with one image in use, and a new state of its first equivalent if there is one."""
    results = ProbeResults.of([manifest], (ImageUse(image=FAILING),))
    return replace(results, answers={results.pairs(manifest)[0].key: state}) if state else results


def test_readiness_and_its_condition_are_written_together() -> None:
    """The answers of registries are in the status, and `Ready` says what they mean."""
    manifest = source_manifest()
    written = status_after(manifest, [], now=NOW, probe_results=probed(manifest, state=ReadinessState.READY))
    assert written
    assert (1, 1) == (written["readiness"]["images"], written["readiness"]["ready"])
    assert ("Ready", "True", "Ready") == conditions(written)[1]
    again = {**manifest, "status": written}
    assert status_after(again, [], now=LATER, probe_results=probed(again)) is None
    assert status_after(again, [], now=LATER) is None


def test_a_repair_in_an_incident_leaves_readiness_as_it_is() -> None:
    """It has not counted the images in use."""
    manifest = source_manifest()
    before = status_after(manifest, [], now=NOW, probe_results=probed(manifest, state=ReadinessState.READY))
    written = status(FIRST, before=before, now=LATER)
    assert before
    assert (before["readiness"], before["conditions"]) == (written["readiness"], written["conditions"])


def test_readiness_is_of_the_observed_generation() -> None:
    """After a change of the spec, only results about the new spec count; late results about the old one do not."""
    manifest = source_manifest()
    before = status_after(manifest, [], now=NOW, probe_results=probed(manifest, state=ReadinessState.READY))
    changed = {**manifest, "status": before, "metadata": {**manifest["metadata"], "generation": 4}}
    for probe_results in (None, probed(manifest, state=ReadinessState.READY)):
        written = status_after(changed, [], now=LATER, probe_results=probe_results)
        assert written
        assert "readiness" not in written
        assert ("Ready", "Unknown", "Unverified") == conditions(written)[1]
    written = status_after(changed, [], now=LATER, probe_results=probed(changed))
    assert written
    assert ("Ready", "True", "Ready") == conditions(written)[1]
    late = probed(manifest, state=ReadinessState.ABSENT)
    assert status_after({**changed, "status": written}, [], now=LATER, probe_results=late) is None


def test_a_source_that_asks_no_registry_has_no_readiness() -> None:
    """The readiness of a paused source would soon be out of date."""
    manifest = source_manifest()
    before = status_after(manifest, [], now=NOW, probe_results=probed(manifest, state=ReadinessState.READY))
    paused = {**source_manifest(mode="Paused"), "status": before}
    written = status_after(paused, [], now=LATER, probe_results=ProbeResults.of([paused], ()))
    assert written
    assert "readiness" not in written


# Writing


def test_a_status_that_is_up_to_date_is_not_written() -> None:
    """A sweep that changes nothing sends no request."""
    assert status(before=status(FIRST), now=LATER) is None


def test_a_new_generation_is_observed() -> None:
    """A user can wait for that after a change of the spec."""
    manifest = source_manifest()
    manifest["metadata"]["generation"] = 4
    written = status_after({**manifest, "status": status()}, [], now=LATER)
    assert written
    assert 4 == written["observedGeneration"]


def test_the_status_that_was_read_is_not_changed() -> None:
    """The caller may compare it, and try again after a conflict."""
    before = status(FIRST)
    again = status(FIRST)
    status(ON, BACK, before=before)
    assert again == before


# New records


def test_only_records_that_the_status_does_not_have_are_new() -> None:
    """Of a failover with two records, one of its pods and one of its template, the first is new."""
    parts = (replace(FIRST, steps=(Step.TEMPLATE,)), replace(FIRST, steps=(Step.PODS,)))
    records = [record_of(part) for part in parts]
    assert (records[0],) == new_records(source_manifest(), records)
    assert () == new_records({**source_manifest(), "status": status(FIRST)}, records)
    onward = record_of(ON, LATER)
    assert (onward,) == new_records({**source_manifest(), "status": status(FIRST)}, [*records, onward])


# When registries last answered


def swept(before: Manifest | None, answered_at: dict[str, datetime], *, is_blind: bool | None = False) -> Any:
    """Return the status after a sweep, with what the instance knows of registries."""
    manifest = {**source_manifest(), **({"status": before} if before is not None else {})}
    registry_answers = RegistryAnswers(answered_at=answered_at, is_blind=is_blind)
    return status_after(manifest, (), now=LATER, review=Review(registry_answers=registry_answers))


def answered(written: Any) -> dict[str, datetime]:
    """Return when each registry last answered, as another instance reads it."""
    return answered_at([{**source_manifest(), "status": written}])


def test_the_status_says_when_a_listed_registry_last_answered() -> None:
    """Registries that the source does not list are left out."""
    written = swept(None, {"quay.io": NOW, "elsewhere.example": NOW})
    assert {"quay.io": NOW} == answered(written)


def test_the_time_of_a_registry_is_written_again_after_an_hour() -> None:
    """A status is not written every minute only since a registry answers."""
    before = swept(None, {"quay.io": NOW})
    assert swept(before, {"quay.io": NOW + 59 * MINUTE}) is None
    assert {"quay.io": LATER} == answered(swept(before, {"quay.io": LATER}))
    assert {"quay.io": NOW, "ghcr.io": LATER} == answered(swept(before, {"ghcr.io": LATER}))


def test_an_instance_that_was_answered_earlier_keeps_the_time_of_another() -> None:
    """Otherwise two instances would write the status in turns. A time of the future is nobody's."""
    before = swept(None, {"quay.io": NOW})
    assert swept(before, {"quay.io": NOW - MINUTE}) is None
    ahead = {**before, "registries": [{"registry": "quay.io", "answeredAt": "2030-01-01T00:00:00Z"}]}
    assert {"quay.io": NOW} == answered(swept(ahead, {"quay.io": NOW}))


def test_a_repair_without_a_sweep_keeps_the_times() -> None:
    """It knows nothing new of registries."""
    before = swept(None, {"quay.io": NOW})
    written = status(failover(FAILING, SECOND), before=before)
    assert {"quay.io": NOW} == answered(written)


@pytest.mark.parametrize("at", ["", "yesterday", 7, "0001-01-01T00:00:00+23:59"])
def test_a_time_that_cannot_be_read_counts_for_nothing(at: object) -> None:
    """Another writer may have left anything."""
    assert {} == answered({"registries": [{"registry": "quay.io", "answeredAt": at}]})


def test_a_source_says_that_no_registry_answers() -> None:
    """The condition is there from then on, and says when a registry answers again."""

    def condition(written: Any) -> list[tuple[str, str]]:
        return [
            (entry["status"], entry["reason"]) for entry in written["conditions"] if entry["type"] == "RegistriesAnswer"
        ]

    calm = swept(None, {"quay.io": NOW})
    assert [] == condition(calm)
    blind = swept(calm, {}, is_blind=True)
    assert [("False", "NoRegistryAnswers")] == condition(blind)
    assert [("False", "NoRegistryAnswers")] == condition(status(failover(FAILING, SECOND), before=blind))
    assert [("True", "Answered")] == condition(swept(blind, {"quay.io": NOW}))


def test_a_namespace_that_asked_no_registry_says_nothing_of_them() -> None:
    """A cluster-wide source is written for several namespaces: those that asked say whether registries answer."""
    blind = swept(None, {}, is_blind=True)
    assert swept(blind, {}, is_blind=None) is None
