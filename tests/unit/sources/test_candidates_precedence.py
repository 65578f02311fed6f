"""Precedence: which cluster-wide sources reach a namespace, and that a namespace's own word goes first."""

from typing import Any

import pytest

from saffire.registry.reference import Reference
from saffire.sources.candidates import applicable, parse_valid, selecting
from saffire.sources.spec import Source, parse_source
from testkit.builders import FAILING, Object, cluster_source, cluster_source_manifest, source, source_manifest

REFERENCE = Reference.parse(FAILING)
WIDE = cluster_source(["quay.io/acme/*", "estate.example/acme/*"], name="estate")
ELSEWHERE = ["quay.io/bank/web", "ghcr.io/bank/web"]


def namespace(**labels: str) -> Object:
    """Return a namespace."""
    return {"metadata": {"name": "shop", "labels": labels}} if labels else {"metadata": {"name": "shop"}}


def known(**selector: Any) -> tuple[Object, Source]:
    """Return a cluster-wide source with that selector."""
    manifest = cluster_source_manifest(namespaceSelector=selector)
    return manifest, parse_source(manifest)


def test_a_selector_takes_the_labels_of_the_namespace() -> None:
    """One without labels is taken by an empty selector alone."""
    everywhere, teams = known(), known(matchLabels={"team": "shop"})
    assert (everywhere[0],) == selecting([everywhere, teams], namespace())
    assert (everywhere[0], teams[0]) == selecting([everywhere, teams], namespace(team="shop"))
    assert (everywhere[0],) == selecting([everywhere, teams], namespace(team="bank"))


def test_what_cannot_be_used_reaches_nobody() -> None:
    """Its own status says what is wrong with it."""
    manifest = cluster_source_manifest(namespaceSelector="all")
    assert () == selecting([(manifest, None)], namespace())


def test_what_is_left_of_sources_is_what_can_be_used() -> None:
    """One that an older schema let pass keeps no other from being used."""
    broken = source_manifest(["quay.io/a"], name="broken")
    assert ["shop"] == [found.name for found in parse_valid([broken, source_manifest()])]


def test_without_a_source_of_its_own_the_cluster_s_count() -> None:
    """One object serves all namespaces."""
    assert (WIDE,) == applicable(REFERENCE, [WIDE])


@pytest.mark.parametrize("mode", ["Enforce", "Observe", "Paused"])
def test_a_namespace_s_own_source_wins_for_what_it_lists(mode: str) -> None:
    """Its owner's word counts, even where that is to do nothing; however closely the other names the repository."""
    own = source(["quay.io/*", "mirror.example/*"], mode=mode)
    assert (own,) == applicable(REFERENCE, [WIDE, own])


def test_it_has_no_say_in_what_it_does_not_list() -> None:
    """A namespace's source for one image does not take the cluster's from the others."""
    own = source(ELSEWHERE)
    assert (own, WIDE) == applicable(REFERENCE, [own, WIDE])
