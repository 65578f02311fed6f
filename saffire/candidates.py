"""
Candidates: what to try for a failing reference.

The equivalents of its repository, as sources declare them (`alternates`), become *candidates*: the same tag and digest,
to the letter, in another repository.
"""

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from saffire.alternates import MOST_ALTERNATIVES, Source
from saffire.reference import Reference, Repository


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A reference to try instead, as it will be written, and the source that declares it."""

    image: str
    reference: Reference
    source: Source


def candidates(reference: Reference, sources: Iterable[Source]) -> tuple[Candidate, ...]:
    """
    Return what to try instead of `reference`, best first, without its own repository; at most 32.

    A set whose entry names the repository itself beats one with a prefix, a longer prefix a shorter one, and a source
    earlier in the alphabet a later one; within a set the user's order decides.
    """
    by_name = sorted(sources, key=lambda source: source.name)
    found = (zip(source.alternatives(reference), itertools.repeat(source)) for source in by_name)
    chosen: dict[Repository, Candidate] = {}
    for one, source in heapq.merge(*found, key=lambda pair: -pair[0].rank):
        if one.reference.repository not in chosen:
            candidate = Candidate(image=one.image, reference=one.reference, source=source)
            chosen[one.reference.repository] = candidate
        if len(chosen) == MOST_ALTERNATIVES:
            break
    return tuple(chosen.values())
