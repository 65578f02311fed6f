"""
What an AlternateImageSource says: which repositories are equivalent, and when Saffire may replace one by another.

A *source* is an object of one of two kinds. An AlternateImageSource applies to its own namespace. A
ClusterAlternateImageSource, a *cluster-wide* source, applies to every namespace that its selector matches, and only to
repositories that no source of the namespace itself lists. Two sources of different kinds may have the same name, so in
annotations, in Events and in the status, Saffire writes the kind before the name of a cluster-wide source.

A source has *sets* (`spec.imageSourceReplacements`). Each set lists *equivalent repositories*, in order of preference.
An entry of a set that ends in `/*` means every repository below that path. A source may have 2048 entries, so that to
read them takes some hundredths of a second. So a stored source is parsed once, in steps between which other tasks run,
and its entries are indexed: which sets list a repository is known without a look at every entry.

`spec.failBack.after` is how long an original image, which a workload left, must have been healthy before the workload
returns to the original image. Users write the time as Kubernetes writes durations, in hours, minutes and seconds:
`30m`, `1h30m`, `90s`.

If a workload, pod or namespace has the annotation `saffire.fairwinds.com/ignore: "true"`, Saffire leaves it alone.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from saffire.kube.manifest import InvalidManifest, Manifest, annotation, items, mapping, name_of, strings, text
from saffire.kube.selector import InvalidSelector, Selector, parse_selector
from saffire.registry.reference import DEFAULT_DOMAIN, InvalidReference, Repository, parse_repository

T = TypeVar("T")

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

_WILDCARD = "/*"
_WHOLE_HUB = f"{DEFAULT_DOMAIN}{_WILDCARD}"


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


@dataclass(frozen=True, slots=True)
class Equivalent:
    """
    An entry of a set of equivalent repositories: one repository, or all repositories below a path (a *prefix*).

    `written` is the user's own spelling, and `key` the normalised form, which Saffire compares. Both end in `/*` for a
    prefix, as in `quay.io/acme/*`. `quay.io/*` means a whole registry.
    """

    written: str
    key: str

    @property
    def is_prefix(self) -> bool:
        """Whether the entry means all repositories below a path."""
        return self.key[-1] == "*"

    def repository(self, rest: str) -> str:
        """
        Return the normalised repository that the entry means; for a prefix, `rest` is the path below it.

        >>> Equivalent("acme/*", "docker.io/acme/*").repository("web")
        'docker.io/acme/web'
        """
        if not self.is_prefix:
            return self.key
        hub_path = rest if "/" in rest or self.key != _WHOLE_HUB else f"library/{rest}"
        return self.key[:-1] + hub_path

    def image(self, rest: str, suffix: str) -> str:
        """Return an image of the repository that the entry means, as a failover writes it, with tag and digest."""
        return f"{self.written[:-1]}{rest}{suffix}" if self.is_prefix else f"{self.written}{suffix}"


Place = tuple[str, str]
"""How an entry may list a repository: the entry's `key`, and the path of the repository below it (`""` if exact)."""


def places_of(repository: Repository) -> tuple[Place, ...]:
    """
    Return how entries may list a repository, the most specific place first.

    >>> places_of(Repository(domain="quay.io", path="acme/web"))
    (('quay.io/acme/web', ''), ('quay.io/acme/*', 'web'), ('quay.io/*', 'acme/web'))
    """
    places, stem, rest = [(str(repository), "")], str(repository), ""
    while "/" in stem:
        stem, _, segment = stem.rpartition("/")
        rest = f"{segment}/{rest}" if rest else segment
        places.append((f"{stem}{_WILDCARD}", rest))
    return tuple(places)


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

    registries: frozenset[str] = field(init=False, compare=False, repr=False)
    """The domains of the registries that the sets list."""
    _sets_by_key: Mapping[str, tuple[int, ...]] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        by_key: dict[str, tuple[int, ...]] = {}
        for index, entries in enumerate(self.sets):
            alone = (index,)  # most entries are in one set only, and share this tuple
            for entry in entries:
                before = by_key.get(entry.key)
                by_key[entry.key] = (*before, index) if before else alone
        object.__setattr__(self, "_sets_by_key", by_key)
        object.__setattr__(self, "registries", frozenset(key.partition("/")[0] for key in by_key))

    def sets_listing(self, key: str) -> tuple[int, ...]:
        """Return the indexes of the sets that have an entry with this `key` (`Equivalent.key`)."""
        return self._sets_by_key.get(key, ())


# Parsing


Parsed = Source | tuple[str, ...]
"""A source that Saffire can use; or the faults of one that it cannot use, each with the path of the wrong field."""


class SourceManifest(dict[str, Any]):
    """The manifest of a stored source, with what it says: `parsed` is the source, or its faults."""

    __slots__ = ("parsed",)

    def __init__(self, manifest: Manifest, parsed: Parsed) -> None:
        super().__init__(manifest)
        self.parsed = parsed


def source_of(manifest: Manifest) -> Source | None:
    """Return the source that a manifest declares; `None` if Saffire cannot use it. Then `faults_of` says why."""
    parsed = _parse(manifest)
    return parsed if isinstance(parsed, Source) else None


def faults_of(manifest: Manifest) -> tuple[str, ...]:
    """
    Return every fault of the source that a manifest declares; `()` if Saffire can use it.

    A stored source may have faults, since the API server may have checked it against an older schema.
    """
    parsed = _parse(manifest)
    return () if isinstance(parsed, Source) else parsed


def _parse(manifest: Manifest) -> Parsed:
    return manifest.parsed if isinstance(manifest, SourceManifest) else at_once(parse_in_steps(manifest))


def at_once(steps: Generator[None, None, T]) -> T:
    """Run all steps, and return what the last one returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def parse_in_steps(manifest: Manifest) -> Generator[None, None, Parsed]:
    """Read a source in steps: yield after each set, and return the source, or all its faults if it has any."""
    faults: list[str] = []
    try:
        sets = yield from _sets(manifest, faults)
        cluster_wide = is_cluster_wide(manifest)
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
        return (*faults, *error.faults)
    except InvalidManifest as error:
        return (*faults, str(error))
    return tuple(faults) or source


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


_MAX_SETS = 64
_MAX_ENTRIES = 32


def _sets(manifest: Manifest, faults: list[str]) -> Generator[None, None, tuple[tuple[Equivalent, ...], ...]]:
    """Return the sets of equivalent repositories of a source; yield after each, and add every fault to `faults`."""
    sets = []
    replacements = items(manifest, "spec", "imageSourceReplacements")
    if not 1 <= len(replacements) <= _MAX_SETS:
        faults.append(f"spec.imageSourceReplacements: wants 1 to {_MAX_SETS} entries")
    for index, replacement in enumerate(replacements[:_MAX_SETS]):
        path = f"spec.imageSourceReplacements[{index}].equivalentRepositories"
        written = strings(replacement, "equivalentRepositories")
        entries = tuple(_entries(written[:_MAX_ENTRIES], path, faults))
        if not 2 <= len(written) <= _MAX_ENTRIES:  # noqa: PLR2004 - an equivalence needs two
            faults.append(f"{path}: wants 2 to {_MAX_ENTRIES} entries")
        if len({entry.key for entry in entries}) < len(entries):
            faults.append(f"{path}: names a repository twice")
        if len({entry.is_prefix for entry in entries}) > 1:
            faults.append(f"{path}: either all entries end in /* or none")
        sets.append(entries)
        yield
    return tuple(sets)


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
        key = str(parse_repository(written))
    else:
        # With two more segments, a bare domain becomes a repository too, and Docker Hub's `library/` is not added.
        key = str(parse_repository(f"{written.removesuffix(_WILDCARD)}/a/a")).removesuffix("/a/a") + _WILDCARD
    # Most users write the normalised form. Then the entry keeps one text, not two.
    return Equivalent(written, written if key == written else key)


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
