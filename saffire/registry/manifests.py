"""
Images as registries serve them: a manifest names a config and layers, an index names manifests, one per platform.

Media types and fields are those of the OCI image specification, which took them from Docker's. A registry is a
stranger: a body is believed only as far as it hashes to its digest, and read only as far as it makes sense.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saffire.registry.platforms import Platform

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
MEDIA_TYPES = (*INDEXES, *MANIFESTS)
_DIGEST = re.compile(r"(sha256):[a-f0-9]{64}|(sha384):[a-f0-9]{96}|(sha512):[a-f0-9]{128}")
# No image of the world has as many layers (Docker stops at 127), and no index as many platforms.
_MAX_PARTS = 512
# What a body of that many parts needs by far. To read four megabytes of nothing else would stop everybody else.
_MAX_MARKS = 50_000
_MAX_WORD = 64


class InvalidImage(ValueError):
    """The body is no manifest, no index or no config that could be read."""


class BrokenImage(InvalidImage):
    """The body is meant to be a manifest or an index, and is not what it is named by, or not all of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A manifest that an index lists; `platform` is `None` where the index does not say."""

    digest: str
    platform: Platform | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """What there is for each platform, in the index's order."""

    listed: tuple[Listed, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageManifest:
    """The digests of one image's config, and of its layers as far as its registry keeps them."""

    config: str
    layers: tuple[str, ...]


def is_digest(text: str) -> bool:
    """
    Tell whether a text is a digest of an algorithm that the specification registers.

    >>> is_digest("sha256:" + 64 * "a"), is_digest("sha256:abc")
    (True, False)
    """
    return _DIGEST.fullmatch(text) is not None


def digest_of(body: bytes, like: str = "") -> str:
    """
    Return the digest of a body, by the algorithm of the digest `like`; sha256 without one.

    >>> digest_of(b"")[:18]
    'sha256:e3b0c44298f'
    """
    algorithm = like.partition(":")[0] if is_digest(like) else "sha256"
    return f"{algorithm}:{hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()}"


def read_image(body: bytes, *, digest: str, media_type: str) -> tuple[str, Index | ImageManifest]:
    """
    Return the digest and the content of a manifest or index.

    It has to hash to `digest`, if there is one, or raises `BrokenImage`; so it does where its media type promises more
    than can be read. Anything else raises `InvalidImage`.
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
    """Read an index or a manifest, by what it has: the media type is not always told, or not truly."""
    found = _object(body)
    if isinstance(found.get("manifests"), list):
        return Index(listed=tuple(_listed(each) for each in _bounded(found["manifests"])))
    if isinstance(found.get("config"), dict) and isinstance(found.get("layers"), list):
        layers = [each for each in _bounded(found["layers"]) if not _is_foreign(each)]
        return ImageManifest(config=_digest(found["config"]), layers=tuple(map(_digest, layers)))
    raise InvalidImage("neither an index nor a manifest")


def parse_platform(body: bytes) -> Platform | None:
    """Return the platform that a config says its image is for; `None` where it does not say."""
    return _platform(_object(body))


def _listed(item: object) -> Listed:
    digest = _digest(item)
    platform = item.get("platform") if isinstance(item, dict) else None
    return Listed(digest=digest, platform=_platform(platform) if isinstance(platform, dict) else None)


def _platform(item: Mapping[str, Any]) -> Platform | None:
    os, architecture, variant = (item.get(key) or "" for key in ("os", "architecture", "variant"))
    if not (isinstance(os, str) and isinstance(architecture, str) and isinstance(variant, str)):
        raise InvalidImage("a platform is not written in strings")
    if len(os) + len(architecture) + len(variant) > _MAX_WORD:
        raise InvalidImage("a platform is no platform's name")
    return Platform.of(os, architecture, variant) if os and architecture else None


def _is_foreign(item: object) -> bool:
    """Tell whether a layer is kept elsewhere, as those of Windows are."""
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
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidImage("not JSON") from error
    if not isinstance(found, dict):
        raise InvalidImage("not an object")
    return found
