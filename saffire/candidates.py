"""
Candidates: what to try for a failing reference.

The equivalents of its repository, as sources declare them (`alternates`), become *candidates*: the same tag and digest,
to the letter, in another repository.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from saffire.alternates import Equivalent, Source
from saffire.reference import InvalidReference, Reference, Repository

# An entry that names the repository itself outranks every prefix, however long.
_EXACT = 1024
# As many as one set may name; nobody wants the thirty-third.
_MOST = 32
# Images of a storm's workloads, for a few sources each; a source may be a megabyte.
_KEPT = 128


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
    return _candidates(reference, tuple(sources))


@functools.lru_cache(maxsize=_KEPT)
def _candidates(reference: Reference, sources: tuple[Source, ...]) -> tuple[Candidate, ...]:
    """Return the same, found once for all pods that have the image in common."""
    chosen: dict[Repository, Candidate] = {}
    ordered = sorted(_matches(reference, sources), key=lambda match: -match.rank)
    for candidate in _compose(reference, ordered):
        if candidate.reference.repository != reference.repository:
            chosen.setdefault(candidate.reference.repository, candidate)
        if len(chosen) == _MOST:
            break
    return tuple(chosen.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Match:
    """A set that lists a reference: how specific its best entry is, and what follows that entry."""

    rank: int
    rest: str
    equivalents: tuple[Equivalent, ...]
    source: Source


def _matches(reference: Reference, sources: Iterable[Source]) -> Iterator[_Match]:
    """Yield the sets that list `reference`, each by its most specific entry."""
    for source in sorted(sources, key=lambda source: source.name):
        for equivalents in source.sets:
            ranked = [
                (len(entry.repository.path) if entry.is_prefix else _EXACT, rest)
                for entry in equivalents
                if (rest := entry.below(reference.repository)) is not None
            ]
            if ranked:
                rank, rest = max(ranked)
                yield _Match(rank=rank, rest=rest, equivalents=equivalents, source=source)


def _compose(reference: Reference, matches: Iterable[_Match]) -> Iterator[Candidate]:
    """Yield the candidates of each set, but no text twice, and none that is longer than a reference may be."""
    composed: set[str] = set()
    for match in matches:
        for entry in match.equivalents:
            image = f"{entry.written}{match.rest}{reference.suffix}"
            if image in composed:
                continue
            composed.add(image)
            try:
                yield Candidate(image=image, reference=Reference.parse(image), source=match.source)
            except InvalidReference:
                continue
