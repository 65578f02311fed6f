"""Proposals: which sources the images of a namespace need, as Saffire itself reads them."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubectl_saffire.mappings import Equivalence, merged, parse_option
from kubectl_saffire.proposal import Proposal, as_yaml, propose
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from saffire.sources.spec import Source, faults_of, source_of
from testkit.strategies import known_references

DIGEST = f"sha256:{64 * 'a'}"


def proposed(images: Iterable[str], *options: str) -> Proposal:
    """Return the proposal for images with mappings of the command line."""
    return propose(images, merged(map(parse_option, options)), namespace="shop", name="saffire")


def sets_of(proposal: Proposal) -> list[list[list[str]]]:
    """Return the sets of equivalent repositories of the proposed sources."""
    return [
        [replacement["equivalentRepositories"] for replacement in source["spec"]["imageSourceReplacements"]]
        for source in proposal.sources
    ]


def read_back(proposal: Proposal) -> list[Source]:
    """Return what Saffire reads from the YAML of a proposal; assert that it can use all of it."""
    manifests: list[dict[str, Any]] = list(yaml.safe_load_all(as_yaml(proposal.sources)))
    assert [()] * len(manifests) == [faults_of(manifest) for manifest in manifests]
    return [source for manifest in manifests if (source := source_of(manifest))]


@pytest.mark.parametrize(
    ("sets", "image", "option"),
    [
        (["quay.io/acme/*", "ghcr.io/acme/*"], "quay.io/acme/web:v1", "quay.io/acme=ghcr.io/acme"),
        (["quay.io/acme/*", "ghcr.io/acme/*"], "ghcr.io/acme/web:v1", "quay.io/acme=ghcr.io/acme"),
        (["quay.io/acme/web", "ghcr.io/a/b"], f"quay.io/acme/web@{DIGEST}", "quay.io/acme/web=ghcr.io/a/b"),
        (["quay.io/*", "r.example/quay/*"], "quay.io/acme/team/web", "quay.io=r.example/quay"),
        (["docker.io/*", "mirror.gcr.io/*"], "nginx:1.29", "docker.io=mirror.gcr.io"),
        (["nginx", "ghcr.io/acme/nginx"], "nginx:1.29", "nginx=ghcr.io/acme/nginx"),
        (["library/*", "ghcr.io/hub/*"], "index.docker.io/nginx", "library=ghcr.io/hub"),
        (["localhost:5000/*", "[::1]:5000/a/*"], "localhost:5000/web", "localhost:5000=[::1]:5000/a"),
    ],
)
def test_an_image_gets_the_set_that_lists_it(sets: list[str], image: str, option: str) -> None:
    """A mapping of a repository names it, and a mapping of a part of a registry means all that is below it."""
    proposal = proposed([image], option)
    assert ([[sets]], {}, ()) == (sets_of(proposal), proposal.unmapped, proposal.unreadable)
    (source,) = read_back(proposal)
    assert 1 == len(candidates(Reference.parse(image), [source]))


def test_a_registry_is_no_repository() -> None:
    """A repository of Docker Hub may have the name of a registry."""
    assert {"docker.io/library": ("docker.io/library/quay.io",)} == proposed(
        ["docker.io/library/quay.io:1"], "quay.io=ghcr.io"
    ).unmapped


def test_only_what_runs_is_written() -> None:
    """A mapping that no image needs adds nothing, and a mapping that two images need adds one set."""
    images = ["quay.io/acme/web:v1", "quay.io/acme/api:v1", "quay.io/acme/web:v1"]
    options = ["a.io=b.io", "quay.io/acme=ghcr.io/acme", "quay.io/other=ghcr.io/other"]
    assert [[["quay.io/acme/*", "ghcr.io/acme/*"]]] == sets_of(proposed(images, *options))


def test_a_repository_and_what_is_below_it_are_two_sets() -> None:
    """A set has either repositories or prefixes, so a path that is both gets two."""
    images = ["quay.io/acme:v1", "quay.io/acme/web:v1"]
    assert [
        [["quay.io/acme", "ghcr.io/acme"], ["quay.io/acme/*", "ghcr.io/acme/*"]],
    ] == sets_of(proposed(images, "quay.io/acme=ghcr.io/acme"))


def test_a_source_has_its_place_and_nothing_else() -> None:
    """Mode, strategy and the like keep their defaults."""
    (source,) = proposed(["quay.io/acme/web"], "quay.io=ghcr.io").sources
    assert {
        "apiVersion": "saffire.fairwinds.com/v1alpha1",
        "kind": "AlternateImageSource",
        "metadata": {"name": "saffire", "namespace": "shop"},
        "spec": {"imageSourceReplacements": [{"equivalentRepositories": ["quay.io/*", "ghcr.io/*"]}]},
    } == source


def test_what_has_no_mapping_is_named_by_the_part_of_its_registry() -> None:
    """Repositories of one account are together; nothing is proposed for them."""
    images = ["quay.io/acme/web:v1", "quay.io/acme/api", "nginx", "registry.k8s.io/pause:3.10", "ghcr.io/acme/web"]
    proposal = proposed(images, "ghcr.io=c.io")
    assert {
        "docker.io/library": ("docker.io/library/nginx",),
        "quay.io/acme": ("quay.io/acme/api", "quay.io/acme/web"),
        "registry.k8s.io": ("registry.k8s.io/pause",),
    } == proposal.unmapped
    assert [[["ghcr.io/*", "c.io/*"]]] == sets_of(proposal)


HOSTILE = ["$(touch /tmp/owned)", "quay.io/acme/web:v1\nspec: {}", "`id`", "a b", "quay.io/acme/web'", "{{ .Env }}", ""]


@pytest.mark.parametrize("image", HOSTILE)
def test_a_hostile_image_is_in_no_source(image: str) -> None:
    """What is no reference is named as such, and nothing of it reaches the YAML."""
    proposal = proposed([image, "quay.io/acme/web"], "quay.io=ghcr.io")
    assert (image,) == proposal.unreadable
    assert as_yaml(proposed(["quay.io/acme/web"], "quay.io=ghcr.io").sources) == as_yaml(proposal.sources)


def test_without_a_mapping_nothing_is_proposed() -> None:
    """There is no empty source, which the API server would refuse."""
    assert () == proposed(["quay.io/acme/web"]).sources
    assert () == proposed([], "quay.io=ghcr.io").sources


def test_more_than_64_sets_are_several_sources() -> None:
    """A source may have 64 sets; the sources after the first have a number in their names."""
    images = [f"quay.io/account-{number:03}/web" for number in range(130)]
    options = [f"quay.io/account-{number:03}=ghcr.io/account-{number:03}" for number in range(130)]
    proposal = proposed(images, *options)
    assert ["saffire", "saffire-2", "saffire-3"] == [source["metadata"]["name"] for source in proposal.sources]
    assert [64, 64, 2] == [len(source.sets) for source in read_back(proposal)]


def test_more_than_32_equivalents_are_cut_and_named() -> None:
    """A set may have 32 entries; a user is told which set has lost some."""
    proposal = proposed(["quay.io/acme/web"], *(f"quay.io=r{number}.example" for number in range(40)))
    assert ([32], ("quay.io/*",)) == ([len(entries) for entries in read_back(proposal)[0].sets], proposal.cut)


@given(
    st.lists(known_references().map(str), max_size=5),
    st.lists(st.sampled_from(["quay.io", "ghcr.io/acme", "docker.io", "nginx", "library/nginx", "acme"]), max_size=6),
)
def test_whatever_is_proposed_can_be_used(images: list[str], paths: list[str]) -> None:
    """Saffire can use every source, and each image is in one, or has no mapping, or is no reference."""
    equivalences = [Equivalence(pair) for pair in pairwise(paths) if pair[0] != pair[1]]
    proposal = propose(images, equivalences, namespace="shop", name="saffire")
    sources = read_back(proposal)
    without = {repository for repositories in proposal.unmapped.values() for repository in repositories}
    for image in set(images) - set(proposal.unreadable):
        reference = Reference.parse(image)
        assert bool(candidates(reference, sources)) is (str(reference.repository) not in without)
