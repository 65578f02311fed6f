"""Health: since when an original is proven, and which answers of a registry prove it."""

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
    NOT_ASKED,
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
FAIL_BACK_AFTER = 30 * MINUTE
ENTRY: Object = {"from": FAILING, "to": SECOND, "container": "web"}
ONE, TWO, THREE = (f"sha256:{64 * digit}" for digit in "123")


def entry(since: timedelta, last: timedelta, **fields: Any) -> Object:
    """Return an entry whose original has been proven for `since`, and was last proven `last` ago."""
    return {**ENTRY, "healthySince": timestamp(NOW - since), "provenAt": timestamp(NOW - last), **fields}


def candidate(image: str, **spec: Any) -> Candidate:
    """Return an image as a candidate of the default source."""
    return Candidate(image=image, reference=Reference.parse(image), source=source(**spec))


# The proof


def test_the_first_proof_is_written() -> None:
    """Both times are now."""
    assert entry(timedelta(), timedelta()) == with_proof(ENTRY, FAIL_BACK_AFTER, now=NOW)


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
    """With `failBack.after` of 30 minutes it is written again after 6, and ends after 9 without a sweep."""
    revised = with_proof(entry(since * MINUTE, last * MINUTE, blockedBy="was"), FAIL_BACK_AFTER, now=NOW)
    assert entry(expected[0] * MINUTE, expected[1] * MINUTE) == revised


def test_a_proof_is_written_seldom() -> None:
    """A sweep a minute for half an hour changes the entry six times."""
    revised: Object = ENTRY
    changes = 0
    for minute in range(31):
        before, revised = revised, with_proof(revised, FAIL_BACK_AFTER, now=NOW + minute * MINUTE)
        changes += before != revised
        assert is_due(revised, FAIL_BACK_AFTER, now=NOW + minute * MINUTE) == (minute == 30)
    assert 6 == changes


@given(gaps=st.lists(st.integers(1, 1200), min_size=1, max_size=60), seconds=st.integers(60, 7200))
def test_no_proof_spans_a_gap_without_a_sweep(gaps: list[int], seconds: int) -> None:
    """Whenever the sweeps come, no gap within a proof is longer than a fifth of the time and three minutes."""
    fail_back_after, sweeps = timedelta(seconds=seconds), [NOW]
    revised = with_proof(ENTRY, fail_back_after, now=NOW)
    for gap in gaps:
        sweeps.append(sweeps[-1] + timedelta(seconds=gap))
        revised = with_proof(revised, fail_back_after, now=sweeps[-1])
        if is_due(revised, fail_back_after, now=sweeps[-1]):
            counted = [at for at in sweeps if timestamp(at) >= revised["healthySince"]]
            assert counted[-1] - counted[0] >= fail_back_after
            assert max(later - at for at, later in pairwise(counted)) <= fail_back_after / 5 + 3 * MINUTE


@pytest.mark.parametrize("blocked_by", ["", "quay.io/acme/web:1.2: quay.io has no such image"])
def test_without_a_proof_only_the_reason_is_left(blocked_by: str) -> None:
    """The times are gone, and so is an earlier reason."""
    reason = {"blockedBy": blocked_by} if blocked_by else {}
    assert {**ENTRY, **reason} == without_proof(entry(FAIL_BACK_AFTER, MINUTE, blockedBy="another"), blocked_by)


@pytest.mark.parametrize(
    ("since", "expected"), [(29, False), (30, True), (31, True)], ids=["not yet", "just now", "for longer"]
)
def test_an_original_is_due_after_the_time_of_its_source(since: int, *, expected: bool) -> None:
    """The time is counted from the first proof."""
    assert expected == is_due(entry(since * MINUTE, MINUTE), FAIL_BACK_AFTER, now=NOW)


@given(since=json_values(), last=json_values())
def test_times_of_any_shape_prove_nothing(since: Any, last: Any) -> None:
    """Somebody else may have written them; the proof starts again."""
    broken = {**ENTRY, "healthySince": since, "provenAt": last}
    assert not is_due(broken, FAIL_BACK_AFTER, now=NOW)
    assert entry(timedelta(), timedelta()) == with_proof(broken, FAIL_BACK_AFTER, now=NOW)


@pytest.mark.parametrize("extreme", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_that_overflow_prove_nothing(extreme: str) -> None:
    """The difference from now cannot be computed."""
    assert not is_due({**ENTRY, "healthySince": extreme}, FAIL_BACK_AFTER, now=NOW)


# The image that runs


def test_a_digest_in_the_reference_is_the_one_that_runs() -> None:
    """The pods do not matter then."""
    assert {ONE} == running_digests(candidate(f"ghcr.io/acme/web:1@{ONE}"), RunningImages())


def test_without_it_the_pods_tell_the_digest_that_runs() -> None:
    """They run the alternative, so they tell only its digest."""
    running = RunningImages()
    status = {"name": "web", "image": SECOND, "imageID": f"{SECOND}@{ONE}", "state": {"running": {}}}
    running.observe(pod(status, web=SECOND))
    assert [{ONE}, set()] == [running_digests(candidate(image), running) for image in (SECOND, FAILING)]


# Answers

THERE = Available(digest=ONE)
INDEX = Available(digest=ONE, manifests=frozenset({TWO}))
OTHER = Available(digest=THREE, manifests=frozenset({TWO}))
DIFFERENT = f"{FAILING}: it is another image than the one that runs"
NOT_PROVEN_EQUAL = f"{FAILING}: it is there, but nothing tells that it is the same image"


@pytest.mark.parametrize(
    ("why", "answer", "alternative", "digests"),
    [
        pytest.param("", THERE, NOT_ASKED, {ONE}, id="its digest runs"),
        pytest.param("", INDEX, NOT_ASKED, {ONE, TWO}, id="its digest and that of a platform run"),
        pytest.param(NOT_PROVEN_EQUAL, THERE, NOT_ASKED, {TWO}, id="something else runs, and nobody tells what"),
        pytest.param(NOT_PROVEN_EQUAL, THERE, NOT_ASKED, set(), id="nothing runs, and nobody tells"),
        pytest.param(NOT_PROVEN_EQUAL, THERE, NotFound(), set(), id="nothing runs, and the alternative is gone"),
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
    """It must be equal, by the pods' digests or, if these do not tell, by the alternative's; present is not enough."""
    assert why == why_unproven(candidate(FAILING), answer, alternative, frozenset(digests))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NotFound(), "has no such image"),
        (WrongPlatform(), "has no build of it for the node's platform"),
        (Incomplete("layer"), "lacks a part of it: layer"),
        (Denied(), "does not tell Saffire without other credentials"),
        (Throttled(7), "wants to be asked later"),
        (Unreachable("connection refused"), "did not tell: connection refused"),
    ],
)
def test_every_other_answer_of_a_registry_is_no_proof(answer: Availability, reason: str) -> None:
    """Unknown is not healthy, and the reason names the answer."""
    assert f"{FAILING}: quay.io {reason}" == why_unproven(candidate(FAILING), answer, THERE, frozenset({ONE}))


@pytest.mark.parametrize(("complete", "why"), [(True, ""), (False, f"{FAILING}: it is there, but not proven whole")])
def test_a_strict_source_wants_the_original_whole(why: str, *, complete: bool) -> None:
    """If layers of the original are lost, nothing returns to it."""
    answer = Available(digest=ONE, complete=complete)
    assert why == why_unproven(candidate(FAILING, verification="Strict"), answer, NOT_ASKED, frozenset({ONE}))


@pytest.mark.parametrize(
    ("needed", "answer", "digests"),
    [
        (False, THERE, {ONE}),
        (True, THERE, {TWO}),
        (True, THERE, set()),
        (False, NotFound(), set()),
        (False, NOT_ASKED, {ONE}),
    ],
)
def test_the_alternative_is_asked_only_if_that_helps(answer: Availability, digests: set[str], *, needed: bool) -> None:
    """It is not asked if the original is not there, nor if the digests that run prove the original."""
    assert needed == needs_alternative(answer, frozenset(digests))
