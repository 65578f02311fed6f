"""The memory: which news are older than the look at what they tell of, so that they cost no request."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.reconcile.recent import RecentReads
from saffire.reconcile.request import PodFailed
from testkit.builders import FAILING, NOW, SECOND

HINT = PodFailed(
    namespace="shop", pod="web-0", pod_uid="pod-uid", container="web", event="web-0.1", image=FAILING, at=NOW
)
SEEN = frozenset({("web", FAILING)})
NOBODY: frozenset[str] = frozenset()
Look = Callable[[RecentReads], None]


def seconds(number: float) -> timedelta:
    """Return a length of time."""
    return timedelta(seconds=number)


def pod(after: float, *failing: tuple[str, str], uid: str = "pod-uid") -> Look:
    """Look at a pod, so many seconds after the Event says that it was written."""
    return lambda memory: memory.pod_settled(uid, frozenset(failing or SEEN), NOW + seconds(after))


def everything(after: float, *but: str, namespace: str = "shop") -> Look:
    """Look at a namespace as a whole, all settled `but` those pods."""
    return lambda memory: memory.namespace_settled(namespace, NOW + seconds(after), but=frozenset(but))


def gone(**fields: Any) -> Look:
    """Find that a pod is not there."""
    return lambda memory: memory.pod_gone(replace(HINT, **fields))


@pytest.mark.parametrize(
    ("expected", "looks", "told"),
    [
        pytest.param(False, [], {}, id="nothing-was-seen"),
        # One pod.
        pytest.param(True, [pod(1)], {}, id="older"),
        pytest.param(True, [pod(0)], {}, id="as-old"),
        pytest.param(True, [pod(0.7)], {}, id="in-the-second-of-the-look"),
        pytest.param(False, [pod(-0.001)], {}, id="newer"),
        pytest.param(False, [pod(1)], {"at": None}, id="without-a-time"),
        pytest.param(False, [pod(1)], {"container": "sidecar"}, id="another-container"),
        pytest.param(False, [pod(1)], {"container": ""}, id="no-container"),
        pytest.param(False, [pod(1)], {"image": SECOND}, id="another-image-of-the-container"),
        pytest.param(True, [pod(1)], {"image": ""}, id="no-image"),
        pytest.param(False, [pod(1)], {"image": "", "container": "sidecar"}, id="no-image-of-another-container"),
        pytest.param(False, [pod(1, uid="another")], {}, id="another-pod"),
        pytest.param(True, [pod(1, ("db", SECOND), ("web", FAILING))], {}, id="one-of-two-containers"),
        pytest.param(False, [pod(1, ("db", FAILING), ("web", SECOND))], {}, id="crosswise"),
        pytest.param(False, [pod(1), pod(2, ("web", SECOND))], {}, id="the-last-look-counts"),
        # A pod that is gone.
        pytest.param(True, [gone()], {}, id="gone"),
        pytest.param(True, [gone()], {"at": NOW + seconds(3600)}, id="gone-stays-gone"),
        pytest.param(True, [gone()], {"at": None, "image": "", "container": ""}, id="gone-whatever-is-told"),
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
        pytest.param(True, [everything(1), pod(1)], {}, id="within-the-margin-but-seen-itself"),
        pytest.param(True, [everything(3, "pod-uid"), everything(4)], {}, id="settled-since"),
        pytest.param(False, [everything(3), everything(4, "pod-uid")], {}, id="not-settled-any-more"),
        pytest.param(True, [gone(), everything(1, "pod-uid")], {}, id="gone-for-all-that"),
    ],
)
def test_a_hint_is_known_if_it_is_older_than_the_look(
    expected: bool,  # noqa: FBT001 - the row's answer
    looks: list[Look],
    told: dict[str, Any],
) -> None:
    """An Event's time is in whole seconds; what it tells of has to be what was looked at, and settled."""
    memory = RecentReads()
    for look in looks:
        look(memory)
    assert expected == memory.covers(replace(HINT, **told))


OFFSETS = st.integers(-5, 5).map(float) | st.floats(-5, 5)


@given(
    st.lists(st.tuples(st.booleans(), OFFSETS, st.booleans()), max_size=6), OFFSETS.map(round), st.sampled_from("ab")
)
def test_what_is_newer_than_every_look_is_never_known(looks: list[tuple[bool, float, bool]], at: int, uid: str) -> None:
    """Whatever was looked at and in which order, news from after the last look cause another one."""
    memory = RecentReads()
    times: list[datetime] = []
    for is_wide, offset, settled in looks:
        times.append(NOW + seconds(offset))
        if is_wide:
            memory.namespace_settled("shop", times[-1], but=NOBODY if settled else frozenset({uid}))
        else:
            memory.pod_settled(uid, SEEN, times[-1])
    hint = replace(HINT, pod_uid=uid, at=NOW + seconds(at))
    if all(hint.at > time for time in times if hint.at):
        assert not memory.covers(hint)


BOUNDS: dict[str, tuple[int, str, Callable[[RecentReads, str], None]]] = {
    "pods": (20_000, "pod_uid", lambda memory, name: memory.pod_settled(name, SEEN, NOW)),
    "gone": (20_000, "pod_uid", lambda memory, name: gone(pod_uid=name)(memory)),
    "namespaces": (2_000, "namespace", lambda memory, name: everything(2, namespace=name)(memory)),
}


@pytest.mark.parametrize(("most", "field", "look"), BOUNDS.values(), ids=BOUNDS)
def test_the_memory_is_bounded(most: int, field: str, look: Callable[[RecentReads, str], None]) -> None:
    """What was looked at longest ago is forgotten first."""
    memory = RecentReads()
    for number in range(most):
        look(memory, f"n-{number}")
    look(memory, "n-0")  # once more: now the newest
    look(memory, "one-more")
    told: list[dict[str, Any]] = [{field: name} for name in ("n-0", "n-1", "n-2", "one-more")]
    assert [True, False, True, True] == [memory.covers(replace(HINT, **one)) for one in told]


# What was denied.


@pytest.mark.parametrize(
    ("expected", "after", "told"),
    [
        pytest.param(True, 0, ("uid", SECOND), id="at-once"),
        pytest.param(True, 49.9, ("uid", SECOND), id="within-the-minute"),
        pytest.param(False, 50, ("uid", SECOND), id="by-the-next-sweep"),
        pytest.param(False, 0, ("uid", FAILING), id="another-image"),
        pytest.param(False, 0, ("another", SECOND), id="another-object"),
    ],
)
def test_a_patch_that_was_denied_is_not_repeated_until_the_next_sweep(
    expected: bool,  # noqa: FBT001 - the row's answer
    after: float,
    told: tuple[str, str],
) -> None:
    """Policies change, and a sweep comes every minute; until then the same answer would come."""
    memory = RecentReads()
    memory.patch_denied("uid", SECOND, NOW, why="no")
    assert ("no" if expected else "") == memory.denial(*told, now=NOW + seconds(after))


@pytest.mark.parametrize(
    ("expected", "after", "told"),
    [
        pytest.param(True, 2, {}, id="older-by-more-than-a-status-lags"),
        pytest.param(False, 1.999, {}, id="as-old-as-its-status-may-be-late"),
        pytest.param(False, -1, {}, id="newer"),
        pytest.param(False, 60, {"namespace": "other"}, id="another-namespace"),
        pytest.param(False, 60, {"at": None}, id="without-a-time"),
        pytest.param(False, 60, {"pod_uid": "unsettled"}, id="a-pod-that-is-left-out"),
    ],
)
def test_a_look_that_is_under_way_finds_what_older_news_tell(
    *, expected: bool, after: float, told: dict[str, Any]
) -> None:
    """As long as it is under way, and nothing is known of what it has not come to yet."""
    memory, hint = RecentReads(), replace(HINT, **told)
    with memory.reading("shop", NOW + seconds(after), but=frozenset({"unsettled"})):
        assert expected == memory.will_cover(hint)
        assert not memory.covers(hint)
    assert not memory.will_cover(hint)
