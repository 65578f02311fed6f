"""The ledger: what histories tell and no status does, which templates are still to follow, and who is active."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.kinds import Kinds
from saffire.policy.history import ANNOTATION, FAILED_BACK, Entry, History, WorkloadName, timestamp
from saffire.policy.plan import FailBack, Step
from saffire.pulls.failure import Section
from saffire.record.audit import Audit
from saffire.record.failover_log import SWITCHES
from saffire.record.status import Review, status_after
from saffire.registry.availability import Proof
from saffire.sources.spec import Source
from testkit.builders import (
    FAILING,
    NOW,
    SECOND,
    THIRD,
    Object,
    annotated,
    cluster_source,
    cluster_source_manifest,
    moved,
    pod,
    source,
    source_manifest,
    workload,
)
from testkit.strategies import json_values, paths_into, replaced

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
WEB = WorkloadName(api_version="apps/v1", kind="DaemonSet", name="a-daemonset", uid="daemonset-uid")
TOLD: Object = {
    "time": timestamp(NOW),
    "oldImage": FAILING,
    "newImage": SECOND,
    "target": {
        "name": WEB.name,
        "namespace": "shop",
        "type": {"group": "apps", "version": "v1", "kind": WEB.kind},
        "container": "web",
        "uid": WEB.uid,
    },
    "reason": "ErrImagePull",
    "proof": "unverified",
}
ACTIVE: Object = {"target": TOLD["target"], "container": "web", "from": FAILING, "to": SECOND, "since": timestamp(NOW)}


def with_history(manifest: Object, *entries: Entry) -> Object:
    """Return an object whose annotation tells of these failovers."""
    return annotated(manifest, {ANNOTATION: History(entries).rendered()})


def daemon_set(*entries: Entry, image: str = SECOND) -> Object:
    """Return the workload, whose template names the image and whose annotation tells of these failovers."""
    return with_history(workload("DaemonSet", web=image), *entries)


def freed(name: str = "web-0", image: str = SECOND, section: str = "containers", **fields: Any) -> Object:
    """Return a pod of the workload that was moved in place, with what is to be told of that."""
    found = pod(section=section, web=image)
    owner = {"apiVersion": WEB.api_version, "kind": WEB.kind, "name": WEB.name, "uid": WEB.uid, "controller": True}
    found["metadata"] |= {"name": name, "uid": f"{name}-uid", "ownerReferences": [owner]}
    known: dict[str, Any] = {"workload": WEB, "template_next": True, **fields}
    return with_history(found, moved(FAILING, SECOND, **known))


def ledger(
    *workloads: Object, pods: Iterable[Object] = (), parsed: Iterable[Source] | None = None, **status: Any
) -> Audit:
    """Return the ledger of a namespace with these objects, and one source with that status."""
    manifest = {**source_manifest(), "status": status}
    kept = Audit([manifest], [source()] if parsed is None else parsed, Kinds(), namespace="shop")
    for one in pods:
        kept.observe_pod(one)
    for one in workloads:
        kept.observe_workload(one)
    return kept


def told(kept: Audit, now: datetime = NOW) -> list[tuple[str, str, str, tuple[Step, ...], str]]:
    """Return what is to be told: workload, from, to, steps, and the name of the object where operators look for it."""
    return [
        (
            record.failover.workload["metadata"]["name"],
            record.failover.failure.image,
            record.failover.candidate.image,
            record.failover.steps,
            where["metadata"]["name"],
        )
        for record, where in kept.unrecorded(now=now)
    ]


AWAY = moved(FAILING, SECOND)
MOVED = (WEB.name, FAILING, SECOND, (Step.TEMPLATE,), WEB.name)


# Untold failovers of templates


def test_a_template_s_failover_that_no_status_tells_of_is_told() -> None:
    """A process that ended after the patch and before the record loses nothing."""
    kept = ledger(daemon_set(moved(FAILING, SECOND, NOW - MINUTE, reason="ErrImagePull")))
    assert [MOVED] == told(kept)
    ((record, _),) = kept.unrecorded(now=NOW)
    assert (NOW - MINUTE, "ErrImagePull") == (record.at, record.failover.failure.reason)


def test_what_is_told_is_not_told_again() -> None:
    """The status is held against the history, and whatever both tell of is complete."""
    assert [] == told(ledger(daemon_set(AWAY), switches=[TOLD]))


def test_a_record_that_came_later_than_the_patch_tells_of_it() -> None:
    """Pods that were freed first may be recorded with another second than their template has."""
    assert [] == told(ledger(daemon_set(moved(FAILING, SECOND, NOW - MINUTE)), switches=[TOLD]))


@pytest.mark.parametrize(
    "other",
    [
        {"newImage": THIRD},
        {"observed": True},
        {"target": {**TOLD["target"], "uid": "another"}},
        {"target": {**TOLD["target"], "container": "proxy"}},
        {"time": timestamp(NOW - 2 * HOUR)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_is_told_of_something_else_does_not_count(other: dict[str, Any]) -> None:
    """Another image, a mere observation, another workload, container or day are other failovers."""
    assert [MOVED] == told(ledger(daemon_set(AWAY), switches=[{**TOLD, **other}]))


def test_of_two_alike_the_one_that_is_missing_is_told() -> None:
    """Somebody put the old image back, and of the two moves away from it the newer one was never recorded."""
    again = moved(FAILING, SECOND, NOW + MINUTE)
    kept = ledger(daemon_set(AWAY, again), switches=[TOLD])
    ((record, _),) = kept.unrecorded(now=NOW + MINUTE)
    assert again.at == record.at
    # Whoever writes it tells a repetition from a second move by what the history was before.
    assert (AWAY,) == History.of(record.failover.workload).entries


def test_moves_onward_are_told_each() -> None:
    """Two alternatives that failed in turn are two failovers."""
    kept = ledger(daemon_set(AWAY, moved(SECOND, THIRD, NOW + MINUTE), image=THIRD))
    assert {(FAILING, SECOND), (SECOND, THIRD)} == {one[1:3] for one in told(kept, NOW + MINUTE)}


# Untold failovers of pods


FREED = (WEB.name, FAILING, SECOND, (Step.PODS,), "web-0")


def test_a_pod_s_failover_that_no_status_tells_of_is_told_at_the_pod() -> None:
    """The pod's own history names the workload, so that the record does too."""
    kept = ledger(pods=[freed()])
    assert [FREED] == told(kept)
    ((record, _),) = kept.unrecorded(now=NOW)
    expected = {"name": WEB.name, "namespace": "shop", "uid": WEB.uid}
    assert ("apps/v1", "DaemonSet", expected) == tuple(
        record.failover.workload[key] for key in ("apiVersion", "kind", "metadata")
    )


def test_pods_of_one_workload_are_one_failover() -> None:
    """However many pods were freed, their workload failed over once."""
    assert [FREED] == told(ledger(pods=[freed(), freed("web-1")]))


def test_a_pod_whose_template_moved_too_is_not_told_of() -> None:
    """The template's own entry stands for its pods."""
    assert [MOVED] == told(ledger(daemon_set(AWAY), pods=[freed()]))
    assert [] == told(ledger(daemon_set(AWAY), pods=[freed()], switches=[TOLD]))


def test_a_pod_that_is_told_of_is_not_told_of_again() -> None:
    """The status tells of the workload, and not of its pods."""
    assert [] == told(ledger(pods=[freed(), freed("web-1")], switches=[TOLD]))


def test_a_pod_s_entry_of_an_older_form_is_not_told() -> None:
    """Without its workload, nobody could say what was moved."""
    assert [] == told(ledger(pods=[freed(workload=None)]))


@pytest.mark.parametrize("section", [Section.CONTAINERS, Section.INIT_CONTAINERS])
def test_the_record_of_a_pod_knows_the_sort_of_container(section: Section) -> None:
    """An init container is found where the pod has it."""
    ((record, _),) = ledger(pods=[freed(section=section)]).unrecorded(now=NOW)
    assert section == record.failover.failure.section


# What is not told any more


@pytest.mark.parametrize(("age", "expected"), [(HOUR - MINUTE, 1), (HOUR, 0)])
def test_after_an_hour_nothing_is_told_any_more(age: timedelta, expected: int) -> None:
    """An entry that old was recorded, or will not be."""
    assert expected == len(told(ledger(daemon_set(AWAY)), NOW + age))
    assert expected == len(told(ledger(pods=[freed()]), NOW + age))


@pytest.mark.parametrize(("ahead", "expected"), [(5 * MINUTE, 1), (6 * MINUTE, 0)])
def test_what_claims_to_come_from_the_future_is_not_told(ahead: timedelta, expected: int) -> None:
    """It would stand in the status for ever, and push out what is told of others; clocks may differ by minutes."""
    assert expected == len(told(ledger(daemon_set(AWAY)), NOW - ahead))
    assert expected == len(told(ledger(pods=[freed()]), NOW - ahead))
    assert expected == len(unfinished(ledger(pods=[freed()]), NOW - ahead))


def test_nobody_is_told_of_a_container_that_is_not_there() -> None:
    """Whoever may annotate a workload could make up hundreds."""
    entry = replace(AWAY, container="made-up")
    known: dict[str, Any] = {"workload": WEB, "template_next": True}
    assert [] == told(ledger(daemon_set(entry), pods=[with_history(freed(), replace(entry, **known))]))


@pytest.mark.parametrize(("others", "expected"), [(SWITCHES - 1, 1), (SWITCHES, 0)])
def test_what_newer_switches_have_pushed_out_is_not_told_again(others: int, expected: int) -> None:
    """A status keeps 50: what is older than the oldest of them was there, and would be pushed out again."""
    target = {**TOLD["target"], "uid": "another"}
    switches = [{**TOLD, "target": target, "time": timestamp(NOW + MINUTE)}] * others
    assert expected == len(told(ledger(daemon_set(AWAY), switches=switches), NOW + MINUTE))
    assert expected == len(told(ledger(pods=[freed()], switches=switches), NOW + MINUTE))


@pytest.mark.parametrize(
    "entry", [replace(AWAY, source="gone"), replace(AWAY, after="UPPER:1")], ids=["source", "image"]
)
def test_what_no_source_stands_for_is_not_told(entry: Entry) -> None:
    """The source was deleted since, or somebody else wrote into the annotation."""
    assert [] == told(ledger(daemon_set(entry)))


def test_a_source_that_became_invalid_is_told_of_nothing() -> None:
    """Nothing more happens on its word."""
    assert [] == told(ledger(daemon_set(AWAY), parsed=[]))


def test_a_proof_of_another_version_is_none() -> None:
    """A proof that this version does not know is not passed on."""
    ((record, _),) = ledger(daemon_set(replace(AWAY, proof="signed"))).unrecorded(now=NOW)
    assert Proof.UNVERIFIED is record.failover.proof


def test_an_object_without_a_history_tells_nothing() -> None:
    """Most workloads never failed over."""
    assert [] == told(ledger(workload("DaemonSet"), pods=[pod()]))


@pytest.mark.parametrize("seen", ["template", "pod", "both"])
def test_nothing_is_told_twice(seen: str) -> None:
    """Once the status is written, the same look finds nothing to add."""
    workloads = [daemon_set(AWAY)] if seen != "pod" else []
    pods = [freed()] if seen != "template" else []
    first = ledger(*workloads, pods=pods)
    records = [record for record, _ in first.unrecorded(now=NOW)]
    status = status_after(source_manifest(), records, now=NOW)
    assert status
    assert (1, 1) == (len(status["switches"]), len(status["active"]))
    second = ledger(*workloads, pods=pods, **status)
    assert [] == told(second)
    written = {**source_manifest(), "status": status}
    assert status_after(written, (), now=NOW + MINUTE, review=Review(is_active=second.is_active)) is None


# Unfinished templates


def unfinished(kept: Audit, now: datetime = NOW) -> list[tuple[str, str]]:
    """Return the pods that stand for a template that is to follow them, and the image that failed."""
    return [(case.pod["metadata"]["name"], case.failures[0].image) for case in kept.unfinished(now=now)]


def test_a_template_that_was_to_follow_its_pods_is_found() -> None:
    """A process that ended in between leaves a workload whose next pods would fail."""
    assert [("web-1", FAILING)] == unfinished(ledger(pods=[freed(), freed("web-1")]))


NOT_UNFINISHED = {
    "the template has followed": ledger(daemon_set(AWAY), pods=[freed()]),
    "no template was to follow": ledger(pods=[freed(template_next=False)]),
    "somebody gave the pod another image": ledger(pods=[freed(image=THIRD)]),
    "somebody put the pod's image back": ledger(pods=[freed(image=FAILING)]),
    "it was long ago": ledger(pods=[freed(at=NOW - HOUR)]),
    "the pod has no such container": ledger(pods=[freed(container="other")]),
}


@pytest.mark.parametrize("kept", NOT_UNFINISHED.values(), ids=NOT_UNFINISHED)
def test_nothing_is_to_follow_when(kept: Audit) -> None:
    """What is done, was never wanted, or was overtaken by somebody else is left as it is."""
    assert [] == unfinished(kept)


# Who is active


@pytest.mark.parametrize(
    ("workloads", "pods", "expected"),
    [
        ([daemon_set(AWAY)], [], True),
        ([daemon_set(AWAY, image=FAILING)], [], False),
        ([daemon_set(AWAY, image=FAILING)], [freed()], True),
        ([], [freed()], True),
        ([], [freed(image=FAILING)], False),
        ([], [], False),
    ],
    ids=["template", "put back", "put back, a pod is left", "pod", "pod put back", "gone"],
)
def test_who_runs_on_the_alternative_is_active(workloads: list[Object], pods: list[Object], *, expected: bool) -> None:
    """An entry of `active` is true as long as the template, or a pod, names the alternative."""
    assert expected == ledger(*workloads, pods=pods, active=[ACTIVE]).is_active(ACTIVE)


def test_of_who_is_active_in_another_namespace_nothing_is_known() -> None:
    """The status of a cluster-wide source tells of many; one that does not say where is of this one."""
    elsewhere = {**ACTIVE, "target": {**TOLD["target"], "namespace": "bank"}}
    nowhere = {**ACTIVE, "target": {key: value for key, value in TOLD["target"].items() if key != "namespace"}}
    found = [ledger(active=[one]).is_active(one) for one in (elsewhere, nowhere, ACTIVE)]
    assert [True, False, False] == found


def wide_ledger(*workloads: Object, **status: Any) -> Audit:
    """Return the ledger of a namespace that has one cluster-wide source, of the same name as its own."""
    own, wide = source_manifest(), {**cluster_source_manifest(), "status": status}
    kept = Audit([own, wide], [source(), cluster_source()], Kinds(), namespace="shop")
    for one in workloads:
        kept.observe_workload(one)
    return kept


def test_two_sources_of_one_name_and_two_kinds_are_kept_apart() -> None:
    """A history names the kind of a cluster-wide one, so each status is held against its own moves."""
    name = "ClusterAlternateImageSource/shop"
    wide = daemon_set(replace(AWAY, source=name))
    assert [name] == [
        record.failover.candidate.source.name for record, _ in wide_ledger(wide).unrecorded(now=NOW + MINUTE)
    ]
    assert [] == told(wide_ledger(wide, switches=[TOLD]), NOW + MINUTE)
    assert [MOVED] == told(wide_ledger(daemon_set(AWAY), switches=[TOLD]), NOW + MINUTE)


def test_what_fell_out_of_a_full_list_is_not_told_again() -> None:
    """However many namespaces share a status: what is told late takes its place by time, and one round is enough."""
    moves = [replace(AWAY, at=NOW + timedelta(seconds=number)) for number in range(2 * SWITCHES)]
    workloads = []
    for number, move in enumerate(moves):
        moved_one = daemon_set(replace(move, source="ClusterAlternateImageSource/shop"))
        moved_one["metadata"] |= {"name": f"web-{number}", "uid": f"uid-{number}"}
        workloads.append(moved_one)
    status: Any = {}
    rounds = 0
    # Each namespace by itself, in an order that has nothing to do with time.
    for shuffled in (workloads[::7], workloads[::-3], workloads, workloads):
        for one in shuffled:
            kept = wide_ledger(one, **status)
            records = [record for record, _ in kept.unrecorded(now=NOW + HOUR / 2)]
            manifest = {**cluster_source_manifest(), "status": status}
            status = status_after(manifest, records, now=NOW) or status
            rounds += len(records)
    assert [f"uid-{number}" for number in range(SWITCHES, 2 * SWITCHES)] == [
        one["target"]["uid"] for one in status["switches"]
    ]
    assert all(not list(wide_ledger(one, **status).unrecorded(now=NOW + HOUR / 2)) for one in workloads)
    assert rounds <= len(workloads)


def test_a_bare_pod_is_active_itself() -> None:
    """Without a workload, the pod is the target."""
    entry = {**ACTIVE, "target": {**TOLD["target"], "uid": "pod-uid"}}
    assert ledger(pods=[pod(web=SECOND)], active=[entry]).is_active(entry)


def test_the_pods_of_others_are_not_its() -> None:
    """A pod of another workload says nothing of this one, even with the same image."""
    stranger = pod(web=SECOND)
    assert not ledger(pods=[stranger], active=[ACTIVE]).is_active(ACTIVE)


# Who is to return

RETURNED = moved(SECOND, FAILING, NOW + MINUTE, proof="equal digest", reason=FAILED_BACK)
PROVEN = {**ACTIVE, "healthySince": timestamp(NOW), "provenAt": timestamp(NOW)}
AUTOMATIC = source(failBack={"policy": "Automatic"})


def test_a_fail_back_that_no_status_tells_of_is_told_as_one() -> None:
    """A process that ended after that patch loses nothing either, and whoever is back is active no longer."""
    kept = ledger(daemon_set(AWAY, RETURNED, image=FAILING), switches=[TOLD], active=[PROVEN])
    ((record, where),) = kept.unrecorded(now=NOW + MINUTE)
    assert (FailBack, FAILED_BACK, Proof.EQUAL) == (
        type(record.failover),
        record.failover.failure.reason,
        record.failover.proof,
    )
    assert WEB.name == where["metadata"]["name"]
    written = {**source_manifest(), "status": {"switches": [TOLD], "active": [PROVEN]}}
    status = status_after(written, [record], now=NOW + MINUTE, review=Review(is_active=kept.is_active))
    assert status
    assert (2, []) == (len(status["switches"]), status["active"])
    assert [] == told(ledger(daemon_set(AWAY, RETURNED, image=FAILING), **status), NOW + MINUTE)


def test_the_active_of_a_source_are_those_of_which_something_is_known() -> None:
    """Whoever was put back is none of them, nor is anybody of a kind that could not be listed."""
    stranger = {**ACTIVE, "target": {**TOLD["target"], "uid": "another"}}
    kept = ledger(daemon_set(AWAY), active=[ACTIVE, stranger])
    assert [ACTIVE] == kept.active(source())
    kept.miss_kind("DaemonSet")
    assert [] == kept.active(source())
    assert kept.is_active(stranger)


def test_workloads_and_sources_can_be_looked_up() -> None:
    """Those that have a history, and those that can be used."""
    kept = ledger(daemon_set(AWAY), workload("Deployment"))
    assert ([WEB.uid], [source()]) == ([*kept.workloads], [*kept.sources])


@pytest.mark.parametrize(
    ("expected", "parsed", "active"),
    [(1, AUTOMATIC, [ACTIVE]), (0, source(), [ACTIVE]), (0, AUTOMATIC, [])],
    ids=["wanted back", "nobody wants it", "nobody is away"],
)
def test_pods_are_kept_where_anybody_may_return(expected: int, parsed: Source, active: list[Object]) -> None:
    """Elsewhere thousands of them cost no memory."""
    status = {"name": "web", "image": SECOND, "imageID": f"{SECOND}@sha256:1", "state": {"running": {}}}
    kept = ledger(daemon_set(AWAY), pods=[pod(status, web=SECOND)], parsed=[parsed], active=active)
    assert expected == len(kept.running.digests(SECOND))


@pytest.mark.parametrize(
    ("expected", "by_now", "others"),
    [
        pytest.param(PROVEN, PROVEN, ACTIVE, id="nobody else wrote"),
        pytest.param({**ACTIVE, "proof": "x"}, PROVEN, {**ACTIVE, "proof": "x"}, id="others wrote something else"),
        pytest.param(ACTIVE, ACTIVE, PROVEN, id="others found it healthy, and this look did not"),
        pytest.param(
            {**ACTIVE, "blockedBy": "gone"}, {**ACTIVE, "blockedBy": "gone"}, PROVEN, id="with what this look found"
        ),
    ],
)
def test_what_was_found_is_written_over_what_was_read(expected: Object, by_now: Object, others: Object) -> None:
    """A proof is never added to what others have written meanwhile, and taken away from that all the same."""
    kept = ledger(active=[ACTIVE])
    kept.revise(ACTIVE, by_now)
    assert expected == kept.revised(others)


def test_what_nobody_asked_about_stays() -> None:
    """Most entries are of sources that never want anybody back."""
    assert PROVEN == ledger(active=[PROVEN]).revised(PROVEN)


# Hostile annotations

ENTRY = {
    "container": "web",
    "from": FAILING,
    "to": SECOND,
    "at": timestamp(NOW),
    "source": "shop",
    "proof": "unverified",
    "reason": "ErrImagePull",
    "of": {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": WEB.name, "uid": WEB.uid},
    "template": True,
}
DOCUMENT = {"v": 1, "failovers": [ENTRY]}


@given(data=st.data())
def test_an_annotation_of_any_shape_breaks_nothing(data: st.DataObject) -> None:
    """Whoever may annotate an object may write there what they like."""
    way = data.draw(paths_into(DOCUMENT))
    document = replaced(DOCUMENT, way, data.draw(json_values()))
    hostile = {ANNOTATION: document if isinstance(document, str) else json.dumps(document)}
    kept = ledger(annotated(workload("DaemonSet"), hostile), pods=[annotated(pod(), hostile)], active=[ACTIVE])
    records = [record for record, _ in kept.unrecorded(now=NOW)]
    assert len(records) <= 2
    assert len(list(kept.unfinished(now=NOW))) <= 1
    assert status_after(source_manifest(), records, now=NOW, review=Review(is_active=kept.is_active)) is not None
