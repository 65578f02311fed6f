"""
What an AlternateImageSource says: which repositories are equivalent, and how Saffire may use that.

A *source* is of one of two kinds. An AlternateImageSource applies to its own namespace. A ClusterAlternateImageSource,
a *cluster-wide* source, applies to every namespace that its selector matches, and only to repositories that no source
of the namespace itself lists. Two sources of the two kinds may have one name, so records name the kind of a
cluster-wide one as well.

The *sets* of a source each list *equivalent repositories*, in order of preference. An entry that ends in `/*` stands
for every repository below it.

`spec.failBack.after` is how long an original must have been healthy before workloads return to it. It is written as
Kubernetes writes durations, in hours, minutes and seconds: `30m`, `1h30m`, `90s`.

If a workload, pod or namespace has the annotation `saffire.fairwinds.com/ignore: "true"`, Saffire leaves it alone.
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

# Kinds, names and the opt-out

API_VERSION = "saffire.fairwinds.com/v1alpha1"
NAMESPACED = "AlternateImageSource"
CLUSTER_WIDE = "ClusterAlternateImageSource"
IGNORE = "saffire.fairwinds.com/ignore"


def is_cluster_wide(source: Manifest) -> bool:
    """Tell whether a source is a ClusterAlternateImageSource."""
    return text(source, "kind") == CLUSTER_WIDE


def record_name(source: Manifest) -> str:
    """
    Return the name of a source in records; all sources that apply to one namespace have different ones.

    >>> record_name({"kind": "AlternateImageSource", "metadata": {"name": "shop"}})
    'shop'
    >>> record_name({"kind": "ClusterAlternateImageSource", "metadata": {"name": "shop"}})
    'ClusterAlternateImageSource/shop'
    """
    return f"{CLUSTER_WIDE}/{name_of(source)}" if is_cluster_wide(source) else name_of(source)


def display_name(name: str) -> str:
    """
    Return kind and name of a source, by its name in records.

    >>> display_name("shop"), display_name("ClusterAlternateImageSource/shop")
    ('AlternateImageSource/shop', 'ClusterAlternateImageSource/shop')
    """
    return name if "/" in name else f"{NAMESPACED}/{name}"


def log_name(source: Manifest) -> str:
    """Return the name of a source in logs: namespace and name, or kind and name of a cluster-wide one."""
    return (
        record_name(source) if is_cluster_wide(source) else f"{text(source, 'metadata', 'namespace')}/{name_of(source)}"
    )


def opted_out(manifest: Manifest) -> bool:
    """Tell whether an object has the annotation by which Saffire leaves it alone."""
    return annotation(manifest, IGNORE) == "true"


# A source that can be used

# As many alternatives of a reference as one set may name; nobody needs the thirty-third.
MOST_ALTERNATIVES = 32
# A source keeps the alternatives of so many references: those of the workloads that are repaired at once.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Equivalent:
    """
    One equivalent repository, or a prefix of repositories.

    `written` is the user's own spelling, which a failover writes. `repository` is the normalised form, which is
    compared. For a prefix both are without `/*`; if the path is empty, the prefix is a whole registry.
    """

    written: str
    repository: Repository
    is_prefix: bool

    def subpath(self, repository: Repository) -> str | None:
        """Return the rest of `repository` after this entry: `""` for the entry itself, `None` without a match."""
        if repository.domain != self.repository.domain:
            return None
        if not self.is_prefix:
            return "" if repository.path == self.repository.path else None
        if not self.repository.path:
            return f"/{repository.path}"
        subpath = repository.path.removeprefix(self.repository.path)
        return subpath if subpath != repository.path and subpath.startswith("/") else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """
    A reference in an equivalent repository, with `image` as a failover writes it.

    `rank` says how specific the entry is by which its set lists the original: a higher rank is more specific.
    """

    rank: int
    image: str
    reference: Reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """
    A source of either kind that can be used; `sets` keeps the user's order.

    `name` is the source's name in records. `credentials` are pairs of a registry, or a part of one, and the name of the
    pull secret with which Saffire may ask it. `fail_back_after` is how long an original must have been healthy before
    workloads return; `None` if they never do. `selector` matches the namespaces to which a cluster-wide source applies;
    `None` in a namespace's own source.
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

    _composed: dict[Reference, tuple[Alternative, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def alternatives(self, reference: Reference) -> tuple[Alternative, ...]:
        """
        Return the first 32 alternatives of `reference`, by rank, highest first; none is in its own repository.

        They are composed once for all pods that have an image in common, since a source may list thousands of entries.
        """
        if reference not in self._composed:
            if len(self._composed) == _KEPT:
                self._composed.clear()
            self._composed[reference] = tuple(itertools.islice(_compose(reference, self.sets), MOST_ALTERNATIVES))
        return self._composed[reference]


# Parsing


class InvalidSource(ValueError):
    """A source cannot be used; `faults` has one text for each fault, with the path of its field."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


def parse_source(manifest: Manifest) -> Source:
    """
    Read a source of either kind; raise `InvalidSource` with every fault.

    A source that is stored may have faults: the schema that let it pass may have been older than this one.
    """
    faults: list[str] = []
    try:
        sets, cluster_wide = tuple(_sets(manifest, faults)), is_cluster_wide(manifest)
        source = Source(
            name=record_name(manifest),
            mode=Mode(_choice(manifest, "mode", Mode.ENFORCE, faults)),
            strategy=Strategy(_choice(manifest, "strategy", Strategy.CONTROLLER, faults)),
            verification=Verification(_choice(manifest, "verification", Verification.BEST_EFFORT, faults)),
            sets=sets,
            allow_different_digest=mapping(manifest, "spec").get("allowDifferentDigest") is True,
            credentials=()
            if cluster_wide
            else tuple(
                (text(entry, "registry"), text(entry, "secretName")) for entry in items(manifest, "spec", "credentials")
            ),
            fail_back_after=parse_fail_back_after(manifest, faults),
            selector=parse_selector(manifest, "spec", "namespaceSelector") if cluster_wide else None,
        )
    except InvalidSelector as error:
        raise InvalidSource([*faults, *error.faults]) from error
    except InvalidManifest as error:
        raise InvalidSource([*faults, str(error)]) from error
    if faults:
        raise InvalidSource(faults)
    return source


def _choice(manifest: Manifest, field: str, default: StrEnum, faults: list[str]) -> str:
    """Return the value of an enumerated field of the spec, or its default; add a fault for an unknown value."""
    choices = list(type(default))
    if mapping(manifest, "spec").get(field) is False:
        faults.append(
            f'spec.{field}: wants one of {", ".join(choices)}; put "Off" in quotes: YAML reads a bare Off as false'
        )
        return default
    value = text(manifest, "spec", field) or default
    if value not in choices:
        faults.append(f"spec.{field}: wants one of {', '.join(choices)}")
        return default
    return value


_WILDCARD = "/*"
_MAX_SETS = 64
_MAX_ENTRIES = 32


def _sets(manifest: Manifest, faults: list[str]) -> Iterator[tuple[Equivalent, ...]]:
    """Yield the sets of equivalent repositories; add every fault in them to `faults`."""
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
    """Yield the entries of one set; add a fault for each that names no repository."""
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
    # With two more segments a bare domain is a repository too, and Docker Hub's `library/` is not added.
    repository = parse_repository(f"{stem}/a/a")
    path = repository.path.removesuffix("a/a").removesuffix("/")
    return Equivalent(written=stem, repository=Repository(domain=repository.domain, path=path), is_prefix=True)


_DEFAULT_AFTER = "30m"
_LENGTH = re.compile(r"(?:(?P<h>[0-9]{1,15})h)?(?:(?P<m>[0-9]{1,15})m)?(?:(?P<s>[0-9]{1,15})s)?")
_UNIT_SECONDS = {"h": 3600, "m": 60, "s": 1}
# Ten years are as good as never, and ten years added to a time do not overflow.
_LONGEST_SECONDS = 10 * 365 * 24 * 3600


def parse_fail_back_after(source: Manifest, faults: list[str]) -> timedelta | None:
    """Return `spec.failBack.after`, `None` if the policy is not `Automatic`; add every fault to `faults`."""
    fail_back = mapping(source, "spec", "failBack")
    policy = text(fail_back, "policy") or "Never"
    if policy not in {"Never", "Automatic"}:
        faults.append("spec.failBack.policy: wants one of Never, Automatic")
    if policy != "Automatic":
        return None
    match = _LENGTH.fullmatch(text(fail_back, "after") or _DEFAULT_AFTER)
    seconds = sum(int(match[unit] or 0) * size for unit, size in _UNIT_SECONDS.items()) if match else 0
    if not seconds:
        faults.append("spec.failBack.after: wants a length of time such as 90s, 30m or 1h30m")
    return timedelta(seconds=min(seconds, _LONGEST_SECONDS))


# Alternatives of a reference

# The rank of an entry that names the repository itself: above every prefix, however long.
_EXACT = 1024


def _compose(reference: Reference, sets: Iterable[tuple[Equivalent, ...]]) -> Iterator[Alternative]:
    """Yield the alternatives of all sets; no repository comes twice, and none is longer than a reference may be."""
    composed, repositories = set(), {reference.repository}
    for rank, subpath, entries in _sets_listing(reference.repository, sets):
        for entry in entries:
            image = f"{entry.written}{subpath}{reference.suffix}"
            if image in composed:
                continue
            composed.add(image)
            try:
                alternative = Reference.parse(image)
            except InvalidReference:
                continue
            if alternative.repository not in repositories:
                repositories.add(alternative.repository)
                yield Alternative(rank=rank, image=image, reference=alternative)


def _sets_listing(
    repository: Repository, sets: Iterable[tuple[Equivalent, ...]]
) -> list[tuple[int, str, tuple[Equivalent, ...]]]:
    """
    Return the sets that list `repository`, highest rank first.

    Each comes with the rank of its most specific entry, and with the rest of `repository` after that entry.
    """
    listing = []
    for entries in sets:
        ranked = [
            (len(entry.repository.path) if entry.is_prefix else _EXACT, subpath)
            for entry in entries
            if (subpath := entry.subpath(repository)) is not None
        ]
        if ranked:
            listing.append((*max(ranked), entries))
    return sorted(listing, key=lambda ranked_set: -ranked_set[0])
