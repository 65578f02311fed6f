"""
Credentials: reads pull secrets and finds the credentials for a repository, by the kubelet's own rules.

A *pull secret* is a Secret of one of two types, which both contain JSON. The type `kubernetes.io/dockerconfigjson` has
`{"auths": {LOCATION: ENTRY}}`. The older type `kubernetes.io/dockercfg` has only the inner object. An entry is
`{"auth": base64 of user:password}` or has `username` and `password`. A location is a host, or a host and a path. With a
path, the entry is only for repositories below that path. In a label of the host, `*` stands for any text. The rules by
which an entry matches a repository are in kubelet, pkg/credentialprovider/keyring.go. The kubelet matches labels by
Go's path/filepath.Match. But it first reads the location by Go's net/url, which refuses the other special characters of
such patterns in a host, and ignores an entry that cannot be read. So no label has a `?`, a class or an escape.

A Secret may contain anything. If an entry cannot be read, it is left out, and `faults` names it without quoting it. To
match a label takes time in proportion to its length and that of the pattern, and nothing of a pattern is cached.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from saffire.kube.manifest import InvalidManifest, Manifest, name_of, text
from saffire.registry.reference import DEFAULT_DOMAIN, Repository, normalised_domain

_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_HUB = "index.docker.io"
# The API server accepts no larger Secret (1 MiB, here in base64), and no repository has a longer host and path.
_MAX_DATA = 1_500_000
_MAX_ENTRIES = 512
_MAX_LOCATION = 512
# A host with a longer label has no address (RFC 1035, section 2.3.4).
_MAX_LABEL = 63
# What Go's net/url accepts as a host, with a port or without. An IPv6 address is in brackets.
_HOST = re.compile(r"""(?:[^\x00-\x20#/:?@\[\\\]^`{|}\x7f]+|\[[A-Fa-f0-9:.%]+\])(?::[0-9]*)?""")

_STARS = re.compile(r"\*+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """A user name, and a password or a token in place of a password; `repr` shows none of them."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Location:
    """The repositories that an entry of a pull secret is for."""

    text: str  # host and path: if two locations cover a repository, the one whose text sorts later is more specific
    labels: tuple[str, ...]  # of the host, such as `ghcr` and `io`; in each, `*` stands for any text
    port: str
    path: str  # the beginning of the repositories' path, with a slash; `""` for all repositories of the host

    @classmethod
    def parse(cls, location: str) -> Self:
        """
        Read a location: `ghcr.io/acme`, `*.example.com:5000`, `https://index.docker.io/v1/`.

        The paths of Docker's API, `/v1/` and `/v2/`, mean the whole host. Raise `_UnreadableError` if the text is not a
        location.
        """
        without_scheme = location.removeprefix("https://").removeprefix("http://")
        host, slash, path = without_scheme.partition("/")
        path = slash + path
        if path.startswith(("/v1/", "/v2/")):
            path = path[3:]
        is_host = _HOST.fullmatch(host) is not None
        if not is_host or len(location) > _MAX_LOCATION or set("@?# ") & set(without_scheme):
            raise _UnreadableError("not for a host")
        path = "" if path == "/" else path
        labels, port = _split(_STARS.sub("*", host))
        return cls(text=host + path, labels=labels, port=port, path=path)

    def covers(self, repository: Repository) -> bool:
        """
        Tell whether this location covers a repository.

        The repository's host must have as many labels as this location, each label must match its pattern, the ports
        must be equal, and the repository's path must begin with this location's path. The kubelet compares the
        repository as it is spelled: a secret for `docker.io` is none for `registry-1.docker.io`.
        """
        domain, _, path = repository.spelled.partition("/")
        labels, port = _split(domain)
        return (
            self.port == port
            and len(self.labels) == len(labels)
            and f"/{path}".startswith(self.path)
            and all(map(_matches, self.labels, labels))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """An entry of a pull secret: a credential and the location that the credential is for."""

    location: _Location
    credential: Credential


@dataclass(frozen=True, kw_only=True, slots=True)
class Keyring:
    """The credentials in some pull secrets. `faults` has one text for each part of them that cannot be read."""

    entries: tuple[_Entry, ...] = field(default=(), repr=False)
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, secrets: Iterable[Manifest]) -> Self:
        """Read pull secrets, given as the manifests of Secrets that the API server returns."""
        faults: list[str] = []
        entries = [entry for secret in secrets for entry in _entries(secret, faults)]
        # In reverse order, a path comes before its own prefix. Entries with the same location keep their order.
        entries.sort(key=lambda entry: entry.location.text, reverse=True)
        return cls(entries=tuple(entries), faults=tuple(faults))

    def credentials_for(self, repository: Repository) -> tuple[Credential, ...]:
        """
        Return the credentials to try in turn for a repository; the one for the most specific location is the first.

        If no location covers a repository of `docker.io`, the credentials for `index.docker.io` are returned.
        """
        credentials = tuple(entry.credential for entry in self.entries if entry.location.covers(repository))
        if not credentials and repository.spelled.startswith(f"{DEFAULT_DOMAIN}/"):
            credentials = tuple(entry.credential for entry in self.entries if entry.location.text == _HUB)
        return tuple(dict.fromkeys(credentials))


def closest(locations: Iterable[str], repository: Repository) -> str | None:
    """
    Return the most specific one of the locations that cover a repository; `None` if no location covers it.

    A source names a location: a registry, or a part of one. There, as in the source's sets, the spelling of a registry
    does not count. In a pull secret it does, since the kubelet compares it.

    >>> closest(["ghcr.io", "GHCR.io:443/acme", "quay.io"], Repository(domain="ghcr.io", path="acme/web"))
    'GHCR.io:443/acme'
    """
    paths = {}
    for location in locations:
        domain, _, path = location.partition("/")
        if normalised_domain(domain) == repository.domain and repository.path.startswith(path):
            paths[location] = path
    return max(paths, key=paths.__getitem__, default=None)


def _entries(secret: Manifest, faults: list[str]) -> Iterator[_Entry]:
    """Yield the entries of one pull secret; add to `faults` a text for each part that cannot be read."""
    name = "a Secret"
    try:
        name = f"Secret/{name_of(secret)}"
        auths = _decoded(secret)
    except (InvalidManifest, _UnreadableError) as error:
        faults.append(f"{name}: {error}")
        return
    for number, (location, entry) in enumerate(auths.items(), 1):
        if number > _MAX_ENTRIES:
            faults.append(f"{name}: only its first {_MAX_ENTRIES} entries are read")
            return
        try:
            credential = _credential(entry)
            if credential:
                yield _Entry(location=_Location.parse(location), credential=credential)
        except _UnreadableError as error:
            faults.append(f"{name}: entry {number}: {error}")


def _decoded(secret: Manifest) -> Mapping[str, Any]:
    """Return the entries of a pull secret as JSON values, by the text of their location."""
    kind = text(secret, "type")
    if kind not in _KEYS:
        raise _UnreadableError("not of a type that holds registries' credentials")
    data = text(secret, "data", _KEYS[kind])
    if len(data) > _MAX_DATA:
        raise _UnreadableError("too large")
    try:
        content = json.loads(base64.b64decode(data, validate=True))
    except (ValueError, RecursionError):  # the message of either would quote the secret
        raise _UnreadableError(f"its {_KEYS[kind]} is not JSON in base64") from None
    auths = content
    if kind == "kubernetes.io/dockerconfigjson":
        auths = content.get("auths") if isinstance(content, dict) else None
    if not isinstance(auths, dict):
        raise _UnreadableError(f"its {_KEYS[kind]} holds no object of registries")
    return auths


def _credential(entry: object) -> Credential | None:
    """Return the credential of an entry, from `auth` rather than `username` and `password`; `None` if it has none."""
    if not isinstance(entry, dict):
        raise _UnreadableError("not an object")
    auth, username, password = (entry.get(key) or "" for key in ("auth", "username", "password"))
    if not (isinstance(auth, str) and isinstance(username, str) and isinstance(password, str)):
        raise _UnreadableError("its auth, username or password is not a string")
    if auth:
        username, colon, password = _plain(auth).partition(":")
        if not colon:
            raise _UnreadableError("its auth is not user:password in base64")
    if any("\ud800" <= character <= "\udfff" for character in username + password):
        raise _UnreadableError("its username or password cannot be written in UTF-8")
    return Credential(username=username, password=password) if username or password else None


def _plain(auth: str) -> str:
    """Decode the field `auth`, which is base64 with or without padding."""
    unpadded = "".join(auth.split()).rstrip("=")
    try:
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _UnreadableError("its auth is not user:password in base64") from None


def _matches(pattern: str, label: str) -> bool:
    """
    Tell whether a label of a host matches a pattern, in which `*` stands for any text.

    The texts between stars are searched from left to right, each behind the one before it. So the label is read once.
    An IPv6 address in brackets matches nothing: to the kubelet, it is a class of characters.
    """
    if len(label) > _MAX_LABEL or len(pattern.replace("*", "")) > len(label) or pattern.startswith("["):
        return False
    first, *others = pattern.split("*")
    if not others:
        return pattern == label
    *middle, last = others
    position, end = len(first), len(label) - len(last)
    if position > end or not (label.startswith(first) and label.endswith(last)):
        return False
    for part in middle:
        position = label.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def _split(host: str) -> tuple[tuple[str, ...], str]:
    """Return the labels and the port of a host; an IPv6 address loses its brackets only if it has a port, as in Go."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    elif name.startswith("["):
        name = name[1:].removesuffix("]")
    return tuple(name.split(".")), port


class _UnreadableError(ValueError):
    """A part of a Secret cannot be read; the message does not quote the part."""
