"""
Writes an OCI image layout, the same to the byte for the same content.

See https://github.com/opencontainers/image-spec: `image-layout.md`, `manifest.md`, `layer.md`. Times, owners and the
order of files are fixed. GNU gzip compresses: its output has not changed for decades, while that of Python's zlib
depends on the distribution.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.commands import run

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
NAME = "org.opencontainers.image.ref.name"

_STICKY = 0o1000
_EXECUTABLE = 0o100


@dataclass(frozen=True, slots=True)
class Blob:
    """A file in a layout, named by its digest; its size is in bytes."""

    media_type: str
    digest: str
    size: int

    def descriptor(self, **fields: Any) -> dict[str, Any]:
        """Return the descriptor by which documents refer to it (descriptor.md), with `fields` added."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **fields}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is stored, compressed, and the digest and the size in bytes of the tar file within."""

    blob: Blob
    diff_id: str
    unpacked_size: int


class Layout:
    """
    A layout that is being written.

    Args:
        folder: a folder that does not exist yet.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs/sha256"
        self._blobs.mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add(self, media_type: str, content: Mapping[str, Any]) -> Blob:
        """Add a JSON document."""
        data = _json(content)
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        return Blob(media_type, f"sha256:{digest}", len(data))

    def add_layer(self, root: Path) -> Layer:
        """Add a layer with everything below `root`, which stands for `/`."""
        plain = self.folder / "layer.tar"
        _archive(root, plain)
        diff_id, size = _digest(plain), plain.stat().st_size
        run("gzip", "--no-name", plain)
        packed = plain.with_name("layer.tar.gz")
        blob = Blob(LAYER, _digest(packed), packed.stat().st_size)
        packed.replace(self._blobs / blob.digest.removeprefix("sha256:"))
        return Layer(blob, diff_id, size)

    def name(self, blob: Blob, name: str) -> None:
        """Write index.json, which refers to a manifest or an index; programs know that by `name`, as by a tag."""
        entry = blob.descriptor(annotations={NAME: name})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        (self.folder / "index.json").write_bytes(_json(index))

    def archive(self, file: Path) -> None:
        """Write the layout as one file, which programs call an OCI archive."""
        _archive(self.folder, file)


def _archive(root: Path, file: Path) -> None:
    """Write everything below `root` to a tar file."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            tar.add(path, path.relative_to(root).as_posix(), recursive=False, filter=_without_origin)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"


def _without_origin(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Take away what differs between the machines that build: times, owners, and what their umask allows."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    if not entry.mode & _STICKY:
        entry.mode = 0o755 if entry.isdir() or entry.mode & _EXECUTABLE else 0o644
    return entry
