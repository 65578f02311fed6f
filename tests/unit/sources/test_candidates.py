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
    """However long a prefix is, whoever names the repository means it more."""
    stem = "a.io/" + "p" * 240
    assert ["e.io/e", "b.io/b/x"] == tried(f"{stem}/x", source([f"{stem}/*", "b.io/b/*"], [f"{stem}/x", "e.io/e"]))


def test_sources_take_their_turn_by_name() -> None:
    """Of two that match alike, the earlier in the alphabet is asked first, whatever the order of the list."""
    one, other = source(["a.io/a", "b.io/b"], name="a"), source(["a.io/a", "c.io/c"], name="b")
    assert ["b.io/b", "c.io/c"] == tried("a.io/a", other, one)


def test_a_candidate_is_tried_once_and_on_the_word_of_the_first_source() -> None:
    """What two sources declare, in whatever spelling, is one candidate."""
    one, other = source(["a.io/a", "nginx"], name="a"), source(["a.io/a", "docker.io/library/nginx"], name="b")
    found = candidates(Reference.parse("a.io/a:1"), [other, one])
    assert [("nginx:1", "a")] == [(candidate.image, candidate.source.name) for candidate in found]


def test_a_candidate_longer_than_a_reference_may_be_is_none() -> None:
    """A long prefix in front of a long path names nothing that could be pulled."""
    long = "a.io/x/" + "p" * 250
    assert ["c.io/" + "p" * 250] == tried(long, source(["a.io/x/*", "b.io/mirror/*", "c.io/*"]))


@given(known_references(), st.lists(sources(), max_size=3))
def test_a_failover_leaves_the_repository_and_nothing_else(reference: Reference, declared: list[Source]) -> None:
    """No candidate is the current repository, none comes twice, and each keeps tag and digest to the letter."""
    found = candidates(reference, declared)
    repositories = [candidate.reference.repository for candidate in found]
    assert reference.repository not in repositories
    assert len(set(repositories)) == len(repositories)
    assert all(candidate.image.endswith(reference.suffix) for candidate in found)
    assert all(Reference.parse(candidate.image) == candidate.reference for candidate in found)
    assert all((reference.tag, reference.digest) == (c.reference.tag, c.reference.digest) for c in found)


@given(st.lists(repositories(), min_size=4, max_size=8, unique=True), suffixes, st.data())
def test_sets_are_never_crossed(listed: list[Repository], suffix: str, data: st.DataObject) -> None:
    """The candidates are the others of the same set, all of them, in their order."""
    border = data.draw(st.integers(2, len(listed) - 2))
    sets = [[str(repository) for repository in group] for group in (listed[:border], listed[border:])]
    for entries in sets:
        for entry in entries:
            expected = [other + suffix for other in entries if other != entry]
            assert expected == tried(entry + suffix, source(*sets))


@given(repositories(), st.sampled_from(["", "/mirror", "/a/b"]), suffixes)
def test_prefixes_replace_the_prefix_and_keep_the_rest(repository: Repository, stem: str, suffix: str) -> None:
    """What stands below one prefix of a set stands below the other one too, both ways."""
    mirror = source([f"{repository}/*", f"mirror.example{stem}/*"])
    here, there = f"{repository}/a/b{suffix}", f"mirror.example{stem}/a/b{suffix}"
    assert [there] == tried(here, mirror)
    assert [here] == tried(there, mirror)


def test_nested_prefixes_do_not_multiply() -> None:
    """Of a set only its most specific entry counts, and no more candidates are composed than anybody could try."""
    nested = ["quay.io/*", *(f"quay.io/{'/'.join('a' * depth)}/*" for depth in range(1, 31))]
    sets = [[*nested, f"mirror-{number}.example.com/*"] for number in range(64)]
    found = candidates(Reference.parse("quay.io/" + "a/" * 40 + "web:1"), [source(*sets)])
    assert 32 == len(found)
    assert all(candidate.reference.repository.path.endswith("/web") for candidate in found)


def test_what_a_large_source_keeps_of_references_is_bounded() -> None:
    """However many images a namespace has, what was found for them takes no more room than for some."""
    large = source(["quay.io/*", *(f"mirror-{number}.example.com/{'m' * 100}/*" for number in range(31))])
    tracemalloc.start()
    try:
        for number in range(1000):
            assert 31 == len(candidates(Reference.parse(f"quay.io/acme/{number}:1"), [large]))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4 << 20
