"""The probe schedule: how few probes there are, which probe is next, and which registries get none."""

from collections import Counter
from collections.abc import Iterable

import pytest

from saffire.periodic.probe_schedule import Probe, ProbeSchedule
from saffire.policy.readiness import ImagePair, ReadinessState, pairs_by_image, pairs_to_probe
from saffire.policy.running_images import ImageUse
from saffire.registry.availability import Availability, Available, NotFound, Throttled, Unreachable
from testkit.builders import source

DIGEST, OTHER = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
MINUTE, HOUR = 60.0, 3600.0
THERE = Available(digest=DIGEST)
SILENT, ODD = Unreachable("connection refused", is_silent=True), Unreachable("TLS: no handshake")


def pairs(count: int, host: str = "ghcr.io", *digests: str) -> tuple[ImagePair, ...]:
    """Return pairs of as many images, with equivalents in one registry."""
    uses = tuple(ImageUse(image=f"quay.io/acme/web:{number}", digests=frozenset(digests)) for number in range(count))
    return pairs_to_probe(pairs_by_image(uses, source(["quay.io/acme/web", f"{host}/acme/web"])))


class Calm:
    """Calm namespaces of one instance, which sweeps them once a minute; the pairs of each, and the states written."""

    def __init__(
        self, probes_per_minute: int = 6, answer: Availability = THERE, **namespaces: Iterable[ImagePair]
    ) -> None:
        self.schedule = ProbeSchedule(probes_per_minute)
        self.now = 1000.0
        self.answer = answer
        self.namespaces = {name: list(of_name) for name, of_name in namespaces.items()}
        self.written: dict[tuple[str, bytes], ReadinessState] = {}

    def offer(self) -> None:
        """Offer the probes of every namespace."""
        for name, of_name in self.namespaces.items():
            probes = [Probe(name, pair, (name, pair.key) in self.written) for pair in of_name]
            self.schedule.offer(name, probes, self.now)

    def sweep(self, *, minutes: float = 1) -> list[Probe]:
        """Offer the probes of every namespace, answer those that are taken, and return them."""
        self.now += minutes * MINUTE
        self.offer()
        taken = list(self.schedule.take(self.now))
        for probe in taken:
            written = self.schedule.record(probe, self.answer, probe.pair.state_for(self.answer), self.now)
            if written:
                self.written[probe.key] = written
        return taken

    def count(self, minutes: int) -> Counter[str]:
        """Sweep for so many minutes, and return how many probes each namespace had."""
        return Counter(probe.namespace for _ in range(minutes) for probe in self.sweep())


def numbers(probes: Iterable[Probe]) -> list[int]:
    """Return the numbers of the images that were probed."""
    return [int(probe.pair.use.image.rpartition(":")[2]) for probe in probes]


# How few


def test_another_question_counts_as_a_probe() -> None:
    """It takes one of the minute's probes, and none of a registry that had its share or wants to be left alone."""
    calm = Calm(shop=pairs(50, "other.example"))
    assert [True, True, True, False] == [calm.schedule.spend("quay.io", calm.now + MINUTE) for _ in range(4)]
    assert 3 == len(calm.sweep())
    assert not calm.schedule.spend("third.example", calm.now)
    throttled = Calm(answer=Throttled(3600), shop=pairs(1))
    throttled.sweep()
    assert not throttled.schedule.spend("ghcr.io", throttled.now + MINUTE)
    assert throttled.schedule.spend("quay.io", throttled.now + MINUTE)


def test_there_are_a_few_probes_a_minute() -> None:
    """There are no more, however many pairs there are, and however often a sweep comes."""
    calm = Calm(shop=[*pairs(50), *pairs(50, "other.example")])
    assert [6, 0, 6] == [len(calm.sweep(minutes=minutes)) for minutes in (1, 0.5, 0.5)]


def test_a_registry_gets_half_of_them_at_most() -> None:
    """If it is the only registry, the other half is not sent. If there is one probe a minute, it may have that."""
    assert 3 == len(Calm(shop=pairs(50)).sweep())
    calm = Calm(shop=[*pairs(50), *pairs(2, "other.example")])
    assert {"ghcr.io": 3, "other.example": 2} == Counter(probe.pair.host for probe in calm.sweep())
    assert 1 == len(Calm(probes_per_minute=1, shop=pairs(50)).sweep())


def test_with_no_probes_no_registry_is_asked() -> None:
    """Nothing is kept either."""
    calm = Calm(probes_per_minute=0, shop=pairs(5))
    assert ([], []) == (calm.sweep(), list(calm.schedule.waiting))


# Which probe is next


def test_an_answer_is_good_for_an_hour() -> None:
    """Then the pair is probed again, the oldest answer first."""
    calm = Calm(shop=pairs(5))
    assert [[0, 1, 2], [3, 4], []] == [numbers(calm.sweep()) for _ in range(3)]
    assert [] == calm.sweep(minutes=57)
    assert [[0, 1, 2], [3, 4]] == [numbers(calm.sweep()) for _ in range(2)]


@pytest.mark.parametrize("answer", [NotFound(), ODD, Unreachable("it answered 404")])
def test_a_pair_with_a_bad_answer_is_probed_more_often(answer: Availability) -> None:
    """Somebody may have mended the image."""
    calm = Calm(answer=answer, shop=pairs(1))
    assert [1, 0, 1] == [len(calm.sweep(minutes=minutes)) for minutes in (1, 9, 1)]


def test_a_pair_that_was_never_probed_comes_before_old_answers() -> None:
    """A new image has an answer within minutes, however long a lap around the others takes."""
    calm = Calm(shop=pairs(3))
    calm.sweep()
    calm.namespaces["shop"] = list(pairs(5))
    assert [3, 4, 0] == numbers(calm.sweep(minutes=60))


def test_a_pair_that_another_instance_probed_is_probed_again_in_its_turn() -> None:
    """An instance that has just started does not know how old the answer is."""
    calm = Calm(shop=pairs(4))
    calm.written = {("shop", pair.key): ReadinessState.READY for pair in pairs(3)}
    assert [[3, 0, 1], [2]] == [numbers(calm.sweep()) for _ in range(2)]


def test_a_pair_whose_state_could_not_be_written_is_probed_again() -> None:
    """The next sweep finds no state of it in the status."""
    calm = Calm(shop=pairs(1))
    calm.sweep()
    calm.written.clear()
    assert 1 == len(calm.sweep())


def test_another_build_is_probed_at_once() -> None:
    """The equivalent was proven equal to another digest than the one that runs now."""
    calm = Calm(shop=pairs(1, "ghcr.io", DIGEST))
    calm.sweep()
    for digests, expected in (((), 0), ((OTHER,), 1), ((OTHER,), 0)):
        calm.namespaces["shop"] = list(pairs(1, "ghcr.io", *digests))
        assert expected == len(calm.sweep())


def test_namespaces_take_turns() -> None:
    """A namespace with a thousand images has no more probes than one with ten."""
    calm = Calm(large=pairs(1000), small=pairs(10, "other.example"), other=pairs(10, "third.example"))
    assert {"large": 10, "small": 10, "other": 10} == calm.count(5)


def test_namespaces_have_as_many_probes_after_a_while() -> None:
    """That is so whether there are more probes a minute than namespaces, or fewer."""
    for count, minutes, expected in ((4, 2, 3), (12, 10, 5)):
        calm = Calm()
        calm.namespaces = {f"n{number}": list(pairs(99, f"r{number}.example")) for number in range(count)}
        assert {f"n{number}": expected for number in range(count)} == calm.count(minutes)


def test_every_one_of_many_namespaces_has_its_turn() -> None:
    """It has, although no more namespaces are kept than there are probes a minute."""
    calm = Calm()
    calm.namespaces = {f"n{number}": list(pairs(1, f"r{number}.example")) for number in range(60)}
    calm.now += MINUTE
    calm.offer()
    assert 6 == len(calm.schedule.waiting)
    assert {f"n{number}": 1 for number in range(60)} == calm.count(10)


def test_a_namespace_whose_registry_had_its_share_keeps_no_other_waiting() -> None:
    """Six such namespaces make room for a seventh in the next sweep."""
    calm = Calm()
    calm.namespaces = {f"n{number}": list(pairs(9)) for number in range(6)}
    calm.namespaces["last"] = list(pairs(1, "other.example"))
    assert "last" in calm.count(2)


# Which registries get no probes


@pytest.mark.parametrize(
    ("seconds", "minutes"),
    [(3600, 60), (7, 1), (None, 10), (0, 1)],
    ids=["an-hour", "seconds", "without-a-time", "at-once"],
)
def test_a_registry_that_throttles_gets_no_probes(seconds: int | None, minutes: int) -> None:
    """It gets none for as long as it asks for; other registries are probed in the meantime."""
    calm = Calm(answer=Throttled(seconds), shop=pairs(1))
    calm.sweep()
    calm.namespaces |= {"shop": list(pairs(2)), "other": list(pairs(1, "other.example"))}
    assert ["other"] == [probe.namespace for probe in calm.sweep(minutes=minutes - 0.1)]
    assert "shop" in [probe.namespace for probe in calm.sweep(minutes=0.1)]


def test_a_state_is_kept_after_429() -> None:
    """That answer tells nothing of the image."""
    calm = Calm(shop=pairs(1))
    calm.sweep()
    calm.answer = Throttled(7)
    assert 1 == len(calm.sweep(minutes=60))
    assert [ReadinessState.READY] == list(calm.written.values())


def down(calm: Calm, host: str = "ghcr.io") -> dict[str, bool]:
    """Return the news of a registry for another namespace."""
    return calm.schedule.news("another", [host, "unheard.example"], calm.now)


def test_a_registry_is_down_when_two_sweeps_find_it_so() -> None:
    """All of its images are unreachable then, and it is probed only every few minutes."""
    calm = Calm(shop=pairs(9))
    calm.sweep()
    calm.written = {("shop", pair.key): ReadinessState.READY for pair in pairs(9)}
    calm.answer = SILENT
    assert (3, False) == (len(calm.sweep()), calm.schedule.is_down("ghcr.io"))
    assert (3, True) == (len(calm.sweep()), calm.schedule.is_down("ghcr.io"))
    assert {"ghcr.io": True} == down(calm)
    assert {ReadinessState.READY} == set(calm.written.values())
    assert [0, 0, 0, 3] == [len(calm.sweep()) for _ in range(4)]


def test_a_registry_that_answers_again_is_not_down() -> None:
    """One answer is enough, whichever it is."""
    calm = Calm(answer=SILENT, shop=pairs(1))
    calm.sweep()
    calm.sweep()
    calm.answer = NotFound()
    calm.sweep(minutes=5)
    assert (False, {"ghcr.io": False}, {}) == (calm.schedule.is_down("ghcr.io"), down(calm), down(calm))


def test_a_registry_is_not_down_after_one_lost_packet() -> None:
    """After a single miss it is probed again in the next sweep; three misses in one sweep count as one."""
    calm = Calm(answer=SILENT, shop=pairs(3))
    calm.written = {("shop", pair.key): ReadinessState.READY for pair in pairs(3)}
    calm.sweep()
    calm.answer = THERE
    assert (3, False) == (len(calm.sweep()), calm.schedule.is_down("ghcr.io"))
    assert {ReadinessState.READY} == set(calm.written.values())


def test_a_registry_that_was_never_probed_is_not_down() -> None:
    """There is no news of it either."""
    calm = Calm()
    assert (False, {}) == (calm.schedule.is_down("ghcr.io"), down(calm))


def test_a_registry_that_throttles_is_not_down() -> None:
    """It answers, which is news for a namespace once."""
    calm = Calm(answer=Throttled(7), shop=pairs(1))
    calm.sweep()
    assert ({"ghcr.io": False}, {}) == (down(calm), down(calm))


# Manifests that are read


def test_a_manifest_is_not_read_again_while_its_digest_stays() -> None:
    """HEAD is enough then, which is no pull. That holds for a day, and for the same expected digests."""
    schedule, (pair,) = ProbeSchedule(6), pairs(1, "ghcr.io", DIGEST)
    probe = Probe("shop", pair, has_state=False)
    assert schedule.state_when_read(probe, DIGEST) is None
    schedule.manifest_read(probe, DIGEST, ReadinessState.READY, 0)
    assert (ReadinessState.READY, None) == (
        schedule.state_when_read(probe, DIGEST),
        schedule.state_when_read(probe, OTHER),
    )
    (other,) = pairs(1, "ghcr.io", OTHER)
    assert schedule.state_when_read(Probe("shop", other, has_state=False), DIGEST) is None
    assert schedule.state_when_read(Probe("elsewhere", pair, has_state=False), DIGEST) is None
    schedule.take(24 * HOUR)
    assert schedule.state_when_read(probe, DIGEST) is None


def test_docker_hub_counts_what_is_read() -> None:
    """Six reads an hour leave most of its pulls to the nodes. No other registry counts them."""
    schedule = ProbeSchedule(6)
    assert [True] * 6 + [False] == [schedule.may_read("docker.io", second) for second in range(7)]
    assert [False, True, False] == [schedule.may_read("docker.io", HOUR + second) for second in (-1, 0, 0.5)]
    assert all(schedule.may_read("ghcr.io", 0) for _ in range(99))


def test_a_probe_without_an_answer_is_sent_again_later() -> None:
    """It keeps no other probe waiting, of its namespace or of others."""
    calm = Calm(shop=pairs(1))
    calm.now += MINUTE
    calm.offer()
    (probe,) = calm.schedule.take(calm.now)
    assert calm.schedule.record(probe, None, ReadinessState.UNASKED, calm.now) is None
    assert [0, 1] == [len(calm.sweep(minutes=minutes)) for minutes in (9, 1)]
