"""Percentiles of a few measurements."""

from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """
    Return the value below which `percent` of the values are, between two of them in proportion.

    >>> percentile([1.0, 2.0, 4.0], 50)
    2.0
    >>> percentile([1.0, 2.0, 4.0], 75)
    3.0
    """
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
