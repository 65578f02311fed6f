"""The status in numbers: what a scraper reads is what `kubectl` shows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.metrics import ACTIVE, LEFT, OTHER, OUTAGE, READY
from saffire.policy.readiness import ReadinessState
from saffire.policy.running_images import ImageUse
from saffire.record.readiness_status import ProbeResults, readiness_status
from saffire.record.status import state_of
from testkit.builders import FAILING, SECOND, Object, source_manifest
from testkit.strategies import json_values


def entry(**fields: Any) -> Object:
    """Return an entry of a list of the status."""
    target = {"name": "web", "namespace": "shop", "container": "web", "uid": "u"}
    return {"target": target, "container": "web", **fields}


def source_with(name: str = "shop", **status: Any) -> Object:
    """Return a source with a status."""
    return {**source_manifest(name=name), "status": status}


def readiness(**hosts: bool) -> Any:
    """Return `status.readiness` after registries went down, or answered again; the image has no proof."""
    use = ImageUse(image=FAILING)
    counted = ProbeResults.of([source_manifest()], (use,))
    keys = {pair.key: ReadinessState.ABSENT for pair in counted.pairs(source_manifest())}
    results = ProbeResults(images=counted.images, answers=keys, hosts=hosts)
    return readiness_status(source_manifest(), results, None)


def test_the_numbers_of_sources_add_up() -> None:
    """Each container that is left or away counts, and each image in use."""
    first = source_with(
        left=[entry(reason="Paused"), entry(reason="Paused"), entry(reason="NodeCannotPull")],
        active=[{**entry(), "from": FAILING, "to": SECOND}],
        readiness={"images": 4, "ready": 3, "notReady": 1, "unknown": 0},
    )
    second = source_with("web", left=[entry(reason="Paused")], readiness={"ready": 2, "unknown": 7})
    assert {
        (LEFT, "Paused"): 3,
        (LEFT, "NodeCannotPull"): 1,
        (ACTIVE, "quay.io"): 1,
        (READY, "ready"): 5,
        (READY, "not_ready"): 1,
        (READY, "unknown"): 7,
    } == state_of([first, second])


@pytest.mark.parametrize(
    ("expected", "hosts"),
    [({(OUTAGE, "ghcr.io"): 1}, {"ghcr.io": True}), ({}, {"ghcr.io": False}), ({}, {})],
    ids=["down", "answers", "nothing-known"],
)
def test_a_registry_is_down_if_the_status_says_so(expected: dict[tuple[str, str], int], hosts: dict[str, bool]) -> None:
    """Any instance reads that from the answers that one of them got."""
    status = source_with(readiness=readiness(**hosts))
    assert expected == {key: count for key, count in state_of([status]).items() if key[0] == OUTAGE}


def test_no_text_of_another_writer_gets_into_a_label_as_it_is() -> None:
    """Whoever may write a status can name any reason; what cannot be read counts all the same."""
    left = [entry(reason="\ud800\n"), entry(reason=7), entry()]
    assert {(LEFT, "\\ud800\\n"): 1, (LEFT, OTHER): 2} == state_of([source_with(left=left)])


@given(status=st.dictionaries(st.sampled_from(["left", "active", "readiness"]), json_values()))
def test_a_status_of_any_shape_has_numbers(status: dict[str, Any]) -> None:
    """None stops a sweep."""
    assert all(count > 0 for count in state_of([source_with(**status)]).values())


def test_a_source_without_a_status_has_no_numbers() -> None:
    """Nor has one that Saffire cannot use."""
    assert {} == state_of([source_manifest(), source_manifest(["quay.io/acme/web"])])
