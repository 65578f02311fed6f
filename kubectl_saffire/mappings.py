"""
Mappings: which paths hold the same images, as users and other programs write it.

A *path* is a registry (`quay.io`), a part of a registry (`quay.io/acme`) or a repository (`quay.io/acme/web`). An
`Equivalence` says that some paths hold the same images: what follows the path in a reference is the same in each.
Equivalences come from:

- the command line: `quay.io/acme=ghcr.io/acme`;
- OpenShift's ImageDigestMirrorSet and ImageTagMirrorSet (config.openshift.io/v1);
- `registries.conf` in its version 2 (containers-registries.conf(5));
- kube-image-keeper's ReplicatedImageSet, ClusterReplicatedImageSet and ImageAlternative (kuik.enix.io/v1alpha1).

A file may say more than Saffire can. What is left out of an equivalence is told as a *remark*.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import yaml

from saffire.kube.manifest import InvalidManifest, Manifest, items, number, printable, strings, text
from saffire.kube.workload import describe
from saffire.registry.reference import InvalidReference, parse_repository

EXAMPLE = "quay.io/acme=ghcr.io/acme"
"""A mapping, as messages show it."""
_WILDCARD = "/*"
# What is below any path: with two more segments, a registry alone becomes a repository, too.
_BELOW = "/a/a"


class InvalidMapping(ValueError):
    """A mapping on the command line or in a file cannot be read; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Paths that hold the same images, two or more, the preferred path first; no path is there twice."""

    paths: tuple[str, ...]

    @classmethod
    def of(cls, written: Iterable[str]) -> Self:
        """Return the equivalence of these paths; raise `InvalidMapping` if a path is none, or if they are too few."""
        paths: dict[str, str] = {}
        for text_of_path in written:
            path = text_of_path.removesuffix(_WILDCARD).rstrip("/")
            paths.setdefault(key_of(path), path)
        if len(paths) < 2:  # noqa: PLR2004 - an equivalence needs two
            raise InvalidMapping("both sides are the same")
        return cls(tuple(paths.values()))


@dataclass(frozen=True, kw_only=True, slots=True)
class FileMappings:
    """What a file says: its equivalences, and a remark on each part that Saffire cannot take over."""

    equivalences: tuple[Equivalence, ...]
    remarks: tuple[str, ...]


def key_of(path: str) -> str:
    """
    Return the normalised form of a path; raise `InvalidMapping` if the text is no path.

    >>> key_of("Quay.io:443/acme"), key_of("acme"), key_of("index.docker.io")
    ('quay.io/acme', 'docker.io/acme', 'docker.io')
    """
    try:
        return str(parse_repository(f"{path}{_BELOW}")).removesuffix(_BELOW)
    except InvalidReference:
        raise InvalidMapping(
            f"{printable(path) or 'nothing'} is no registry and no part of one, such as quay.io/acme,"
            " without https://, tag, digest and *"
        ) from None


def is_registry(path: str) -> bool:
    """
    Tell whether a path is a whole registry, so that it cannot be a repository.

    >>> is_registry("quay.io"), is_registry("nginx")
    (True, False)
    """
    return "/" not in key_of(path)


def parse_option(option: str) -> Equivalence:
    """
    Read a mapping of the command line; raise `InvalidMapping` if it is none.

    >>> parse_option("quay.io/acme=ghcr.io/acme").paths
    ('quay.io/acme', 'ghcr.io/acme')
    """
    sides = option.split("=")
    if len(sides) != 2:  # noqa: PLR2004 - from and to
        raise InvalidMapping(f"{printable(option)}: wants FROM=TO, such as {EXAMPLE}")
    try:
        return Equivalence.of(sides)
    except InvalidMapping as error:
        raise InvalidMapping(f"{printable(option)}: {error}; wants FROM=TO, such as {EXAMPLE}") from None


def parse_file(content: str) -> FileMappings:
    """
    Read a file in TOML (`registries.conf`) or in YAML or JSON (manifests, also a List of them).

    Raise `InvalidMapping` if it is neither, or if it has no object that declares equivalent repositories.
    """
    reading = _Reading()
    try:
        config = _toml(content)
        if config is None:
            for manifest in _manifests(content):
                _read_manifest(manifest, reading)
        else:
            _read_registries_conf(config, reading)
    except InvalidManifest as error:
        raise InvalidMapping(printable(str(error))) from None
    return FileMappings(equivalences=tuple(reading.equivalences), remarks=tuple(reading.remarks))


def merged(equivalences: Iterable[Equivalence]) -> tuple[Equivalence, ...]:
    """
    Return the equivalences; those whose first paths are the same become one, in their order.

    >>> merged([Equivalence(("a.io", "b.io")), Equivalence(("a.io", "c.io"))])
    (Equivalence(paths=('a.io', 'b.io', 'c.io')),)
    """
    by_first: dict[str, dict[str, str]] = {}
    for equivalence in equivalences:
        paths = {key_of(path): path for path in equivalence.paths}
        together = by_first.setdefault(next(iter(paths)), {})
        for key, path in paths.items():
            together.setdefault(key, path)
    return tuple(Equivalence(tuple(paths.values())) for paths in by_first.values())


# Files


@dataclass(slots=True)
class _Reading:
    """What was read of a file so far."""

    equivalences: list[Equivalence] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, paths: Iterable[str]) -> None:
        """Add the equivalence of these paths. If fewer than two are given, the entry says nothing."""
        given = tuple(dict.fromkeys(filter(None, paths)))
        if len(given) > 1:
            try:
                self.equivalences.append(Equivalence.of(given))
            except InvalidMapping as error:
                self.remarks.append(f"{printable(given[0])} is left out: {error}")


def _toml(content: str) -> dict[str, Any] | None:
    """Return the content of a TOML file; `None` if it is no TOML. No manifest is TOML: `kind: List` is an error."""
    try:
        return tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _read_registries_conf(config: Manifest, reading: _Reading) -> None:
    """
    Read the tables `[[registry]]` and `[[registry.mirror]]`.

    Images are named by `prefix`, and are in the mirrors and, unless it is `blocked`, at `location`.
    """
    tables = items(config, "registry")
    if not tables:
        raise InvalidMapping("a registries.conf without [[registry]]: only version 2 has mirrors")
    for table in tables:
        location = text(table, "location")
        mirrors = (text(mirror, "location") for mirror in items(table, "mirror"))
        reading.add((text(table, "prefix") or location, *mirrors, "" if table.get("blocked") is True else location))


def _manifests(content: str) -> Iterator[Manifest]:
    """Yield the objects of a file in YAML, with those of each List in it."""
    try:
        documents = [document for document in yaml.safe_load_all(content) if document is not None]
    except (yaml.YAMLError, ValueError, RecursionError):
        documents = [None]
    for document in documents:
        if not isinstance(document, dict):
            raise InvalidMapping("neither a registries.conf in TOML nor manifests in YAML or JSON")
        yield from items(document, "items") if text(document, "kind").endswith("List") else (document,)


def _read_manifest(manifest: Manifest, reading: _Reading) -> None:
    group, kind = text(manifest, "apiVersion").rpartition("/")[0], text(manifest, "kind")
    read = _READERS.get((group, kind))
    if read is None:
        kinds = ", ".join(name for _, name in _READERS)
        raise InvalidMapping(
            f"{printable(kind) or 'an object without kind'}: wants a registries.conf, or one of {kinds}"
        )
    read(manifest, reading)


def _mirror_set(list_field: str) -> Callable[[Manifest, _Reading], None]:
    """Return what reads a mirror set of OpenShift, whose entries with `source` and `mirrors` are in `list_field`."""

    def read(manifest: Manifest, reading: _Reading) -> None:
        for entry in items(manifest, "spec", list_field):
            reading.add((text(entry, "source"), *strings(entry, "mirrors")))

    return read


def _read_replicated_image_set(manifest: Manifest, reading: _Reading) -> None:
    """
    Read `spec.upstreams` of kube-image-keeper 2.

    An upstream with a lower `priority` comes first. An upstream with `discardAlternative` comes last: it is not to be
    used any more, but pods may still name its images.
    """
    upstreams = sorted(
        items(manifest, "spec", "upstreams"),
        key=lambda upstream: (upstream.get("discardAlternative") is True, number(upstream, "priority")),
    )
    reading.add(f"{text(upstream, 'registry')}/{text(upstream, 'path').strip('/')}" for upstream in upstreams)
    if any(upstream.get("imageFilter") for upstream in upstreams):
        reading.remarks.append(
            f"{printable(describe(manifest))}: imageFilter is not taken over; see whether all images below its paths"
            " are equivalent"
        )


def _read_image_alternative(manifest: Manifest, reading: _Reading) -> None:
    """Read `spec.alternatives` of kube-image-keeper 3. One that is `unavailable` comes last."""
    alternatives = sorted(items(manifest, "spec", "alternatives"), key=lambda entry: entry.get("unavailable") is True)
    reading.add(text(entry, "repository") or text(entry, "repositoryGroup") for entry in alternatives)


def _leave_mirror(manifest: Manifest, reading: _Reading) -> None:
    """Leave out a mirror of kube-image-keeper: it selects images by patterns, and names no path that it copies."""
    reading.remarks.append(
        f"{printable(describe(manifest))} is left out: it names no repository that it copies;"
        " type --map quay.io=REGISTRY/PATH for each registry instead"
    )


_OPENSHIFT, _KUIK = "config.openshift.io", "kuik.enix.io"
_READERS: dict[tuple[str, str], Callable[[Manifest, _Reading], None]] = {
    (_OPENSHIFT, "ImageDigestMirrorSet"): _mirror_set("imageDigestMirrors"),
    (_OPENSHIFT, "ImageTagMirrorSet"): _mirror_set("imageTagMirrors"),
    (_KUIK, "ReplicatedImageSet"): _read_replicated_image_set,
    (_KUIK, "ClusterReplicatedImageSet"): _read_replicated_image_set,
    (_KUIK, "ImageAlternative"): _read_image_alternative,
    (_KUIK, "ImageSetMirror"): _leave_mirror,
    (_KUIK, "ClusterImageSetMirror"): _leave_mirror,
    (_KUIK, "ImageMirror"): _leave_mirror,
}
