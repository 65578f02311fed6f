"""Downloads are verified against the published checksums."""

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from playground.cluster.binaries import UnavailableError, find_binaries
from playground.cluster.releases import DownloadError, Releases

PROGRAM = b"a program"


class QuietHandler(SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Give the URL of a web server and the folder that it serves."""
    folder = tmp_path / "site"
    folder.mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.fixture
def releases(site: tuple[str, Path]) -> Releases:
    """Give the releases of an invented version, which the site publishes."""
    url, _ = site
    return Releases(
        kubernetes="v1",
        etcd="v3",
        platform=("linux", "amd64"),
        progress=io.StringIO(),
        kubernetes_url=url,
        etcd_url=url,
    )


def publish(folder: Path, path: str, content: bytes) -> str:
    """Put a file on the site; return its checksum."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_download_with_the_published_checksum_is_kept(
    releases: Releases, site: tuple[str, Path], tmp_path: Path
) -> None:
    """A program of Kubernetes is downloaded from the folder of its version."""
    checksum = publish(site[1], "v1/bin/linux/amd64/kubelet", PROGRAM)
    publish(site[1], "v1/bin/linux/amd64/kubelet.sha256", checksum.encode())
    releases.fetch("kubelet", tmp_path / "kubelet")
    assert PROGRAM == (tmp_path / "kubelet").read_bytes()


def test_a_download_with_another_checksum_is_refused(
    site: tuple[str, Path], releases: Releases, tmp_path: Path
) -> None:
    """A program with another checksum does not reach the cache."""
    publish(site[1], "v1/bin/linux/amd64/kubelet", b"something else")
    publish(site[1], "v1/bin/linux/amd64/kubelet.sha256", hashlib.sha256(PROGRAM).hexdigest().encode())
    with pytest.raises(UnavailableError, match="kubelet is refused"):
        find_binaries(["kubelet"], environ={"XDG_CACHE_HOME": str(tmp_path / "cache")}, origins=[releases])
    assert [] == list((tmp_path / "cache").rglob("*kubelet*"))


def test_etcd_is_extracted_from_its_archive(releases: Releases, site: tuple[str, Path], tmp_path: Path) -> None:
    """The releases of etcd are archives; one file lists their checksums."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("etcd-v3-linux-amd64/etcd")
        member.size = len(PROGRAM)
        archive.addfile(member, io.BytesIO(PROGRAM))
    checksum = publish(site[1], "v3/etcd-v3-linux-amd64.tar.gz", packed.getvalue())
    publish(
        site[1],
        "v3/SHA256SUMS",
        f"{'0' * 64}  etcd-v3-darwin-amd64.zip\n{checksum}  etcd-v3-linux-amd64.tar.gz\n".encode(),
    )
    releases.fetch("etcd", tmp_path / "etcd")
    assert PROGRAM == (tmp_path / "etcd").read_bytes()
    assert not (tmp_path / "etcd.tar.gz").exists()


def test_without_a_checksum_nothing_is_downloaded(releases: Releases, tmp_path: Path) -> None:
    """If the checksum is not published, the HTTP status is the reason."""
    with pytest.raises(DownloadError, match="404"):
        releases.fetch("kubelet", tmp_path / "kubelet")


def test_an_unreachable_host_is_named(tmp_path: Path) -> None:
    """If a host does not answer, the error names it."""
    releases = Releases(
        kubernetes="v1",
        etcd="v3",
        platform=("linux", "amd64"),
        progress=io.StringIO(),
        kubernetes_url="http://127.0.0.1:1",
    )
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:1 cannot be reached"):
        releases.fetch("kubelet", tmp_path / "kubelet")
