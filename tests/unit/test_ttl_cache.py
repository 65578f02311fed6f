"""What is kept, for how long, and how much of it."""

from saffire.ttl_cache import TtlCache


def test_a_value_is_kept_for_its_time() -> None:
    """And not for a moment longer."""
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
    """What has been kept longest makes room; keeping something again makes it new."""
    cache: TtlCache[str, int] = TtlCache(2, lambda: 0.0)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        cache.put(key, value, 1)
    assert [3, None, 4] == [cache.get(key) for key in "abc"]
