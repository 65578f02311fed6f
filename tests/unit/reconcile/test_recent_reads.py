"""Recent reads: which Events are older than the read of their pod, so that they are answered without a request."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.decide import Gathered
from saffire.policy.plan import Failover, Leave, Reason, Step
from saffire.pulls.failure import find_pull_failures
from saffire.reconcile.recent_reads import RecentReads, without_denied
from saffire.reconcile.request import PodFailed
from saffire.record.outcome import PodOutcome
from testkit import builders
from testkit.builders import FAILING, NOW, SECOND, source, waiting, workload
from testkit.decisions import decide

FAILED = PodFailed(
    namespace="shop", pod="web-0", pod_uid="pod-uid", container="web", event="web-0.1", image=FAILING, at=NOW
)
SETTLED = frozenset({("web", FAILING)})
NO_PODS: frozenset[str] = frozenset()
Read = Callable[[RecentReads], None]


def seconds(number: float) -> timedelta:
    """Return a length of time."""
    return timedelta(seconds=number)


def pod(after: float, *failing: tuple[str, str], uid: str = "pod-uid", namespace: str = "shop") -> Read:
    """Read a pod and settle its failing images, so many seconds after the Event was written."""
    return lambda recent: recent.pod_settled(namespace, uid, frozenset(failing or SETTLED), NOW + seconds(after))


def everything(after: float, *unsettled: str, namespace: str = "shop") -> Read:
    """Read every pod of a namespace, and settle all but these."""
    return lambda recent: recent.namespace_settled(namespace, NOW + seconds(after), unsettled=frozenset(unsettled))


def gone(**fields: Any) -> Read:
    """Find a pod gone."""
    return lambda recent: recent.pod_gone(replace(FAILED, **fields))


@pytest.mark.parametrize(
    ("expected", "reads", "fields"),
    [
        pytest.param(False, [], {}, id="nothing-was-read"),
        # One pod.
        pytest.param(True, [pod(1)], {}, id="older"),
        pytest.param(True, [pod(0)], {}, id="as-old"),
        pytest.param(True, [pod(0.7)], {}, id="in-the-second-of-the-read"),
        pytest.param(False, [pod(-0.001)], {}, id="newer"),
        pytest.param(False, [pod(1)], {"at": None}, id="without-a-time"),
        pytest.param(False, [pod(1)], {"container": "sidecar"}, id="another-container"),
        pytest.param(False, [pod(1)], {"container": ""}, id="no-container"),
        pytest.param(False, [pod(1)], {"image": SECOND}, id="another-image-of-the-container"),
        pytest.param(True, [pod(1)], {"image": ""}, id="no-image"),
        pytest.param(False, [pod(1)], {"image": "", "container": "sidecar"}, id="no-image-of-another-container"),
        pytest.param(False, [pod(1, uid="another")], {}, id="another-pod"),
        pytest.param(False, [pod(1, namespace="other")], {}, id="a-pod-of-another-namespace-that-claims-its-uid"),
        pytest.param(True, [pod(1, ("db", SECOND), ("web", FAILING))], {}, id="one-of-two-containers"),
        pytest.param(False, [pod(1, ("db", FAILING), ("web", SECOND))], {}, id="crosswise"),
        pytest.param(False, [pod(1), pod(2, ("web", SECOND))], {}, id="the-last-read-counts"),
        # A pod that is gone.
        pytest.param(True, [gone()], {}, id="gone"),
        pytest.param(True, [gone()], {"at": NOW + seconds(3600)}, id="gone-stays-gone"),
        pytest.param(True, [gone()], {"at": None, "image": "", "container": ""}, id="gone-whatever-the-event-says"),
        pytest.param(False, [gone(pod_uid="another")], {}, id="its-predecessor-is-gone"),
        pytest.param(False, [gone(pod="none")], {}, id="its-uid-under-a-name-that-is-not-there"),
        pytest.param(False, [gone(namespace="other")], {}, id="its-uid-in-another-namespace"),
        # A whole namespace.
        pytest.param(True, [everything(2)], {}, id="older-by-the-margin"),
        pytest.param(False, [everything(1.999)], {}, id="within-the-margin"),
        pytest.param(True, [everything(2)], {"container": "", "image": ""}, id="whatever-image"),
        pytest.param(True, [everything(2)], {"pod_uid": "another", "pod": "web-1"}, id="any-pod"),
        pytest.param(False, [everything(2)], {"at": None}, id="any-pod-without-a-time"),
        pytest.param(False, [everything(2)], {"namespace": "other"}, id="another-namespace"),
        pytest.param(False, [everything(2, "pod-uid")], {}, id="not-settled"),
        pytest.param(True, [everything(2, "another")], {}, id="another-is-not-settled"),
        pytest.param(False, [pod(1), everything(2, "pod-uid")], {}, id="settled-once-and-not-any-more"),
        pytest.param(True, [everything(1), pod(1)], {}, id="within-the-margin-but-read-itself"),
        pytest.param(True, [everything(3, "pod-uid"), everything(4)], {}, id="settled-since"),
        pytest.param(False, [everything(3), everything(4, "pod-uid")], {}, id="not-settled-any-more"),
        pytest.param(True, [gone(), everything(1, "pod-uid")], {}, id="gone-for-all-that"),
    ],
)
def test_a_read_covers_an_older_event(
    expected: bool,  # noqa: FBT001 - the row's answer
    reads: list[Read],
    fields: dict[str, Any],
) -> None:
    """An Event's time is in whole seconds. The read has to be of its pod, and to settle its image."""
    recent = RecentReads()
    for read in reads:
        read(recent)
    assert expected == recent.covers(replace(FAILED, **fields))


OFFSETS = st.integers(-5, 5).map(float) | st.floats(-5, 5)


@given(
    st.lists(st.tuples(st.booleans(), OFFSETS, st.booleans()), max_size=6), OFFSETS.map(round), st.sampled_from("ab")
)
def test_no_read_covers_a_newer_event(reads: list[tuple[bool, float, bool]], at: int, uid: str) -> None:
    """Whatever was read and in which order, an Event from after the last read causes another read."""
    recent = RecentReads()
    times: list[datetime] = []
    for is_whole_namespace, offset, settled in reads:
        times.append(NOW + seconds(offset))
        if is_whole_namespace:
            recent.namespace_settled("shop", times[-1], unsettled=NO_PODS if settled else frozenset({uid}))
        else:
            recent.pod_settled("shop", uid, SETTLED, times[-1])
    failed = replace(FAILED, pod_uid=uid, at=NOW + seconds(at))
    if all(failed.at > time for time in times if failed.at):
        assert not recent.covers(failed)


BOUNDS: dict[str, tuple[int, str, Callable[[RecentReads, str], None]]] = {
    "pods": (20_000, "pod_uid", lambda recent, name: recent.pod_settled("shop", name, SETTLED, NOW)),
    "gone": (20_000, "pod_uid", lambda recent, name: gone(pod_uid=name)(recent)),
    "namespaces": (2_000, "namespace", lambda recent, name: everything(2, namespace=name)(recent)),
}


@pytest.mark.parametrize(("max_entries", "field", "read"), BOUNDS.values(), ids=BOUNDS)
def test_the_number_of_entries_is_limited(
    max_entries: int, field: str, read: Callable[[RecentReads, str], None]
) -> None:
    """What was read longest ago is forgotten first."""
    recent = RecentReads()
    for number in range(max_entries):
        read(recent, f"n-{number}")
    read(recent, "n-0")  # once more: now the newest
    read(recent, "newest")
    rows: list[dict[str, Any]] = [{field: name} for name in ("n-0", "n-1", "n-2", "newest")]
    assert [True, False, True, True] == [recent.covers(replace(FAILED, **fields)) for fields in rows]


# What was denied


@pytest.mark.parametrize(
    ("expected", "after", "fields", "image"),
    [
        pytest.param(True, 0, {}, SECOND, id="at-once"),
        pytest.param(True, 49.9, {}, SECOND, id="within-the-minute"),
        pytest.param(False, 50, {}, SECOND, id="by-the-next-sweep"),
        pytest.param(False, 0, {}, FAILING, id="another-image"),
        pytest.param(False, 0, {"uid": "another"}, SECOND, id="another-object"),
        pytest.param(False, 0, {"namespace": "other"}, SECOND, id="another-namespace"),
    ],
)
def test_a_patch_that_was_denied_is_not_sent_again_until_the_next_sweep(
    expected: bool,  # noqa: FBT001 - the row's answer
    after: float,
    fields: dict[str, str],
    image: str,
) -> None:
    """Policies change, and a sweep comes every minute. Until then the answer would most likely be the same."""
    recent, target = RecentReads(), workload("Deployment")
    recent.patch_denied(target, SECOND, NOW, why="no")
    other = {**target, "metadata": {**target["metadata"], **fields}}
    assert ("no" if expected else "") == recent.denial(other, image, now=NOW + seconds(after))


STUCK = builders.pod(waiting())
TEMPLATE, PODS = Step.TEMPLATE, Step.PODS


@pytest.mark.parametrize(
    ("expected", "steps", "denied"),
    [
        pytest.param((TEMPLATE,), (TEMPLATE,), (), id="nothing"),
        pytest.param((PODS,), (TEMPLATE,), (TEMPLATE,), id="the-template"),
        pytest.param((PODS,), (TEMPLATE, PODS), (TEMPLATE,), id="the-template-before-pods"),
        pytest.param((PODS,), (PODS, TEMPLATE), (TEMPLATE,), id="the-template-after-pods"),
        pytest.param((TEMPLATE,), (TEMPLATE, PODS), (PODS,), id="the-pod"),
        pytest.param((TEMPLATE,), (TEMPLATE,), (PODS,), id="the-pod-that-needs-no-patch"),
        pytest.param((), (TEMPLATE,), (TEMPLATE, PODS), id="both"),
        pytest.param((), (PODS,), (PODS,), id="the-pod-alone"),
    ],
)
def test_what_was_denied_leaves_the_other_patch(
    expected: tuple[Step, ...], steps: tuple[Step, ...], denied: tuple[Step, ...]
) -> None:
    """If admission denied a template lately, its next stuck pod moves in place at once, and the note says why."""
    gathered = Gathered(
        namespace={}, pod=STUCK, sources=(source(verification="Off"),), owners=builders.chain("Deployment")
    )
    [failure] = find_pull_failures(STUCK)
    plan = decide(failure, gathered, now=NOW)
    assert isinstance(plan, Failover)
    recent = RecentReads()
    for step in denied:
        recent.patch_denied(plan.workload if step is TEMPLATE else STUCK, SECOND, NOW, why="no")
    outcome = PodOutcome(pod=STUCK, plans=(replace(plan, steps=steps),))
    [left] = without_denied(outcome, recent, now=NOW).plans
    if not expected:
        assert isinstance(left, Leave)
        assert (Reason.DENIED, "Deployment/a-deployment less than a minute ago: no") == (left.reason, left.detail)
        return
    assert isinstance(left, Failover)
    note = "its template stays, since the API server refused to patch it: no" if expected == (PODS,) else ""
    assert (expected, note) == (left.steps, left.note)


def test_a_namespace_is_flooded_after_many_repairs_that_moved_nothing() -> None:
    """A hundred at once are allowed, and no other namespace suffers."""
    recent = RecentReads()
    for _ in range(101):
        assert not recent.is_flooded("shop", now=NOW)
        recent.moved_nothing("shop", NOW)
    assert (True, False) == (recent.is_flooded("shop", now=NOW), recent.is_flooded("bank", now=NOW))
    later = NOW + seconds(0.2)
    assert not recent.is_flooded("shop", now=later)
    recent.moved_nothing("shop", later)
    assert recent.is_flooded("shop", now=later)


def test_a_source_is_known_by_its_version() -> None:
    """Another version, name or namespace is not known; neither is a version of before."""
    recent = RecentReads()
    assert not recent.has_repaired("shop", "own", "uid/1")
    recent.source_repaired("shop", "own", "uid/1")
    recent.source_repaired("", "own", "uid/7")
    known = [("shop", "own", "uid/1"), ("", "own", "uid/7")]
    others = [("shop", "own", "uid/2"), ("shop", "other", "uid/1"), ("bank", "own", "uid/1"), ("", "own", "uid/1")]
    assert [True] * 2 + [False] * 4 == [recent.has_repaired(*names) for names in (*known, *others)]
    recent.source_repaired("shop", "own", "uid/2")
    assert not recent.has_repaired("shop", "own", "uid/1")
