"""
What an AlternateImageSource says: which repositories are equivalent, and how Saffire may use that.

A *source* is an AlternateImageSource, which applies to its own namespace, or a cluster-wide one, a
ClusterAlternateImageSource, which applies to every namespace that its selector matches, and only to repositories that
no source of the namespace itself lists. Its *sets* each list *equivalent repositories*, in order of preference; an
entry that ends in `/*` stands for every repository below it. Two sources of the two kinds may have one name, so records
name the kind of a cluster-wide one as well.

`spec.failBack.after` is how long an original must have been healthy before workloads return to it. It is written as
Kubernetes writes durations, in hours, minutes and seconds: `30m`, `1h30m`, `90s`. The annotation
`saffire.fairwinds.com/ignore` on a workload, pod or namespace keeps Saffire away.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from saffire.kube.manifest import InvalidManifest, Manifest, annotation, items, mapping, name_of, strings, text
from saffire.kube.selector import InvalidSelector, Selector, parse_selector
from saffire.registry.reference import InvalidReference, Reference, Repository, parse_repository

API_VERSION = "saffire.fairwinds.com/v1alpha1"
NAMESPACED = "AlternateImageSource"
CLUSTER_WIDE = "ClusterAlternateImageSource"


def is_cluster_wide(source: Manifest) -> bool:
    """Tell which of the two kinds a source is of."""
    return text(source, "kind") == CLUSTER_WIDE


def record_name(source: Manifest) -> str:
    """
    Return what records call a source: no two that speak for one namespace are called alike.

    >>> record_name({"kind": "AlternateImageSource", "metadata": {"name": "shop"}})
    'shop'
    >>> record_name({"kind": "ClusterAlternateImageSource", "metadata": {"name": "shop"}})
    'ClusterAlternateImageSource/shop'
    """
    return f"{CLUSTER_WIDE}/{name_of(source)}" if is_cluster_wide(source) else name_of(source)


def display_name(called_so: str) -> str:
    """
    Return kind and name of a source, by what records call it.

    >>> display_name("shop"), display_name("ClusterAlternateImageSource/shop")
    ('AlternateImageSource/shop', 'ClusterAlternateImageSource/shop')
    """
    return called_so if "/" in called_so else f"{NAMESPACED}/{called_so}"


def log_name(source: Manifest) -> str:
    """Return namespace and name of a source, or kind and name of a cluster-wide one: what logs call it."""
    return (
        record_name(source) if is_cluster_wide(source) else f"{text(source, 'metadata', 'namespace')}/{name_of(source)}"
    )


_DEFAULT_AFTER = "30m"
_LENGTH = re.compile(r"(?:(?P<h>[0-9]{1,15})h)?(?:(?P<m>[0-9]{1,15})m)?(?:(?P<s>[0-9]{1,15})s)?")
_UNIT_SECONDS = {"h": 3600, "m": 60, "s": 1}
# Ten years are as good as never, and no sum with a time overflows.
_LONGEST_SECONDS = 10 * 365 * 24 * 3600


def parse_fail_back_after(source: Manifest, faults: list[str]) -> timedelta | None:
    """Return the time of a source that wants workloads to return, `None` where they never do; note what is wrong."""
    wish = mapping(source, "spec", "failBack")
    policy = text(wish, "policy") or "Never"
    if policy not in {"Never", "Automatic"}:
        faults.append("spec.failBack.policy: wants one of Never, Automatic")
    if policy != "Automatic":
        return None
    match = _LENGTH.fullmatch(text(wish, "after") or _DEFAULT_AFTER)
    seconds = sum(int(match[unit] or 0) * size for unit, size in _UNIT_SECONDS.items()) if match else 0
    if not seconds:
        faults.append("spec.failBack.after: wants a length of time such as 90s, 30m or 1h30m")
    return timedelta(seconds=min(seconds, _LONGEST_SECONDS))


IGNORE = "saffire.fairwinds.com/ignore"


def opted_out(manifest: Manifest) -> bool:
    """Tell whether the object carries the annotation that keeps Saffire away."""
    return annotation(manifest, IGNORE) == "true"


_WILDCARD = "/*"
_MAX_SETS = 64
_MAX_ENTRIES = 32
# An entry that names the repository itself outranks every prefix, however long.
_EXACT = 1024
# As many as one set may name; nobody wants the thirty-third.
MOST_ALTERNATIVES = 32
# References that a source keeps its alternatives of: those of the workloads that are at work at once.
_KEPT = 32


class Mode(StrEnum):
    """What a source allows: `spec.mode`."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"
    PAUSED = "Paused"


class Strategy(StrEnum):
    """What is patched: `spec.strategy`."""

    CONTROLLER = "Controller"
    PODS = "Pods"


class Verification(StrEnum):
    """How much proof a candidate needs: `spec.verification`."""

    STRICT = "Strict"
    BEST_EFFORT = "BestEffort"
    OFF = "Off"


class InvalidSource(ValueError):
    """An AlternateImageSource cannot be used; `faults` names everything that is wrong with it."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, kw_only=True, slots=True)
class Equivalent:
    """
    One equivalent repository, or a prefix of repositories.

    `written` is the user's own spelling, which is what a failover writes; `repository` is the normalised form that is
    compared. Of a prefix, both stand without `/*`, and the path may be empty: a whole registry.
    """

    written: str
    repository: Repository
    is_prefix: bool

    def below(self, repository: Repository) -> str | None:
        """Return what follows this entry in `repository`: `""` for the entry itself, `None` where it does not match."""
        if repository.domain != self.repository.domain:
            return None
        if not self.is_prefix:
            return "" if repository.path == self.repository.path else None
        if not self.repository.path:
            return f"/{repository.path}"
        rest = repository.path.removeprefix(self.repository.path)
        return rest if rest != repository.path and rest.startswith("/") else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """
    A reference in an equivalent repository, and how it is written.

    `rank` is higher the more specific the entry is by which a set lists the original.
    """

    rank: int
    image: str
    reference: Reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """
    An AlternateImageSource that can be used; `sets` keeps the user's order.

    `credentials` names the pull secrets with which registries may be asked, by registry or a part of one. `name` is
    what records call it, and `selector` takes the namespaces that a cluster-wide one speaks for; `returns_after` is
    how long an original must have been healthy for workloads to return, if they do.
    """

    name: str
    mode: Mode
    strategy: Strategy
    verification: Verification
    sets: tuple[tuple[Equivalent, ...], ...]
    allow_different_digest: bool = False
    credentials: tuple[tuple[str, str], ...] = ()
    fail_back_after: timedelta | None = None
    selector: Selector | None = None

    _found: dict[Reference, tuple[Alternative, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def alternatives(self, reference: Reference) -> tuple[Alternative, ...]:
        """
        Return the first 32 of `reference`, those of the most specific sets first; none in its own repository.

        They are found once for all pods that have an image in common, since a source may list thousands of entries.
        """
        if reference not in self._found:
            if len(self._found) == _KEPT:
                self._found.clear()
            self._found[reference] = tuple(itertools.islice(_compose(reference, self.sets), MOST_ALTERNATIVES))
        return self._found[reference]


def parse_source(manifest: Manifest) -> Source:
    """Read an AlternateImageSource; raise `InvalidSource` with every fault, since validation may have been older."""
    faults: list[str] = []
    try:
        sets, is_wide = tuple(_sets(manifest, faults)), is_cluster_wide(manifest)
        source = Source(
            name=record_name(manifest),
            mode=Mode(_choice(manifest, "mode", Mode.ENFORCE, faults)),
            strategy=Strategy(_choice(manifest, "strategy", Strategy.CONTROLLER, faults)),
            verification=Verification(_choice(manifest, "verification", Verification.BEST_EFFORT, faults)),
            sets=sets,
            allow_different_digest=mapping(manifest, "spec").get("allowDifferentDigest") is True,
            credentials=()
            if is_wide
            else tuple(
                (text(entry, "registry"), text(entry, "secretName")) for entry in items(manifest, "spec", "credentials")
            ),
            fail_back_after=parse_fail_back_after(manifest, faults),
            selector=parse_selector(manifest, "spec", "namespaceSelector") if is_wide else None,
        )
    except InvalidSelector as error:
        raise InvalidSource([*faults, *error.faults]) from error
    except InvalidManifest as error:
        raise InvalidSource([*faults, str(error)]) from error
    if faults:
        raise InvalidSource(faults)
    return source


def _choice(manifest: Manifest, field: str, default: StrEnum, faults: list[str]) -> str:
    """Return the value of an enumerated field of the spec, or its default; note an unknown one in `faults`."""
    value = text(manifest, "spec", field) or default
    known = list(type(default))
    if value not in known:
        faults.append(f"spec.{field}: wants one of {', '.join(known)}")
        return default
    return value


def _sets(manifest: Manifest, faults: list[str]) -> Iterator[tuple[Equivalent, ...]]:
    """Yield the sets of equivalent repositories; note what is wrong with them in `faults`."""
    replacements = items(manifest, "spec", "imageSourceReplacements")
    if not 1 <= len(replacements) <= _MAX_SETS:
        faults.append(f"spec.imageSourceReplacements: wants 1 to {_MAX_SETS} entries")
    for index, replacement in enumerate(replacements[:_MAX_SETS]):
        path = f"spec.imageSourceReplacements[{index}].equivalentRepositories"
        written = strings(replacement, "equivalentRepositories")
        entries = tuple(_entries(written[:_MAX_ENTRIES], path, faults))
        if not 2 <= len(written) <= _MAX_ENTRIES:  # noqa: PLR2004 - an equivalence needs two
            faults.append(f"{path}: wants 2 to {_MAX_ENTRIES} entries")
        if len({entry.repository for entry in entries}) < len(entries):
            faults.append(f"{path}: names a repository twice")
        if len({entry.is_prefix for entry in entries}) > 1:
            faults.append(f"{path}: either all entries end in /* or none")
        yield entries


def _entries(written: Iterable[str], path: str, faults: list[str]) -> Iterator[Equivalent]:
    """Yield the entries of one set; note the ones that name no repository in `faults`."""
    for index, entry in enumerate(written):
        try:
            yield _parse_entry(entry)
        except InvalidReference as error:
            faults.append(f"{path}[{index}]: {error}")


def _parse_entry(written: str) -> Equivalent:
    """Read `quay.io/acme/web`, `quay.io/acme/*` or `quay.io/*`."""
    if not written.endswith(_WILDCARD):
        return Equivalent(written=written, repository=parse_repository(written), is_prefix=False)
    stem = written.removesuffix(_WILDCARD)
    # Two segments more make a repository of a bare domain too, and keep Docker Hub's `library/` out.
    below = parse_repository(f"{stem}/a/a")
    path = below.path.removesuffix("a/a").removesuffix("/")
    return Equivalent(written=stem, repository=Repository(domain=below.domain, path=path), is_prefix=True)


def _compose(reference: Reference, sets: Iterable[tuple[Equivalent, ...]]) -> Iterator[Alternative]:
    """Yield the alternatives of each set, but no repository twice, and none that is longer than a reference may be."""
    composed, repositories = set(), {reference.repository}
    for rank, rest, entries in _listing(reference.repository, sets):
        for entry in entries:
            image = f"{entry.written}{rest}{reference.suffix}"
            if image in composed:
                continue
            composed.add(image)
            try:
                found = Reference.parse(image)
            except InvalidReference:
                continue
            if found.repository not in repositories:
                repositories.add(found.repository)
                yield Alternative(rank=rank, image=image, reference=found)


def _listing(
    repository: Repository, sets: Iterable[tuple[Equivalent, ...]]
) -> list[tuple[int, str, tuple[Equivalent, ...]]]:
    """Return the sets that list `repository`, each with the rank of its most specific entry and what follows that."""
    found = []
    for entries in sets:
        ranked = [
            (len(entry.repository.path) if entry.is_prefix else _EXACT, rest)
            for entry in entries
            if (rest := entry.below(repository)) is not None
        ]
        if ranked:
            found.append((*max(ranked), entries))
    return sorted(found, key=lambda one: -one[0])
