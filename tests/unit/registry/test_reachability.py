"""When registries last answered: what counts as an answer, for how long it is known, and to whom."""

from datetime import UTC, datetime, timedelta

import pytest

from saffire.registry.availability import Availability, Available, Denied, NotFound, Throttled, Unreachable
from saffire.registry.reachability import Reachability, SilentRegistries

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
SILENT = Unreachable("connection refused", is_silent=True)


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (Available(digest="sha256:1"), True),
        (NotFound(), True),
        (Denied(), True),
        (Throttled(), True),
        (Unreachable("it answered 503", is_silent=True, is_server_error=True), True),
        (Unreachable("its parts: no answer within 1.5 s", is_of_part=True), True),
        (SILENT, False),
        (Unreachable("TLS: certificate has expired", is_tls=True), False),
    ],
)
def test_whatever_a_registry_says_is_an_answer(answer: Availability, *, counts: bool) -> None:
    """Silence and a failed handshake are none."""
    reachability = Reachability(Clock())
    reachability.note("quay.io", answer, "shop")
    assert (reachability.seconds_since("quay.io") is not None) is counts
    assert reachability.any_within(1, "shop") is counts
    assert reachability.seconds_since("ghcr.io") is None


def test_an_answer_is_known_for_a_day() -> None:
    """A later question without an answer changes nothing about that."""
    clock = Clock()
    reachability = Reachability(clock)
    reachability.note("quay.io", NotFound(), "shop")
    clock.now += 3600
    reachability.note("quay.io", SILENT, "shop")
    assert reachability.seconds_since("quay.io") == 3600
    assert not reachability.any_within(300, "shop")
    assert reachability.answered_at(NOW) == {"quay.io": NOW - timedelta(hours=1)}
    assert reachability.none_within(300)
    clock.now += 23 * 3600
    assert not reachability.none_within(300)
    assert reachability.seconds_since("quay.io") is None
    assert reachability.answered_at(NOW) == {}


def test_answers_to_one_namespace_say_nothing_to_another() -> None:
    """A namespace may run a registry of its own, while Saffire reaches no other. A second namespace confirms it."""
    clock = Clock()
    reachability = Reachability(clock)
    reachability.note("registry.attacker.svc", NotFound(), "attacker")
    assert reachability.any_within(300, "attacker")
    assert not reachability.any_within(300, "shop")
    reachability.note("registry.attacker.svc", NotFound(), "attacker")
    assert not reachability.any_within(300, "shop")
    clock.now += 100
    reachability.note("quay.io", NotFound(), "bank")
    assert reachability.any_within(300, "shop")
    clock.now += 250
    assert not reachability.any_within(300, "shop")
    assert reachability.any_within(300, "bank")


def test_questions_in_vain_of_one_namespace_are_not_told_to_another() -> None:
    """Only who has asked is told that no registry answers; nobody is while one answers anybody."""
    reachability = Reachability(Clock())
    assert reachability.none_within(300) is None
    reachability.note("dead.test", SILENT, "attacker")
    assert reachability.none_within(300)
    assert reachability.none_within(300, "attacker")
    assert reachability.none_within(300, "shop") is None
    reachability.note("quay.io", NotFound(), "bank")
    assert reachability.none_within(300, "attacker") is False


def test_a_namespace_with_many_registries_forgets_its_own() -> None:
    """Without the memory that a registry has answered, its silence would prove nothing."""
    clock = Clock()
    reachability = Reachability(clock)
    reachability.note("quay.io", NotFound(), "shop")
    for number in range(5000):
        clock.now += 0.001
        reachability.note(f"{number}.attacker.test", NotFound(), "attacker")
    assert reachability.seconds_since("quay.io") is not None
    assert reachability.seconds_since("0.attacker.test") is None
    assert 2048 == len(reachability.answered_at(NOW))


def test_as_many_namespaces_as_registries_are_remembered() -> None:
    """Then the one that has asked least lately is forgotten."""
    reachability = Reachability(Clock())
    for number in range(2049):
        reachability.note("quay.io", NotFound(), f"namespace-{number}")
    assert not reachability.none_within(300, "namespace-0")
    reachability.note("ghcr.io", NotFound(), "namespace-0")
    assert {"quay.io", "ghcr.io"} == reachability.answered_at(NOW).keys()


def test_silence_is_one_namespaces_own_until_another_one_sees_it() -> None:
    """The owner of a namespace may know a path that makes a registry slow."""
    clock = Clock()
    registries = SilentRegistries(clock)
    for _ in range(2):
        registries.put("attacker", "quay.io", SILENT)
    assert SILENT == registries.get("attacker", "quay.io")
    assert registries.get("shop", "quay.io") is None
    registries.put("bank", "quay.io", SILENT)
    assert SILENT == registries.get("shop", "quay.io")
    assert registries.get("shop", "ghcr.io") is None
    clock.now += 5
    assert [None] * 3 == [registries.get(asker, "quay.io") for asker in ("attacker", "bank", "shop")]
    registries.put("bank", "quay.io", SILENT)
    assert registries.get("shop", "quay.io") is None
