"""
Candidates: which references to try instead of one that fails, and which sources have a say in that.

Sources declare equivalent repositories (`spec`). A *candidate* is the same tag and digest, to the letter, in one of
them. Cluster-wide sources come after a namespace's own. If one of its own lists a repository, no cluster-wide source
has a say in it: if the namespace's owner paused the source, or only observes, nobody else acts.
"""

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from saffire.kube.manifest import Manifest, mapping
from saffire.registry.reference import Reference, Repository
from saffire.sources.spec import MOST_ALTERNATIVES, InvalidSource, Source, parse_source


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


StoredSource = tuple[Manifest, Source | None]
"""A source as it is stored, and what it says; `None` where it cannot be used."""


def parse_if_valid(source: Manifest) -> Source | None:
    """Return what a source says; `None` where it cannot be used, as its status tells."""
    try:
        return parse_source(source)
    except InvalidSource:
        return None


def parse_valid(sources: Iterable[Manifest]) -> tuple[Source, ...]:
    """Return the sources that can be used."""
    return tuple(filter(None, map(parse_if_valid, sources)))


def selecting(sources: Iterable[StoredSource], namespace: Manifest) -> tuple[Manifest, ...]:
    """Return the cluster-wide sources whose selector takes a namespace."""
    labels = labels_of(namespace)
    return tuple(manifest for manifest, source in sources if source and selects(source, labels))


def labels_of(namespace: Manifest) -> Manifest:
    """Return the labels of a namespace."""
    return mapping(namespace, "metadata", "labels")


def selects(source: Source, labels: Manifest) -> bool:
    """Tell whether a source is a cluster-wide one that selects namespaces with such labels."""
    return source.selector is not None and source.selector.matches(labels)


def applicable(reference: Reference, sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the sources that count for `reference`."""
    everyone = tuple(sources)
    own = tuple(source for source in everyone if source.selector is None)
    return own if len(own) == len(everyone) or candidates(reference, own) else everyone
