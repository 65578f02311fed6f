"""
Proposes sources for the images in use in a namespace: which sets of equivalent repositories they need.

Of all equivalences, a proposal has only those that list an image in use. If a path is the repository of an image, its
set names the repositories themselves. If an image is below a path, the set has prefixes, which end in `/*`. Whether a
set is valid, and which repositories it lists, `saffire.sources.spec` says, as for a source of the cluster.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kubectl_saffire.mappings import Equivalence, InvalidMapping, is_registry
from saffire.registry.reference import Reference, account_of
from saffire.sources.spec import API_VERSION, NAMESPACED, faults_of, places_of, source_of

# The limits of a source, as `saffire.sources.spec` and its CRD have them.
_MAX_SETS = 64
_MAX_ENTRIES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """
    Sources for a namespace.

    Args:
        sources: the manifests of AlternateImageSources, all of them valid; none if no equivalence lists any image.
        cut: the sets that have lost equivalents, since a set may have 32 only; each is named by its first entry.
        unmapped: the repositories that no equivalence lists, by the part of a registry that they are in.
        unreadable: the images that are no references, so that no container runtime pulls them.

    """

    sources: tuple[dict[str, Any], ...]
    cut: tuple[str, ...]
    unmapped: Mapping[str, tuple[str, ...]]
    unreadable: tuple[str, ...]


def propose(images: Iterable[str], equivalences: Iterable[Equivalence], *, namespace: str, name: str) -> Proposal:
    """
    Return the sources that the images of a namespace need.

    A source may have 64 sets. If the images need more, the sources after the first have a number behind their `name`.
    """
    sets = [entries for equivalence in equivalences for entries in _sets_of(equivalence)]
    indexes: dict[str, list[int]] = {}
    for index, entries in enumerate(sets):
        if source := source_of(_manifest([entries], namespace, name)):
            for entry in source.sets[0]:
                indexes.setdefault(entry.key, []).append(index)
    needed: set[int] = set()
    unmapped: dict[str, set[str]] = {}
    unreadable = []
    for image in sorted(set(images)):
        reference = Reference.parse_if_valid(image)
        if reference is None:
            unreadable.append(image)
            continue
        listing = [index for key, _ in places_of(reference.repository) for index in indexes.get(key, ())]
        needed.update(listing)
        if not listing:
            unmapped.setdefault(account_of(image), set()).add(str(reference.repository))
    chosen = [sets[index] for index in sorted(needed)]
    parts = [chosen[start : start + _MAX_SETS] for start in range(0, len(chosen), _MAX_SETS)]
    sources = [
        _manifest(part, namespace, f"{name}-{number}" if number > 1 else name) for number, part in enumerate(parts, 1)
    ]
    # `source_of` has read each set; together they are read once more, as they are written.
    if faults := [fault for source in sources for fault in faults_of(source)]:
        raise InvalidMapping("; ".join(faults))
    return Proposal(
        sources=tuple(sources),
        cut=tuple(entries[0] for entries in chosen if len(entries) > _MAX_ENTRIES),
        unmapped={account: tuple(sorted(repositories)) for account, repositories in sorted(unmapped.items())},
        unreadable=tuple(unreadable),
    )


def as_yaml(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Return manifests as the documents of one file in YAML, in printable ASCII."""
    return yaml.safe_dump_all(manifests, sort_keys=False, width=1000)


def _sets_of(equivalence: Equivalence) -> Iterator[tuple[str, ...]]:
    """Yield the sets that an equivalence means: of the paths as repositories, then of all that is below them."""
    if not any(map(is_registry, equivalence.paths)):
        yield equivalence.paths
    yield tuple(f"{path}/*" for path in equivalence.paths)


def _manifest(sets: Iterable[tuple[str, ...]], namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": NAMESPACED,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "imageSourceReplacements": [{"equivalentRepositories": [*entries[:_MAX_ENTRIES]]} for entries in sets]
        },
    }
