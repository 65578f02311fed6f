"""Images as a registry stores them: manifests and blobs by their digests."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(body: bytes) -> str:
    """Return the SHA-256 digest of a manifest or blob, as `sha256:HEX`."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Image:
    """
    An image, or an index of images.

    `body` is the manifest or the index itself. `manifests` are the images that an index names, and `blobs` the configs
    and layers that the manifests name; both are by digest.
    """

    media_type: str
    body: bytes
    manifests: Mapping[str, "Image"] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of `body`."""
        return digest_of(self.body)

    @property
    def parsed(self) -> Any:
        """The JSON of `body`, parsed."""
        return json.loads(self.body)


def image(platform: str = "linux/amd64", *, layers: int = 2, build: str = "1") -> Image:
    """Return an image for a platform, `OS/ARCHITECTURE[/VARIANT]`; another `build` gives another digest."""
    os, architecture, *variant = platform.split("/")
    config = {"os": os, "architecture": architecture, "build": build} | ({"variant": variant[0]} if variant else {})
    parts = [
        json.dumps(config).encode(),
        *(f"layer {number} of {platform} {build}".encode() for number in range(layers)),
    ]
    described = [
        {"mediaType": "application/octet-stream", "digest": digest_of(part), "size": len(part)} for part in parts
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    blobs = {digest_of(part): part for part in parts}
    return Image(media_type=MANIFEST, body=json.dumps(manifest).encode(), blobs=blobs)


def configured(image: Image, config: bytes) -> Image:
    """Return a copy of the image whose config is `config`."""
    manifest = image.parsed | {"config": {"digest": digest_of(config)}}
    return Image(
        media_type=MANIFEST, body=json.dumps(manifest).encode(), blobs={**image.blobs, digest_of(config): config}
    )


def index(*platforms: str, build: str = "1") -> Image:
    """Return an index with one image for each platform, each `OS/ARCHITECTURE[/VARIANT]`."""
    images = {platform: image(platform, build=build) for platform in platforms}
    listed = []
    for platform, image_of in images.items():
        os, architecture, *variant = platform.split("/")
        written = {"os": os, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        listed.append(
            {"mediaType": MANIFEST, "digest": image_of.digest, "size": len(image_of.body), "platform": written}
        )
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode()
    blobs = {digest: blob for image_of in images.values() for digest, blob in image_of.blobs.items()}
    return Image(
        media_type=INDEX, body=body, manifests={image_of.digest: image_of for image_of in images.values()}, blobs=blobs
    )
