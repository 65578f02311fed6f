"""Fights: a user, a tool or an operator puts the old image back, and Saffire stops after two reversions."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saffire.kube.workload import OwnerReference, Owners
from saffire.policy.history import (
    ANNOTATION,
    FAILED_BACK,
    NOTHING_RECORDED,
    Entry,
    History,
    RecordedMove,
    RecordedMoves,
)
from saffire.policy.plan import Leave, Reason, Step
from saffire.policy.target import Target, find_target
from saffire.pulls.failure import PullFailure, Section
from testkit.builders import FAILING, NOW, SECOND, THIRD, Object, annotated, chain, moved, pod, waiting, workload

TEMPLATE, PODS = Step.TEMPLATE, Step.PODS
A, B = FAILING, SECOND
CLUSTER = Owners(chain=(workload("Cluster"),))


def recorded(*minutes: float, pods: tuple[str, ...] = (), owner: Object | None = None, **fields: Any) -> RecordedMoves:
    """Return failovers from A to B that the status has, so many minutes ago, of the workload on top of `CLUSTER`."""
    target = owner or workload("Cluster")
    values = {"uid": target["metadata"]["uid"], "kind": target["kind"], "namespace": "shop", "pods": pods, **fields}
    entries = [moved(A, B, NOW - timedelta(minutes=ago)) for ago in minutes]
    return RecordedMoves(RecordedMove(entry=entry, **values) for entry in entries)


def find_in(
    owners: Owners, moves: RecordedMoves, history: tuple[Entry, ...] = (), manifest: Object | None = None
) -> Target | Leave:
    """Return the target of a waiting pod with this history, when the status of its source has these `moves`."""
    failing = annotated(manifest or pod(waiting()), {ANNOTATION: History(history).rendered()})
    failure = PullFailure(section=Section.CONTAINERS, container="web", image=A, reason="ErrImagePull")
    return find_target(failure, failing, owners, now=NOW, recorded=moves)


@pytest.mark.parametrize(
    ("times", "moves"),
    [
        pytest.param(0, recorded(), id="never-moved"),
        pytest.param(0, recorded(2, pods=("web-1",)), id="another-pod-was-moved"),
        pytest.param(1, recorded(2, pods=("web-0", "web-1")), id="once"),
        pytest.param(2, recorded(4, 2, pods=("web-0",)), id="twice"),
        pytest.param(1, recorded(61, 2, pods=("web-0",)), id="longer-than-an-hour-ago"),
        pytest.param(0, recorded(4, 2, pods=("web-0",), owner=workload("StatefulSet")), id="of-another-workload"),
        pytest.param(0, recorded(4, 2), id="the-template-was-moved"),
    ],
)
def test_a_pod_that_is_made_anew_twice_is_left_alone(times: int, moves: RecordedMoves) -> None:
    """It has the name of the pod that Saffire moved, the old image, and no history."""
    result = find_in(CLUSTER, moves)
    assert times == len(result.reversions)
    if times < 2:
        assert isinstance(result, Target)
        return
    assert isinstance(result, Leave)
    detail = "Pod/web-0 was made anew with its old image by Cluster/a-cluster, twice within an hour"
    assert (Reason.REVERTED, detail) == (result.reason, result.detail)
    assert [("web-0", A, B, "Cluster/a-cluster", "shop")] * 2 == [
        (reversion.pod, reversion.before, reversion.after, reversion.by, reversion.source)
        for reversion in result.reversions
    ]


def test_the_other_pods_of_that_workload_are_left_alone_too() -> None:
    """What an operator does to one of its pods, it does to the next one."""
    leave = find_in(CLUSTER, recorded(4, 2, pods=("web-7",), was_undone=True))
    assert isinstance(leave, Leave)
    detail = "Pod/web-7 was made anew with its old image by Cluster/a-cluster, twice within an hour"
    assert (Reason.REVERTED, detail) == (leave.reason, leave.detail)


def test_a_pod_that_is_still_there_is_no_reversion() -> None:
    """Its history has the failover: another container of it, or the next image, fails now."""
    moves = recorded(4, 2, pods=("web-0",))
    history = (moved(THIRD, A, NOW - timedelta(minutes=1)),)
    target = find_in(CLUSTER, recorded(2, pods=("web-0",)), (moved(A, B, NOW - timedelta(minutes=2)), *history))
    assert isinstance(target, Target)
    assert () == target.reversions
    assert isinstance(find_in(CLUSTER, moves), Leave)


def test_an_image_that_is_put_back_into_a_pod_twice_ends_the_fight_as_well() -> None:
    """The pod's own history says so: an operator may patch the pod instead of making it anew."""
    history = tuple(moved(A, B, NOW - timedelta(minutes=ago)) for ago in (4, 2))
    manager: Object = {"f:spec": {"f:containers": {'k:{"name":"web"}': {"f:image": {}}}}}
    manifest = pod(waiting())
    manifest["metadata"]["managedFields"] = [{"manager": "kruise", "time": "2026-11-23T01:59:00Z", "fieldsV1": manager}]
    leave = find_in(CLUSTER, NOTHING_RECORDED, history, manifest)
    assert isinstance(leave, Leave)
    assert (Reason.REVERTED, "Pod/web-0 was put back by kruise, twice within an hour") == (leave.reason, leave.detail)
    assert () == leave.reversions


def test_a_pod_that_was_moved_after_another_and_is_put_back_once_moves_again() -> None:
    """The status has one time for all pods of a failover, and each pod has its own."""
    target = find_in(CLUSTER, recorded(4, pods=("web-1", "web-0")), (moved(A, B, NOW - timedelta(minutes=2)),))
    assert isinstance(target, Target)
    assert () == target.reversions


def test_a_pod_whose_owner_cannot_be_read_is_known_by_its_name() -> None:
    """The status then names the pod as the workload, and a pod that is made anew has another uid."""
    owner = OwnerReference(api_version="example.com/v1", kind="Widget", name="pg", uid="u")
    moves = recorded(4, 2, pods=("web-0",), owner={**pod(), "metadata": {"uid": "the-uid-before"}})
    leave = find_in(Owners(unreadable=owner), moves)
    assert isinstance(leave, Leave)
    assert "made anew with its old image by Widget/pg" in leave.detail


DEPLOYMENT = workload("Deployment")


@pytest.mark.parametrize(
    ("expected", "lost", "kept"),
    [
        pytest.param(Target, (), (), id="never-moved"),
        pytest.param(Target, (2,), (), id="undone-once"),
        pytest.param(Leave, (4, 2), (), id="undone-twice"),
        pytest.param(Leave, (4, 2), (2,), id="undone-and-put-back"),
        pytest.param(Target, (4, 2), (4, 2), id="put-back-twice"),
        pytest.param(Target, (61, 2), (), id="longer-than-an-hour-ago"),
        pytest.param(Target, (4,), (2,), id="patched-after-the-pods-and-put-back-once"),
        pytest.param(Leave, (4, 2), (1,), id="undone-and-patched-after-the-pods-and-put-back"),
    ],
)
def test_a_template_that_is_undone_twice_is_left_alone(
    expected: type, lost: tuple[float, ...], kept: tuple[float, ...]
) -> None:
    """`kubectl rollout undo` takes the history away. Where it stays, only the template is left alone."""
    entries = tuple(moved(A, B, NOW - timedelta(minutes=ago)) for ago in kept)
    top = annotated(DEPLOYMENT, {ANNOTATION: History(entries).rendered()})
    owners = Owners(chain=(workload("ReplicaSet"), top))
    result = find_in(owners, recorded(*lost, owner=DEPLOYMENT))
    assert isinstance(result, expected)
    if isinstance(result, Leave):
        detail = "Deployment/a-deployment was put back twice within an hour, last by an unknown field manager"
        assert (Reason.REVERTED, detail) == (result.reason, result.detail)
        assert result.reversions
    elif len(kept) == 2:
        assert ((PODS,), ()) == (result.steps, result.reversions)
    else:
        assert (TEMPLATE,) == result.steps


def test_pods_that_were_moved_in_place_are_no_reversion_of_the_template() -> None:
    """With strategy Pods, each new pod has the old image, and the template was never moved."""
    moves = recorded(4, 2, pods=("web-5d8f-x", "web-5d8f-y"), owner=DEPLOYMENT)
    target = find_in(chain("Deployment"), moves)
    assert isinstance(target, Target)
    assert ((TEMPLATE,), ()) == (target.steps, target.reversions)


def test_a_fail_back_that_failed_again_is_no_reversion() -> None:
    """Saffire itself put the image back, and its annotations are lost since."""
    back = RecordedMove(
        entry=moved(B, A, NOW - timedelta(minutes=2), reason=FAILED_BACK),
        uid="deployment-uid",
        kind="Deployment",
        namespace="shop",
    )
    there = replace(back, entry=moved(A, B, NOW - timedelta(minutes=40)))
    target = find_in(chain("Deployment"), RecordedMoves([there, back]))
    assert isinstance(target, Target)
    assert () == target.reversions


@pytest.mark.parametrize(
    ("is_left", "history"),
    [
        pytest.param(True, (), id="annotations-lost"),
        pytest.param(False, (moved(A, B, NOW - timedelta(hours=3)),), id="a-user-took-it-back"),
    ],
)
def test_an_opt_out_counts_that_an_undo_took_away(history: tuple[Entry, ...], *, is_left: bool) -> None:
    """The status says that the workload had opted out; its history says whether the annotations were lost."""
    before = moved(A, B, NOW - timedelta(hours=3))
    top = annotated(DEPLOYMENT, {ANNOTATION: History(history).rendered()})
    moves = RecordedMoves(opted_out=[(("shop", "deployment-uid"), before)])
    result = find_in(Owners(chain=(workload("ReplicaSet"), top)), moves)
    assert is_left is isinstance(result, Leave)
    if isinstance(result, Leave):
        detail = "Deployment/a-deployment had opted out until an unknown field manager replaced its annotations"
        assert (Reason.OPTED_OUT, detail) == (result.reason, result.detail)
        assert [(True, before.at)] == [(reversion.opted_out, reversion.at) for reversion in result.reversions]
