"""Which cluster-wide sources select a namespace, and that a namespace's own sources come first."""

from typing import Any

import pytest

from saffire.registry.reference import Reference
from saffire.sources.candidates import applicable, parse_valid, selects
from testkit.builders import FAILING, Object, cluster_source, cluster_source_manifest, source, source_manifest

REFERENCE = Reference.parse(FAILING)
CLUSTER_WIDE_SOURCE = cluster_source(["quay.io/acme/*", "estate.example/acme/*"], name="estate")
ELSEWHERE = ["quay.io/bank/web", "ghcr.io/bank/web"]


def cluster_wide(**selector: Any) -> Object:
    """Return the manifest of a cluster-wide source with that selector."""
    return cluster_source_manifest(namespaceSelector=selector)


def test_a_selector_matches_the_labels_of_the_namespace() -> None:
    """Only an empty selector matches a namespace without labels."""
    everywhere, teams = cluster_wide(), cluster_wide(matchLabels={"team": "shop"})
    for labels, expected in (({}, False), ({"team": "shop"}, True), ({"team": "bank"}, False)):
        assert (True, expected) == (selects(everywhere, labels), selects(teams, labels))


@pytest.mark.parametrize("manifest", [cluster_source_manifest(namespaceSelector="all"), source_manifest()])
def test_a_source_that_cannot_be_used_or_is_a_namespace_s_own_selects_no_namespace(manifest: Object) -> None:
    """If a cluster-wide source cannot be used, its own status says what is wrong with it."""
    assert not selects(manifest, {})


def test_a_source_that_cannot_be_used_is_left_out() -> None:
    """If an older schema let a broken source pass, the other sources are still used."""
    broken = source_manifest(["quay.io/a"], name="broken")
    assert ["shop"] == [parsed.name for parsed in parse_valid([broken, source_manifest()])]


def test_without_a_source_of_its_own_the_cluster_wide_one_applies() -> None:
    """One cluster-wide source serves all namespaces."""
    assert (CLUSTER_WIDE_SOURCE,) == applicable(REFERENCE, [CLUSTER_WIDE_SOURCE])


@pytest.mark.parametrize("mode", ["Enforce", "Observe", "Paused"])
def test_a_namespace_s_own_source_wins_for_what_it_lists(mode: str) -> None:
    """The owner's mode counts, even Paused; that the cluster-wide source names a longer prefix does not matter."""
    own = source(["quay.io/*", "mirror.example/*"], mode=mode)
    assert (own,) == applicable(REFERENCE, [CLUSTER_WIDE_SOURCE, own])


def test_a_namespace_s_own_source_decides_only_for_what_it_lists() -> None:
    """For an image that it does not list, the cluster-wide source still applies."""
    own = source(ELSEWHERE)
    assert (own, CLUSTER_WIDE_SOURCE) == applicable(REFERENCE, [own, CLUSTER_WIDE_SOURCE])
