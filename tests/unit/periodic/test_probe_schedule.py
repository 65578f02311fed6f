"""The agenda: how few questions there are, who has the next one, and who is left alone."""

from collections import Counter
from collections.abc import Iterable

import pytest

from saffire.periodic.probe_schedule import Probe, ProbeSchedule
from saffire.policy.readiness import ImagePair, ReadinessState, pairs_by_image, pairs_to_probe
from saffire.policy.running_images import ImageUse
from saffire.registry.availability import Availability, Available, NotFound, Throttled, Unreachable
from testkit.builders import source

ONE, OTHER = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
MINUTE, HOUR = 60.0, 3600.0
THERE = Available(digest=ONE)
SILENT, ODD = Unreachable("connection refused", is_silent=True), Unreachable("TLS: no handshake")


def pairs(count: int, host: str = "ghcr.io", *digests: str) -> tuple[ImagePair, ...]:
    """Return pairs of as many images, with equivalents in one registry."""
    uses = tuple(ImageUse(image=f"quay.io/acme/web:{number}", digests=frozenset(digests)) for number in range(count))
    return pairs_to_probe(pairs_by_image(uses, source(["quay.io/acme/web", f"{host}/acme/web"])) or ())


class Calm:
    """Sweeps of one instance, one a minute: namespaces, each with what it might ask, and what became of it."""

    def __init__(self, a_minute: int = 6, answer: Availability = THERE, **namespaces: Iterable[ImagePair]) -> None:
        self.agenda = ProbeSchedule(a_minute)
        self.now = 1000.0
        self.answer = answer
        self.namespaces = {name: list(mine) for name, mine in namespaces.items()}
        self.written: dict[tuple[str, bytes], ReadinessState] = {}

    def offer(self) -> None:
        """Have each namespace looked at."""
        for name, mine in self.namespaces.items():
            turns = [Probe(name, pair, (name, pair.key) in self.written) for pair in mine]
            self.agenda.offer(name, turns, self.now)

    def sweep(self, *, minutes: float = 1) -> list[Probe]:
        """Look at each namespace, have the questions answered, and return them."""
        self.now += minutes * MINUTE
        self.offer()
        taken = list(self.agenda.take(self.now))
        for turn in taken:
            written = self.agenda.record(turn, self.answer, turn.pair.state_for(self.answer), self.now)
            if written:
                self.written[turn.key] = written
        return taken

    def asked(self, minutes: int) -> Counter[str]:
        """Sweep for so long, and return how many questions each namespace had."""
        return Counter(turn.namespace for _ in range(minutes) for turn in self.sweep())


def numbers(turns: Iterable[Probe]) -> list[int]:
    """Return which images were asked about."""
    return [int(turn.pair.use.image.rpartition(":")[2]) for turn in turns]


# How few


def test_there_are_a_few_questions_a_minute() -> None:
    """However much there is to ask, and however often somebody sweeps."""
    calm = Calm(shop=[*pairs(50), *pairs(50, "other.example")])
    assert [6, 0, 6] == [len(calm.sweep(minutes=minutes)) for minutes in (1, 0.5, 0.5)]


def test_a_registry_gets_half_of_them_at_most() -> None:
    """If it is the only one, the other half is not asked at all; and with one question, it may have that."""
    assert 3 == len(Calm(shop=pairs(50)).sweep())
    calm = Calm(shop=[*pairs(50), *pairs(2, "other.example")])
    assert {"ghcr.io": 3, "other.example": 2} == Counter(turn.pair.host for turn in calm.sweep())
    assert 1 == len(Calm(a_minute=1, shop=pairs(50)).sweep())


def test_without_questions_nobody_is_asked() -> None:
    """Nor is anything kept."""
    calm = Calm(a_minute=0, shop=pairs(5))
    assert ([], []) == (calm.sweep(), list(calm.agenda.waiting))


# Who is next


def test_an_answer_is_good_for_an_hour() -> None:
    """Then it is asked for again, the oldest first."""
    calm = Calm(shop=pairs(5))
    assert [[0, 1, 2], [3, 4], []] == [numbers(calm.sweep()) for _ in range(3)]
    assert [] == calm.sweep(minutes=57)
    assert [[0, 1, 2], [3, 4]] == [numbers(calm.sweep()) for _ in range(2)]


@pytest.mark.parametrize("answer", [NotFound(), ODD, Unreachable("it answered 404")])
def test_what_is_not_as_it_should_be_is_looked_after_more_often(answer: Availability) -> None:
    """Somebody may have mended it."""
    calm = Calm(answer=answer, shop=pairs(1))
    assert [1, 0, 1] == [len(calm.sweep(minutes=minutes)) for minutes in (1, 9, 1)]


def test_what_nobody_has_asked_comes_before_old_answers() -> None:
    """A new image is known within minutes, however long a lap around the others takes."""
    calm = Calm(shop=pairs(3))
    calm.sweep()
    calm.namespaces["shop"] = list(pairs(5))
    assert [3, 4, 0] == numbers(calm.sweep(minutes=60))


def test_an_answer_that_others_had_is_asked_for_again_in_its_turn() -> None:
    """An instance that has just started does not know how old it is."""
    calm = Calm(shop=pairs(4))
    calm.written = {("shop", pair.key): ReadinessState.READY for pair in pairs(3)}
    assert [[3, 0, 1], [2]] == [numbers(calm.sweep()) for _ in range(2)]


def test_an_answer_that_could_not_be_written_is_asked_for_again() -> None:
    """The next sweep finds that it is not known."""
    calm = Calm(shop=pairs(1))
    calm.sweep()
    calm.written.clear()
    assert 1 == len(calm.sweep())


def test_another_build_is_asked_about_at_once() -> None:
    """What was proven to be equal is compared with what runs now."""
    calm = Calm(shop=pairs(1, "ghcr.io", ONE))
    calm.sweep()
    for digests, expected in (((), 0), ((OTHER,), 1), ((OTHER,), 0)):
        calm.namespaces["shop"] = list(pairs(1, "ghcr.io", *digests))
        assert expected == len(calm.sweep())


def test_namespaces_take_turns() -> None:
    """One with a thousand images has no more questions than one with ten."""
    calm = Calm(large=pairs(1000), small=pairs(10, "other.example"), other=pairs(10, "third.example"))
    assert {"large": 10, "small": 10, "other": 10} == calm.asked(5)


def test_who_had_less_comes_first() -> None:
    """Where there are more questions than namespaces, or fewer, all have as many after a while."""
    for count, minutes, expected in ((4, 2, 3), (12, 10, 5)):
        calm = Calm()
        calm.namespaces = {f"n{number}": list(pairs(99, f"r{number}.example")) for number in range(count)}
        assert {f"n{number}": expected for number in range(count)} == calm.asked(minutes)


def test_every_one_of_many_namespaces_has_its_turn() -> None:
    """Though no more of them are remembered than there are questions."""
    calm = Calm()
    calm.namespaces = {f"n{number}": list(pairs(1, f"r{number}.example")) for number in range(60)}
    calm.now += MINUTE
    calm.offer()
    assert 6 == len(calm.agenda.waiting)
    assert {f"n{number}": 1 for number in range(60)} == calm.asked(10)


def test_who_could_not_be_asked_does_not_keep_others_waiting() -> None:
    """Six namespaces whose registry had its share make room for a seventh in the next sweep."""
    calm = Calm()
    calm.namespaces = {f"n{number}": list(pairs(9)) for number in range(6)}
    calm.namespaces["last"] = list(pairs(1, "other.example"))
    assert "last" in calm.asked(2)


# Who is left alone


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(3600, 60), (7, 1), (None, 10), (0, 1)], ids=["an-hour", "seconds", "untold", "at-once"]
)
def test_a_registry_that_throttles_is_left_alone(seconds: int | None, minutes: int) -> None:
    """For as long as it wants to be; others are asked meanwhile."""
    calm = Calm(answer=Throttled(seconds), shop=pairs(1))
    calm.sweep()
    calm.namespaces |= {"shop": list(pairs(2)), "other": list(pairs(1, "other.example"))}
    assert ["other"] == [turn.namespace for turn in calm.sweep(minutes=minutes - 0.1)]
    assert "shop" in [turn.namespace for turn in calm.sweep(minutes=0.1)]


def test_what_was_proven_before_is_not_forgotten_over_429() -> None:
    """It says nothing of the image."""
    calm = Calm(shop=pairs(1))
    calm.sweep()
    calm.answer = Throttled(7)
    assert 1 == len(calm.sweep(minutes=60))
    assert [ReadinessState.READY] == list(calm.written.values())


def down(calm: Calm, host: str = "ghcr.io") -> dict[str, bool]:
    """Return what another namespace is told of a registry."""
    return calm.agenda.news("another", [host, "unheard.example"], calm.now)


def test_a_registry_is_down_when_two_sweeps_find_it_so() -> None:
    """All of its images are unreachable then, and it is asked every few minutes only."""
    calm = Calm(shop=pairs(9))
    calm.sweep()
    calm.written = {("shop", pair.key): ReadinessState.READY for pair in pairs(9)}
    calm.answer = SILENT
    assert (3, False) == (len(calm.sweep()), calm.agenda.is_down("ghcr.io"))
    assert (3, True) == (len(calm.sweep()), calm.agenda.is_down("ghcr.io"))
    assert {"ghcr.io": True} == down(calm)
    assert {ReadinessState.READY} == set(calm.written.values())
    assert [0, 0, 0, 3] == [len(calm.sweep()) for _ in range(4)]


def test_it_answers_again() -> None:
    """One answer is enough, whatever it says."""
    calm = Calm(answer=SILENT, shop=pairs(1))
    calm.sweep()
    calm.sweep()
    calm.answer = NotFound()
    calm.sweep(minutes=5)
    assert (False, {"ghcr.io": False}, {}) == (calm.agenda.is_down("ghcr.io"), down(calm), down(calm))


def test_one_packet_that_is_lost_means_nothing() -> None:
    """A single miss is looked at again in the next sweep, and three of one sweep are one."""
    calm = Calm(answer=SILENT, shop=pairs(3))
    calm.written = {("shop", pair.key): ReadinessState.READY for pair in pairs(3)}
    calm.sweep()
    calm.answer = THERE
    assert (3, False) == (len(calm.sweep()), calm.agenda.is_down("ghcr.io"))
    assert {ReadinessState.READY} == set(calm.written.values())


def test_who_was_never_asked_is_not_down() -> None:
    """Nobody knows."""
    calm = Calm()
    assert (False, {}) == (calm.agenda.is_down("ghcr.io"), down(calm))


def test_a_registry_that_throttles_is_not_down() -> None:
    """It is there, and says so; a namespace is told once."""
    calm = Calm(answer=Throttled(7), shop=pairs(1))
    calm.sweep()
    assert ({"ghcr.io": False}, {}) == (down(calm), down(calm))


# Manifests that are read


def test_what_was_read_is_recalled_while_the_digest_stays() -> None:
    """For a day, and for what the image was known to be: then HEAD is enough, which is no pull."""
    agenda, (pair,) = ProbeSchedule(6), pairs(1, "ghcr.io", ONE)
    turn = Probe("shop", pair, is_known=False)
    assert agenda.recall(turn, ONE) is None
    agenda.read(turn, ONE, ReadinessState.READY, 0)
    assert (ReadinessState.READY, None) == (agenda.recall(turn, ONE), agenda.recall(turn, OTHER))
    (other,) = pairs(1, "ghcr.io", OTHER)
    assert agenda.recall(Probe("shop", other, is_known=False), ONE) is None
    assert agenda.recall(Probe("elsewhere", pair, is_known=False), ONE) is None
    agenda.take(24 * HOUR)
    assert agenda.recall(turn, ONE) is None


def test_docker_hub_counts_what_is_read() -> None:
    """Six an hour leave most of its pulls to the nodes; nobody else counts them."""
    agenda = ProbeSchedule(6)
    assert [True] * 6 + [False] == [agenda.may_read("docker.io", second) for second in range(7)]
    assert [False, True, False] == [agenda.may_read("docker.io", HOUR + second) for second in (-1, 0, 0.5)]
    assert all(agenda.may_read("ghcr.io", 0) for _ in range(99))


def test_what_could_not_be_settled_is_tried_again_some_time_later() -> None:
    """It keeps neither its namespace nor others from asking."""
    calm = Calm(shop=pairs(1))
    calm.now += MINUTE
    calm.offer()
    (turn,) = calm.agenda.take(calm.now)
    assert calm.agenda.record(turn, None, ReadinessState.UNASKED, calm.now) is None
    assert [0, 1] == [len(calm.sweep(minutes=minutes)) for minutes in (9, 1)]
