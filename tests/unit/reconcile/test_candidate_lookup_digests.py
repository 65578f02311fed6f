"""Digests: what an instance keeps of a namespace's images between repairs."""

from saffire.reconcile.candidate_lookup import DigestCache, Digests, add_digests
from testkit.builders import pod, running

WEB, API = "quay.io/acme/web:1", "quay.io/acme/api:1"
FIRST, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
NOTHING: frozenset[str] = frozenset()
FIRST_ONLY, OTHER_ONLY = frozenset({FIRST}), frozenset({OTHER})


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_some_pods_add_digests_and_change_none() -> None:
    """A page of pods as they were some time ago may show images that no sweep saw running."""
    cache = DigestCache(Clock())
    cache.keep("shop", {WEB: {FIRST}})
    cache.keep_new("shop", {WEB: {OTHER}, API: {OTHER}})
    assert (FIRST_ONLY, OTHER_ONLY) == (cache.of("shop", WEB), cache.of("shop", API))
    assert NOTHING == cache.of("another", WEB)


def test_a_digest_is_kept_for_two_minutes_after_its_image_ran() -> None:
    """In an outage, the next sweep sees no pod run it. It is not kept for longer, since a tag may be pushed again."""
    clock = Clock()
    cache = DigestCache(clock)
    cache.keep("shop", {WEB: {FIRST}})
    clock.now = 60
    cache.keep("shop", {API: {OTHER}})
    assert (FIRST_ONLY, OTHER_ONLY) == (cache.of("shop", WEB), cache.of("shop", API))
    clock.now = 100
    assert not cache.were_observed("shop")
    cache.keep_new("shop", {WEB: {FIRST}})
    assert cache.were_observed("shop")
    clock.now = 121
    assert (NOTHING, OTHER_ONLY) == (cache.of("shop", WEB), cache.of("shop", API))
    cache.keep_new("shop", {WEB: {OTHER}})
    assert (OTHER_ONLY, OTHER_ONLY) == (cache.of("shop", WEB), cache.of("shop", API))


def test_of_too_many_images_the_newest_are_kept() -> None:
    """A user who gives running pods one image after the other does not fill the memory of the instance."""
    cache = DigestCache(Clock())
    cache.keep("shop", {WEB: {FIRST}, API: {FIRST}})
    cache.keep("shop", {WEB: {OTHER}} | {f"quay.io/acme/web:{number}": {FIRST} for number in range(2, 2001)})
    assert (OTHER_ONLY, NOTHING) == (cache.of("shop", WEB), cache.of("shop", API))


def test_a_text_too_long_for_a_reference_is_no_image() -> None:
    """The API server takes any text as an image."""
    long = "quay.io/acme/" + "a" * 500
    digests: Digests = {}
    add_digests(digests, pod(running("web", WEB), running("api", long), web=WEB, api=long))
    assert {WEB: {"sha256:d03c"}} == digests
