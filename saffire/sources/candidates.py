"""
Candidates: the references to try instead of a failing one, and the sources that offer them.

Sources declare equivalent repositories (`spec`). A *candidate* is the failing reference in one of these repositories,
with the same tag and digest, to the letter. A namespace's own sources come before the cluster-wide ones. If one of its
own sources lists a repository, no cluster-wide source counts for that repository: if the namespace's owner paused the
source, or lets it only observe, no other source acts.
"""

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from saffire.kube.manifest import Manifest, mapping
from saffire.registry.reference import Reference, Repository
from saffire.sources.spec import MOST_ALTERNATIVES, InvalidSource, Source, parse_source

# What sources offer for a reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A reference to try instead, `image` as a patch writes it, and the source that declares it."""

    image: str
    reference: Reference
    source: Source


def candidates(reference: Reference, sources: Iterable[Source]) -> tuple[Candidate, ...]:
    """
    Return at most 32 candidates for `reference`, best first; none is in its own repository.

    A set that lists the repository itself beats a set that lists a prefix of it. A longer prefix beats a shorter one.
    Among equals, the source that is first in the alphabet wins. Within a set the user's order decides.
    """
    by_name = sorted(sources, key=lambda source: source.name)
    offers = (zip(source.alternatives(reference), itertools.repeat(source)) for source in by_name)
    chosen: dict[Repository, Candidate] = {}
    for alternative, source in heapq.merge(*offers, key=lambda offer: -offer[0].rank):
        repository = alternative.reference.repository
        if repository not in chosen:
            chosen[repository] = Candidate(image=alternative.image, reference=alternative.reference, source=source)
        if len(chosen) == MOST_ALTERNATIVES:
            break
    return tuple(chosen.values())


# Which sources count

StoredSource = tuple[Manifest, Source | None]
"""A source's manifest and the parsed source; `None` if the source cannot be used."""


def parse_if_valid(source: Manifest) -> Source | None:
    """Return the parsed source; `None` if it cannot be used, which its status explains."""
    try:
        return parse_source(source)
    except InvalidSource:
        return None


def parse_valid(sources: Iterable[Manifest]) -> tuple[Source, ...]:
    """Return the sources that can be used, parsed."""
    return tuple(filter(None, map(parse_if_valid, sources)))


def selecting(sources: Iterable[StoredSource], namespace: Manifest) -> tuple[Manifest, ...]:
    """Return the cluster-wide sources whose selector matches a namespace."""
    labels = labels_of(namespace)
    return tuple(manifest for manifest, source in sources if source and selects(source, labels))


def labels_of(namespace: Manifest) -> Manifest:
    """Return the labels of a namespace."""
    return mapping(namespace, "metadata", "labels")


def selects(source: Source, labels: Manifest) -> bool:
    """Tell whether a source is a cluster-wide one whose selector matches these labels of a namespace."""
    return source.selector is not None and source.selector.matches(labels)


def applicable(reference: Reference, sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the sources that count for `reference`: the namespace's own alone if these list it, else all."""
    all_sources = tuple(sources)
    own = tuple(source for source in all_sources if source.selector is None)
    return own if len(own) == len(all_sources) or candidates(reference, own) else all_sources
