"""Coverage: the verdict about an image in use, by the states of its equivalents."""

import base64

import pytest

from kubectl_saffire.coverage import Coverage, Verdict, by_registry, coverage_of, states_in_status, worst_first
from saffire.policy.readiness import ImagePair, ReadinessState, key_of
from saffire.policy.running_images import ImageUse
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, SECOND, declared, source_manifest

USE = ImageUse(image=FAILING)
READY, ABSENT, UNASKED = ReadinessState.READY, ReadinessState.ABSENT, ReadinessState.UNASKED
CODES = list(ReadinessState)


def pairs() -> list[ImagePair]:
    """Return the pairs of the failing image with its two equivalents."""
    source = declared(source_manifest())
    return [ImagePair.of(USE, candidate) for candidate in candidates(Reference.parse(FAILING), [source])]


@pytest.mark.parametrize(
    ("verdict", "states"),
    [
        (Verdict.READY, [ABSENT, READY]),
        (Verdict.UNKNOWN, [ABSENT, UNASKED]),
        (Verdict.UNKNOWN, [ReadinessState.DENIED, ReadinessState.DENIED]),
        (Verdict.NOT_READY, [ABSENT, ReadinessState.DIFFERENT]),
    ],
)
def test_the_best_equivalent_decides(verdict: Verdict, states: list[ReadinessState]) -> None:
    """One proven equivalent is enough, and one that may be good leaves the verdict open."""
    (image,) = coverage_of("shop", [USE], zip(pairs(), states, strict=True))
    assert (verdict, states) == (image.verdict, [state for _, state in image.equivalents])
    assert SECOND == image.equivalents[0][0]


def test_an_image_that_no_source_lists_has_no_equivalent() -> None:
    """It is the worst that can be said of an image, so it comes first."""
    images = coverage_of("shop", [USE, ImageUse(image="$(id)")], [(pairs()[0], READY)])
    assert [Verdict.READY, Verdict.NONE] == [image.verdict for image in images]
    assert ["$(id)", FAILING] == [image.image for image in worst_first(images)]
    assert {"not a reference": {Verdict.NONE: 1}, "quay.io": {Verdict.READY: 1}} == by_registry(images)


def test_what_the_function_knows_is_in_the_status() -> None:
    """The states of pairs are packed in the status of the source; a registry that is down counts for all its pairs."""
    second, third = pairs()
    records = [(second.key, READY), (third.key, READY), (key_of(third.host), ReadinessState.UNREACHABLE)]
    packed = base64.b64encode(b"".join(key + bytes([CODES.index(state)]) for key, state in records)).decode()
    manifest = {**source_manifest(), "status": {"readiness": {"answers": packed}}}
    assert [READY, ReadinessState.UNREACHABLE] == [state for _, state in states_in_status([second, third], [manifest])]
    assert [UNASKED, UNASKED] == [state for _, state in states_in_status([second, third], [source_manifest()])]


def test_the_registries_are_counted_in_the_order_of_their_names() -> None:
    """The same image in two namespaces counts twice: each is a workload that would hang."""
    images = [
        Coverage(namespace=namespace, image=image, verdict=verdict)
        for namespace, image, verdict in [
            ("a", "quay.io/a", Verdict.READY),
            ("b", "quay.io/a", Verdict.NONE),
            ("a", "nginx", Verdict.READY),
        ]
    ]
    counts = by_registry(images)
    assert (["docker.io", "quay.io"], 2) == (list(counts), counts["quay.io"].total())
