"""Readiness: what a source's status tells of the images in use, and what becomes of it from look to look."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.policy.readiness import ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.record.readiness import ProbeResults, answers_of, readiness_status, ready_condition
from saffire.sources.spec import parse_source
from testkit.builders import FAILING, SECOND, THIRD, Object, source, source_manifest
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


def looked(*images: str, manifest: Object | None = None) -> ProbeResults:
    """Return what a look at a namespace finds that uses these images."""
    return ProbeResults.of([manifest or declared()], tuple(ImageUse(image=image) for image in sorted(images)))


def declared(**spec: Any) -> Object:
    """Return a source with two sets."""
    return source_manifest(*SETS, **spec)


def told(
    *images: str,
    answers: States | None = None,
    hosts: Mapping[str, bool] | None = None,
    before: Any = None,
    **spec: Any,
) -> Any:
    """Return the readiness after a look at these images, and answers about pairs of them."""
    manifest = declared(**spec)
    found = looked(*images, manifest=manifest)
    keys = {(pair.use.image, pair.candidate.image): pair.key for pair in found.pairs(manifest)}
    news = {keys[named]: state for named, state in (answers or {}).items()}
    return readiness_status(manifest, replace(found, answers=news, hosts=hosts or {}), before)


def counts(found: Any) -> tuple[int, ...]:
    """Return how many images there are, and how many of them are ready, not ready and unknown."""
    return tuple(found[name] for name in ("images", "ready", "notReady", "unknown"))


def worst(found: Any) -> list[tuple[str, str, str]]:
    """Return the worst images, each with the equivalent that is named, and why."""
    return [(entry["image"], entry["equivalent"], entry["why"]) for entry in found["worst"]]


# What answers make of an image


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
        pytest.param((1, 0, 0, 1), [(*WEB_LOCAL, "unreachable")], {WEB_LOCAL: DOWN}, {}, id="who-was-asked-is-named"),
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
    """Proven, or refused, or neither; and the equivalent is named that keeps it from being better."""
    found = told(FAILING, answers=answers, **spec)
    assert (expected, why) == (counts(found), worst(found))


def test_the_worst_come_first_and_there_are_ten() -> None:
    """What is not ready, what is unknown, what is ready but for one equivalent; in the order of the names."""
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
    found = told(*images, answers=answers)
    assert (14, 9, 3, 2) == counts(found)
    assert [11, 12, 13, 9, 10, 1, 2] == [int(entry["image"][-2:]) for entry in found["worst"]]
    found = told(*images)
    assert (14, 0, 0, 14, 10) == (*counts(found), len(found["worst"]))


def test_an_image_that_no_set_lists_does_not_count() -> None:
    """Nobody declared where else it is."""
    assert (0, 0, 0, 0) == counts(told("example.com/other:1"))


@pytest.mark.parametrize("spec", [{"mode": "Paused"}, {"verification": "Off"}, {"mode": "Bold"}])
def test_some_sources_have_no_readiness(spec: dict[str, Any]) -> None:
    """Paused, invalid, or asking nobody; and what it was before goes."""
    assert told(FAILING, before=told(FAILING), **spec) is None
    assert readiness_status(declared(), ProbeResults.of([declared()], None), told(FAILING)) is None


# From look to look


def test_what_was_answered_stays_whoever_looks_next() -> None:
    """An instance that has just started knows nothing, and forgets nothing."""
    first = told(FAILING, API, answers={WEB_GHCR: READY, API_GHCR: ABSENT})
    assert (2, 1, 1, 0) == counts(first)
    assert first == told(FAILING, API, before=first)
    assert first == told(FAILING, API, answers={WEB_GHCR: READY}, before=first)


def test_a_newer_answer_counts() -> None:
    """Somebody pushed the image, or deleted it."""
    first = told(FAILING, API, answers={WEB_GHCR: READY, API_GHCR: ABSENT})
    then = told(FAILING, API, answers={API_GHCR: READY}, before=first)
    assert ((2, 2, 0, 0), []) == (counts(then), worst(then))
    assert (2, 1, 1, 0) == counts(told(FAILING, API, answers={API_GHCR: ABSENT}, before=then))


def test_what_is_in_use_no_more_is_forgotten() -> None:
    """And is unknown when it comes back: that may be next year."""
    first = told(FAILING, API, answers={WEB_GHCR: READY, API_GHCR: READY})
    alone = told(FAILING, before=first)
    assert (1, 1, 0, 0) == counts(alone)
    assert len(alone["answers"]) < len(first["answers"])
    assert (2, 1, 0, 1) == counts(told(FAILING, API, before=alone))


def test_what_was_answered_under_another_spec_is_forgotten() -> None:
    """Strictly, another answer may be wanted; whether it acts or only observes makes no difference."""
    first = told(FAILING, answers={WEB_GHCR: READY})
    assert (1, 0, 0, 1) == counts(told(FAILING, before=first, verification="Strict"))
    assert (1, 1, 0, 0) == counts(told(FAILING, before=first, mode="Observe"))


def test_a_registry_that_is_down_has_nothing_to_offer() -> None:
    """All images there are unreachable at once, also those that nobody asked for; and are as before when it is back."""
    before = told(FAILING, API, answers={WEB_GHCR: READY})
    down = told(FAILING, API, hosts={"ghcr.io": True}, before=before)
    assert (2, 0, 0, 2) == counts(down)
    assert [(*API_GHCR, "unreachable"), (*WEB_GHCR, "unreachable")] == worst(down)
    assert down == told(FAILING, API, before=down)
    assert before == told(FAILING, API, hosts={"ghcr.io": False}, before=down)
    assert before == told(FAILING, API, hosts={"ghcr.io": False, "other.example": True}, before=before)


def test_two_sources_of_a_namespace_share_an_answer() -> None:
    """Where it depends on nothing that differs."""
    one, other = declared(), source_manifest(*SETS, name="other")
    found = ProbeResults.of([one, other], (ImageUse(image=FAILING),))
    news = replace(found, answers={found.pairs(one)[0].key: READY})
    assert [(1, 1, 0, 0)] * 2 == [counts(readiness_status(manifest, news, None)) for manifest in (one, other)]


def test_a_source_that_has_changed_since_is_another_one() -> None:
    """What was found speaks of the spec as it was."""
    found = looked(FAILING)
    changed = declared()
    changed["metadata"] = {**changed["metadata"], "generation": 4}
    assert (True, False) == (found.is_of(declared()), found.is_of(changed))
    assert () == found.pairs(changed)


def test_one_namespace_does_not_tell_for_a_cluster_wide_source() -> None:
    """What is in use elsewhere is not known there; the condition says that nobody is asked."""
    wide = {**declared(namespaceSelector={}), "kind": "ClusterAlternateImageSource"}
    found = ProbeResults.of([declared(), wide], (ImageUse(image=FAILING),))
    assert 2 == len(found.pairs(declared()))
    other = {**wide, "metadata": {**wide["metadata"], "uid": "wide-uid"}}
    assert not ProbeResults.of([other], (ImageUse(image=FAILING),)).is_of(other)
    expected = ("Unknown", "Unverified", "registries are asked for the sources of namespaces only")
    assert expected == ready_condition(parse_source(wide), None)


def test_only_answers_are_news() -> None:
    """What is in use, the next look tells as well."""
    found = looked(FAILING)
    news = [found, replace(found, answers={b"12345": READY}), replace(found, hosts={"ghcr.io": False})]
    assert [False, True, True] == [one.has_news for one in news]


@given(json_values())
def test_whatever_stands_in_the_status_is_read_or_forgotten(value: Any) -> None:
    """Another writer may have left anything, and a later version a state that is not known here."""
    assert {} == answers_of(value) or isinstance(value, dict)
    assert {} == answers_of({"answers": value}) or isinstance(value, str)
    assert (1, 0, 0, 1) == counts(told(FAILING, before={"answers": value}))


@pytest.mark.parametrize("text", ["?", "MTIzNDX/", "MTIzNDU=", "MTIz", "MTIz NDUA"])
def test_states_that_cannot_be_read_are_forgotten(text: str) -> None:
    """No base64, no state that is known, or cut."""
    assert {} == answers_of({"answers": text})


def test_every_state_survives() -> None:
    """What is written is what is read."""
    images = [f"quay.io/acme/api:{state.name}" for state in ReadinessState]
    pairs = {
        (image, image.replace("quay.io", "ghcr.io")): state for image, state in zip(images, ReadinessState, strict=True)
    }
    found = told(*images, answers=pairs)
    known = [state for state in ReadinessState if state is not ReadinessState.UNASKED]
    assert sorted(known) == sorted(answers_of(found).values())
    assert found == told(*images, before=found)


# The condition


def condition(*images: str, answers: States | None = None, **spec: Any) -> tuple[str, str, str]:
    """Return status, reason and message of `Ready`."""
    return ready_condition(parse_source(declared(**spec)), told(*images, answers=answers, **spec))


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
    """True if every image in use has a proven alternative, False if one has none that would do, else Unknown."""
    assert expected == condition(*images, answers=answers)


def test_it_names_three_and_says_how_many_more() -> None:
    """An operator reads a line."""
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
    """Whatever registries have."""
    assert expected == condition(FAILING, answers={}, **spec)[:2]


@given(json_values(), st.sampled_from(["images", "ready", "notReady", "unknown", "worst"]))
def test_a_readiness_that_cannot_be_read_tells_nothing(value: Any, field: str) -> None:
    """It makes no condition, and no fault."""
    for readiness in (value, {**told(FAILING, answers={WEB_GHCR: READY}), field: value}):
        status, reason, message = ready_condition(source(*SETS), readiness)
        assert (status, reason) in {("True", "Ready"), ("False", "NotReady"), ("Unknown", "Unverified")}
        assert message


def test_nothing_is_known_before_the_first_look() -> None:
    """Nor where nobody is asked at all."""
    expected = ("Unknown", "Unverified", "registries have not been asked about the images in use")
    assert expected == ready_condition(source(), None)
