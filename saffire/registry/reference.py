"""
Image references: reads and compares the names of images.

The grammar is that of github.com/distribution/reference, which containerd, CRI-O and Docker use::

    reference  = [ domain "/" ] path [ ":" tag ] [ "@" digest ]
    domain     = ( name *( "." name ) | "[" IPv6 "]" ) [ ":" port ]
    path       = component *( "/" component )
    component  = [a-z0-9]+ *( ( "." | "_" | "__" | "-"+ ) [a-z0-9]+ )
    tag        = [A-Za-z0-9_] *127[A-Za-z0-9_.-]
    digest     = algorithm ":" hex

A *repository* is a domain and a path. In a *normalised* reference, Docker's familiar short forms are spelled out:
`nginx` becomes `docker.io/library/nginx`. The first segment of a reference is a domain only if this segment cannot be
part of a path on Docker Hub.

Saffire normalises further than distribution/reference does. One registry has one domain: all hosts of Docker Hub are
`docker.io`, a domain is in lower case (RFC 4343), and the port 443 of HTTPS is left out. Only what is compared and
asked is normalised. What a patch writes is the user's own spelling.
"""

import functools
import re
from dataclasses import dataclass, field, replace
from typing import Self

DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
# Hosts at which Docker Hub answers as `docker.io` does.
_HUB_HOSTS = frozenset({_LEGACY_DOMAIN, "registry-1.docker.io", "registry.hub.docker.com"})
_DEFAULT_PORT = ":443"
_OFFICIAL = "library"
MAX_PATH = 255
"""The most characters in the path of a repository."""
# Longer than any valid reference: 253 for a domain, 255 for a path, 128 for a tag, 135 for a sha512, and separators.
_MAX_TEXT = 1024
# Parsed references that are cached: thousands of pods name a few images, and one decision parses each many times.
_MAX_CACHED = 2048
_NAME = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_NAME}(?:\.{_NAME})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[^@]+))?"
)
# The algorithms that the OCI image specification registers, with the length of their hexadecimal form.
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


class InvalidReference(ValueError):
    """The text is not an image reference, or not a repository."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """
    A normalised repository, such as the domain `docker.io` and the path `library/nginx`.

    `spelling` is the repository as container runtimes and the kubelet spell it, such as
    `registry-1.docker.io/library/nginx`; `""` if they spell it as Saffire does. It does not count in comparisons.
    """

    domain: str
    path: str
    spelling: str = field(default="", compare=False)

    @property
    def spelled(self) -> str:
        """The domain and the path as container runtimes and the kubelet spell them."""
        return self.spelling or str(self)

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A normalised image reference; `tag` and `digest` are `""` if the reference has none."""

    repository: Repository
    tag: str = ""
    digest: str = ""

    @classmethod
    @functools.lru_cache(maxsize=_MAX_CACHED)
    def parse(cls, text: str) -> Self:
        """
        Read a reference as in the `image` of a pod; raise `InvalidReference` if a container runtime would refuse it.

        >>> str(Reference.parse("nginx:1.19"))
        'docker.io/library/nginx:1.19'
        """
        repository, tag, digest = _parts(text)
        return cls(repository=repository, tag=tag, digest=digest)

    @classmethod
    def parse_if_valid(cls, text: str) -> Self | None:
        """Read a reference as `parse` does; `None` if a container runtime would refuse it."""
        try:
            return cls.parse(text)
        except InvalidReference:
            return None

    @property
    def suffix(self) -> str:
        """The text after the repository: `:1.19@sha256:…`, `:1.19`, `@sha256:…` or `""`."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return f"{self.repository}{self.suffix}"


def parse_repository(text: str) -> Repository:
    """
    Read a repository; raise `InvalidReference` if the text has a tag or a digest, or is not a reference at all.

    >>> str(parse_repository("localhost:5000/team/app"))
    'localhost:5000/team/app'
    """
    # Sources list thousands of repositories. They would push all references of pods out of the cache of `parse`.
    repository, tag, digest = _parts(text)
    if tag or digest:
        raise InvalidReference("a repository has no tag and no digest")
    return repository


def normalised_domain(domain: str) -> str:
    """
    Return the domain that references have for a registry, however the registry is spelled.

    >>> [normalised_domain(text) for text in ("GHCR.io:443", "index.docker.io", "localhost:5000")]
    ['ghcr.io', 'docker.io', 'localhost:5000']
    """
    lower = domain.lower()
    # A domain of one label, such as `Registry`, is no domain any more without its capital letter or its port.
    host = next(filter(_is_domain, (lower.removesuffix(_DEFAULT_PORT), lower)), domain)
    return DEFAULT_DOMAIN if host in _HUB_HOSTS else host


def is_digest(text: str) -> bool:
    """
    Tell whether a text is a digest with an algorithm that the OCI image specification registers.

    >>> is_digest("sha256:" + 64 * "a"), is_digest("sha256:abc")
    (True, False)
    """
    return _DIGEST.fullmatch(text) is not None


def domain_of(image: str) -> str:
    """
    Return the domain of an image reference; `""` if `image` is not a valid reference.

    >>> domain_of("nginx:1.19"), domain_of("BAD//::x")
    ('docker.io', '')
    """
    reference = Reference.parse_if_valid(image)
    return reference.repository.domain if reference else ""


def account_of(image: str) -> str:
    """
    Return the domain of an image reference and the first part of its path; `""` if `image` is not a valid reference.

    Most registries give each account such a part. If the path has one part only, the account is the domain.

    >>> account_of("ghcr.io/acme/team/web:v1"), account_of("nginx"), account_of("registry.k8s.io/pause:3.10")
    ('ghcr.io/acme', 'docker.io/library', 'registry.k8s.io')
    """
    reference = Reference.parse_if_valid(image)
    if reference is None:
        return ""
    account, slash, _ = reference.repository.path.partition("/")
    return f"{reference.repository.domain}/{account}" if slash else reference.repository.domain


def same_image(image: str, other: str) -> bool:
    """
    Tell whether two texts name the same image, each normalised or in a short form.

    A reference without tag and digest has the tag `latest`.

    >>> same_image("nginx", "docker.io/library/nginx:latest")
    True
    """
    if image == other:
        return True
    left, right = Reference.parse_if_valid(image), Reference.parse_if_valid(other)
    if left is None or right is None:
        return False
    return left.repository == right.repository and (left.suffix or ":latest") == (right.suffix or ":latest")


def is_made_of(image: str, written: str) -> bool:
    """
    Tell whether an image is the one that was written, or what admission may have made of it: pinned to a digest.

    >>> digest = "sha256:" + 64 * "0"
    >>> [is_made_of(f"ghcr.io/acme/web{suffix}", "ghcr.io/acme/web:v1") for suffix in (":v1", f":v1@{digest}", ":v2")]
    [True, True, False]
    """
    if same_image(image, written):
        return True
    pinned, reference = Reference.parse_if_valid(image), Reference.parse_if_valid(written)
    if pinned is None or reference is None:
        return False
    is_pinned = reference.repository == pinned.repository and bool(pinned.digest) and not reference.digest
    return is_pinned and pinned.tag in {"", reference.tag or "latest"}


def same_repository(image: str, other: str) -> bool:
    """
    Tell whether two texts name images of the same repository; true if one of the texts is not a reference.

    >>> same_repository("nginx:1.19", "docker.io/library/nginx@sha256:" + 64 * "a")
    True
    """
    left, right = Reference.parse_if_valid(image), Reference.parse_if_valid(other)
    return left is None or right is None or left.repository == right.repository


def mentions(text: str, image: str) -> bool:
    """
    Tell whether `text`, a message of a container runtime, names the repository of `image`.

    Container runtimes spell out Docker's short forms, and leave the domain as the user spells it.

    >>> mentions('failed to resolve reference "docker.io/library/nginx:1.19": not found', "nginx")
    True
    """
    reference = Reference.parse_if_valid(image)
    if reference is None:
        return False
    return re.search(rf"(?<![\w./-]){re.escape(reference.repository.spelled)}(?![\w./-])", text) is not None


def _parts(text: str) -> tuple[Repository, str, str]:
    """Return the repository, tag and digest of a reference, each of the last two `""` if the reference has none."""
    if len(text) > _MAX_TEXT or not text.isascii() or _IDENTIFIER.fullmatch(text):
        raise InvalidReference("not an image reference")
    match = _REFERENCE.fullmatch(_spell_out(text))
    if match is None:
        raise InvalidReference("not an image reference")
    if len(match["path"]) > MAX_PATH:
        raise InvalidReference(f"the repository's path is longer than {MAX_PATH} characters")
    if match["digest"] and not is_digest(match["digest"]):
        raise InvalidReference("not a registered digest")
    return _normalised(match["domain"], match["path"]), match["tag"] or "", match["digest"] or ""


def _normalised(domain: str, path: str) -> Repository:
    """Return the repository with this domain and path, as distribution/reference splits them from a reference."""
    repository = Repository(domain=normalised_domain(domain), path=path)
    if repository.domain == DEFAULT_DOMAIN and "/" not in path:
        repository = replace(repository, path=f"{_OFFICIAL}/{path}")
    spelling = f"{domain}/{path}"
    return repository if spelling == str(repository) else replace(repository, spelling=spelling)


def _spell_out(text: str) -> str:
    """Spell out the domain, and on Docker Hub `library/`, as `splitDockerDomain` of distribution/reference does."""
    domain, slash, remainder = text.partition("/")
    if not slash or not _is_domain(domain):
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"{_OFFICIAL}/{remainder}"
    return f"{domain}/{remainder}"


def _is_domain(segment: str) -> bool:
    """Tell whether the first segment of a reference is a domain: no path on Docker Hub can start with a domain."""
    return segment == "localhost" or "." in segment or ":" in segment or segment != segment.lower()
