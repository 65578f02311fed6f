"""Candidates: what is tried for a failing reference."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.registry.reference import Reference, Repository
from saffire.sources.candidates import candidates
from saffire.sources.spec import Source
from testkit.builders import source
from testkit.strategies import known_references, repositories, sources, suffixes


def tried(image: str, *sources: Source) -> list[str]:
    """Return the candidates for `image` as they would be written."""
    return [candidate.image for candidate in candidates(Reference.parse(image), sources)]


@pytest.mark.parametrize(
    ("expected", "image", "entries"),
    [
        pytest.param(["b.io/b:1"], "a.io/a:1", ["a.io/a", "b.io/b"], id="another-repository"),
        pytest.param(["a.io/a:1", "c.io/c:1"], "b.io/b:1", ["a.io/a", "b.io/b", "c.io/c"], id="in-the-user's-order"),
        pytest.param(["b.io/b"], "a.io/a", ["a.io/a", "b.io/b"], id="no-tag-added"),
        pytest.param([], "c.io/c", ["a.io/a", "b.io/b"], id="not-listed"),
        pytest.param([], "a.io/a/below", ["a.io/a", "b.io/b"], id="an-entry-is-no-prefix"),
        pytest.param(["q.io/nginx:1"], "nginx:1", ["docker.io/library/nginx", "q.io/nginx"], id="familiar-image"),
        pytest.param(["q.io/nginx:1"], "docker.io/nginx:1", ["nginx", "q.io/nginx"], id="familiar-entry"),
        pytest.param(["nginx:1"], "q.io/nginx:1", ["nginx", "q.io/nginx"], id="written-as-the-user-wrote-it"),
        pytest.param(["b.io:5000/b"], "a.io:5000/a", ["a.io:5000/a", "b.io:5000/b"], id="port"),
        pytest.param([], "a.io:5000/a", ["a.io/a", "b.io/b"], id="another-port-is-another-registry"),
        pytest.param(["b.io/m/x:1"], "a.io/acme/x:1", ["a.io/acme/*", "b.io/m/*"], id="prefix"),
        pytest.param(["b.io/m/x/y"], "a.io/acme/x/y", ["a.io/acme/*", "b.io/m/*"], id="prefix-of-many-segments"),
        pytest.param([], "a.io/acme-inc/x", ["a.io/acme/*", "b.io/m/*"], id="prefix-ends-at-a-segment"),
        pytest.param([], "a.io/acme", ["a.io/acme/*", "b.io/m/*"], id="prefix-is-not-what-it-stands-above"),
        pytest.param(["b.io/m/x"], "a.io/x", ["a.io/*", "b.io/m/*"], id="a-whole-registry"),
        pytest.param(["b.io:5000/m/x"], "localhost/x", ["localhost/*", "b.io:5000/m/*"], id="a-bare-domain"),
        pytest.param(["m.io/library/nginx:1"], "nginx:1", ["docker.io/*", "m.io/*"], id="docker-hub-as-a-whole"),
        pytest.param(["m.io/acme/web"], "acme/web", ["docker.io/*", "m.io/*"], id="docker-hub-s-organisation"),
        pytest.param(["m.io/nginx"], "nginx", ["library/*", "m.io/*"], id="official-images"),
        pytest.param(["library/nginx"], "m.io/nginx", ["library/*", "m.io/*"], id="to-official-images"),
        pytest.param(["m.io/web"], "acme/web", ["acme/*", "m.io/*"], id="familiar-prefix"),
        pytest.param(["m.io/web"], "acme/web", ["index.docker.io/acme/*", "m.io/*"], id="legacy-prefix"),
        pytest.param(["m.io/web"], "docker.io/library/quay.io", ["quay.io", "m.io/web"], id="a-domain-alone-is-a-name"),
        pytest.param(["docker.io/web"], "m.io/web", ["docker.io/*", "m.io/*"], id="to-docker-hub"),
        pytest.param(["q.io/n:1"], "registry-1.docker.io/nginx:1", ["nginx", "q.io/n"], id="docker-hub-s-other-host"),
        pytest.param(["b.io/b:1"], "A.io:443/a:1", ["a.io/a", "b.io/b"], id="case-and-default-port"),
        pytest.param(["B.io:443/b:1"], "a.io/a:1", ["a.io/a", "B.io:443/b"], id="to-a-port-as-the-user-wrote-it"),
    ],
)
def test_candidates_of_one_set(expected: list[str], image: str, entries: list[str]) -> None:
    """The other entries of a set that lists the repository are tried, with tag and digest as they were."""
    assert expected == tried(image, source(entries))


@pytest.mark.parametrize(
    "sets",
    [
        pytest.param([["a.io/*", "r.io/*"], ["a.io/acme/*", "p.io/*"], ["a.io/acme/web", "e.io/web"]], id="rising"),
        pytest.param([["a.io/acme/web", "e.io/web"], ["a.io/acme/*", "p.io/*"], ["a.io/*", "r.io/*"]], id="falling"),
    ],
)
def test_the_most_specific_entry_comes_first(sets: list[list[str]]) -> None:
    """The repository itself beats a prefix, and a longer prefix a shorter one, wherever they stand."""
    assert ["e.io/web:1", "p.io/web:1", "r.io/acme/web:1"] == tried("a.io/acme/web:1", source(*sets))


def test_an_exact_entry_beats_the_longest_prefix() -> None:
    """An entry that names the repository itself is more specific than any prefix, however long that is."""
    stem = "a.io/" + "p" * 240
    assert ["e.io/e", "b.io/b/x"] == tried(f"{stem}/x", source([f"{stem}/*", "b.io/b/*"], [f"{stem}/x", "e.io/e"]))


def test_sources_that_match_alike_are_ordered_by_name() -> None:
    """The candidates of the source that is first in the alphabet come first, whatever the order of the list."""
    first, second = source(["a.io/a", "b.io/b"], name="a"), source(["a.io/a", "c.io/c"], name="b")
    assert ["b.io/b", "c.io/c"] == tried("a.io/a", second, first)


def test_a_candidate_of_two_sources_comes_once_from_the_first() -> None:
    """If two sources declare one repository, in two spellings, it is one candidate."""
    first, second = source(["a.io/a", "nginx"], name="a"), source(["a.io/a", "docker.io/library/nginx"], name="b")
    offered = candidates(Reference.parse("a.io/a:1"), [second, first])
    assert [("nginx:1", "a")] == [(candidate.image, candidate.source.name) for candidate in offered]


def test_a_candidate_that_is_too_long_for_a_reference_is_left_out() -> None:
    """A long prefix in front of a long path names nothing that could be pulled."""
    long = "a.io/x/" + "p" * 250
    assert ["c.io/" + "p" * 250] == tried(long, source(["a.io/x/*", "b.io/mirror/*", "c.io/*"]))


@given(known_references(), st.lists(sources(), max_size=3))
def test_a_failover_leaves_the_repository_and_nothing_else(
    reference: Reference, declared_sources: list[Source]
) -> None:
    """No candidate is the current repository, none comes twice, and each keeps tag and digest to the letter."""
    offered = candidates(reference, declared_sources)
    repositories = [candidate.reference.repository for candidate in offered]
    assert reference.repository not in repositories
    assert len(set(repositories)) == len(repositories)
    assert all(candidate.image.endswith(reference.suffix) for candidate in offered)
    assert all(Reference.parse(candidate.image) == candidate.reference for candidate in offered)
    assert all((reference.tag, reference.digest) == (c.reference.tag, c.reference.digest) for c in offered)


@given(st.lists(repositories(), min_size=4, max_size=8, unique=True), suffixes, st.data())
def test_sets_are_never_crossed(listed: list[Repository], suffix: str, data: st.DataObject) -> None:
    """The candidates are the others of the same set, all of them, in their order."""
    border = data.draw(st.integers(2, len(listed) - 2))
    sets = [[str(repository) for repository in part] for part in (listed[:border], listed[border:])]
    for entries in sets:
        for entry in entries:
            expected = [equivalent + suffix for equivalent in entries if equivalent != entry]
            assert expected == tried(entry + suffix, source(*sets))


@given(repositories(), st.sampled_from(["", "/mirror", "/a/b"]), suffixes)
def test_prefixes_replace_the_prefix_and_keep_the_rest(repository: Repository, stem: str, suffix: str) -> None:
    """A repository below one prefix of a set is also below the other prefix, in both directions."""
    mirror = source([f"{repository}/*", f"mirror.example{stem}/*"])
    here, there = f"{repository}/a/b{suffix}", f"mirror.example{stem}/a/b{suffix}"
    assert [there] == tried(here, mirror)
    assert [here] == tried(there, mirror)


def test_nested_prefixes_do_not_multiply() -> None:
    """Only the most specific entry of a set counts, and no more than 32 candidates are composed."""
    nested = ["quay.io/*", *(f"quay.io/{'/'.join('a' * depth)}/*" for depth in range(1, 31))]
    sets = [[*nested, f"mirror-{number}.example.com/*"] for number in range(64)]
    offered = candidates(Reference.parse("quay.io/" + "a/" * 40 + "web:1"), [source(*sets)])
    assert 32 == len(offered)
    assert all(candidate.reference.repository.path.endswith("/web") for candidate in offered)


def test_candidates_take_no_memory_for_long() -> None:
    """A namespace with a thousand images takes no more memory than one with some dozens."""
    large = source(["quay.io/*", *(f"mirror-{number}.example.com/{'m' * 100}/*" for number in range(31))])
    tracemalloc.start()
    try:
        for number in range(1000):
            assert 31 == len(candidates(Reference.parse(f"quay.io/acme/{number}:1"), [large]))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4 << 20
