"""Health: since when an original is proven to be there, and what each answer of a registry is worth for that."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.history import timestamp
from saffire.policy.original_health import (
    is_due,
    needs_alternative,
    running_digests,
    why_unproven,
    with_proof,
    without_proof,
)
from saffire.policy.running_images import RunningImages
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Throttled,
    Unreachable,
    WrongPlatform,
)
from saffire.registry.reference import Reference
from saffire.sources.candidates import Candidate
from testkit.builders import FAILING, NOW, SECOND, Object, pod, source
from testkit.strategies import json_values

MINUTE = timedelta(minutes=1)
PATIENCE = 30 * MINUTE
ENTRY: Object = {"from": FAILING, "to": SECOND, "container": "web"}
ONE, TWO, THREE = (f"sha256:{64 * digit}" for digit in "123")


def entry(since: timedelta, last: timedelta, **fields: Any) -> Object:
    """Return an entry whose original is proven since so long ago, and was last so long ago."""
    return {**ENTRY, "healthySince": timestamp(NOW - since), "provenAt": timestamp(NOW - last), **fields}


def candidate(image: str, **spec: Any) -> Candidate:
    """Return an image as a candidate of the usual source."""
    return Candidate(image=image, reference=Reference.parse(image), source=source(**spec))


# The proof


def test_the_first_proof_is_written_down() -> None:
    """Both times are now."""
    assert entry(timedelta(), timedelta()) == with_proof(ENTRY, PATIENCE, now=NOW)


@pytest.mark.parametrize(
    ("since", "last", "expected"),
    [
        pytest.param(5, 5, (5, 5), id="nothing to write yet"),
        pytest.param(6, 6, (6, 0), id="a fifth of the time is over"),
        pytest.param(20, 9, (20, 0), id="as long as two sweeps may be late"),
        pytest.param(20, 9.1, (0, 0), id="a gap"),
        pytest.param(300, 300, (0, 0), id="hours of nothing"),
        pytest.param(-1, -1, (-1, -1), id="somebody's clock is ahead"),
        pytest.param(-20, -20, (0, 0), id="somebody's clock is far ahead"),
    ],
)
def test_a_proof_goes_on_unless_there_was_a_gap(since: float, last: float, expected: tuple[int, int]) -> None:
    """With a patience of 30 minutes it is written anew every 6, and is no proof after 9 without."""
    found = with_proof(entry(since * MINUTE, last * MINUTE, blockedBy="was"), PATIENCE, now=NOW)
    assert entry(expected[0] * MINUTE, expected[1] * MINUTE) == found


def test_what_is_to_be_written_changes_seldom() -> None:
    """A sweep a minute for half an hour changes the entry six times."""
    found: Object = ENTRY
    changes = 0
    for minute in range(31):
        before, found = found, with_proof(found, PATIENCE, now=NOW + minute * MINUTE)
        changes += before != found
        assert is_due(found, PATIENCE, now=NOW + minute * MINUTE) == (minute == 30)
    assert 6 == changes


@given(gaps=st.lists(st.integers(1, 1200), min_size=1, max_size=60), patience=st.integers(60, 7200))
def test_no_proof_spans_a_time_in_which_nobody_looked(gaps: list[int], patience: int) -> None:
    """Whenever the sweeps come: of what counts, no piece longer than a fifth and three minutes went without a look."""
    time, looks = timedelta(seconds=patience), [NOW]
    found = with_proof(ENTRY, time, now=NOW)
    for gap in gaps:
        looks.append(looks[-1] + timedelta(seconds=gap))
        found = with_proof(found, time, now=looks[-1])
        if is_due(found, time, now=looks[-1]):
            counted = [at for at in looks if timestamp(at) >= found["healthySince"]]
            assert counted[-1] - counted[0] >= time
            assert max(later - at for at, later in pairwise(counted)) <= time / 5 + 3 * MINUTE


@pytest.mark.parametrize("blocked_by", ["", "quay.io/acme/web:1.2: quay.io has no such image"])
def test_a_proof_ends_without_a_trace(blocked_by: str) -> None:
    """But for the reason, if there is one."""
    told = {"blockedBy": blocked_by} if blocked_by else {}
    assert {**ENTRY, **told} == without_proof(entry(PATIENCE, MINUTE, blockedBy="another"), blocked_by)


@pytest.mark.parametrize(
    ("since", "expected"), [(29, False), (30, True), (31, True)], ids=["not yet", "just now", "for longer"]
)
def test_patience_has_an_end(since: int, *, expected: bool) -> None:
    """Counted from the first proof."""
    assert expected == is_due(entry(since * MINUTE, MINUTE), PATIENCE, now=NOW)


@given(since=json_values(), last=json_values())
def test_times_of_any_shape_prove_nothing(since: Any, last: Any) -> None:
    """Somebody else may have written there; the proof starts anew."""
    broken = {**ENTRY, "healthySince": since, "provenAt": last}
    assert not is_due(broken, PATIENCE, now=NOW)
    assert entry(timedelta(), timedelta()) == with_proof(broken, PATIENCE, now=NOW)


@pytest.mark.parametrize("extreme", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_beyond_all_sums_prove_nothing(extreme: str) -> None:
    """They could not be told from now."""
    assert not is_due({**ENTRY, "healthySince": extreme}, PATIENCE, now=NOW)


# What runs


def test_a_name_with_a_digest_tells_what_runs() -> None:
    """Whatever the pods say."""
    assert {ONE} == running_digests(candidate(f"ghcr.io/acme/web:1@{ONE}"), RunningImages())


def test_else_the_pods_tell_what_runs() -> None:
    """Of the alternative, which they run."""
    running = RunningImages()
    status = {"name": "web", "image": SECOND, "imageID": f"{SECOND}@{ONE}", "state": {"running": {}}}
    running.observe(pod(status, web=SECOND))
    assert [{ONE}, set()] == [running_digests(candidate(image), running) for image in (SECOND, FAILING)]


# Answers

THERE = Available(digest=ONE)
INDEX = Available(digest=ONE, manifests=frozenset({TWO}))
OTHER = Available(digest=THREE, manifests=frozenset({TWO}))
AWAY = Unreachable("nobody asked")
DIFFERENT = f"{FAILING}: it is another image than the one that runs"
UNTOLD = f"{FAILING}: it is there, but nothing tells that it is the same image"


@pytest.mark.parametrize(
    ("why", "answer", "alternative", "digests"),
    [
        pytest.param("", THERE, AWAY, {ONE}, id="its digest runs"),
        pytest.param("", INDEX, AWAY, {ONE, TWO}, id="its digest and that of a platform run"),
        pytest.param(UNTOLD, THERE, AWAY, {TWO}, id="something else runs, and nobody tells what"),
        pytest.param(UNTOLD, THERE, AWAY, set(), id="nothing runs, and nobody tells"),
        pytest.param(UNTOLD, THERE, NotFound(), set(), id="nothing runs, and the alternative is gone"),
        pytest.param("", THERE, THERE, set(), id="nothing runs, and both are one"),
        pytest.param(DIFFERENT, THERE, OTHER, set(), id="nothing runs, and they differ"),
        pytest.param("", THERE, INDEX, {TWO}, id="a platform of it runs, as the alternative tells"),
        pytest.param(DIFFERENT, THERE, OTHER, {TWO}, id="a platform of another runs"),
        pytest.param(DIFFERENT, THERE, THERE, {TWO}, id="an older build runs than both have"),
        pytest.param(DIFFERENT, THERE, THERE, {ONE, TWO}, id="an older build runs beside it"),
    ],
)
def test_an_original_is_the_image_that_runs(
    why: str, answer: Available, alternative: Availability, digests: set[str]
) -> None:
    """Equal by the pods, or by the alternative where they do not tell; present is not enough."""
    assert why == why_unproven(candidate(FAILING), answer, alternative, frozenset(digests))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (NotFound(), "has no such image"),
        (WrongPlatform(), "has no build of it for the node's platform"),
        (Incomplete("layer"), "lacks a part of it: layer"),
        (Denied(), "does not tell us without other credentials"),
        (Throttled(7), "wants to be asked later"),
        (Unreachable("connection refused"), "did not tell: connection refused"),
    ],
)
def test_whatever_else_a_registry_answers_is_no_proof(answer: Availability, words: str) -> None:
    """Unknown is not healthy, and the entry says what was answered."""
    assert f"{FAILING}: quay.io {words}" == why_unproven(candidate(FAILING), answer, THERE, frozenset({ONE}))


@pytest.mark.parametrize(("complete", "why"), [(True, ""), (False, f"{FAILING}: it is there, but not proven whole")])
def test_a_strict_source_wants_every_part_seen(why: str, *, complete: bool) -> None:
    """A manifest whose layers are lost is no original to return to."""
    answer = Available(digest=ONE, complete=complete)
    assert why == why_unproven(candidate(FAILING, verification="Strict"), answer, AWAY, frozenset({ONE}))


@pytest.mark.parametrize(
    ("unclear", "answer", "digests"),
    [
        (False, THERE, {ONE}),
        (True, THERE, {TWO}),
        (True, THERE, set()),
        (False, NotFound(), set()),
        (False, AWAY, {ONE}),
    ],
)
def test_the_alternative_is_asked_only_if_that_helps(answer: Availability, digests: set[str], *, unclear: bool) -> None:
    """An original that is not there is not there, and one that runs needs no second word."""
    assert unclear == needs_alternative(answer, frozenset(digests))
