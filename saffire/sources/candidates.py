"""
Candidates: the image references to try instead of a failing one, and the sources that offer them.

A source is an AlternateImageSource or a ClusterAlternateImageSource, which is *cluster-wide*. Sources declare which
repositories are equivalent (`spec`). A *candidate* is the failing reference in an equivalent repository, with exactly
the same tag and digest.

If a source of the namespace itself lists the failing repository, Saffire ignores the cluster-wide sources for that
repository. So the namespace's owner has the last word: if the owner pauses that source (`mode: Paused`), or lets the
source only observe (`mode: Observe`), no cluster-wide source moves the workload.
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
    """
    A reference to try instead of a failing one, and the source that declares its repository.

    `image` is the reference as a patch writes it into the image field, with the user's own spelling of the repository.
    """

    image: str
    reference: Reference
    source: Source


def candidates(reference: Reference, sources: Iterable[Source]) -> tuple[Candidate, ...]:
    """
    Return at most 32 candidates for `reference`, the best first; no candidate is in the repository of `reference`.

    A set of equivalent repositories that lists the repository itself comes before a set that lists a prefix of the
    repository. A longer prefix comes before a shorter one. Among equals, the source whose name is first in the alphabet
    comes first. Within a set, the candidates are in the user's order.
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
"""A source's manifest and the parsed source; the parsed source is `None` if Saffire cannot use the source."""


def parse_if_valid(source: Manifest) -> Source | None:
    """Return the parsed source; `None` if Saffire cannot use the source. Then the source's status says why."""
    try:
        return parse_source(source)
    except InvalidSource:
        return None


def parse_valid(sources: Iterable[Manifest]) -> tuple[Source, ...]:
    """Parse the sources, and leave out those that Saffire cannot use."""
    return tuple(filter(None, map(parse_if_valid, sources)))


def selecting(sources: Iterable[StoredSource], namespace: Manifest) -> tuple[Manifest, ...]:
    """Return the manifests of the cluster-wide sources that can be used and whose selector matches `namespace`."""
    labels = labels_of(namespace)
    return tuple(manifest for manifest, source in sources if source and selects(source, labels))


def labels_of(namespace: Manifest) -> Manifest:
    """Return the labels of a namespace."""
    return mapping(namespace, "metadata", "labels")


def selects(source: Source, labels: Manifest) -> bool:
    """Tell whether a source is cluster-wide and its selector matches `labels`, the labels of a namespace."""
    return source.selector is not None and source.selector.matches(labels)


def applicable(reference: Reference, sources: Iterable[Source]) -> tuple[Source, ...]:
    """
    Return the sources that Saffire considers for `reference`, of all that apply to a namespace.

    If the namespace's own sources have a candidate for `reference`, only these sources are returned, else all.
    """
    all_sources = tuple(sources)
    own = tuple(source for source in all_sources if source.selector is None)
    return own if len(own) == len(all_sources) or candidates(reference, own) else all_sources
