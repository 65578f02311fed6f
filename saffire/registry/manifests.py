"""
Images at registries: an index lists a manifest for each platform, and a manifest lists a config and layers.

Media types and fields are those of the OCI image specification, which took them from Docker's format. Saffire does not
trust a registry: a body has to match its digest, and this module checks the size of a body and the types of its fields.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saffire.registry.platforms import Platform
from saffire.registry.reference import is_digest

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
MEDIA_TYPES = (*INDEXES, *MANIFESTS)
# No real image has as many layers (Docker stops at 127), and no real index as many platforms.
_MAX_PARTS = 512
# The most `{`, `[` and `,` in a body: far more than an image with that many parts needs. To parse four megabytes of
# such characters would take so long that all other work would have to wait.
_MAX_MARKS = 50_000
_MAX_PLATFORM = 64


class InvalidImage(ValueError):
    """The body cannot be read as a manifest, an index or a config."""


class BrokenImage(InvalidImage):
    """The body should be a manifest or an index, but the body does not match its digest, or cannot be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """A manifest in an index: its digest and platform; `platform` is `None` if the index names no platform."""

    digest: str
    platform: Platform | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """An index: the manifests that it lists for the platforms, in the order of the index."""

    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageManifest:
    """
    A manifest: the digest of an image's config, and the digests of the image's layers.

    Layers that the registry itself does not store are left out (`urls`).
    """

    config: str
    layers: tuple[str, ...]


def digest_of(body: bytes, like: str = "") -> str:
    """
    Return the digest of a body, with the algorithm of the digest `like`, or with sha256 if `like` is no digest.

    >>> digest_of(b"")[:18]
    'sha256:e3b0c44298f'
    """
    algorithm = like.partition(":")[0] if is_digest(like) else "sha256"
    return f"{algorithm}:{hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()}"


def read_image(body: bytes, *, digest: str, media_type: str) -> tuple[str, Index | ImageManifest]:
    """
    Return the digest and the content of a manifest or index.

    Raise `BrokenImage` if the body does not match `digest`; with `digest=""`, any body matches. If the body cannot be
    read, raise `BrokenImage` if there is a `digest` or if the media type says that the body is an image. Otherwise
    raise `InvalidImage`.
    """
    actual = digest_of(body, digest)
    if digest and actual != digest:
        raise BrokenImage("not what it is named by")
    try:
        return actual, parse_image(body)
    except InvalidImage as error:
        if digest or media_type.partition(";")[0].strip() in MEDIA_TYPES:
            raise BrokenImage(str(error)) from error
        raise


def parse_image(body: bytes) -> Index | ImageManifest:
    """
    Read an index or a manifest; raise `InvalidImage` if the body is neither.

    The fields of the body tell whether it is an index, since a media type may be missing or wrong.
    """
    content = _object(body)
    if isinstance(content.get("manifests"), list):
        return Index(manifests=tuple(_descriptor(item) for item in _bounded(content["manifests"])))
    if isinstance(content.get("config"), dict) and isinstance(content.get("layers"), list):
        layers = [item for item in _bounded(content["layers"]) if not _is_kept_elsewhere(item)]
        return ImageManifest(config=_digest(content["config"]), layers=tuple(map(_digest, layers)))
    raise InvalidImage("neither an index nor a manifest")


def parse_platform(body: bytes) -> Platform | None:
    """Return the platform that an image's config names; `None` if the config names none."""
    return _platform(_object(body))


def _descriptor(item: object) -> Descriptor:
    digest = _digest(item)
    platform = item.get("platform") if isinstance(item, dict) else None
    return Descriptor(digest=digest, platform=_platform(platform) if isinstance(platform, dict) else None)


def _platform(item: Mapping[str, Any]) -> Platform | None:
    os, architecture, variant = (item.get(key) or "" for key in ("os", "architecture", "variant"))
    if not (isinstance(os, str) and isinstance(architecture, str) and isinstance(variant, str)):
        raise InvalidImage("a platform is not written in strings")
    if len(os) + len(architecture) + len(variant) > _MAX_PLATFORM:
        raise InvalidImage("a platform is no platform's name")
    return Platform.of(os, architecture, variant) if os and architecture else None


def _is_kept_elsewhere(item: object) -> bool:
    """Tell whether a layer is stored outside of the registry (`urls`), like the base layers of Windows."""
    return isinstance(item, dict) and bool(item.get("urls"))


def _digest(item: object) -> str:
    digest = item.get("digest") if isinstance(item, dict) else None
    if not isinstance(digest, str) or not is_digest(digest):
        raise InvalidImage("a part has no digest")
    return digest


def _bounded(items: list[Any]) -> list[Any]:
    if len(items) > _MAX_PARTS:
        raise InvalidImage(f"more than {_MAX_PARTS} parts")
    return items


def _object(body: bytes) -> dict[str, Any]:
    if sum(map(body.count, (b"{", b"[", b","))) > _MAX_MARKS:
        raise InvalidImage("too much of it")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidImage("not JSON") from error
    if not isinstance(content, dict):
        raise InvalidImage("not an object")
    return content
