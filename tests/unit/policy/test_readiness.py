"""Pairs: an image in use and an equivalent, and what each answer of a registry makes of them."""

from typing import Any

import pytest

from saffire.policy.readiness import Pair, State, askable, listed
from saffire.policy.running_images import Use
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
from testkit.builders import FAILING, SECOND, THIRD, source

ONE, OTHER = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
WHOLE = Available(digest=ONE, suits=True, complete=True)


def pairs(*uses: Use, **spec: Any) -> tuple[Pair, ...]:
    """Return the pairs of images in use, of the usual source with these fields."""
    return askable(listed(uses, source(**spec)) or ())


def one(*digests: str, image: str = FAILING, **spec: Any) -> Pair:
    """Return the first pair of an image that is known to have these digests."""
    return pairs(Use(image=image, digests=frozenset(digests)), **spec)[0]


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (State.ABSENT, NotFound()),
        (State.PLATFORM, WrongPlatform()),
        (State.INCOMPLETE, Incomplete("config")),
        (State.DENIED, Denied()),
        (State.THROTTLED, Throttled(7)),
        (State.UNREACHABLE, Unreachable("connection refused")),
    ],
)
@pytest.mark.parametrize("verification", ["BestEffort", "Strict"])
def test_what_is_not_there_has_its_own_word(verification: str, state: State, answer: Availability) -> None:
    """Whatever its source wants."""
    assert state is one(ONE, verification=verification).judged(answer)


@pytest.mark.parametrize(
    ("state", "answer", "digests", "spec"),
    [
        pytest.param(State.READY, Available(digest=ONE), [ONE], {}, id="equal"),
        pytest.param(
            State.READY, Available(digest=OTHER, manifests=frozenset({ONE})), [ONE], {}, id="one-of-the-index"
        ),
        pytest.param(State.READY, Available(digest=ONE), [OTHER, ONE], {}, id="one-of-two-that-run"),
        pytest.param(State.READY, Available(digest=ONE), [], {}, id="present"),
        pytest.param(State.DIFFERENT, Available(digest=ONE), [OTHER], {}, id="different"),
        pytest.param(
            State.READY, Available(digest=ONE), [OTHER], {"allowDifferentDigest": True}, id="different-and-allowed"
        ),
        pytest.param(State.READY, WHOLE, [ONE], {"verification": "Strict"}, id="strictly-whole"),
        pytest.param(State.UNPROVEN, Available(digest=ONE), [ONE], {"verification": "Strict"}, id="not-known-whole"),
        pytest.param(State.UNPROVEN, WHOLE, [], {"verification": "Strict"}, id="not-known-equal"),
        pytest.param(State.DIFFERENT, WHOLE, [OTHER], {"verification": "Strict"}, id="strictly-different"),
    ],
)
def test_what_is_there_is_judged_as_by_a_failover(
    state: State, answer: Availability, digests: list[str], spec: dict[str, Any]
) -> None:
    """Ready is what a failover would take as proven."""
    assert state is one(*digests, **spec).judged(answer)


def test_a_digest_in_the_reference_counts_more_than_what_runs() -> None:
    """It is what a failover would compare with."""
    pinned = one(OTHER, image=f"{FAILING}@{ONE}")
    assert (State.READY, State.DIFFERENT) == tuple(map(pinned.judged, (Available(digest=ONE), Available(digest=OTHER))))


# Which pairs there are


def test_each_equivalent_of_each_image_makes_a_pair() -> None:
    """In the order of preference; an image that no set lists, or that is no reference, makes none."""
    uses = [Use(image=image) for image in (FAILING, "example.com/other:1", "not a reference", SECOND)]
    expected = [(FAILING, SECOND), (FAILING, THIRD), (SECOND, FAILING), (SECOND, THIRD)]
    assert expected == [(pair.use.image, pair.candidate.image) for pair in pairs(*uses)]
    assert ["ghcr.io", "registry.example:5000"] == [pair.host for pair in pairs(*uses)[:2]]


@pytest.mark.parametrize(
    ("lists", "spec"),
    [
        (True, {"mode": "Observe"}),
        (False, {"mode": "Paused"}),
        (False, {"verification": "Off"}),
        (True, {"verification": "Strict"}),
    ],
)
def test_who_wants_nobody_asked_has_no_pairs(lists: bool, spec: dict[str, Any]) -> None:  # noqa: FBT001 - the row's expectation
    """That is another thing than none of the images being listed."""
    assert lists is (listed((Use(image=FAILING),), source(**spec)) is not None)
    assert () == listed((Use(image="example.com/other:1"),), source())


def test_there_is_an_end_to_what_is_asked_about() -> None:
    """Ten thousand images fill neither a status nor the time of others."""
    uses = tuple(Use(image=f"quay.io/acme/web:{number}") for number in range(10_000))
    assert 2000 == len(listed(uses, source()) or ())
    assert 1000 == len(pairs(*uses))
    many = [[f"quay.io/{row}/{column}" for column in range(32)] for row in range(63)]
    large = source(*many, ["quay.io/acme/*", "ghcr.io/acme/*"])
    assert 99 == len(listed(uses, large) or ())
    assert 49 == len(listed(uses, large, share=2) or ())


# What tells them apart


def test_a_key_is_of_all_that_an_answer_depends_on() -> None:
    """The images, and of the source what proof it wants and whose credentials are asked with."""
    ghcr = [{"registry": "ghcr.io", "secretName": "pull"}]
    pairs_of = [
        one(),
        one(image="quay.io/acme/web:1.3"),
        pairs(Use(image=FAILING))[1],
        one(verification="Strict"),
        one(allowDifferentDigest=True),
        one(credentials=ghcr),
        one(credentials=[{**ghcr[0], "secretName": "other"}]),
    ]
    assert len(pairs_of) == len({pair.key for pair in pairs_of})
    same = [one(ONE), one(mode="Observe"), one(credentials=[{"registry": "quay.io", "secretName": "pull"}])]
    assert {one().key} == {pair.key for pair in same}
