"""
Downloads programs from the official releases, and accepts only what the published checksum confirms.

Kubernetes publishes each program with a `.sha256` beside it. etcd publishes an archive per platform and one
`SHA256SUMS`. If a host does not answer within seconds, it is not asked again: the programs can also be built.
"""

import hashlib
import shutil
import tarfile
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TextIO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from playground.cluster.progress import step

CONNECT_SECONDS = 3
"""How long a host may take to send a checksum, which is a few bytes."""

STALL_SECONDS = 30
"""How long a download may receive nothing."""

CHUNK_BYTES = 2**20


class DownloadError(Exception):
    """A program cannot be downloaded, or does not match its checksum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Releases:
    """The official releases of one version for one platform."""

    kubernetes: str
    """The version of Kubernetes, such as `v1.34.4`."""

    etcd: str
    """The version of etcd, such as `v3.6.4`."""

    platform: tuple[str, str]
    """Operating system and processor as Go names them, such as `("linux", "amd64")`."""

    progress: TextIO
    """Where steps are reported."""

    kubernetes_url: str = "https://dl.k8s.io"
    etcd_url: str = "https://github.com/etcd-io/etcd/releases/download"

    _unreachable: dict[str, str] = field(default_factory=dict)

    def fetch(self, name: str, target: Path) -> None:
        """Write program `name` to `target`; raise `DownloadError` if that fails."""
        if name == "etcd":
            self._fetch_etcd(target)
            return
        url = f"{self.kubernetes_url}/{self.kubernetes}/bin/{'/'.join(self.platform)}/{name}"
        self._download(url, self._read(f"{url}.sha256").strip(), target)

    def _fetch_etcd(self, target: Path) -> None:
        folder = f"etcd-{self.etcd}-{'-'.join(self.platform)}"
        url = f"{self.etcd_url}/{self.etcd}/{folder}.tar.gz"
        checksum = _checksum(self._read(f"{self.etcd_url}/{self.etcd}/SHA256SUMS"), f"{folder}.tar.gz")
        archive = target.with_name(f"{target.name}.tar.gz")
        try:
            self._download(url, checksum, archive)
            with tarfile.open(archive) as tar, target.open("wb") as out:
                program = tar.extractfile(f"{folder}/etcd")
                if not program:
                    raise DownloadError(f"{url} holds no etcd")
                shutil.copyfileobj(program, out)
        finally:
            archive.unlink(missing_ok=True)

    def _read(self, url: str) -> str:
        host = urlsplit(url).netloc
        if host in self._unreachable:
            raise DownloadError(self._unreachable[host])
        try:
            with _open(url, CONNECT_SECONDS) as response:
                return response.read().decode()
        except HTTPError as error:
            raise DownloadError(f"{url}: {error}") from error
        except (OSError, HTTPException, UnicodeDecodeError) as error:
            self._unreachable[host] = f"{host} cannot be reached: {error}"
            raise DownloadError(self._unreachable[host]) from error

    def _download(self, url: str, checksum: str, target: Path) -> None:
        digest = hashlib.sha256()
        try:
            with (
                step(f"Downloading {url}", self.progress),
                _open(url, STALL_SECONDS) as response,
                target.open("wb") as out,
            ):
                while chunk := response.read(CHUNK_BYTES):
                    digest.update(chunk)
                    out.write(chunk)
        except (OSError, HTTPException) as error:
            raise DownloadError(f"{url}: {error}") from error
        if digest.hexdigest() != checksum:
            raise DownloadError(f"{url} is refused: its SHA-256 is {digest.hexdigest()}, published is {checksum}")


def _open(url: str, timeout_seconds: float) -> HTTPResponse:
    response: HTTPResponse = urllib.request.urlopen(url, timeout=timeout_seconds)  # noqa: S310 -- the URLs are constants
    return response


def _checksum(sums: str, file: str) -> str:
    """Return the checksum that the lines of a `SHA256SUMS` give for `file`."""
    for line in sums.splitlines():
        checksum, _, name = line.partition("  ")
        if name == file:
            return checksum
    raise DownloadError(f"SHA256SUMS lists no {file}")
