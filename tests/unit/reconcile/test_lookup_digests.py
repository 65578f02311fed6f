"""What one instance knows of a namespace's images between repairs."""

from saffire.reconcile.lookup import DigestCache, Digests, add_digests
from testkit.builders import pod, running

WEB, API = "quay.io/acme/web:1", "quay.io/acme/api:1"
ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
NOTHING: frozenset[str] = frozenset()
ONES, OTHERS = frozenset({ONE}), frozenset({OTHER})


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_some_pods_add_to_what_all_told_and_change_none_of_it() -> None:
    """A page of pods as they were some time ago tells of images that no sweep saw running."""
    known = DigestCache(Clock())
    known.keep("shop", {WEB: {ONE}})
    known.keep_new("shop", {WEB: {OTHER}, API: {OTHER}})
    assert (ONES, OTHERS) == (known.of("shop", WEB), known.of("shop", API))
    assert NOTHING == known.of("another", WEB)


def test_what_an_image_stands_for_is_known_for_a_while_after_it_ran() -> None:
    """In an outage the next sweep sees none of it run. A tag may be pushed anew, so that it is forgotten at last."""
    clock = Clock()
    known = DigestCache(clock)
    known.keep("shop", {WEB: {ONE}})
    clock.now = 60
    known.keep("shop", {API: {OTHER}})
    assert (ONES, OTHERS) == (known.of("shop", WEB), known.of("shop", API))
    clock.now = 100
    assert not known.were_seen("shop")
    known.keep_new("shop", {WEB: {ONE}})
    assert known.were_seen("shop")
    clock.now = 121
    assert (NOTHING, OTHERS) == (known.of("shop", WEB), known.of("shop", API))
    known.keep_new("shop", {WEB: {OTHER}})
    assert (OTHERS, OTHERS) == (known.of("shop", WEB), known.of("shop", API))


def test_of_too_many_images_the_newest_are_known() -> None:
    """Whoever gives running pods one image after the other does not fill the memory of all."""
    known = DigestCache(Clock())
    known.keep("shop", {WEB: {ONE}, API: {ONE}})
    known.keep("shop", {WEB: {OTHER}} | {f"quay.io/acme/web:{number}": {ONE} for number in range(2, 2001)})
    assert (OTHERS, NOTHING) == (known.of("shop", WEB), known.of("shop", API))


def test_what_is_too_long_for_a_reference_is_no_image() -> None:
    """The API server takes any text as an image."""
    long = "quay.io/acme/" + "a" * 500
    found: Digests = {}
    add_digests(found, pod(running("web", WEB), running("api", long), web=WEB, api=long))
    assert {WEB: {"sha256:d03c"}} == found
