"""History: what the annotation keeps, cooldowns, and the count of reversions."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.history import (
    ANNOTATION,
    FAILED_BACK,
    Entry,
    History,
    RecordedMove,
    RecordedMoves,
    timestamp,
)
from testkit.builders import FAILING, NOW, SECOND, THIRD, annotated, moved, pod, workload
from testkit.strategies import histories, json_values, paths_into, replaced

MINUTE = timedelta(minutes=1)
ENTRY = {"container": "web", "from": FAILING, "to": SECOND, "at": "2026-11-23T02:00:00Z"}
DOCUMENT = {"v": 1, "failovers": [ENTRY]}


def read(annotation: str) -> History:
    """Return the history of a pod with that annotation."""
    return History.of(annotated(pod(), {ANNOTATION: annotation}))


def failures(*minutes: float) -> History:
    """Return a history in which the image failed that many minutes ago."""
    return History(tuple(moved(FAILING, SECOND, NOW - minute * MINUTE) for minute in minutes))


@given(histories())
def test_a_history_survives_its_annotation(history: History) -> None:
    """A history that is written and read back is the same."""
    assert history == read(history.rendered())


def test_the_annotation_has_the_documented_form() -> None:
    """It is compact, versioned JSON, since other programs read it too."""
    entry = (
        '{"container":"web","from":"a:1","to":"b:1","at":"2026-11-23T02:00:00Z","source":"shop","proof":"unverified"}'
    )
    assert "saffire.fairwinds.com/history" == ANNOTATION
    assert f'{{"v":1,"failovers":[{entry}]}}' == History((moved("a:1", "b:1"),)).rendered()


def test_a_pull_secret_survives_the_annotation() -> None:
    """The pull secret that a patch added is read back; an entry without one has no such field."""
    history = History((moved(FAILING, SECOND, secret="ghcr-pull"), moved(FAILING, SECOND)))  # noqa: S106 - its name
    assert history == read(history.rendered())
    assert 1 == history.rendered().count('"secret":"ghcr-pull"')


def test_what_was_proven_of_the_fault_survives_the_annotation() -> None:
    """An entry of an older version does not say it."""
    history = History((moved(FAILING, SECOND, fault="outage"), moved(FAILING, SECOND)))
    assert history == read(history.rendered())
    assert 1 == history.rendered().count('"fault":"outage"')
    assert [""] == [entry.fault for entry in read(json.dumps(DOCUMENT)).entries]


@given(histories(), histories())
def test_a_history_is_bounded(history: History, newer: History) -> None:
    """Each container keeps its newest 32 entries, so the annotation stays small in a long outage."""
    entries = (*history.entries, *newer.entries)
    kept = history.extended(newer.entries).entries
    for container in {entry.container for entry in entries}:
        expected = [entry for entry in entries if entry.container == container][-32:]
        assert expected == [entry for entry in kept if entry.container == container]


def test_a_long_outage_does_not_outgrow_an_annotation() -> None:
    """Those are six failures of each of five repositories; after six the cooldown no longer grows."""
    entries = tuple(moved(FAILING, SECOND, NOW + number * MINUTE) for number in range(40))
    assert entries[-32:] == History().extended(entries).entries


def test_a_pod_of_many_containers_does_not_outgrow_an_annotation() -> None:
    """All containers together keep the newest 160 entries."""
    entries = tuple(moved(FAILING, SECOND, container=f"c{number % 25}") for number in range(200))
    assert entries[-160:] == History().extended(entries).entries


def test_an_object_without_annotation_has_no_history() -> None:
    """Saffire has not moved any of its containers."""
    assert History() == History.of(pod())


@given(st.one_of(st.text(), json_values().map(json.dumps)))
def test_garbage_is_no_history(annotation: str) -> None:
    """If a user writes anything else into the annotation, reading it raises no error."""
    assert () == read(annotation).entries


@given(paths_into(DOCUMENT), json_values(), st.sampled_from([FAILING, SECOND]))
def test_a_history_that_was_tampered_with_can_be_used(path: tuple[Any, ...], value: Any, image: str) -> None:
    """With any value at any path, the methods return, and the rendered history can be read again."""
    history = read(json.dumps(replaced(DOCUMENT, path, value)))
    assert len(history.reversions("web", image, now=NOW)) in {0, 1}
    until = history.cooling_until("web", image)
    assert until is None or until.tzinfo is not None
    assert history == read(history.rendered())


@pytest.mark.parametrize(
    ("expected", "at"),
    [
        pytest.param([NOW], "2026-11-23T02:00:00Z", id="utc"),
        pytest.param([NOW], "2026-11-23T02:00:00+00:00", id="utc-in-numbers"),
        pytest.param([NOW], "2026-11-23T07:30:00+05:30", id="another-zone"),
        pytest.param([], "2026-11-23T02:00:00", id="no-zone"),
        pytest.param([], "2026-11-23", id="a-day"),
        pytest.param([], "9999-12-31T23:59:59Z", id="beyond-all-sums"),
        pytest.param([], "0001-01-01T00:00:00+14:00", id="before-all-time"),
        pytest.param([], "yesterday", id="a-word"),
    ],
)
def test_a_time_has_its_zone(expected: list[datetime], at: str) -> None:
    """Times are read in any zone and kept in UTC; a text that is no time makes the annotation invalid."""
    document = replaced(DOCUMENT, ("failovers", 0, "at"), at)
    times = [entry.at for entry in read(json.dumps(document)).entries]
    assert expected == times
    assert all(time.tzinfo is UTC for time in times)


@pytest.mark.parametrize(
    ("expected", "history"),
    [
        pytest.param(None, History(), id="never-failed"),
        pytest.param(0.5, failures(0), id="once"),
        pytest.param(1, failures(1, 0), id="twice"),
        pytest.param(2, failures(2, 1, 0), id="three-times"),
        pytest.param(4, failures(3, 2, 1, 0), id="four-times"),
        pytest.param(8, failures(4, 3, 2, 1, 0), id="five-times"),
        pytest.param(10, failures(5, 4, 3, 2, 1, 0), id="ten-minutes-at-most"),
        pytest.param(10, failures(*range(19, -1, -1)), id="twenty-times"),
        pytest.param(1, failures(60, 0), id="an-hour-counts"),
        pytest.param(0.5, failures(60.1, 0), id="longer-ago-does-not"),
        pytest.param(-3, failures(4, 4), id="counted-from-the-last"),
    ],
)
def test_the_cooldown_doubles(expected: float | None, history: History) -> None:
    """It is 30 s after one failure, doubles with each further one within an hour, and is at most 10 min."""
    until = history.cooling_until("web", FAILING)
    assert (None if expected is None else NOW + expected * MINUTE) == until


def test_the_cooldown_is_of_one_image_in_one_container() -> None:
    """A failure of the same image in another spelling counts; one of another image or container does not."""
    history = History((moved("nginx", SECOND), moved(THIRD, SECOND), moved(FAILING, SECOND, container="sidecar")))
    images = ("docker.io/library/nginx:latest", SECOND, FAILING)
    assert [NOW + MINUTE / 2, None, None] == [history.cooling_until("web", image) for image in images]


def test_a_fail_back_starts_no_cooldown() -> None:
    """Only a failure starts one: if the original fails again at once, the alternative is free."""
    fail_back = moved(SECOND, FAILING, NOW, reason=FAILED_BACK)
    assert History((fail_back,)).cooling_until("web", SECOND) is None
    failed = moved(SECOND, FAILING, NOW - MINUTE)
    assert NOW - MINUTE / 2 == History((failed, fail_back)).cooling_until("web", SECOND)
    assert [False, True] == [entry.is_fail_back for entry in read(History((failed, fail_back)).rendered()).entries]


def test_an_entry_of_an_older_version_has_empty_fields() -> None:
    """Source and proof may be missing; the entry still counts."""
    assert [("", "")] == [(entry.source, entry.proof) for entry in read(json.dumps(DOCUMENT)).entries]


def failovers(*images: str, container: str = "web") -> tuple[Entry, ...]:
    """Return the failovers between pairs of images, a minute apart, the last one a minute ago."""
    pairs = list(zip(images[::2], images[1::2], strict=True))
    ago = range(len(pairs), 0, -1)
    return tuple(moved(*pair, NOW - minutes * MINUTE, container) for minutes, pair in zip(ago, pairs, strict=True))


A, B, C = FAILING, SECOND, THIRD


@pytest.mark.parametrize(
    ("expected", "entries"),
    [
        pytest.param(0, (), id="nothing-done"),
        pytest.param(1, failovers(A, B), id="put-back-once"),
        pytest.param(2, failovers(A, B, A, B), id="put-back-twice"),
        pytest.param(3, failovers(A, B, A, B, A, C), id="put-back-three-times"),
        pytest.param(0, failovers(B, C), id="runs-on-something-else"),
        pytest.param(0, failovers(A, B, B, A), id="our-own-way-back"),
        pytest.param(0, failovers(B, C, A, B, B, A), id="nobody-put-anything-back"),
        pytest.param(0, failovers("x:1", "y:1", "y:1", "z:1"), id="a-new-version"),
        pytest.param(1, failovers(A, B, B, A, A, B), id="our-own-way-back-then-theirs"),
        pytest.param(1, failovers(A, B, C, B), id="put-back-after-somebody-tried-a-third"),
        pytest.param(1, failovers(A, B, B, C), id="put-back-after-two-failovers"),
        pytest.param(2, failovers(A, B, B, C, A, B, B, C), id="put-back-twice-after-two-failovers"),
        pytest.param(0, failovers(C, B), id="replaced-by-a-third-is-not-put-back"),
        pytest.param(1, (moved(A, B, NOW - 61 * MINUTE), *failovers(A, B)), id="longer-than-an-hour-ago"),
        pytest.param(2, (moved(A, B, NOW - 60 * MINUTE), *failovers(A, B)), id="an-hour-ago"),
        pytest.param(0, failovers(A, B, A, B, container="sidecar"), id="another-container"),
    ],
)
def test_reversions_are_counted(expected: int, entries: tuple[Entry, ...]) -> None:
    """If somebody puts back the image that a failover replaced, it is undone; the container names A now."""
    assert expected == len(History(entries).reversions("web", A, now=NOW))


@pytest.mark.parametrize(
    ("expected", "images", "now"),
    [
        pytest.param(0, (A, B, B, A), A, id="it is where it was left"),
        pytest.param(0, (A, B, B, A, A, B), B, id="it failed again"),
        pytest.param(1, (A, B, B, A, A, B), A, id="it failed again, and somebody put that back"),
        pytest.param(0, (A, B, B, A), B, id="somebody prefers the alternative"),
        pytest.param(0, (A, B, B, A, B, C), C, id="the alternative that somebody preferred failed"),
    ],
)
def test_a_fail_back_is_no_reversion(expected: int, images: tuple[str, ...], now: str) -> None:
    """Of the moves from A to B and back, the second is Saffire's own; if somebody undoes it, that does not count."""
    first, second, *later = failovers(*images)
    history = History((first, replace(second, reason=FAILED_BACK), *later))
    assert expected == len(history.reversions("web", now, now=NOW))


# Entries that a user made up


AHEAD = [pytest.param(True, 5 * MINUTE, id="clocks-differ"), pytest.param(False, 6 * MINUTE, id="made-up")]


@pytest.mark.parametrize(("counts", "ahead"), AHEAD)
def test_an_entry_of_the_future_blocks_nothing(ahead: timedelta, *, counts: bool) -> None:
    """Whoever may annotate a workload could otherwise end its failovers until the year 2099."""
    history = History((moved(A, B, NOW + ahead), moved(A, B, NOW + ahead)))
    assert counts is (len(history.reversions("web", A, now=NOW)) == 2)
    assert counts is (history.until(NOW).cooling_until("web", A) is not None)
    assert counts is history.until(NOW).has_moved("web", B)


# Entries that the annotation lost

LOST = moved(A, B, NOW - 2 * MINUTE)


def test_a_lost_entry_is_added_in_the_order_of_times() -> None:
    """The status of a source has the failovers that an annotation lost."""
    older, newer = moved(A, B, NOW - 3 * MINUTE), moved(A, C, NOW - MINUTE)
    assert (older, LOST, newer) == History((older, newer)).with_lost([LOST, LOST]).entries


@pytest.mark.parametrize(
    ("lost", "recorded", "annotated_ago"),
    [
        pytest.param([], [9], [9], id="at-once"),
        pytest.param([], [9], [5], id="patched-later"),
        pytest.param([9], [9], [], id="lost"),
        pytest.param([5], [5], [9], id="lost-after-another"),
        pytest.param([9], [9, 5], [5], id="moved-again-since"),
        pytest.param([], [9, 5], [7, 5], id="both-patched-later"),
        pytest.param([9], [9, 5], [3], id="moved-again-and-patched-later"),
    ],
)
def test_what_a_failover_patched_later_is_no_further_failover(
    lost: list[float], recorded: list[float], annotated_ago: list[float]
) -> None:
    """The status has one time for all that a failover moves: its pods, and the template after them."""
    history = History(tuple(moved(A, B, NOW - minutes * MINUTE) for minutes in annotated_ago))
    entries = [moved(A, B, NOW - minutes * MINUTE, source="of the status") for minutes in recorded]
    added = [entry for entry in history.with_lost(entries).entries if entry not in history.entries]
    assert lost == [(NOW - entry.at) / MINUTE for entry in added]


def test_an_entry_that_is_there_is_not_added() -> None:
    """A status has whole seconds, and another spelling of the old image."""
    history = History((LOST,))
    assert history == history.with_lost([replace(LOST, before="web:1.2", at=LOST.at + timedelta(milliseconds=400))])


def test_the_newest_entries_fit_into_the_room_that_is_left() -> None:
    """An annotation is refused if all annotations of the object together are too long."""
    history = History((moved(A, B), moved(B, C), moved(C, A)))
    size = len(History(history.entries[1:]).rendered())
    assert [3, 2, 1, 0, 0] == [len(history.within(room).entries) for room in (size * 2, size, size - 1, 20, -1)]


# What the status of sources has


def in_status(entry: Entry, **fields: Any) -> RecordedMove:
    """Return a failover of a pod of the StatefulSet, in place, as the status has it."""
    values = {"uid": "statefulset-uid", "kind": "StatefulSet", "namespace": "shop", "pods": ("web-0",), **fields}
    return RecordedMove(entry=entry, **values)


def test_the_moves_of_a_template_are_known_by_its_uid() -> None:
    """A patch in place leaves the template as it was, so it does not count."""
    recorded = RecordedMoves([in_status(LOST, pods=()), in_status(moved(A, C)), in_status(moved(A, C), uid="other")])
    assert (LOST,) == recorded.of_template(workload("StatefulSet"))
    assert () == recorded.of_template(workload("Deployment"))
    elsewhere = RecordedMoves([in_status(LOST, pods=(), namespace="other")])
    assert () == elsewhere.of_template(workload("StatefulSet"))


@pytest.mark.parametrize(
    ("is_known", "fields"),
    [
        pytest.param(True, {}, id="of-this-workload"),
        pytest.param(False, {"uid": "other"}, id="of-another-workload"),
        pytest.param(True, {"uid": "other", "kind": "Pod"}, id="the-pod-itself-is-the-workload"),
        pytest.param(False, {"namespace": "other"}, id="of-another-namespace"),
        pytest.param(False, {"pods": ("web-1", "web")}, id="of-other-pods"),
        pytest.param(True, {"pods": ("web-1", "web-0")}, id="of-several-pods"),
        pytest.param(False, {"pods": ()}, id="of-the-template"),
    ],
)
def test_the_moves_in_place_are_known_by_the_name_of_the_pod(fields: dict[str, Any], *, is_known: bool) -> None:
    """A pod that is made anew has another uid."""
    recorded = RecordedMoves([in_status(LOST, **fields)])
    assert is_known is (recorded.of_pod(pod(), workload("StatefulSet")) == (LOST,))


def test_what_was_undone_is_counted_for_each_pod() -> None:
    """Only what an earlier decision found counts, of this image, and for an hour."""
    undone = [in_status(moved(A, B, NOW - MINUTE * ago), was_undone=True) for ago in (1, 2, 61)]
    other = in_status(moved(A, B), pods=("web-1",), was_undone=True)
    recorded = RecordedMoves([*undone, other, in_status(moved(A, B)), in_status(moved(C, B), was_undone=True)])
    assert {"web-0": 2, "web-1": 1} == recorded.undone_in_pods(workload("StatefulSet"), "web", A, now=NOW)
    assert {} == recorded.undone_in_pods(workload("StatefulSet"), "sidecar", A, now=NOW)
    elsewhere = RecordedMoves([replace(undone[0], namespace="other")])
    assert {} == elsewhere.undone_in_pods(workload("StatefulSet"), "web", A, now=NOW)


def test_a_history_tells_to_which_images_a_container_was_moved() -> None:
    """Only the image after a move of this very container counts, not the one before."""
    history = History((moved(A, B), moved(B, C, container="sidecar")))
    moves = [("web", B), ("web", A), ("web", C), ("sidecar", C), ("sidecar", B)]
    assert [True, False, False, True, False] == [history.has_moved(*move) for move in moves]


LATER = NOW + MINUTE


@pytest.mark.parametrize(
    ("expected", "entries"),
    [
        pytest.param(None, [], id="never-moved"),
        pytest.param((A, B, NOW), [moved(A, B)], id="moved"),
        pytest.param((A, C, NOW), [moved(A, B), moved(B, C, LATER)], id="moved-on"),
        pytest.param(None, [moved(A, B), moved(B, A, LATER)], id="failed-over-to-its-original"),
        pytest.param(None, [moved(A, B), moved(B, A, LATER, reason=FAILED_BACK)], id="failed-back"),
        pytest.param((A, C, LATER), [moved(A, B), moved(B, A), moved(A, C, LATER)], id="left-again"),
        pytest.param((A, B, LATER), [moved(A, B), moved(A, B, LATER)], id="a-user-put-the-original-back"),
        pytest.param((C, B, LATER), [moved(A, B), moved(C, B, LATER)], id="a-user-gave-it-another-image"),
        pytest.param((A, B, NOW), [moved(A, B), moved(B, C, LATER, container="side")], id="another-container-moved-on"),
        pytest.param((A, B, NOW), [moved(A, B), moved(B, C, LATER, source="other")], id="another-source-moved-it-on"),
    ],
)
def test_a_history_tells_how_a_container_left_its_original(
    expected: tuple[str, str, datetime] | None, entries: list[Entry]
) -> None:
    """The original is the image before the first failover of those that led to the latest image."""
    away = History(tuple(entries)).away("web", "shop")
    assert expected == (away and (away.first.before, away.latest.after, away.first.at))


def test_a_timestamp_is_written_as_kubernetes_writes_it() -> None:
    """The form is RFC 3339 in whole seconds, as `metav1.Time`."""
    assert "2026-11-23T02:00:00Z" == timestamp(NOW.replace(microsecond=999_999))


def test_a_time_in_another_zone_is_written_as_the_same_time() -> None:
    """If somebody edited the annotation in local time, it still means the same moment."""
    local = NOW.astimezone(timezone(timedelta(hours=-8))).isoformat()
    history = read(json.dumps(replaced(DOCUMENT, ("failovers", 0, "at"), local)))
    assert "2026-11-23T02:00:00Z" in history.rendered()


@pytest.mark.parametrize("field", ["container", "from", "to", "source", "proof", "reason", "secret"])
def test_a_text_that_is_too_long_makes_the_history_invalid(field: str) -> None:
    """Otherwise somebody who may annotate one workload could make Saffire write more than a status holds."""
    for length, expected in ((520, 1), (521, 0)):
        document = replaced(DOCUMENT, ("failovers", 0), {**ENTRY, field: "x" * length})
        assert expected == len(read(json.dumps(document)).entries)


@pytest.mark.parametrize(("length", "expected"), [(520, True), (521, False)])
def test_a_workload_with_a_name_that_is_too_long_is_left_out(length: int, *, expected: bool) -> None:
    """The entry counts, without a workload."""
    workload = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "x" * length, "uid": "uid"}
    (entry,) = read(json.dumps(replaced(DOCUMENT, ("failovers", 0), {**ENTRY, "of": workload}))).entries
    assert expected is (entry.workload is not None)
