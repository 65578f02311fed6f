"""The cache: how long values are kept, and how many."""

from saffire.ttl_cache import TtlCache


def test_a_value_is_kept_for_its_time() -> None:
    """It expires exactly then."""
    now = 0.0
    cache: TtlCache[str, int] = TtlCache(2, lambda: now)
    cache.put("a", 1, 10)
    now = 9.9
    assert 1 == cache.get("a")
    now = 10
    assert cache.get("a") is None
    now = 5
    assert cache.get("a") is None


def test_the_newest_are_kept() -> None:
    """If the cache is full, the oldest entry is dropped; putting a key again makes it the newest."""
    cache: TtlCache[str, int] = TtlCache(2, lambda: 0.0)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        cache.put(key, value, 1)
    assert [3, None, 4] == [cache.get(key) for key in "abc"]
