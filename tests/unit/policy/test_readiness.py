"""Pairs: an image in use and an equivalent, and what each answer of a registry makes of them."""

from typing import Any

import pytest

from saffire.policy.readiness import ImagePair, ReadinessState, pairs_by_image, pairs_to_probe
from saffire.policy.running_images import ImageUse
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


def pairs(*uses: ImageUse, **spec: Any) -> tuple[ImagePair, ...]:
    """Return the pairs of images in use, of the usual source with these fields."""
    return pairs_to_probe(pairs_by_image(uses, source(**spec)) or ())


def one(*digests: str, image: str = FAILING, **spec: Any) -> ImagePair:
    """Return the first pair of an image that is known to have these digests."""
    return pairs(ImageUse(image=image, digests=frozenset(digests)), **spec)[0]


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (ReadinessState.ABSENT, NotFound()),
        (ReadinessState.PLATFORM, WrongPlatform()),
        (ReadinessState.INCOMPLETE, Incomplete("config")),
        (ReadinessState.DENIED, Denied()),
        (ReadinessState.THROTTLED, Throttled(7)),
        (ReadinessState.UNREACHABLE, Unreachable("connection refused")),
    ],
)
@pytest.mark.parametrize("verification", ["BestEffort", "Strict"])
def test_what_is_not_there_has_its_own_word(verification: str, state: ReadinessState, answer: Availability) -> None:
    """Whatever its source wants."""
    assert state is one(ONE, verification=verification).state_for(answer)


@pytest.mark.parametrize(
    ("state", "answer", "digests", "spec"),
    [
        pytest.param(ReadinessState.READY, Available(digest=ONE), [ONE], {}, id="equal"),
        pytest.param(
            ReadinessState.READY, Available(digest=OTHER, manifests=frozenset({ONE})), [ONE], {}, id="one-of-the-index"
        ),
        pytest.param(ReadinessState.READY, Available(digest=ONE), [OTHER, ONE], {}, id="one-of-two-that-run"),
        pytest.param(ReadinessState.READY, Available(digest=ONE), [], {}, id="present"),
        pytest.param(ReadinessState.DIFFERENT, Available(digest=ONE), [OTHER], {}, id="different"),
        pytest.param(
            ReadinessState.READY,
            Available(digest=ONE),
            [OTHER],
            {"allowDifferentDigest": True},
            id="different-and-allowed",
        ),
        pytest.param(ReadinessState.READY, WHOLE, [ONE], {"verification": "Strict"}, id="strictly-whole"),
        pytest.param(
            ReadinessState.UNPROVEN, Available(digest=ONE), [ONE], {"verification": "Strict"}, id="not-known-whole"
        ),
        pytest.param(ReadinessState.UNPROVEN, WHOLE, [], {"verification": "Strict"}, id="not-known-equal"),
        pytest.param(ReadinessState.DIFFERENT, WHOLE, [OTHER], {"verification": "Strict"}, id="strictly-different"),
    ],
)
def test_what_is_there_is_judged_as_by_a_failover(
    state: ReadinessState, answer: Availability, digests: list[str], spec: dict[str, Any]
) -> None:
    """Ready is what a failover would take as proven."""
    assert state is one(*digests, **spec).state_for(answer)


def test_a_digest_in_the_reference_counts_more_than_what_runs() -> None:
    """It is what a failover would compare with."""
    pinned = one(OTHER, image=f"{FAILING}@{ONE}")
    assert (ReadinessState.READY, ReadinessState.DIFFERENT) == tuple(
        map(pinned.state_for, (Available(digest=ONE), Available(digest=OTHER)))
    )


# Which pairs there are


def test_each_equivalent_of_each_image_makes_a_pair() -> None:
    """In the order of preference; an image that no set lists, or that is no reference, makes none."""
    uses = [ImageUse(image=image) for image in (FAILING, "example.com/other:1", "not a reference", SECOND)]
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
    assert lists is (pairs_by_image((ImageUse(image=FAILING),), source(**spec)) is not None)
    assert () == pairs_by_image((ImageUse(image="example.com/other:1"),), source())


def test_there_is_an_end_to_what_is_asked_about() -> None:
    """Ten thousand images fill neither a status nor the time of others."""
    uses = tuple(ImageUse(image=f"quay.io/acme/web:{number}") for number in range(10_000))
    assert 2000 == len(pairs_by_image(uses, source()) or ())
    assert 1000 == len(pairs(*uses))
    many = [[f"quay.io/{row}/{column}" for column in range(32)] for row in range(63)]
    large = source(*many, ["quay.io/acme/*", "ghcr.io/acme/*"])
    assert 99 == len(pairs_by_image(uses, large) or ())
    assert 49 == len(pairs_by_image(uses, large, share=2) or ())


# What tells them apart


def test_a_key_is_of_all_that_an_answer_depends_on() -> None:
    """The images, and of the source what proof it wants and whose credentials are asked with."""
    ghcr = [{"registry": "ghcr.io", "secretName": "pull"}]
    pairs_of = [
        one(),
        one(image="quay.io/acme/web:1.3"),
        pairs(ImageUse(image=FAILING))[1],
        one(verification="Strict"),
        one(allowDifferentDigest=True),
        one(credentials=ghcr),
        one(credentials=[{**ghcr[0], "secretName": "other"}]),
    ]
    assert len(pairs_of) == len({pair.key for pair in pairs_of})
    same = [one(ONE), one(mode="Observe"), one(credentials=[{"registry": "quay.io", "secretName": "pull"}])]
    assert {one().key} == {pair.key for pair in same}
