"""Readiness in a source's status: the images in use, and how it changes from sweep to sweep."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.readiness import ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.record.readiness_status import ProbeResults, answers_of, readiness_status, ready_condition
from testkit.builders import FAILING, SECOND, THIRD, Object, declared, source, source_manifest
from testkit.strategies import json_values

API = "quay.io/acme/api:1"
SETS = (
    ["quay.io/acme/web", "ghcr.io/acme/web", "registry.example:5000/mirror/web"],
    ["quay.io/acme/api", "ghcr.io/acme/api"],
)
WEB_GHCR, WEB_LOCAL, API_GHCR = ((FAILING, SECOND), (FAILING, THIRD), (API, "ghcr.io/acme/api:1"))
READY, ABSENT, DENIED, DOWN = (
    ReadinessState.READY,
    ReadinessState.ABSENT,
    ReadinessState.DENIED,
    ReadinessState.UNREACHABLE,
)

States = Mapping[tuple[str, str], ReadinessState]


def counted(*images: str, manifest: Object | None = None) -> ProbeResults:
    """Return the results of a sweep of a namespace that uses these images, without answers."""
    return ProbeResults.of([manifest or two_sets()], tuple(ImageUse(image=image) for image in sorted(images)))


def two_sets(**spec: Any) -> Object:
    """Return a source with two sets."""
    return source_manifest(*SETS, **spec)


def readiness_of(
    *images: str,
    answers: States | None = None,
    hosts: Mapping[str, bool] | None = None,
    before: Any = None,
    **spec: Any,
) -> Any:
    """Return the readiness after a sweep that counted these images, with answers about pairs of them."""
    manifest = two_sets(**spec)
    results = counted(*images, manifest=manifest)
    keys = {(pair.use.image, pair.candidate.image): pair.key for pair in results.pairs(manifest)}
    by_key = {keys[pair]: state for pair, state in (answers or {}).items()}
    return readiness_status(manifest, replace(results, answers=by_key, hosts=hosts or {}), before)


def counts(readiness: Any) -> tuple[int, ...]:
    """Return how many images there are, and how many of them are ready, not ready and unknown."""
    return tuple(readiness[name] for name in ("images", "ready", "notReady", "unknown"))


def worst(readiness: Any) -> list[tuple[str, str, str]]:
    """Return the worst images, each with the equivalent that is named, and why."""
    return [(entry["image"], entry["equivalent"], entry["why"]) for entry in readiness["worst"]]


# The readiness of an image


@pytest.mark.parametrize(
    ("expected", "why", "answers", "spec"),
    [
        pytest.param((1, 0, 0, 1), [(*WEB_GHCR, "not asked yet")], {}, {}, id="nobody-asked"),
        pytest.param((1, 1, 0, 0), [], {WEB_GHCR: READY}, {}, id="one-is-enough"),
        pytest.param((1, 1, 0, 0), [], {WEB_LOCAL: READY}, {}, id="whichever-it-is"),
        pytest.param(
            (1, 1, 0, 0), [(*WEB_GHCR, "not there")], {WEB_GHCR: ABSENT, WEB_LOCAL: READY}, {}, id="one-is-missing"
        ),
        pytest.param((1, 0, 0, 1), [(*WEB_LOCAL, "not asked yet")], {WEB_GHCR: ABSENT}, {}, id="one-is-not-asked-yet"),
        pytest.param(
            (1, 0, 0, 1), [(*WEB_LOCAL, "denied")], {WEB_GHCR: ABSENT, WEB_LOCAL: DENIED}, {}, id="nobody-can-tell"
        ),
        pytest.param(
            (1, 0, 0, 1), [(*WEB_LOCAL, "unreachable")], {WEB_LOCAL: DOWN}, {}, id="the-one-that-was-asked-is-named"
        ),
        pytest.param(
            (1, 0, 1, 0), [(*WEB_GHCR, "not there")], {WEB_GHCR: ABSENT, WEB_LOCAL: ABSENT}, {}, id="all-are-missing"
        ),
        pytest.param(
            (1, 0, 1, 0),
            [(*WEB_GHCR, "denied")],
            {WEB_GHCR: DENIED, WEB_LOCAL: DOWN},
            {"verification": "Strict"},
            id="strictly-nobody-can-tell",
        ),
        pytest.param(
            (1, 0, 0, 1),
            [(*WEB_LOCAL, "not asked yet")],
            {WEB_GHCR: DENIED},
            {"verification": "Strict"},
            id="strictly-one-is-not-asked-yet",
        ),
    ],
)
def test_an_image_is_as_good_as_its_best_equivalent(
    expected: tuple[int, ...], why: list[tuple[str, str, str]], answers: States, spec: dict[str, Any]
) -> None:
    """It is ready, not ready or unknown; the equivalent that keeps it from being better is named."""
    readiness = readiness_of(FAILING, answers=answers, **spec)
    assert (expected, why) == (counts(readiness), worst(readiness))


def test_the_worst_come_first_and_there_are_ten() -> None:
    """Images that are not ready come first, then unknown ones, then ready ones with a bad equivalent, by name."""
    images = [f"quay.io/acme/web:{number:02}" for number in range(14)]
    pairs = [
        [
            (image, image.replace("quay.io", "ghcr.io")),
            (image, image.replace("quay.io/acme", "registry.example:5000/mirror")),
        ]
        for image in images
    ]
    answers = {pair: READY for both in pairs[:9] for pair in both}
    answers |= {pairs[2][0]: ABSENT, pairs[1][1]: ABSENT}
    answers |= {pair: ABSENT for both in pairs[11:] for pair in both}
    readiness = readiness_of(*images, answers=answers)
    assert (14, 9, 3, 2) == counts(readiness)
    assert [11, 12, 13, 9, 10, 1, 2] == [int(entry["image"][-2:]) for entry in readiness["worst"]]
    readiness = readiness_of(*images)
    assert (14, 0, 0, 14, 10) == (*counts(readiness), len(readiness["worst"]))


def test_an_image_that_no_set_lists_does_not_count() -> None:
    """The source does not say where else it is."""
    assert (0, 0, 0, 0) == counts(readiness_of("example.com/other:1"))


@pytest.mark.parametrize("spec", [{"mode": "Paused"}, {"verification": "Off"}, {"mode": "Bold"}])
def test_some_sources_have_no_readiness(spec: dict[str, Any]) -> None:
    """A source that is paused, invalid or without verification has none; an earlier readiness is removed."""
    assert readiness_of(FAILING, before=readiness_of(FAILING), **spec) is None
    assert readiness_status(two_sets(), ProbeResults.of([two_sets()], None), readiness_of(FAILING)) is None


# From sweep to sweep


def test_an_answer_stays_whichever_instance_sweeps_next() -> None:
    """An instance that has just started has no answers, and removes none."""
    first = readiness_of(FAILING, API, answers={WEB_GHCR: READY, API_GHCR: ABSENT})
    assert (2, 1, 1, 0) == counts(first)
    assert first == readiness_of(FAILING, API, before=first)
    assert first == readiness_of(FAILING, API, answers={WEB_GHCR: READY}, before=first)


def test_a_newer_answer_counts() -> None:
    """Somebody pushed the image, or deleted it."""
    first = readiness_of(FAILING, API, answers={WEB_GHCR: READY, API_GHCR: ABSENT})
    then = readiness_of(FAILING, API, answers={API_GHCR: READY}, before=first)
    assert ((2, 2, 0, 0), []) == (counts(then), worst(then))
    assert (2, 1, 1, 0) == counts(readiness_of(FAILING, API, answers={API_GHCR: ABSENT}, before=then))


def test_the_state_of_an_image_that_is_not_in_use_any_more_is_removed() -> None:
    """When the image is in use again, it is unknown: that may be next year."""
    first = readiness_of(FAILING, API, answers={WEB_GHCR: READY, API_GHCR: READY})
    alone = readiness_of(FAILING, before=first)
    assert (1, 1, 0, 0) == counts(alone)
    assert len(alone["answers"]) < len(first["answers"])
    assert (2, 1, 0, 1) == counts(readiness_of(FAILING, API, before=alone))


def test_an_answer_under_another_verification_is_removed() -> None:
    """With `Strict`, the answer may be different; the mode makes no difference."""
    first = readiness_of(FAILING, answers={WEB_GHCR: READY})
    assert (1, 0, 0, 1) == counts(readiness_of(FAILING, before=first, verification="Strict"))
    assert (1, 1, 0, 0) == counts(readiness_of(FAILING, before=first, mode="Observe"))


def test_all_images_of_a_registry_that_is_down_are_unreachable() -> None:
    """That includes images that were never probed. When the registry answers again, the earlier states count."""
    before = readiness_of(FAILING, API, answers={WEB_GHCR: READY})
    down = readiness_of(FAILING, API, hosts={"ghcr.io": True}, before=before)
    assert (2, 0, 0, 2) == counts(down)
    assert [(*API_GHCR, "unreachable"), (*WEB_GHCR, "unreachable")] == worst(down)
    assert down == readiness_of(FAILING, API, before=down)
    assert before == readiness_of(FAILING, API, hosts={"ghcr.io": False}, before=down)
    assert before == readiness_of(FAILING, API, hosts={"ghcr.io": False, "other.example": True}, before=before)


def test_two_sources_of_a_namespace_share_an_answer() -> None:
    """They do so if the answer depends on nothing in which they differ."""
    first, other = two_sets(), source_manifest(*SETS, name="other")
    results = ProbeResults.of([first, other], (ImageUse(image=FAILING),))
    answered = replace(results, answers={results.pairs(first)[0].key: READY})
    assert [(1, 1, 0, 0)] * 2 == [counts(readiness_status(manifest, answered, None)) for manifest in (first, other)]


def test_a_source_that_has_changed_since_is_another_one() -> None:
    """The results are about the spec as it was."""
    results = counted(FAILING)
    changed = two_sets()
    changed["metadata"] = {**changed["metadata"], "generation": 4}
    assert (True, False) == (results.is_of(two_sets()), results.is_of(changed))
    assert () == results.pairs(changed)


def test_a_cluster_wide_source_has_no_readiness() -> None:
    """One namespace does not show which images others use; the condition says that no registry is asked."""
    cluster_wide = {**two_sets(namespaceSelector={}), "kind": "ClusterAlternateImageSource"}
    results = ProbeResults.of([two_sets(), cluster_wide], (ImageUse(image=FAILING),))
    assert 2 == len(results.pairs(two_sets()))
    other = {**cluster_wide, "metadata": {**cluster_wide["metadata"], "uid": "wide-uid"}}
    assert not ProbeResults.of([other], (ImageUse(image=FAILING),)).is_of(other)
    expected = ("Unknown", "Unverified", "registries are asked for the sources of namespaces only")
    assert expected == ready_condition(declared(cluster_wide), None)


def test_only_answers_are_news() -> None:
    """The next sweep counts the images in use again."""
    results = counted(FAILING)
    rows = [results, replace(results, answers={b"12345": READY}), replace(results, hosts={"ghcr.io": False})]
    assert [False, True, True] == [row.has_news for row in rows]


@given(json_values())
def test_any_value_in_the_status_is_read_or_ignored(value: Any) -> None:
    """Another writer may have left anything, and a later version a state that this one does not have."""
    assert {} == answers_of(value) or isinstance(value, dict)
    assert {} == answers_of({"answers": value}) or isinstance(value, str)
    assert (1, 0, 0, 1) == counts(readiness_of(FAILING, before={"answers": value}))


@pytest.mark.parametrize("text", ["?", "MTIzNDX/", "MTIzNDU=", "MTIz", "MTIz NDUA"])
def test_states_that_cannot_be_read_are_ignored(text: str) -> None:
    """The text is not base64, or is cut, or has a state that this version does not have."""
    assert {} == answers_of({"answers": text})


def test_every_state_can_be_written_and_read() -> None:
    """The states that are read are those that were written."""
    images = [f"quay.io/acme/api:{state.name}" for state in ReadinessState]
    pairs = {
        (image, image.replace("quay.io", "ghcr.io")): state for image, state in zip(images, ReadinessState, strict=True)
    }
    readiness = readiness_of(*images, answers=pairs)
    written = [state for state in ReadinessState if state is not ReadinessState.UNASKED]
    assert sorted(written) == sorted(answers_of(readiness).values())
    assert readiness == readiness_of(*images, before=readiness)


# The condition


def condition(*images: str, answers: States | None = None, **spec: Any) -> tuple[str, str, str]:
    """Return the status, reason and message of `Ready`."""
    return ready_condition(declared(two_sets(**spec)), readiness_of(*images, answers=answers, **spec))


@pytest.mark.parametrize(
    ("expected", "images", "answers"),
    [
        (("True", "Ready", "no image in use is listed"), [], {}),
        (
            ("True", "Ready", "2 of 2 images in use have a proven alternative"),
            [FAILING, API],
            {WEB_GHCR: READY, WEB_LOCAL: ABSENT, API_GHCR: READY},
        ),
        (
            (
                "Unknown",
                "Unverified",
                f"1 of 2 images in use have no alternative that is proven: {API} (ghcr.io/acme/api:1: not asked yet)",
            ),
            [FAILING, API],
            {WEB_GHCR: READY},
        ),
        (
            (
                "False",
                "NotReady",
                "1 of 2 images in use could not be moved today: quay.io/acme/api:1 (ghcr.io/acme/api:1: not there)",
            ),
            [FAILING, API],
            {API_GHCR: ABSENT, WEB_GHCR: DENIED},
        ),
    ],
)
def test_ready_names_what_would_stop_a_failover_today(
    expected: tuple[str, str, str], images: list[str], answers: States
) -> None:
    """It is True if every image in use has a proven alternative, False if one has no usable one, else Unknown."""
    assert expected == condition(*images, answers=answers)


def test_the_message_names_three_images_and_says_how_many_more() -> None:
    """It stays one line."""
    images = [f"quay.io/acme/api:{number}" for number in range(5)]
    _, _, message = condition(*images)
    assert message.endswith("quay.io/acme/api:2 (ghcr.io/acme/api:2: not asked yet); and 2 more")


@pytest.mark.parametrize(
    ("expected", "spec"),
    [
        (("False", "Paused"), {"mode": "Paused"}),
        (("False", "Observing"), {"mode": "Observe"}),
        (("True", "Ready"), {"verification": "Off"}),
    ],
)
def test_the_spec_comes_first(expected: tuple[str, str], spec: dict[str, Any]) -> None:
    """The condition says so whatever registries answer."""
    assert expected == condition(FAILING, answers={}, **spec)[:2]


@given(json_values(), st.sampled_from(["images", "ready", "notReady", "unknown", "worst"]))
def test_a_readiness_that_cannot_be_read_is_ignored(value: Any, field: str) -> None:
    """It causes no error."""
    for readiness in (value, {**readiness_of(FAILING, answers={WEB_GHCR: READY}), field: value}):
        status, reason, message = ready_condition(source(*SETS), readiness)
        assert (status, reason) in {("True", "Ready"), ("False", "NotReady"), ("Unknown", "Unverified")}
        assert message


def test_ready_is_unknown_before_the_first_sweep() -> None:
    """It is also unknown if no registry is asked at all."""
    expected = ("Unknown", "Unverified", "registries have not been asked about the images in use")
    assert expected == ready_condition(source(), None)
