"""
Candidates: the image references to try instead of a failing one, and the sources that offer them.

A source is an AlternateImageSource or a ClusterAlternateImageSource, which is *cluster-wide*. Sources declare which
repositories are equivalent (`spec`). A *candidate* is the failing reference in an equivalent repository, with exactly
the same tag and digest.

If a source of the namespace itself lists the failing repository, Saffire ignores the cluster-wide sources for that
repository. So the namespace's owner has the last word: if the owner pauses that source (`mode: Paused`), or lets the
source only observe (`mode: Observe`), no cluster-wide source moves the workload.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from saffire.kube.manifest import Manifest, mapping
from saffire.registry.credentials import closest
from saffire.registry.reference import MAX_PATH, Reference
from saffire.sources.spec import Equivalent, Source, places_of, source_of

# What sources offer for a reference

# As many candidates as one set may name. Nobody needs the thirty-third.
_MOST = 32
# So many entries are looked at for them. If 32 sources list the same 31 equivalents, all are.
_MOST_ENTRIES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """
    A reference to try instead of a failing one, and the source that declares its repository.

    `image` is the reference as a patch writes it into the image field, with the user's own spelling of the repository.
    """

    image: str
    reference: Reference
    source: Source

    @property
    def source_secret(self) -> str:
        """The pull secret that the source names for the repository of the candidate; `""` if it names none."""
        secrets = dict(self.source.credentials)
        location = closest(secrets, self.reference.repository)
        return secrets[location] if location else ""


def candidates(reference: Reference, sources: Iterable[Source]) -> tuple[Candidate, ...]:
    """
    Return at most 32 candidates for `reference`, the best first; no candidate is in the repository of `reference`.

    A set of equivalent repositories that lists the repository itself comes before a set that lists a prefix of the
    repository. A longer prefix comes before a shorter one. Among equals, the source whose name is first in the alphabet
    comes first. Within a set, the candidates are in the user's order. A candidate that would be longer than a reference
    may be is left out.
    """
    return tuple(itertools.islice(_candidates(reference, sources), _MOST))


def first_candidate(reference: Reference, sources: Iterable[Source]) -> Candidate | None:
    """Return the best candidate for `reference`, without a look at the others; `None` if there is none."""
    return next(_candidates(reference, sources), None)


def _candidates(reference: Reference, sources: Iterable[Source]) -> Iterator[Candidate]:
    """Yield the candidates for `reference`, the best first, from the first 1024 entries beside it."""
    suffix, repositories = reference.suffix, {str(reference.repository)}
    for rest, entry, source in itertools.islice(_entries(reference, sources), _MOST_ENTRIES):
        repository = entry.repository(rest)
        if repository in repositories or len(repository.partition("/")[2]) > MAX_PATH:
            continue
        repositories.add(repository)
        image = entry.image(rest, suffix)
        if parsed := Reference.parse_if_valid(image):
            yield Candidate(image=image, reference=parsed, source=source)


def _entries(reference: Reference, sources: Iterable[Source]) -> Iterator[tuple[str, Equivalent, Source]]:
    """Yield the entries of all sets that list a repository, the best first, and the path of the image below each."""
    by_name = sorted(sources, key=lambda source: source.name)
    # By source: its sets that were yielded for a more specific place of the repository.
    yielded: list[set[int]] = [set() for _ in by_name]
    for key, rest in places_of(reference.repository):
        for source, before in zip(by_name, yielded, strict=True):
            for index in source.sets_listing(key):
                if index not in before:
                    before.add(index)
                    for entry in source.sets[index]:
                        yield rest, entry, source


# Which sources count


def parse_valid(sources: Iterable[Manifest]) -> tuple[Source, ...]:
    """Return what the manifests declare, without the sources that Saffire cannot use."""
    return tuple(filter(None, map(source_of, sources)))


def labels_of(namespace: Manifest) -> Manifest:
    """Return the labels of a namespace."""
    return mapping(namespace, "metadata", "labels")


def selects(manifest: Manifest, labels: Manifest) -> bool:
    """
    Tell whether a source is cluster-wide and its selector matches `labels`, the labels of a namespace.

    A source that Saffire cannot use selects no namespace.
    """
    source = source_of(manifest)
    return source is not None and source.selector is not None and source.selector.matches(labels)


def applicable(reference: Reference, sources: Iterable[Source]) -> tuple[Source, ...]:
    """
    Return the sources that Saffire considers for `reference`, of all that apply to a namespace.

    If the namespace's own sources have a candidate for `reference`, only these sources are returned, else all.
    """
    all_sources = tuple(sources)
    own = tuple(source for source in all_sources if source.selector is None)
    return own if len(own) == len(all_sources) or first_candidate(reference, own) else all_sources
