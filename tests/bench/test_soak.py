"""The summary of a soak."""

import pytest

from bench.figures.soak import Soak

FLAT = [(float(second), 100.0) for second in range(100)]
GROWN = [(float(second), 100.0 + second) for second in range(100)]


@pytest.mark.parametrize(
    ("expected", "moved", "missed", "memory"),
    [(True, 9, 0, FLAT), (False, 8, 1, FLAT), (False, 8, 0, FLAT), (False, 9, 0, GROWN)],
    ids=["well", "missed", "unfinished", "grown"],
)
def test_a_soak_is_well(*, expected: bool, moved: int, missed: int, memory: list[tuple[float, float]]) -> None:
    """A soak passes if all that failed was moved, and the memory did not grow after the start."""
    soak = Soak(minutes=1, rate=50, created=9, moved=moved, missed=missed, seconds=[0.1], memory=memory)
    assert expected == soak.is_well
    assert f"9 workloads failed, {moved} were moved, {missed} were missed" in list(soak.lines())


def test_memory_that_grows_while_all_is_new_is_no_leak() -> None:
    """The first quarter does not count."""
    warming = [(0.0, 50.0)] * 25 + [(1.0, 100.0)] * 75
    assert 1.0 == Soak(minutes=1, rate=50, memory=warming).growth
