"""Readiness: the pairs of an image in use and an equivalent, and their state after each answer of a registry."""

from typing import Any

import pytest

from saffire.policy.readiness import ImagePair, ReadinessState, asks_registries, pairs_by_image, pairs_to_probe
from saffire.policy.running_images import ImageUse
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Throttled,
    Unreachable,
    Withheld,
    WrongPlatform,
)
from testkit.builders import FAILING, SECOND, THIRD, source

ONE, OTHER = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
WHOLE = Available(digest=ONE, suits=True, complete=True)


def pairs(*uses: ImageUse, **spec: Any) -> tuple[ImagePair, ...]:
    """Return the pairs of these images in use, by the default source with these fields."""
    return pairs_to_probe(pairs_by_image(uses, source(**spec)))


def first_pair(*digests: str, image: str = FAILING, **spec: Any) -> ImagePair:
    """Return the first pair of an image in use with these digests."""
    return pairs(ImageUse(image=image, digests=frozenset(digests)), **spec)[0]


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (ReadinessState.ABSENT, NotFound()),
        (ReadinessState.PLATFORM, WrongPlatform()),
        (ReadinessState.INCOMPLETE, Incomplete("config")),
        (ReadinessState.WITHHELD, Withheld(451)),
        (ReadinessState.DENIED, Denied()),
        (ReadinessState.THROTTLED, Throttled(7)),
        (ReadinessState.UNREACHABLE, Unreachable("connection refused")),
    ],
)
@pytest.mark.parametrize("verification", ["BestEffort", "Strict"])
def test_each_answer_without_an_image_has_its_own_state(
    verification: str, state: ReadinessState, answer: Availability
) -> None:
    """The state does not depend on the source's verification."""
    assert state is first_pair(ONE, verification=verification).state_for(answer)


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
def test_an_equivalent_that_is_there_is_verified_as_in_a_failover(
    state: ReadinessState, answer: Availability, digests: list[str], spec: dict[str, Any]
) -> None:
    """A pair is ready if a failover would accept the equivalent."""
    assert state is first_pair(*digests, **spec).state_for(answer)


def test_a_digest_in_the_reference_counts_more_than_the_pods_digests() -> None:
    """A failover would compare with it too."""
    pinned = first_pair(OTHER, image=f"{FAILING}@{ONE}")
    assert (ReadinessState.READY, ReadinessState.DIFFERENT) == tuple(
        map(pinned.state_for, (Available(digest=ONE), Available(digest=OTHER)))
    )


# The pairs


def test_each_equivalent_of_each_image_makes_a_pair() -> None:
    """Pairs are in the order of preference; an image that no set lists, or that is no reference, has none."""
    uses = [ImageUse(image=image) for image in (FAILING, "example.com/other:1", "not a reference", SECOND)]
    expected = [(FAILING, SECOND), (FAILING, THIRD), (SECOND, FAILING), (SECOND, THIRD)]
    assert expected == [(pair.use.image, pair.candidate.image) for pair in pairs(*uses)]
    assert ["ghcr.io", "registry.example:5000"] == [pair.host for pair in pairs(*uses)[:2]]


@pytest.mark.parametrize(
    ("asks", "spec"),
    [
        (True, {"mode": "Observe"}),
        (False, {"mode": "Paused"}),
        (False, {"verification": "Off"}),
        (True, {"verification": "Strict"}),
    ],
)
def test_registries_are_asked_for_a_source_that_could_use_the_answers(asks: bool, spec: dict[str, Any]) -> None:  # noqa: FBT001 - the row's expectation
    """A paused source, and one that trusts every equivalent, use none."""
    assert asks is asks_registries(source(**spec))


def test_the_number_of_pairs_is_bounded() -> None:
    """Ten thousand images do not fill a status, nor hold up other namespaces."""
    uses = tuple(ImageUse(image=f"quay.io/acme/web:{number}") for number in range(10_000))
    assert 2000 == len(list(pairs_by_image(uses, source())))
    assert 1000 == len(pairs(*uses))
    large = source(["quay.io/acme/*", *(f"r{number}.example.com/*" for number in range(31))])
    assert 129 == 4000 // 31 == len(list(pairs_by_image(uses, large)))
    assert 64 == 2000 // 31 == len(list(pairs_by_image(uses, large, share=2)))


# Keys


def test_a_key_depends_on_all_that_the_state_depends_on() -> None:
    """That is both images, and the source's verification, its allowDifferentDigest and the pull secret it names."""
    ghcr = [{"registry": "ghcr.io", "secretName": "pull"}]
    different_pairs = [
        first_pair(),
        first_pair(image="quay.io/acme/web:1.3"),
        pairs(ImageUse(image=FAILING))[1],
        first_pair(verification="Strict"),
        first_pair(allowDifferentDigest=True),
        first_pair(credentials=ghcr),
        first_pair(credentials=[{**ghcr[0], "secretName": "other"}]),
    ]
    assert len(different_pairs) == len({pair.key for pair in different_pairs})
    alike_pairs = [
        first_pair(ONE),
        first_pair(mode="Observe"),
        first_pair(credentials=[{"registry": "quay.io", "secretName": "pull"}]),
    ]
    assert {first_pair().key} == {pair.key for pair in alike_pairs}
