"""What each answer of a registry proves."""

import pytest

from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Proof,
    Throttled,
    Unreachable,
    Withheld,
    WrongPlatform,
    is_different,
    is_known_bad,
    is_unknown,
    proof_of,
)

INDEX, IMAGE, OTHER = "sha256:index", "sha256:image", "sha256:other"
HERE = Available(digest=INDEX, manifests=frozenset({IMAGE}))
LISTED = Available(digest=INDEX, manifests=frozenset({IMAGE}), listed=frozenset({IMAGE, OTHER}))


@pytest.mark.parametrize(
    ("answer", "known_bad", "unknown"),
    [
        (HERE, False, False),
        (NotFound(), True, False),
        (WrongPlatform(), True, False),
        (Incomplete("config"), True, False),
        (Withheld(412), True, False),
        (Denied(), False, True),
        (Throttled(5), False, True),
        (Unreachable("connection refused"), False, True),
    ],
)
def test_unknown_is_not_absent(answer: Availability, *, known_bad: bool, unknown: bool) -> None:
    """Each answer is either available, known bad or unknown."""
    assert (known_bad, unknown) == (is_known_bad(answer), is_unknown(answer))


@pytest.mark.parametrize(
    ("answer", "expected", "proof", "different"),
    [
        (HERE, (), Proof.PRESENT, False),
        (HERE, (INDEX,), Proof.EQUAL, False),
        (HERE, (IMAGE,), Proof.EQUAL, False),
        (HERE, (OTHER, IMAGE), Proof.EQUAL, False),
        (HERE, (OTHER,), Proof.PRESENT, True),
        (LISTED, (IMAGE,), Proof.EQUAL, False),
        (LISTED, (OTHER,), Proof.PRESENT, False),
        (LISTED, ("sha256:third",), Proof.PRESENT, True),
        (NotFound(), (INDEX,), Proof.UNVERIFIED, False),
        (Denied(), (INDEX,), Proof.UNVERIFIED, False),
        (Denied(), (), Proof.UNVERIFIED, False),
    ],
)
def test_an_image_is_the_same_by_its_digest(
    answer: Availability, expected: tuple[str, ...], proof: Proof, *, different: bool
) -> None:
    """
    Runtimes report the digest of the index or of the manifest. Without either, the image is only present.

    The digest of another platform's manifest proves neither that it is equal nor that it is another.
    """
    assert (proof, different) == (proof_of(answer, expected), is_different(answer, expected))


def test_proofs_are_written_in_words() -> None:
    """People read them in the status."""
    assert ["equal digest", "present", "unverified"] == [str(proof) for proof in Proof]
