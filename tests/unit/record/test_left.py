"""What was left: which containers, in the status of which source, since when, and what to do about them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.kube.manifest import Manifest
from saffire.kube.workload import OwnerReference, reference_of
from saffire.policy.history import timestamp
from saffire.policy.plan import Failover, Leave, Plan, Reason, Reversion, Step, Wait
from saffire.policy.verification import Verified, why_none_will_do
from saffire.pulls.cause import Cause
from saffire.pulls.failure import PullFailure, Section
from saffire.record.left import Decided, LeftInNamespace, count_running, is_left_news, left_after, left_in_steps
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from saffire.sources.spec import at_once
from testkit.builders import (
    FAILING,
    NOW,
    SECOND,
    Object,
    annotated,
    cluster_source_manifest,
    pod,
    source,
    source_manifest,
    waiting,
    workload,
)
from testkit.strategies import json_values, paths_into, replaced

MINUTE = timedelta(minutes=1)
SHOP = source_manifest()
FAILURE = PullFailure(section=Section.CONTAINERS, container="web", image=FAILING, reason="ErrImagePull")
UNLISTED = Leave(failure=FAILURE, reason=Reason.NOT_LISTED)
FAILOVER = Failover(
    failure=FAILURE,
    candidate=candidates(Reference.parse(FAILING), [source()])[0],
    workload=workload("Deployment"),
    steps=(Step.TEMPLATE,),
)
UNREADABLE = Leave(failure=FAILURE, reason=Reason.UNREADABLE, detail="no; the template names it now: delete Pod/web-0")


def stuck(number: int = 0, minutes: float = 5, *, namespace: str = "shop", image: str = FAILING) -> Object:
    """Return a bare pod that has waited for its image for so many minutes."""
    made = pod(waiting(image=image), web=image)
    made["metadata"] |= {"name": f"web-{number}", "uid": f"uid-{number}", "namespace": namespace}
    made["status"]["startTime"] = timestamp(NOW - minutes * MINUTE)
    return made


def owned(kind: str, name: str, **labels: str) -> Object:
    """Return a stuck pod of a controller."""
    made = stuck()
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "owner-uid", "controller": True}
    made["metadata"] |= {"ownerReferences": [owner], "labels": labels}
    return made


def left(
    *decided: tuple[Object, Plan | None],
    sources: Iterable[Manifest] = (SHOP,),
    of: OwnerReference | None = None,
    namespace: str = "shop",
    now: datetime = NOW,
) -> LeftInNamespace:
    """Return what was left by plans for pods; `of` is their workload, if Saffire has read it."""
    plans: list[Decided] = [(manifest, of, plan) for manifest, plan in decided]
    return at_once(left_in_steps(plans, sources, namespace=namespace, now=now))


def after(result: LeftInNamespace | None, before: Manifest | None = None, name: str = "shop") -> dict[str, Any]:
    """Return the fields of a status about what was left."""
    return left_after(before or {}, name, result)


def entry_of(plan: Plan, made: Object | None = None, **fields: Any) -> Any:
    """Return the only entry for a plan about a pod."""
    (entry,) = after(left((made or stuck(), plan), **fields))["left"]
    return entry


def names(fields: dict[str, Any]) -> list[str]:
    """Return the names of the workloads in the list."""
    return [entry["target"]["name"] for entry in fields["left"]]


# An entry


def test_an_entry_says_who_hangs_since_when_why_and_what_to_do() -> None:
    """The target has the shape that it has in `status.switches`."""
    expected = {
        "target": {
            "name": "web-0",
            "namespace": "shop",
            "type": {"group": "", "version": "v1", "kind": "Pod"},
            "container": "web",
            "uid": "uid-0",
        },
        "container": "web",
        "image": FAILING,
        "reason": "RepositoryNotListed",
        "message": "list quay.io/acme/web with an equivalent repository in AlternateImageSource/shop",
        "since": "2026-11-23T01:55:00Z",
    }
    assert {"left": [expected], "leftCount": 1} == after(left((stuck(), UNLISTED)))


@pytest.mark.parametrize(
    ("expected", "made", "of"),
    [
        pytest.param(
            {"kind": "Deployment", "name": "web", "uid": None},
            owned("ReplicaSet", "web-5d9", **{"pod-template-hash": "5d9"}),
            None,
            id="a-deployment-that-was-not-read",
        ),
        pytest.param(
            {"kind": "StatefulSet", "name": "db", "uid": "owner-uid"}, owned("StatefulSet", "db"), None, id="controller"
        ),
        pytest.param(
            {"kind": "CronJob", "name": "a-cronjob", "uid": "cronjob-uid"},
            owned("Job", "web-1"),
            reference_of(workload("CronJob")),
            id="a-workload-that-was-read",
        ),
        pytest.param(
            {"kind": "Pod", "name": "web-0", "uid": "uid-0"},
            annotated(owned("Node", "n"), {"kubernetes.io/config.mirror": "x"}),
            None,
            id="static-pod",
        ),
    ],
)
def test_the_target_is_the_workload(expected: dict[str, str | None], made: Object, of: OwnerReference | None) -> None:
    """To find it costs no request: if Saffire has not read the owners, the pod's own references and labels tell."""
    target = entry_of(UNLISTED, made, of=of)["target"]
    assert expected == {"kind": target["type"]["kind"], "name": target["name"], "uid": target.get("uid")}


def test_pods_of_a_workload_are_counted_once() -> None:
    """A DaemonSet may have thousands. The entry has the time of the pod that has waited longest."""
    pods = [(stuck(number, number + 1), UNLISTED) for number in range(3)]
    result = left(*pods, of=reference_of(workload("DaemonSet")))
    (entry,) = after(result)["left"]
    assert ("a-daemonset", "2026-11-23T01:57:00Z") == (entry["target"]["name"], entry["since"])


def test_a_container_that_ran_waits_since_it_ended() -> None:
    """Its pod may have started days ago."""
    made = stuck(minutes=9000)
    made["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"finishedAt": "2026-11-23T01:58:00Z"}}
    assert "2026-11-23T01:58:00Z" == entry_of(UNLISTED, made)["since"]


@pytest.mark.parametrize("time", ["", "2026-11-24T00:00:00Z", "soon"])
def test_a_time_that_cannot_be_is_now(time: str) -> None:
    """A node's clock may be ahead."""
    made = stuck()
    made["status"]["startTime"] = time
    assert timestamp(NOW) == entry_of(UNLISTED, made)["since"]


def test_long_and_odd_texts_are_clipped() -> None:
    """Whoever creates pods chooses their images. 50 entries have to fit into a status."""
    image = "\x1b" + "x" * 5000
    plan = Leave(failure=replace(FAILURE, image=image), reason=Reason.INVALID_REFERENCE, detail="y" * 5000)
    entry = entry_of(plan, stuck(image=image))
    assert (1024, 1024) == (len(entry["image"]), len(entry["message"]))
    assert entry["image"].startswith("\\x1bxx")


# Why, and what to do

NOT_LEFT = {
    *(Reason.NO_SUCH_POD, Reason.NO_FAILURE, Reason.NO_SOURCE, Reason.TERMINATING, Reason.FINISHED),
    *(Reason.NEXT_TRY, Reason.ROLLOUT, Reason.ALREADY_MOVED),
}


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_to_act_has_a_next_step(reason: Reason) -> None:
    """What does not hang, and what passes by itself, is not left."""
    plan = Leave(failure=FAILURE, reason=reason, detail="because; do this")
    entries = after(left((stuck(), plan))).get("left", [])
    assert ([] if reason in NOT_LEFT else [reason]) == [entry["reason"] for entry in entries]
    assert all(entry["message"] and "{" not in entry["message"] for entry in entries)


REFUSED_ALTERNATIVE = Verified(
    candidate=FAILOVER.candidate, why="ghcr.io has no such image", advice="push the image to {}"
)


@pytest.mark.parametrize(
    ("reason", "message", "plan"),
    [
        pytest.param(
            "OptedOut",
            "remove the annotation saffire.fairwinds.com/ignore from Deployment/web",
            Leave(failure=FAILURE, reason=Reason.OPTED_OUT, detail="Deployment/web"),
            id="opted-out",
        ),
        pytest.param(
            "OptedOut",
            "change the image by hand, or wait for an hour: Deployment/web had opted out until kubectl replaced it",
            Leave(
                failure=FAILURE,
                reason=Reason.OPTED_OUT,
                detail="Deployment/web had opted out until kubectl replaced it",
                reversions=(
                    Reversion(workload={}, container="web", before=FAILING, after=SECOND, at=NOW, source="shop"),
                ),
            ),
            id="lost-its-opt-out",
        ),
        pytest.param(
            "CandidateNotProven",
            "push the image to ghcr.io",
            Leave(
                failure=FAILURE,
                reason=Reason.UNPROVEN,
                detail=why_none_will_do([REFUSED_ALTERNATIVE], FAILURE),
            ),
            id="the-advice-of-the-decision",
        ),
        pytest.param(
            "FailoverObserved",
            f"set spec.mode of AlternateImageSource/shop to Enforce, so that Saffire moves it to {SECOND}",
            replace(FAILOVER, observed=True),
            id="only-observed",
        ),
        pytest.param(
            "PatchDenied",
            "allow the patch that the Event FailoverRefused at the pod or its workload names",
            replace(FAILOVER, steps=()),
            id="refused",
        ),
        pytest.param(
            "PatchDenied",
            "allow the patch that the Event FailoverRefused at the pod or its workload names",
            Leave(failure=FAILURE, reason=Reason.DENIED, detail="Deployment/web less than a minute ago: no"),
            id="refused-a-moment-ago",
        ),
        pytest.param(
            "PullSecretMissing",
            "the pod lacks a pull secret for the alternative: the template names it now: delete Pod/web-0",
            replace(FAILOVER, pod_leave=UNREADABLE),
            id="only-the-template-was-moved",
        ),
    ],
)
def test_the_message_names_the_next_step(reason: str, message: str, plan: Plan) -> None:
    """An operator who has never heard of Saffire knows what to do."""
    entry = entry_of(plan)
    assert (reason, message) == (entry["reason"], entry["message"])


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(FAILOVER, id="moved"),
        pytest.param(replace(FAILOVER, is_back=True, steps=()), id="a-return-that-was-refused"),
        pytest.param(Leave(reason=Reason.PAUSED), id="no-failure"),
    ],
)
def test_what_was_moved_or_runs_is_not_left(plan: Plan) -> None:
    """A refused fail back leaves a container that runs well."""
    assert {} == after(left((stuck(), plan)))


def test_a_pod_that_was_moved_in_place_is_not_left() -> None:
    """Until its template has followed, a sweep decides about it again, by the failure that it had."""
    assert {} == after(left((stuck(image=SECOND), UNLISTED)))


# What passes

COOLING = Wait(failure=FAILURE, until=NOW + MINUTE)
NEXT_TRY = Wait(failure=FAILURE, until=NOW + MINUTE, reason=Reason.NEXT_TRY)
ROLLOUT = Leave(failure=FAILURE, reason=Reason.ROLLOUT)
LIMIT = Leave(failure=replace(FAILURE, cause=Cause.NODE), reason=Reason.CANNOT_HELP)
DISK = Leave(failure=replace(FAILURE, cause=Cause.DISK), reason=Reason.CANNOT_HELP)


@pytest.mark.parametrize(
    ("count", "minutes", "plan"),
    [
        pytest.param(0, 0.9, COOLING, id="a-cooldown"),
        pytest.param(1, 1, COOLING, id="a-cooldown-that-lasts"),
        pytest.param(0, 0.9, LIMIT, id="a-limit-of-the-node"),
        pytest.param(1, 1, LIMIT, id="a-limit-of-the-node-that-lasts"),
        pytest.param(1, 0, DISK, id="a-full-disk"),
        pytest.param(0, 9, NEXT_TRY, id="the-next-try"),
        pytest.param(0, 9, ROLLOUT, id="a-rollout"),
        pytest.param(0, 9, None, id="an-error"),
    ],
)
def test_what_passes_is_left_if_it_lasts(count: int, minutes: float, plan: Plan | None) -> None:
    """Most of it ends before anybody could act."""
    assert count == len(left((stuck(minutes=minutes), plan)).containers)


@pytest.mark.parametrize("plan", [COOLING, NEXT_TRY, ROLLOUT, None], ids=["cooldown", "next-try", "rollout", "error"])
def test_an_entry_stays_until_something_is_known(plan: Plan | None) -> None:
    """Otherwise it would come and go with each sweep."""
    before = after(left((stuck(minutes=0.5), UNLISTED), (stuck(1), UNLISTED)))
    assert ["web-0"] == names(after(left((stuck(minutes=0.5), plan)), before))


# From sweep to sweep


def test_an_entry_keeps_its_time_and_tells_what_is_true_now() -> None:
    """A pod that is made anew has not waited longer; the reason may change."""
    before = after(left((stuck(minutes=30), UNLISTED), of=reference_of(workload("StatefulSet"))))
    paused = replace(UNLISTED, reason=Reason.PAUSED)
    (entry,) = after(left((stuck(minutes=1), paused), of=reference_of(workload("StatefulSet"))), before)["left"]
    assert ("2026-11-23T01:30:00Z", "Paused") == (entry["since"], entry["reason"])


def test_an_entry_goes_once_nothing_hangs_and_returns_with_a_new_time() -> None:
    """The list stays, empty, so that `kubectl get ais` shows 0."""
    before = after(left((stuck(minutes=30), UNLISTED)))
    empty = after(left(), before)
    assert {"left": [], "leftCount": 0} == empty
    (entry,) = after(left((stuck(minutes=1), UNLISTED)), empty)["left"]
    assert "2026-11-23T01:59:00Z" == entry["since"]


def test_a_repair_that_did_not_read_every_pod_changes_nothing() -> None:
    """It does not know who else hangs."""
    before = after(left((stuck(), UNLISTED)))
    assert before == after(None, before)
    assert {} == after(None)
    assert not is_left_news(before, "shop", None)


def test_a_namespace_does_not_touch_the_entries_of_another() -> None:
    """A cluster-wide source has one list for all; entries of namespaces that it no longer selects go."""
    wide, name = cluster_source_manifest(), "ClusterAlternateImageSource/shop"
    there = left((stuck(1, namespace="there"), UNLISTED), sources=[wide], namespace="there")
    here = left((stuck(2), UNLISTED), sources=[wide])
    both = after(here, after(there, name=name), name)
    assert {"web-1", "web-2"} == set(names(both))
    assert ["web-1"] == names(after(left(sources=[wide]), both, name))
    assert ["web-2"] == names(left_after(both, name, None, covers=lambda entry: entry["target"]["namespace"] == "shop"))


def test_what_is_known_is_no_news() -> None:
    """A status is written only if it changes."""
    result = left((stuck(), UNLISTED), (stuck(1), UNLISTED))
    status = after(result)
    assert is_left_news({}, "shop", result)
    assert not is_left_news(status, "shop", result)
    assert is_left_news(status, "shop", left((stuck(), UNLISTED)))
    assert not is_left_news({}, "shop", left())


# Limits


def test_the_list_has_the_newest_fifty_and_stays() -> None:
    """If more hang, the next sweep finds the same list: nobody pushes out anybody in turn."""
    many = [(stuck(number, number), UNLISTED) for number in range(120)]
    status = after(left(*many))
    assert ([f"web-{number}" for number in range(49, -1, -1)], 50) == (names(status), status["leftCount"])
    assert not is_left_news(status, "shop", left(*many, now=NOW + MINUTE))


def test_no_namespace_pushes_out_the_entries_of_another() -> None:
    """The namespace with the most entries loses its oldest."""
    wide, name = cluster_source_manifest(), "ClusterAlternateImageSource/shop"
    quiet = left((stuck(500, 900, namespace="quiet"), UNLISTED), sources=[wide], namespace="quiet")
    loud = left(*((stuck(number, number), UNLISTED) for number in range(120)), sources=[wide])
    status = after(loud, after(quiet, name=name), name)
    assert (50, "web-500", "web-48") == (status["leftCount"], names(status)[0], names(status)[1])
    assert not is_left_news(status, name, loud)


# To which source an entry belongs

OTHER = ["quay.io/other/web", "ghcr.io/other/web"]
WIDE = "ClusterAlternateImageSource/shop"


@pytest.mark.parametrize(
    ("expected", "sources"),
    [
        pytest.param("b", [source_manifest(OTHER, name="a"), source_manifest(name="b")], id="that-lists-the-image"),
        pytest.param("a", [source_manifest(OTHER, name="b"), source_manifest(OTHER, name="a")], id="the-first-by-name"),
        pytest.param("b", [cluster_source_manifest(OTHER), source_manifest(OTHER, name="b")], id="an-own-one"),
        pytest.param(WIDE, [cluster_source_manifest(), source_manifest(OTHER, name="b")], id="cluster-wide-that-lists"),
        pytest.param(WIDE, [cluster_source_manifest(OTHER)], id="cluster-wide-alone"),
        pytest.param("a", [source_manifest(name="a", mode="None")], id="of-which-the-only-one-is-invalid"),
    ],
)
def test_an_entry_belongs_to_one_source(expected: str, sources: list[Manifest]) -> None:
    """It belongs to the source that lists the image; if none does, somebody has to be told all the same."""
    (container,) = left((stuck(), UNLISTED), sources=sources).containers
    assert expected == container.source
    assert 1 == after(left((stuck(), UNLISTED), sources=sources), name=expected)["leftCount"]
    assert {} == after(left((stuck(), UNLISTED), sources=sources), name="another")


def test_an_entry_moves_to_the_source_that_lists_its_image_now() -> None:
    """It leaves the list in which it was."""
    before = after(left((stuck(), UNLISTED), sources=[source_manifest(OTHER, name="a")]), name="a")
    now_listed = left(
        (stuck(), replace(UNLISTED, reason=Reason.PAUSED)),
        sources=[source_manifest(OTHER, name="a"), source_manifest(name="b", mode="Paused")],
    )
    assert (0, 1) == (after(now_listed, before, "a")["leftCount"], after(now_listed, name="b")["leftCount"])


# What runs on an alternative


def active(kind: str = "Deployment", container: str = "web") -> Object:
    """Return an entry of `status.active`."""
    target = {"name": f"a-{kind.lower()}", "namespace": "shop", "type": {"group": "apps", "kind": kind}, "uid": "u"}
    return {"target": target, "container": container, "from": FAILING, "to": SECOND, "since": timestamp(NOW)}


def test_what_hangs_on_its_alternative_does_not_run() -> None:
    """It is in `left`, by the workload's name and the container's."""
    plan = replace(COOLING, failure=replace(FAILURE, image=SECOND))
    hanging = after(left((stuck(image=SECOND), plan), of=reference_of(workload("Deployment"))))["left"]
    entries = [active(), active("StatefulSet"), active(container="log")]
    assert (2, 3) == (count_running(entries, hanging), count_running(entries, []))


def test_a_line_of_the_log_names_container_workload_namespace_and_reason() -> None:
    """It is the shortest that finds it."""
    (container,) = left((stuck(), UNLISTED)).containers
    assert "web of Pod/web-0 in shop (RepositoryNotListed)" == str(container)


# What others wrote

STATUS = after(left((stuck(), UNLISTED)))


@given(paths_into(STATUS), json_values())
def test_any_status_can_be_read_and_written(path: tuple[Any, ...], value: Any) -> None:
    """Another writer may have left any value anywhere."""
    status = replaced(STATUS, path, value)
    if isinstance(status, dict):
        assert 1 <= after(left((stuck(), UNLISTED)), status)["leftCount"] <= 2


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([UNLISTED, COOLING, NEXT_TRY, FAILOVER, None]))))
def test_to_repeat_a_sweep_changes_nothing(decided: list[tuple[int, Plan | None]]) -> None:
    """Whatever was decided, the same decisions lead to the same status."""
    result = left(*((stuck(number), plan) for number, plan in decided))
    status = after(result, STATUS)
    assert not is_left_news(status, "shop", result)
