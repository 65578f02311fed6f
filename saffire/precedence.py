"""
Precedence: which sources count, for a namespace and for an image.

The cluster-wide ones stand behind a namespace's own. If one of its own lists a repository, no other has a say in it:
what the namespace's owner does not want done, because the source is paused or only observes, nobody else has done.
"""

from collections.abc import Iterable

from saffire.alternates import InvalidSource, Source, parse_source
from saffire.candidates import candidates
from saffire.manifest import Manifest, mapping
from saffire.reference import Reference

Known = tuple[Manifest, Source | None]
"""A source as it is stored, and what it says; `None` where it cannot be used."""


def parsed(source: Manifest) -> Source | None:
    """Return what a source says; `None` where it cannot be used, as its status tells."""
    try:
        return parse_source(source)
    except InvalidSource:
        return None


def usable(sources: Iterable[Manifest]) -> tuple[Source, ...]:
    """Return the sources that can be used."""
    return tuple(filter(None, map(parsed, sources)))


def reaching(sources: Iterable[Known], namespace: Manifest) -> tuple[Manifest, ...]:
    """Return the cluster-wide sources whose selector takes a namespace."""
    labels = labels_of(namespace)
    return tuple(manifest for manifest, source in sources if source and takes(source, labels))


def labels_of(namespace: Manifest) -> Manifest:
    """Return the labels of a namespace."""
    return mapping(namespace, "metadata", "labels")


def takes(source: Source, labels: Manifest) -> bool:
    """Tell whether a source is a cluster-wide one that selects namespaces with such labels."""
    return source.selector is not None and source.selector.takes(labels)


def speaking(reference: Reference, sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return the sources that count for `reference`."""
    everyone = tuple(sources)
    own = tuple(source for source in everyone if source.selector is None)
    return own if len(own) == len(everyone) or candidates(reference, own) else everyone
