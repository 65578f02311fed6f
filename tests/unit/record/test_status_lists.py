"""The lists of a status: no namespace pushes out the entries of one that has fewer."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffire.record.status_lists import bounded, container_key, namespace_of, readable_entries, rival
from testkit.builders import Object

NAMESPACES = st.lists(st.sampled_from("abcd"), max_size=40)


def entries(namespaces: str) -> list[Object]:
    """Return an entry for each letter, which is the name of its namespace; its time is its place."""
    return [{"time": f"{place:02}", "target": {"namespace": name}} for place, name in enumerate(namespaces)]


@pytest.mark.parametrize(
    ("kept", "namespaces"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("aaab", "aaab", id="full"),
        pytest.param("aaaa", "aaaaaa", id="a-namespace-alone"),
        pytest.param("baaa", "baaaaa", id="a-namespace-with-few"),
        pytest.param("aabb", "aaaabbb", id="two-with-many"),
        pytest.param("bbca", "abbbca", id="the-oldest-of-the-largest"),
        pytest.param("bcde", "abcde", id="all-alike"),
    ],
)
def test_a_full_list_loses_the_oldest_of_the_largest_namespace(kept: str, namespaces: str) -> None:
    """If several namespaces have the most entries, the oldest entry of all of these is lost."""
    assert list(kept) == bounded(namespaces, 4, str)


@given(NAMESPACES, st.integers(1, 12))
def test_a_namespace_keeps_its_share(namespaces: list[str], size: int) -> None:
    """A namespace that has no more entries than an equal share of the list loses none, whatever the others do."""
    before, after = Counter(namespaces), Counter(bounded(namespaces, size, str))
    share = size // max(1, len(before))
    assert min(size, len(namespaces)) == after.total()
    assert all(after[name] >= min(count, share) for name, count in before.items())


@given(NAMESPACES, st.integers(1, 12))
def test_what_was_lost_has_no_place_again(namespaces: list[str], size: int) -> None:
    """Otherwise two entries would push out one another for ever."""
    listed = entries("".join(namespaces))
    kept: list[Object] = []
    for entry in listed:
        kept = bounded([*kept, entry], size, namespace_of)
    for lost in (entry for entry in listed if entry not in kept):
        older = rival(kept, size, namespace_of(lost))
        assert older is not None
        assert older["time"] > lost["time"]


@pytest.mark.parametrize(
    ("expected", "namespace", "listed"),
    [
        pytest.param(None, "a", "aaa", id="the-list-is-not-full"),
        pytest.param(None, "b", "aaab", id="another-namespace-has-more"),
        pytest.param("00", "a", "aaab", id="its-own-oldest"),
        pytest.param("01", "b", "caab", id="as-many-as-the-largest"),
        pytest.param("00", "e", "abcd", id="everybody-has-one"),
    ],
)
def test_one_more_entry_may_have_a_rival(expected: str | None, namespace: str, listed: str) -> None:
    """The older of the two has no place in a list of four."""
    older = rival(entries(listed), 4, namespace)
    assert expected == (older["time"] if older else None)


def test_a_container_is_known_by_its_namespace_too() -> None:
    """A uid may come from the annotation of a pod, which users of another namespace write."""
    targets = [{"namespace": name, "uid": "u", "container": "web"} for name in ("shop", "bank")]
    assert [("shop", "u", "web"), ("bank", "u", "web")] == [container_key({"target": target}) for target in targets]
    assert 2 == len(readable_entries({"active": [{"target": target} for target in targets]}, "active"))
