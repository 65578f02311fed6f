"""What one instance knows of a namespace's images between repairs."""

from saffire.digests import KnownDigests

WEB, API = "quay.io/acme/web:1", "quay.io/acme/api:1"
ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_some_pods_add_to_what_all_told_and_change_none_of_it() -> None:
    """A page of pods as they were some time ago tells of images that no sweep saw running."""
    known = KnownDigests(Clock())
    known.saw_all("shop", {WEB: {ONE}})
    known.saw_some("shop", {WEB: {OTHER}, API: {OTHER}})
    assert {WEB: {ONE}, API: {OTHER}} == known.of("shop")
    assert {} == known.of("another")


def test_what_an_image_stands_for_is_known_for_a_while_after_it_ran() -> None:
    """In an outage the next sweep sees none of it run. A tag may be pushed anew, so that it is forgotten at last."""
    clock = Clock()
    known = KnownDigests(clock)
    known.saw_all("shop", {WEB: {ONE}})
    clock.now = 60
    known.saw_all("shop", {API: {OTHER}})
    assert {WEB: {ONE}, API: {OTHER}} == known.of("shop")
    clock.now = 100
    assert not known.were_seen("shop")
    known.saw_some("shop", {WEB: {ONE}})
    assert known.were_seen("shop")
    clock.now = 121
    assert {API: {OTHER}} == known.of("shop")
    known.saw_some("shop", {WEB: {OTHER}})
    assert {WEB: {OTHER}, API: {OTHER}} == known.of("shop")
