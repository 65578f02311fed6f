"""
What an AlternateImageSource says: which repositories are equivalent, and when Saffire may replace one by another.

A *source* is an object of one of two kinds. An AlternateImageSource applies to its own namespace. A
ClusterAlternateImageSource, a *cluster-wide* source, applies to every namespace that its selector matches, and only to
repositories that no source of the namespace itself lists. Two sources of different kinds may have the same name, so in
annotations, in Events and in the status, Saffire writes the kind before the name of a cluster-wide source.

A source has *sets* (`spec.imageSourceReplacements`). Each set lists *equivalent repositories*, in order of preference.
An entry of a set that ends in `/*` means every repository below that path.

`spec.failBack.after` is how long an original image, which a workload left, must have been healthy before the workload
returns to the original image. Users write the time as Kubernetes writes durations, in hours, minutes and seconds:
`30m`, `1h30m`, `90s`.

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
    Return the name by which Saffire's records (annotations, Events, status) name a source.

    The sources that apply to one namespace all have different names in records.

    >>> record_name({"kind": "AlternateImageSource", "metadata": {"name": "shop"}})
    'shop'
    >>> record_name({"kind": "ClusterAlternateImageSource", "metadata": {"name": "shop"}})
    'ClusterAlternateImageSource/shop'
    """
    return f"{CLUSTER_WIDE}/{name_of(source)}" if is_cluster_wide(source) else name_of(source)


def display_name(name: str) -> str:
    """
    Return `Kind/name` of a source, given `name`, its name in records.

    >>> display_name("shop"), display_name("ClusterAlternateImageSource/shop")
    ('AlternateImageSource/shop', 'ClusterAlternateImageSource/shop')
    """
    return name if "/" in name else f"{NAMESPACED}/{name}"


def log_name(source: Manifest) -> str:
    """Return the name of a source in logs: `namespace/name`, or `kind/name` for a cluster-wide source."""
    return (
        record_name(source) if is_cluster_wide(source) else f"{text(source, 'metadata', 'namespace')}/{name_of(source)}"
    )


def opted_out(manifest: Manifest) -> bool:
    """Tell whether an object has the annotation `saffire.fairwinds.com/ignore: "true"`."""
    return annotation(manifest, IGNORE) == "true"


# A source that can be used

# The most alternatives of one reference: as many as one set may name. Nobody needs the thirty-third.
MOST_ALTERNATIVES = 32
# A source keeps the alternatives of so many references: those of the workloads that Saffire repairs at once.
_KEPT = 32


class Mode(StrEnum):
    """What a source allows Saffire to do (`spec.mode`)."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"
    PAUSED = "Paused"


class Trigger(StrEnum):
    """
    What makes a source act (`spec.trigger`).

    `OUTAGE`: how far a repair reaches depends on what is proven of the fault (`policy.reach`). `ANY_FAILURE`: what a
    kubelet says about one failed pull is enough to move the workload.
    """

    OUTAGE = "Outage"
    ANY_FAILURE = "AnyFailure"


class Strategy(StrEnum):
    """Which objects a failover patches (`spec.strategy`)."""

    CONTROLLER = "Controller"
    PODS = "Pods"


class Verification(StrEnum):
    """How much a registry must prove about a candidate before a failover writes it (`spec.verification`)."""

    STRICT = "Strict"
    BEST_EFFORT = "BestEffort"
    OFF = "Off"


@dataclass(frozen=True, kw_only=True, slots=True)
class Equivalent:
    """
    An entry of a set of equivalent repositories: one repository, or with `is_prefix` all repositories below a path.

    `written` is the user's own spelling, which a failover writes. `repository` is the normalised form, which Saffire
    compares. For a prefix, `written` and `repository` lack the `/*`. If the path of a prefix is empty, the prefix
    covers a whole registry.
    """

    written: str
    repository: Repository
    is_prefix: bool

    def subpath(self, repository: Repository) -> str | None:
        """
        Return the part of `repository` that follows this entry: for `quay.io/acme/*`, `/web` of `quay.io/acme/web`.

        If this entry names the whole `repository`, return `""`. If this entry does not cover `repository`, return
        `None`.
        """
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
    An alternative of an original reference: the same tag and digest in an equivalent repository.

    `image` is the reference as a failover writes it. `rank` says how specific the entry is by which the set of the two
    repositories lists the original's repository: a higher rank is more specific.
    """

    rank: int
    image: str
    reference: Reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """
    An AlternateImageSource or ClusterAlternateImageSource that Saffire can use.

    `name` is the source's name in records (`record_name`). `sets` are the sets of equivalent repositories, in the
    user's order. `credentials` are pairs: a registry or a part of a registry, and the name of the pull secret with
    which Saffire may ask that registry.

    `fail_back_after` is how long an original image must have been healthy before workloads return to it; `None` if
    workloads never return. `selector` matches the labels of the namespaces to which a cluster-wide source applies;
    `None` for a namespace's own source.
    """

    name: str
    mode: Mode
    strategy: Strategy
    verification: Verification
    sets: tuple[tuple[Equivalent, ...], ...]
    trigger: Trigger = Trigger.OUTAGE
    allow_different_digest: bool = False
    credentials: tuple[tuple[str, str], ...] = ()
    fail_back_after: timedelta | None = None
    selector: Selector | None = None

    _composed: dict[Reference, tuple[Alternative, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def registries(self) -> frozenset[str]:
        """The domains of the registries that the sets list."""
        return frozenset(entry.repository.domain for entries in self.sets for entry in entries)

    def alternatives(self, reference: Reference) -> tuple[Alternative, ...]:
        """
        Return the 32 best alternatives of `reference`, by rank, the highest first.

        No alternative is in the repository of `reference`. The alternatives are composed once for all pods with the
        same image, since a source may list thousands of entries.
        """
        if reference not in self._composed:
            if len(self._composed) == _KEPT:
                self._composed.clear()
            self._composed[reference] = tuple(itertools.islice(_compose(reference, self.sets), MOST_ALTERNATIVES))
        return self._composed[reference]


# Parsing


class InvalidSource(ValueError):
    """Saffire cannot use a source; `faults` has one text for each fault, which names the path of the wrong field."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


def parse_source(manifest: Manifest) -> Source:
    """
    Read an AlternateImageSource or ClusterAlternateImageSource; raise `InvalidSource` with every fault.

    A stored source may have faults, since the API server may have checked it against an older schema.
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
            trigger=Trigger(_choice(manifest, "trigger", Trigger.OUTAGE, faults)),
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
    """
    Return the value of an enumerated field of the spec.

    If the field is absent, return `default`. If its value is unknown, add a fault to `faults` and return `default`.
    """
    choices = list(type(default))
    if "Off" in choices and mapping(manifest, "spec").get(field) is False:
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
    """Yield the sets of equivalent repositories of a source; add every fault in the sets to `faults`."""
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
    """Yield the entries of one set; for each entry that names no repository, add a fault to `faults`."""
    for index, entry in enumerate(written):
        try:
            yield _parse_entry(entry)
        except InvalidReference as error:
            faults.append(f"{path}[{index}]: {error}")


def _parse_entry(written: str) -> Equivalent:
    """Read an entry of a set, such as `quay.io/acme/web`, `quay.io/acme/*` or `quay.io/*`."""
    if not written.endswith(_WILDCARD):
        return Equivalent(written=written, repository=parse_repository(written), is_prefix=False)
    stem = written.removesuffix(_WILDCARD)
    # With two more segments, a bare domain becomes a repository too, and Docker Hub's `library/` is not added.
    repository = parse_repository(f"{stem}/a/a")
    path = repository.path.removesuffix("a/a").removesuffix("/")
    return Equivalent(written=stem, repository=Repository(domain=repository.domain, path=path), is_prefix=True)


_DEFAULT_AFTER = "30m"
_LENGTH = re.compile(r"(?:(?P<h>[0-9]{1,15})h)?(?:(?P<m>[0-9]{1,15})m)?(?:(?P<s>[0-9]{1,15})s)?")
_UNIT_SECONDS = {"h": 3600, "m": 60, "s": 1}
# Ten years are as good as never, and ten years added to a time do not overflow.
_LONGEST_SECONDS = 10 * 365 * 24 * 3600


def parse_fail_back_after(source: Manifest, faults: list[str]) -> timedelta | None:
    """
    Return `spec.failBack.after` of a source, at most ten years; `None` if `spec.failBack.policy` is not `Automatic`.

    If the policy is `Automatic` and the user names no time, return 30 minutes. Add every fault to `faults`.
    """
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

# The rank of an entry that names the repository itself. The rank of a prefix is its length, which is always less.
_EXACT = 1024


def _compose(reference: Reference, sets: Iterable[tuple[Equivalent, ...]]) -> Iterator[Alternative]:
    """
    Yield the alternatives of `reference` in all sets, the highest rank first, at most one for each repository.

    An alternative that would be longer than a reference may be is left out.
    """
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
    Return the sets that list `repository`, the highest rank first.

    Each item has the rank of the set's most specific entry, the part of `repository` that follows that entry, and the
    entries of the set.
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
