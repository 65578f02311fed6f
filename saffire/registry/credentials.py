"""
Credentials: what a namespace's pull secrets say about a repository, by the kubelet's own rules.

Both kinds of Secret hold JSON: `kubernetes.io/dockerconfigjson` has `{"auths": {LOCATION: ENTRY}}`, the older
`kubernetes.io/dockercfg` only the inner object. An entry is `{"auth": base64 of user:password}` or has `username` and
`password`. A location is a host, with a path where it is meant for some repositories only; each label of the host may
be a glob. Which entry is for which repository: kubelet, pkg/credentialprovider/keyring.go.

A Secret may hold anything. What cannot be read is left out, and `faults` says so without quoting any of it.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Self

from saffire.kube.manifest import InvalidManifest, Manifest, name_of, text
from saffire.registry.reference import DEFAULT_DOMAIN, Repository

_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_HUB = "index.docker.io"
# The API server takes no larger Secret (1 MiB), and a host and path of more than this are no repository's.
_MAX_DATA = 1_500_000
_MAX_ENTRIES = 512
_MAX_LOCATION = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """A user's name and password, or what stands for them; neither is ever shown."""

    username: str = field(repr=False)
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Location:
    """Some repositories: a host's labels, a port, and the beginning of a path; `text` is what tells how many."""

    text: str
    labels: tuple[str, ...]
    port: str
    path: str

    @classmethod
    def parse(cls, written: str) -> Self:
        """
        Read a location: `ghcr.io/acme`, `*.example.com:5000`, `https://index.docker.io/v1/`.

        The paths of Docker's API, `/v1/` and `/v2/`, stand for the whole host.
        """
        rest = written.removeprefix("https://").removeprefix("http://")
        host, slash, path = rest.partition("/")
        path = slash + path
        if path.startswith(("/v1/", "/v2/")):
            path = path[3:]
        if not host or len(written) > _MAX_LOCATION or set("@?# ") & set(rest):
            raise _UnreadableError("not for a host")
        path = "" if path == "/" else path
        labels, port = _split(host)
        return cls(text=host + path, labels=labels, port=port, path=path)

    def holds(self, repository: Repository) -> bool:
        """Tell whether a repository is one of these: as many labels, the same port, and a path that starts so."""
        labels, port = _split(repository.domain)
        return (
            self.port == port
            and len(self.labels) == len(labels)
            and f"/{repository.path}".startswith(self.path)
            and all(map(fnmatchcase, labels, (glob.replace("[^", "[!") for glob in self.labels)))
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A credential, and what it is for."""

    location: _Location
    credential: Credential


@dataclass(frozen=True, kw_only=True, slots=True)
class Keyring:
    """The credentials of some Secrets; `faults` tells what could not be read, one sentence each."""

    entries: tuple[_Entry, ...] = field(default=(), repr=False)
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, secrets: Iterable[Manifest]) -> Self:
        """Read Secrets, as the API server gives them."""
        faults: list[str] = []
        entries = [entry for secret in secrets for entry in _entries(secret, faults)]
        # Sorted backwards, so that a longer path comes before the shorter one that it starts with; and stable.
        entries.sort(key=lambda entry: entry.location.text, reverse=True)
        return cls(entries=tuple(entries), faults=tuple(faults))

    def credentials_for(self, repository: Repository) -> tuple[Credential, ...]:
        """Return what to ask for a repository with, the most specific first; each may be tried in turn."""
        found = tuple(entry.credential for entry in self.entries if entry.location.holds(repository))
        if not found and repository.domain == DEFAULT_DOMAIN:
            found = tuple(entry.credential for entry in self.entries if entry.location.text == _HUB)
        return tuple(dict.fromkeys(found))


def closest(locations: Iterable[str], repository: Repository) -> str | None:
    """
    Return which of the locations is the most specific that a repository is at; `None` where it is at none.

    >>> closest(["ghcr.io", "ghcr.io/acme", "quay.io"], Repository(domain="ghcr.io", path="acme/web"))
    'ghcr.io/acme'
    """
    held = {}
    for written in locations:
        with suppress(_UnreadableError):
            location = _Location.parse(written.replace(_HUB, DEFAULT_DOMAIN, 1))
            if location.holds(repository):
                held[written] = location.text
    return max(held, key=held.__getitem__, default=None)


def _entries(secret: Manifest, faults: list[str]) -> Iterator[_Entry]:
    """Yield what one Secret holds; note in `faults` what cannot be read."""
    name = "a Secret"
    try:
        name = f"Secret/{name_of(secret)}"
        found = _decoded(secret)
    except (InvalidManifest, _UnreadableError) as error:
        faults.append(f"{name}: {error}")
        return
    for number, (location, entry) in enumerate(found.items(), 1):
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
    """Return the object of locations that a Secret holds."""
    kind = text(secret, "type")
    if kind not in _KEYS:
        raise _UnreadableError("not of a type that holds registries' credentials")
    data = text(secret, "data", _KEYS[kind])
    if len(data) > _MAX_DATA:
        raise _UnreadableError("too large")
    try:
        found = json.loads(base64.b64decode(data, validate=True))
    except (ValueError, RecursionError):  # the message of either would quote what is secret
        raise _UnreadableError(f"its {_KEYS[kind]} is not JSON in base64") from None
    if kind == "kubernetes.io/dockerconfigjson":
        found = found.get("auths") if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise _UnreadableError(f"its {_KEYS[kind]} holds no object of registries")
    return found


def _credential(entry: object) -> Credential | None:
    """Return the credential of an entry, where `auth` counts more than the other two; `None` where it has none."""
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
    """Return what base64 stands for, padded or not."""
    unpadded = "".join(auth.split()).rstrip("=")
    try:
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _UnreadableError("its auth is not user:password in base64") from None


def _split(host: str) -> tuple[tuple[str, ...], str]:
    """Return the labels of a host, and its port; an IPv6 address loses its brackets only before a port, as in Go."""
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    elif name.startswith("["):
        name = name[1:].removesuffix("]")
    return tuple(name.split(".")), port


class _UnreadableError(ValueError):
    """A piece of a Secret cannot be read; the message quotes nothing of it."""
