"""Events of a simulated kubelet are counted, combined and limited as by client-go."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from playground.cluster.api import Manifest
from playground.simulated.events import Correlator, Occurrence, rfc3339

NOW = datetime(2026, 11, 23, 0, 41, 11, 250_000, UTC)
POD: Manifest = {"metadata": {"name": "p", "namespace": "shop", "uid": "1-2-3", "resourceVersion": "7"}}
OCCURRENCE = Occurrence("Warning", "Failed", "Error: ErrImagePull", "spec.containers{app}")


def after(seconds: float) -> datetime:
    """Return the time `seconds` after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def about(message: str) -> Occurrence:
    """Return an occurrence with this message."""
    return Occurrence("Warning", "Failed", message, "spec.containers{app}")


def test_a_repeated_occurrence_raises_the_count() -> None:
    """Name and first time stay the same; count and last time grow."""
    correlator = Correlator("node1")
    first, second = correlator.record(POD, OCCURRENCE, NOW), correlator.record(POD, OCCURRENCE, after(12))
    assert first
    assert second
    assert first["metadata"] == second["metadata"]
    assert (1, 2) == (first["count"], second["count"])
    assert ("2026-11-23T00:41:11Z", "2026-11-23T00:41:11Z") == (first["firstTimestamp"], first["lastTimestamp"])
    assert ("2026-11-23T00:41:11Z", "2026-11-23T00:41:23Z") == (second["firstTimestamp"], second["lastTimestamp"])


def test_the_same_message_about_another_container_is_another_event() -> None:
    """Events are counted per container."""
    correlator = Correlator("node1")
    correlator.record(POD, OCCURRENCE, NOW)
    other = correlator.record(
        POD, Occurrence(OCCURRENCE.type, OCCURRENCE.reason, OCCURRENCE.message, "spec.containers{other}"), NOW
    )
    assert other
    assert 1 == other["count"]


def test_names_differ_and_rise_even_at_the_same_time() -> None:
    """The name ends in nanoseconds, which rise with every occurrence."""
    correlator = Correlator("node1")
    events = [correlator.record(POD, about(str(number)), NOW) for number in range(3)]
    stamps = [int(event["metadata"]["name"].removeprefix("p."), 16) for event in events if event]
    assert [1, 1] == [later - earlier for earlier, later in pairwise(stamps)]
    assert int(NOW.timestamp() * 1e6) * 1000 == stamps[0]


def test_a_pod_has_25_events_and_then_one_in_five_minutes() -> None:
    """The limit is per pod, and the count includes the Events that it drops."""
    correlator = Correlator("node1")
    recorded = [correlator.record(POD, OCCURRENCE, after(second)) for second in range(1, 1000)]
    written = [(second, event["count"]) for second, event in enumerate(recorded, 1) if event]
    assert [(second, second) for second in range(1, 26)] == written[:25]
    assert [301, 601, 901] == pytest.approx([second for second, _ in written[25:]], abs=1)
    assert all(second == count for second, count in written)


def test_similar_occurrences_are_combined() -> None:
    """From the tenth message of a type and reason within ten minutes, one Event stands for all further ones."""
    correlator = Correlator("node1")
    events = [event for number in range(12) if (event := correlator.record(POD, about(f"try {number}"), NOW))]
    assert [1] * 10 + [2, 3] == [event["count"] for event in events]
    assert "try 8" == events[8]["message"]
    assert "(combined from similar events): try 11" == events[11]["message"]
    assert 10 == len({event["metadata"]["name"] for event in events})


def test_occurrences_are_combined_only_within_ten_minutes() -> None:
    """After ten minutes without a message, the next message has its own Event."""
    correlator = Correlator("node1")
    for number in range(9):
        correlator.record(POD, about(f"try {number}"), NOW)
    event = correlator.record(POD, about("try 9"), after(601))
    assert event
    assert "try 9" == event["message"]


def test_times_are_written_to_the_second() -> None:
    """Kubernetes writes no fractions of a second."""
    assert "2026-11-23T00:41:11Z" == rfc3339(NOW)
