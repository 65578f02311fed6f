"""The audit: which failovers no status has, which templates are unfinished, and which containers are active."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.kinds import Kinds
from saffire.kube.workload import OwnerReference
from saffire.policy.history import ANNOTATION, FAILED_BACK, Entry, History, timestamp
from saffire.policy.plan import Step
from saffire.pulls.failure import Section
from saffire.record.failover_log import SWITCHES
from saffire.record.history_audit import Audit
from saffire.record.status import Review, status_after
from saffire.registry.availability import Proof
from saffire.sources.spec import Source
from testkit.builders import (
    FAILING,
    NOW,
    OPT_OUT,
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
WEB = OwnerReference(api_version="apps/v1", kind="DaemonSet", name="a-daemonset", uid="daemonset-uid")
SWITCH: Object = {
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
ACTIVE: Object = {
    "target": SWITCH["target"],
    "container": "web",
    "from": FAILING,
    "to": SECOND,
    "since": timestamp(NOW),
}


def with_history(manifest: Object, *entries: Entry) -> Object:
    """Return an object with these failovers in its history."""
    return annotated(manifest, {ANNOTATION: History(entries).rendered()})


def daemon_set(*entries: Entry, image: str = SECOND) -> Object:
    """Return the workload with this image in its template and these failovers in its history."""
    return with_history(workload("DaemonSet", web=image), *entries)


def freed(name: str = "web-0", image: str = SECOND, section: str = "containers", **fields: Any) -> Object:
    """Return a pod of the workload that was moved in place; `fields` are those of its entry."""
    moved_pod = pod(section=section, web=image)
    owner = {"apiVersion": WEB.api_version, "kind": WEB.kind, "name": WEB.name, "uid": WEB.uid, "controller": True}
    moved_pod["metadata"] |= {"name": name, "uid": f"{name}-uid", "ownerReferences": [owner]}
    of_pod: dict[str, Any] = {"workload": WEB, "template_next": True, **fields}
    return with_history(moved_pod, moved(FAILING, SECOND, **of_pod))


def ending(made: Object, phase: str = "Succeeded") -> Object:
    """Return the pod as it is after it has ended, with this phase; with `""`, it is terminating."""
    if phase:
        return {**made, "status": {**made["status"], "phase": phase}}
    return {**made, "metadata": {**made["metadata"], "deletionTimestamp": "2026-11-23T01:00:00Z"}}


ENDING = pytest.mark.parametrize("phase", ["Succeeded", "Failed", ""], ids=["ended", "evicted", "terminating"])


def audit_of(
    *workloads: Object, pods: Iterable[Object] = (), parsed: Iterable[Source] | None = None, **status: Any
) -> Audit:
    """Return the audit of a namespace with these objects, and one source with that status."""
    manifest = {**source_manifest(), "status": status}
    audit = Audit([manifest], [source()] if parsed is None else parsed, Kinds(), namespace="shop")
    for listed_pod in pods:
        audit.observe_pod(listed_pod)
    for listed_workload in workloads:
        audit.observe_workload(listed_workload)
    return audit


def unrecorded(audit: Audit, now: datetime = NOW) -> list[tuple[str, str, str, tuple[Step, ...], str]]:
    """Return the unrecorded failovers: workload, from, to, steps, and the object that the Event is about."""
    return [
        (
            record.failover.workload["metadata"]["name"],
            record.failover.failure.image,
            record.failover.candidate.image,
            record.failover.steps,
            record.regarding["metadata"]["name"],
        )
        for record in audit.unrecorded(now=now)
    ]


MOVE = moved(FAILING, SECOND)
MOVED = (WEB.name, FAILING, SECOND, (Step.TEMPLATE,), WEB.name)


# Unrecorded failovers of templates


def test_a_template_s_failover_that_no_status_has_is_unrecorded() -> None:
    """If a process ends after the patch and before the record, nothing is lost."""
    audit = audit_of(daemon_set(moved(FAILING, SECOND, NOW - MINUTE, reason="ErrImagePull")))
    assert [MOVED] == unrecorded(audit)
    (record,) = audit.unrecorded(now=NOW)
    assert (NOW - MINUTE, "ErrImagePull") == (record.at, record.failover.failure.reason)


def test_a_failover_that_the_status_has_is_recorded() -> None:
    """The history is compared with the status."""
    assert [] == unrecorded(audit_of(daemon_set(MOVE), switches=[SWITCH]))


def test_a_record_that_is_later_than_the_patch_counts() -> None:
    """Pods that were freed first may be recorded with another second than their template has."""
    assert [] == unrecorded(audit_of(daemon_set(moved(FAILING, SECOND, NOW - MINUTE)), switches=[SWITCH]))


@pytest.mark.parametrize(
    "other",
    [
        {"newImage": THIRD},
        {"observed": True},
        {"target": {**SWITCH["target"], "uid": "another"}},
        {"target": {**SWITCH["target"], "container": "proxy"}},
        {"time": timestamp(NOW - 2 * HOUR)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_record_of_another_failover_does_not_count(other: dict[str, Any]) -> None:
    """An observation, or another image, workload, container or day, is another failover."""
    assert [MOVED] == unrecorded(audit_of(daemon_set(MOVE), switches=[{**SWITCH, **other}]))


def test_of_two_repetitions_the_missing_one_is_unrecorded() -> None:
    """Somebody put the old image back, and the second move was never recorded."""
    again = moved(FAILING, SECOND, NOW + MINUTE)
    audit = audit_of(daemon_set(MOVE, again), switches=[SWITCH])
    (record,) = audit.unrecorded(now=NOW + MINUTE)
    assert again.at == record.at
    # By the history before it, the status tells a second move from a repetition.
    assert (MOVE,) == History.of(record.failover.workload).entries


def test_each_move_onward_is_unrecorded() -> None:
    """Two alternatives that failed in turn are two failovers."""
    audit = audit_of(daemon_set(MOVE, moved(SECOND, THIRD, NOW + MINUTE), image=THIRD))
    assert {(FAILING, SECOND), (SECOND, THIRD)} == {row[1:3] for row in unrecorded(audit, NOW + MINUTE)}


# Unrecorded failovers of pods


FREED = (WEB.name, FAILING, SECOND, (Step.PODS,), "web-0")


def test_a_pod_s_failover_that_no_status_has_is_unrecorded() -> None:
    """The pod's history names the workload, so the record does too. Its Event is about the pod."""
    audit = audit_of(pods=[freed()])
    assert [FREED] == unrecorded(audit)
    (record,) = audit.unrecorded(now=NOW)
    expected = {"name": WEB.name, "namespace": "shop", "uid": WEB.uid}
    assert ("apps/v1", "DaemonSet", expected) == tuple(
        record.failover.workload[key] for key in ("apiVersion", "kind", "metadata")
    )


def test_pods_of_one_workload_are_one_failover() -> None:
    """However many pods were freed, their workload failed over once."""
    assert [(*FREED[:-1], "web-1")] == unrecorded(audit_of(pods=[freed(), freed("web-1")]))


@ENDING
def test_the_failover_of_a_pod_that_has_ended_is_unrecorded_too(phase: str) -> None:
    """A Job may have completed before the next sweep. If another pod lives, operators find the Event there."""
    assert [FREED] == unrecorded(audit_of(pods=[ending(freed(), phase)]))
    assert [FREED] == unrecorded(audit_of(pods=[freed(), ending(freed("web-1"), phase)]))
    assert [(*FREED[:-1], "web-1")] == unrecorded(audit_of(pods=[ending(freed(), phase), freed("web-1")]))


def test_a_pod_whose_template_moved_too_is_recorded() -> None:
    """The entry of the template stands for its pods."""
    assert [MOVED] == unrecorded(audit_of(daemon_set(MOVE), pods=[freed()]))
    assert [] == unrecorded(audit_of(daemon_set(MOVE), pods=[freed()], switches=[SWITCH]))


def test_a_pod_whose_workload_the_status_has_is_recorded() -> None:
    """The status names the workload, not its pods."""
    assert [] == unrecorded(audit_of(pods=[freed(), freed("web-1")], switches=[SWITCH]))


def test_a_pod_s_entry_of_an_older_form_is_not_recorded() -> None:
    """It does not name the workload that was moved."""
    assert [] == unrecorded(audit_of(pods=[freed(workload=None)]))


@pytest.mark.parametrize("section", [Section.CONTAINERS, Section.INIT_CONTAINERS])
def test_the_record_of_a_pod_has_the_section_of_its_container(section: Section) -> None:
    """An init container is found in the section where the pod has it."""
    (record,) = audit_of(pods=[freed(section=section)]).unrecorded(now=NOW)
    assert section == record.failover.failure.section


# What is not recorded any more


@pytest.mark.parametrize(("age", "expected"), [(HOUR - MINUTE, 1), (HOUR, 0)])
def test_after_an_hour_nothing_is_unrecorded(age: timedelta, expected: int) -> None:
    """An entry that old was recorded, or will not be recorded any more."""
    assert expected == len(unrecorded(audit_of(daemon_set(MOVE)), NOW + age))
    assert expected == len(unrecorded(audit_of(pods=[freed()]), NOW + age))


@pytest.mark.parametrize(("ahead", "expected"), [(5 * MINUTE, 1), (6 * MINUTE, 0)])
def test_an_entry_from_the_future_is_not_recorded(ahead: timedelta, expected: int) -> None:
    """It would stay in the status for ever, and push other entries out; clocks may differ by minutes."""
    assert expected == len(unrecorded(audit_of(daemon_set(MOVE)), NOW - ahead))
    assert expected == len(unrecorded(audit_of(pods=[freed()]), NOW - ahead))
    assert expected == len(unfinished(audit_of(pods=[freed()]), NOW - ahead))


def test_an_entry_of_a_container_that_is_not_there_is_not_recorded() -> None:
    """A user who may annotate a workload could make up hundreds."""
    entry = replace(MOVE, container="made-up")
    of_pod: dict[str, Any] = {"workload": WEB, "template_next": True}
    assert [] == unrecorded(audit_of(daemon_set(entry), pods=[with_history(freed(), replace(entry, **of_pod))]))


@pytest.mark.parametrize(("others", "expected"), [(SWITCHES - 1, 1), (SWITCHES, 0)])
def test_an_entry_that_newer_switches_have_pushed_out_is_recorded(others: int, expected: int) -> None:
    """A status keeps 50 switches. An older failover was among them, and would be pushed out again."""
    target = {**SWITCH["target"], "uid": "another"}
    switches = [{**SWITCH, "target": target, "time": timestamp(NOW + MINUTE)}] * others
    assert expected == len(unrecorded(audit_of(daemon_set(MOVE), switches=switches), NOW + MINUTE))
    assert expected == len(unrecorded(audit_of(pods=[freed()], switches=switches), NOW + MINUTE))


@pytest.mark.parametrize(
    "entry", [replace(MOVE, source="gone"), replace(MOVE, after="UPPER:1")], ids=["source", "image"]
)
def test_an_entry_without_a_source_or_a_valid_image_is_not_recorded(entry: Entry) -> None:
    """The source was deleted since, or somebody else wrote into the annotation."""
    assert [] == unrecorded(audit_of(daemon_set(entry)))


def test_an_entry_of_an_invalid_source_is_not_recorded() -> None:
    """A source that became invalid is not used any more."""
    assert [] == unrecorded(audit_of(daemon_set(MOVE), parsed=[]))


def test_a_proof_of_another_version_counts_as_none() -> None:
    """A proof that this version does not know is not recorded."""
    (record,) = audit_of(daemon_set(replace(MOVE, proof="signed"))).unrecorded(now=NOW)
    assert Proof.UNVERIFIED is record.failover.proof


def test_an_object_without_a_history_has_no_failovers() -> None:
    """Most workloads never failed over."""
    assert [] == unrecorded(audit_of(workload("DaemonSet"), pods=[pod()]))


@pytest.mark.parametrize("history_of", ["template", "pod", "both"])
def test_nothing_is_recorded_twice(history_of: str) -> None:
    """Once the status is written, the same histories have nothing to add."""
    workloads = [daemon_set(MOVE)] if history_of != "pod" else []
    pods = [freed()] if history_of != "template" else []
    first = audit_of(*workloads, pods=pods)
    records = list(first.unrecorded(now=NOW))
    status = status_after(source_manifest(), records, now=NOW)
    assert status
    assert (1, 1) == (len(status["switches"]), len(status["active"]))
    second = audit_of(*workloads, pods=pods, **status)
    assert [] == unrecorded(second)
    written = {**source_manifest(), "status": status}
    assert status_after(written, (), now=NOW + MINUTE, review=Review(is_active=second.is_active)) is None


# Unfinished templates


def unfinished(audit: Audit, now: datetime = NOW) -> list[tuple[str, str]]:
    """Return the pods whose templates are unfinished, and the images that failed."""
    return [(failing.pod["metadata"]["name"], failing.failures[0].image) for failing in audit.unfinished(now=now)]


def test_a_template_that_was_not_patched_after_its_pods_is_unfinished() -> None:
    """If a process ends in between, the next pods of the workload would fail."""
    assert [("web-1", FAILING)] == unfinished(audit_of(pods=[freed(), freed("web-1")]))


@ENDING
def test_a_pod_that_is_ending_hides_no_unfinished_template(phase: str) -> None:
    """Nothing is decided about it any more, so another pod of the workload stands for the template."""
    assert [("web-0", FAILING)] == unfinished(audit_of(pods=[freed(), ending(freed("web-1"), phase)]))
    assert [] == unfinished(audit_of(pods=[ending(freed(), phase)]))


def test_a_template_that_moved_in_an_earlier_outage_is_unfinished() -> None:
    """It returned to its original since then."""
    there, back = moved(FAILING, SECOND, NOW - HOUR), moved(SECOND, FAILING, NOW - MINUTE, reason="FailedBack")
    assert [("web-0", FAILING)] == unfinished(audit_of(daemon_set(there, back, image=FAILING), pods=[freed()]))


NOT_UNFINISHED = {
    "the template has followed": audit_of(daemon_set(MOVE), pods=[freed()]),
    "the template has followed, and was put back": audit_of(daemon_set(MOVE, image=FAILING), pods=[freed()]),
    "somebody else moved the template": audit_of(
        with_history(workload("DaemonSet", web=SECOND), moved(FAILING, THIRD)), pods=[freed()]
    ),
    "no template was to follow": audit_of(pods=[freed(template_next=False)]),
    "somebody gave the pod another image": audit_of(pods=[freed(image=THIRD)]),
    "somebody put the pod's image back": audit_of(pods=[freed(image=FAILING)]),
    "it was long ago": audit_of(pods=[freed(at=NOW - HOUR)]),
    "the pod has no such container": audit_of(pods=[freed(container="other")]),
}


@pytest.mark.parametrize("audit", NOT_UNFINISHED.values(), ids=NOT_UNFINISHED)
def test_no_template_is_unfinished_if(audit: Audit) -> None:
    """It is done, was never planned, or somebody else changed the pod since."""
    assert [] == unfinished(audit)


# Entries of `active` that are true


@pytest.mark.parametrize(
    ("workloads", "pods", "expected"),
    [
        ([daemon_set(MOVE)], [], True),
        ([daemon_set(MOVE, image=FAILING)], [], False),
        ([daemon_set(MOVE, image=FAILING)], [freed()], True),
        ([], [freed()], True),
        ([], [freed(image=FAILING)], False),
        ([], [], False),
    ],
    ids=["template", "put back", "put back, a pod is left", "pod", "pod put back", "gone"],
)
def test_a_container_on_the_alternative_is_active(
    workloads: list[Object], pods: list[Object], *, expected: bool
) -> None:
    """An entry of `active` is true as long as the template, or a pod, names the alternative."""
    assert expected == audit_of(*workloads, pods=pods, active=[ACTIVE]).is_active(ACTIVE)


@ENDING
def test_a_pod_that_is_ending_runs_on_no_alternative(phase: str) -> None:
    """Finished Jobs are kept for days. They would fill the list, which has no place for others then."""
    pods = [ending(freed(), phase), ending(pod(web=SECOND), phase)]
    bare = {**ACTIVE, "target": {**SWITCH["target"], "uid": "pod-uid"}}
    audit = audit_of(pods=pods, active=[ACTIVE, bare])
    assert [False, False] == [audit.is_active(entry) for entry in (ACTIVE, bare)]
    assert [] == restored(audit)
    live = audit_of(pods=[*pods, freed("web-1")], active=[ACTIVE])
    assert live.is_active(ACTIVE)
    assert [ON_SECOND] == restored(live)


def test_an_entry_of_another_namespace_stays() -> None:
    """The status of a cluster-wide source has entries of many; an entry without a namespace is of this one."""
    elsewhere = {**ACTIVE, "target": {**SWITCH["target"], "namespace": "bank"}}
    nowhere = {**ACTIVE, "target": {key: value for key, value in SWITCH["target"].items() if key != "namespace"}}
    stays = [audit_of(active=[entry]).is_active(entry) for entry in (elsewhere, nowhere, ACTIVE)]
    assert [True, False, False] == stays


def cluster_wide_audit(*workloads: Object, **status: Any) -> Audit:
    """Return the audit of a namespace with a cluster-wide source of the same name as its own source."""
    own, cluster_wide = source_manifest(), {**cluster_source_manifest(), "status": status}
    audit = Audit([own, cluster_wide], [source(), cluster_source()], Kinds(), namespace="shop")
    for listed_workload in workloads:
        audit.observe_workload(listed_workload)
    return audit


def test_two_sources_of_one_name_and_two_kinds_are_kept_apart() -> None:
    """A history also names the kind of a cluster-wide source, so each status is compared with its own moves."""
    name = "ClusterAlternateImageSource/shop"
    moved_by_it = daemon_set(replace(MOVE, source=name))
    assert [name] == [
        record.failover.candidate.source.name for record in cluster_wide_audit(moved_by_it).unrecorded(now=NOW + MINUTE)
    ]
    assert [] == unrecorded(cluster_wide_audit(moved_by_it, switches=[SWITCH]), NOW + MINUTE)
    assert [MOVED] == unrecorded(cluster_wide_audit(daemon_set(MOVE), switches=[SWITCH]), NOW + MINUTE)


def test_what_fell_out_of_a_full_list_is_not_recorded_again() -> None:
    """Many namespaces may share a status: late records are inserted by their time, and each is added once."""
    moves = [replace(MOVE, at=NOW + timedelta(seconds=number)) for number in range(2 * SWITCHES)]
    workloads = []
    for number, move in enumerate(moves):
        moved_workload = daemon_set(replace(move, source="ClusterAlternateImageSource/shop"))
        moved_workload["metadata"] |= {"name": f"web-{number}", "uid": f"uid-{number}"}
        workloads.append(moved_workload)
    status: Any = {}
    recorded = 0
    # Each namespace by itself, in an order that has nothing to do with time.
    for shuffled in (workloads[::7], workloads[::-3], workloads, workloads):
        for moved_workload in shuffled:
            audit = cluster_wide_audit(moved_workload, **status)
            records = list(audit.unrecorded(now=NOW + HOUR / 2))
            manifest = {**cluster_source_manifest(), "status": status}
            status = status_after(manifest, records, now=NOW) or status
            recorded += len(records)
    assert [f"uid-{number}" for number in range(SWITCHES, 2 * SWITCHES)] == [
        switch["target"]["uid"] for switch in status["switches"]
    ]
    assert all(not unrecorded(cluster_wide_audit(listed, **status), NOW + HOUR / 2) for listed in workloads)
    assert recorded <= len(workloads)


def test_a_bare_pod_is_active_itself() -> None:
    """It has no workload, so the pod itself is the target."""
    entry = {**ACTIVE, "target": {**SWITCH["target"], "uid": "pod-uid"}}
    assert audit_of(pods=[pod(web=SECOND)], active=[entry]).is_active(entry)


def test_a_pod_of_another_workload_does_not_count() -> None:
    """That is so even if it has the same image."""
    stranger = pod(web=SECOND)
    assert not audit_of(pods=[stranger], active=[ACTIVE]).is_active(ACTIVE)


# Containers that may return

RETURNED = moved(SECOND, FAILING, NOW + MINUTE, proof="equal digest", reason=FAILED_BACK)
PROVEN = {**ACTIVE, "healthySince": timestamp(NOW), "provenAt": timestamp(NOW)}
AUTOMATIC = source(failBack={"policy": "Automatic"})


def test_a_fail_back_that_no_status_has_is_unrecorded() -> None:
    """If a process ends after that patch, nothing is lost either, and the container is active no longer."""
    audit = audit_of(daemon_set(MOVE, RETURNED, image=FAILING), switches=[SWITCH], active=[PROVEN])
    (record,) = audit.unrecorded(now=NOW + MINUTE)
    assert (True, FAILED_BACK, Proof.EQUAL) == (
        record.failover.is_back,
        record.failover.failure.reason,
        record.failover.proof,
    )
    assert WEB.name == record.regarding["metadata"]["name"]
    written = {**source_manifest(), "status": {"switches": [SWITCH], "active": [PROVEN]}}
    status = status_after(written, [record], now=NOW + MINUTE, review=Review(is_active=audit.is_active))
    assert status
    assert (2, []) == (len(status["switches"]), status["active"])
    assert [] == unrecorded(audit_of(daemon_set(MOVE, RETURNED, image=FAILING), **status), NOW + MINUTE)


def test_the_active_containers_of_a_source_are_those_that_were_audited() -> None:
    """Containers that were put back, and those of a kind that could not be listed, are left out."""
    stranger = {**ACTIVE, "target": {**SWITCH["target"], "uid": "another"}}
    audit = audit_of(daemon_set(MOVE), active=[ACTIVE, stranger])
    assert [ACTIVE] == audit.active(source())
    audit.miss_kind("apps/v1", "DaemonSet")
    assert [] == audit.active(source())
    assert audit.is_active(stranger)


def test_a_kind_that_could_not_be_listed_is_known_by_its_group_too() -> None:
    """The DaemonSets of Kubernetes are judged although those of Kruise could not be listed."""
    kruise = {**SWITCH["target"], "type": {**SWITCH["target"]["type"], "group": "apps.kruise.io"}}
    # The Go project of this name wrote the API version as the group.
    older = {**SWITCH["target"], "type": {"group": "apps/v1", "kind": WEB.kind}}
    entries = [{**ACTIVE, "target": target} for target in (SWITCH["target"], kruise, older)]
    audit = audit_of(active=entries)
    audit.miss_kind("apps.kruise.io/v1alpha1", "DaemonSet")
    assert [False, True, False] == [audit.is_active(entry) for entry in entries]
    audit.miss_kind("apps/v1", "DaemonSet")
    assert [True, True, True] == [audit.is_active(entry) for entry in entries]


@pytest.mark.parametrize(
    ("group", "version", "kind", "expected"),
    [
        ("apps", "v1", "ReplicaSet", ["apps/v1"]),
        ("", "v1", "ReplicationController", ["v1"]),
        ("apps", "v1", "Deployment", []),
        ("batch", "v1", "Job", []),
        ("", "v1", "Pod", []),
        ("example.com", "v1", "Widget", []),
    ],
)
def test_a_workload_that_no_sweep_lists_is_read_by_name(
    group: str, version: str, kind: str, expected: list[str]
) -> None:
    """A sweep lists no ReplicaSets. If one has no pods for a while, only its template tells where it runs."""
    target = {**SWITCH["target"], "type": {"group": group, "version": version, "kind": kind}}
    other = {**target, "namespace": "bank", "uid": "another"}
    audit = audit_of(active=[{**ACTIVE, "target": target}, {**ACTIVE, "target": other}])
    references = list(audit.unlisted())
    assert expected == [reference.api_version for reference in references]
    assert all((kind, WEB.name, WEB.uid) == (ref.kind, ref.name, ref.uid) for ref in references)


def test_an_audit_has_the_workloads_with_a_history_and_the_valid_sources() -> None:
    """A fail back run needs both."""
    audit = audit_of(daemon_set(MOVE), workload("Deployment"))
    assert ([WEB.uid], [source()]) == ([*audit.workloads], [*audit.sources])


@pytest.mark.parametrize(
    ("expected", "parsed", "active"),
    [(1, AUTOMATIC, [ACTIVE]), (0, source(), [ACTIVE]), (0, AUTOMATIC, [])],
    ids=["may return", "no fail back", "nothing on an alternative"],
)
def test_pods_are_kept_if_a_container_may_return(expected: int, parsed: Source, active: list[Object]) -> None:
    """Otherwise thousands of them take no memory."""
    status = {"name": "web", "image": SECOND, "imageID": f"{SECOND}@sha256:1", "state": {"running": {}}}
    audit = audit_of(daemon_set(MOVE), pods=[pod(status, web=SECOND)], parsed=[parsed], active=active)
    assert expected == len(audit.running.digests(SECOND))


@pytest.mark.parametrize(
    ("expected", "revised", "others"),
    [
        pytest.param(PROVEN, PROVEN, ACTIVE, id="nobody else wrote"),
        pytest.param({**ACTIVE, "proof": "x"}, PROVEN, {**ACTIVE, "proof": "x"}, id="others wrote something else"),
        pytest.param(ACTIVE, ACTIVE, PROVEN, id="others found it healthy, and this run did not"),
        pytest.param(
            {**ACTIVE, "blockedBy": "gone"}, {**ACTIVE, "blockedBy": "gone"}, PROVEN, id="with the reason of this run"
        ),
    ],
)
def test_a_revised_entry_replaces_the_entry_that_was_read(expected: Object, revised: Object, others: Object) -> None:
    """If others wrote the entry since, a proof is never added to it, and is still removed from it."""
    audit = audit_of(active=[ACTIVE])
    audit.revise(ACTIVE, revised)
    assert expected == audit.revised(others)


def test_an_entry_that_was_not_revised_stays() -> None:
    """Most entries are of sources without fail back."""
    assert PROVEN == audit_of(active=[PROVEN]).revised(PROVEN)


# Containers that `active` lacks


def restored(audit: Audit, *, before: Object | None = None, now: datetime = NOW) -> list[tuple[str, str, str, str]]:
    """Return workload, container, original and alternative of the entries of `active`, after the audit."""
    manifest = {**source_manifest(), "status": before or {}}
    review = Review(is_active=audit.is_active, on_alternative=lambda source: audit.on_alternative(source, now=now))
    written: Any = status_after(manifest, [], now=now, review=review) or {}
    return [
        (entry["target"]["name"], entry["container"], entry["from"], entry["to"]) for entry in written.get("active", ())
    ]


ON_SECOND = (WEB.name, "web", FAILING, SECOND)
DAYS = NOW + 48 * HOUR


@pytest.mark.parametrize(
    ("expected", "workloads", "pods"),
    [
        pytest.param([ON_SECOND], [daemon_set(MOVE)], [], id="template"),
        pytest.param([ON_SECOND], [], [freed()], id="pod"),
        pytest.param([ON_SECOND], [daemon_set(MOVE)], [freed()], id="template-and-pod"),
        pytest.param([ON_SECOND], [daemon_set(MOVE, image=FAILING)], [freed()], id="put-back-and-a-pod-is-left"),
        pytest.param([], [daemon_set(MOVE, image=FAILING)], [], id="put-back"),
        pytest.param([], [], [freed(image=FAILING)], id="pod-put-back"),
        pytest.param([], [daemon_set(MOVE, moved(SECOND, FAILING, NOW + MINUTE), image=FAILING)], [], id="returned"),
        pytest.param(
            [],
            [daemon_set(MOVE, RETURNED, image=FAILING)],
            [freed()],
            id="returned-and-a-pod-is-left",
        ),
        pytest.param([], [daemon_set(MOVE, image=THIRD)], [], id="a-user-gave-it-another-image"),
        pytest.param([], [daemon_set()], [], id="never-moved"),
        pytest.param([], [daemon_set(replace(MOVE, source="gone"))], [], id="another-source"),
        pytest.param([], [daemon_set(replace(MOVE, at=DAYS + HOUR))], [], id="made-up-in-the-future"),
        pytest.param([], [daemon_set(replace(MOVE, before="UPPER:1"))], [], id="made-up-image"),
        pytest.param([], [daemon_set(replace(MOVE, container="side"))], [], id="made-up-container"),
        pytest.param(
            [(WEB.name, "web", FAILING, THIRD)],
            [daemon_set(MOVE, moved(SECOND, THIRD, NOW + MINUTE), image=THIRD)],
            [],
            id="moved-on",
        ),
    ],
)
def test_a_container_on_an_alternative_without_an_entry_gets_one(
    expected: list[tuple[str, ...]], workloads: list[Object], pods: list[Object]
) -> None:
    """The history says so, however long ago Saffire moved it: the list may have been full until now."""
    audit = audit_of(*workloads, pods=pods)
    assert expected == restored(audit, now=DAYS)
    assert expected == restored(audit, before={"active": [ACTIVE]} if expected == [ON_SECOND] else {}, now=DAYS)


def test_the_entry_of_a_container_that_has_one_stays() -> None:
    """Its times and its proof are those that sweeps have found."""
    audit = audit_of(daemon_set(MOVE), active=[PROVEN])
    manifest = {**source_manifest(), "status": {"active": [PROVEN]}}
    review = Review(is_active=audit.is_active, on_alternative=lambda source: audit.on_alternative(source, now=DAYS))
    assert [PROVEN] == dict(status_after(manifest, [], now=DAYS, review=review) or {})["active"]


def test_the_container_of_a_source_that_became_invalid_gets_no_entry() -> None:
    """Such a source is not used any more."""
    assert [] == restored(audit_of(daemon_set(MOVE), parsed=[]), now=DAYS)


def test_an_entry_that_is_restored_says_whether_its_workload_opted_out() -> None:
    """`kubectl rollout undo` may take the annotation away."""
    audit = audit_of(annotated(daemon_set(MOVE), OPT_OUT))
    (entry,) = audit.on_alternative(source_manifest(), now=NOW)
    assert {**ACTIVE, "proof": "unverified", "optedOut": True} == entry


def test_failovers_that_newer_ones_kept_from_being_recorded_are_active() -> None:
    """An instance was killed before it recorded them, and another one recorded 50 later ones."""
    others = [
        {**SWITCH, "target": {**SWITCH["target"], "uid": f"{n}"}, "time": timestamp(NOW + HOUR)} for n in range(50)
    ]
    audit = audit_of(daemon_set(MOVE), switches=others)
    assert [] == unrecorded(audit, NOW + HOUR / 2)
    assert [ON_SECOND] == restored(audit, before={"switches": others}, now=NOW + HOUR / 2)


# Users of other namespaces


def test_a_pod_of_another_namespace_that_claims_a_workload_changes_nothing_for_it() -> None:
    """Its history may have any uid, and its containers any names; the status of a cluster-wide source has both."""
    name = "ClusterAlternateImageSource/shop"
    victim = {**ACTIVE, "healthySince": timestamp(NOW), "provenAt": timestamp(NOW)}
    claimed = {**ACTIVE, "target": {**SWITCH["target"], "namespace": "evil"}}
    status: Object = {"active": [victim, claimed], "switches": [{**SWITCH, "target": claimed["target"]}]}
    manifest = {**cluster_source_manifest(), "status": status}
    evil = Audit([manifest], [cluster_source()], Kinds(), namespace="evil")
    evil.observe_pod(freed())
    assert [claimed] == [entry for entry in evil.active(cluster_source()) if evil.is_active(entry) and entry != victim]
    evil.revise(claimed, {**claimed, "blockedBy": "evil"})
    assert [victim, {**claimed, "blockedBy": "evil"}] == [evil.revised(entry) for entry in (victim, claimed)]
    moved_by_it = daemon_set(replace(MOVE, source=name))
    assert [MOVED] == unrecorded(cluster_wide_audit(moved_by_it, **status), NOW + MINUTE)
    opted_out = cluster_wide_audit(annotated(moved_by_it, OPT_OUT), **status)
    assert [True, None] == [opted_out.revised(entry).get("optedOut") for entry in (victim, claimed)]


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
    """A user who may annotate an object may write anything there."""
    path = data.draw(paths_into(DOCUMENT))
    document = replaced(DOCUMENT, path, data.draw(json_values()))
    hostile = {ANNOTATION: document if isinstance(document, str) else json.dumps(document)}
    audit = audit_of(annotated(workload("DaemonSet"), hostile), pods=[annotated(pod(), hostile)], active=[ACTIVE])
    records = list(audit.unrecorded(now=NOW))
    assert len(records) <= 2
    assert len(list(audit.unfinished(now=NOW))) <= 1
    review = Review(is_active=audit.is_active, on_alternative=lambda source: audit.on_alternative(source, now=NOW))
    assert status_after(source_manifest(), records, now=NOW, review=review) is not None


# Opt-outs that an undo may take away


def active_after(audit: Audit, entry: Object) -> Object:
    """Return the status of a source with this entry of `active`, after the audit."""
    review = Review(is_active=audit.is_active, revised=audit.revised, lost_opt_out=audit.lost_opt_out)
    manifest = {**source_manifest(), "status": {"active": [entry]}}
    return dict(status_after(manifest, [], now=NOW, review=review) or {})


@pytest.mark.parametrize(
    ("expected", "manifest"),
    [
        pytest.param(True, annotated(daemon_set(MOVE), OPT_OUT), id="opted-out"),
        pytest.param(None, daemon_set(MOVE), id="not-opted-out"),
        pytest.param(None, annotated(daemon_set(), OPT_OUT), id="no-history-that-could-be-lost"),
    ],
)
@pytest.mark.parametrize("before", [ACTIVE, {**ACTIVE, "optedOut": True}])
def test_an_active_entry_says_whether_its_workload_opted_out(
    expected: bool | None,  # noqa: FBT001 - the row's expectation
    manifest: Object,
    before: Object,
) -> None:
    """A workload without its history may have lost its annotations, so the entry keeps what it says."""
    written = active_after(audit_of(manifest, active=[before]), before)
    kept = before.get("optedOut") if not History.of(manifest).entries else expected
    assert [kept] == [entry.get("optedOut") for entry in written["active"]]


@pytest.mark.parametrize(
    ("is_lost", "workloads"),
    [
        pytest.param(True, [daemon_set(image=FAILING)], id="undone"),
        pytest.param(False, [daemon_set(MOVE, image=FAILING)], id="a-user-put-the-image-back"),
        pytest.param(False, [], id="the-workload-is-gone"),
    ],
)
def test_an_opt_out_that_an_undo_took_away_is_kept(workloads: list[Object], *, is_lost: bool) -> None:
    """The container is off the alternative, and neither its history nor the opt-out is there."""
    entry = {**ACTIVE, "optedOut": True}
    written = active_after(audit_of(*workloads, active=[entry]), entry)
    assert [] == written["active"]
    assert [timestamp(NOW)] * is_lost == [reversion["optedOut"] for reversion in written.get("reversions", [])]
