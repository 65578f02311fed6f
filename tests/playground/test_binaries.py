"""Where the control plane's programs come from."""

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from playground.binaries import CONTROL_PLANE, UnavailableError, find
from playground.gobuild import BuildError, GoBuild
from playground.releases import DownloadError, Releases

PROGRAM = b"#!/bin/sh\necho a program\n"


class Nowhere:
    """An origin that has nothing."""

    def fetch(self, name: str, target: Path) -> None:
        """Begin to write, and fail."""
        target.write_bytes(b"half")
        raise DownloadError(f"no {name} here")


class Once:
    """An origin that hands out each program a single time, and says when it was asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.handed_out: list[str] = []

    def fetch(self, name: str, target: Path) -> None:
        """Write the program once it may go on."""
        self.asked.set()
        self.go_on.wait(timeout=60)
        assert name not in self.handed_out
        self.handed_out.append(name)
        target.write_bytes(PROGRAM)


class Quiet(SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Give the URL of a web server and the folder it serves."""
    folder = tmp_path / "site"
    folder.mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.fixture
def releases(site: tuple[str, Path]) -> Releases:
    """Give the releases of a made-up version, as the site publishes them."""
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


def fill(folder: Path, *names: str) -> Path:
    """Make a folder of programs."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(PROGRAM)
        (folder / name).chmod(0o755)
    return folder


def test_kubebuilder_assets_come_first(tmp_path: Path) -> None:
    """The folder the user names is used as it is."""
    folder = fill(tmp_path / "assets", *CONTROL_PLANE)
    assert {name: folder / name for name in CONTROL_PLANE} == find(environ={"KUBEBUILDER_ASSETS": str(folder)})


def test_kubebuilder_assets_that_lack_a_program_are_an_error(tmp_path: Path) -> None:
    """A folder the user names is not completed behind their back: the error names what it lacks."""
    folder = fill(tmp_path / "assets", "etcd", "kube-apiserver")
    with pytest.raises(UnavailableError, match="lacks kube-controller-manager, kube-scheduler") as error:
        find(environ={"KUBEBUILDER_ASSETS": str(folder)}, origins=[Once()])
    assert str(folder) in str(error.value)


def test_what_an_origin_gives_is_found_in_the_cache_from_then_on(tmp_path: Path) -> None:
    """A program is fetched once, made executable, and nothing but it remains."""
    origin = Once()
    origin.go_on.set()
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    first = find(["etcd"], environ=environ, origins=[Nowhere(), origin])
    assert first == find(["etcd"], environ=environ, origins=[])
    assert "a program\n" == subprocess.check_output([first["etcd"]], text=True)
    assert {"etcd", ".lock"} == {path.name for path in first["etcd"].parent.iterdir()}


def test_without_any_origin_the_error_says_what_failed_and_what_helps(tmp_path: Path) -> None:
    """The message has each origin's reason and the three ways out; half a program is not kept."""
    with pytest.raises(UnavailableError) as error:
        find(["etcd"], environ={"XDG_CACHE_HOME": str(tmp_path)}, origins=[Nowhere()])
    for words in ("no etcd here", "set KUBEBUILDER_ASSETS", "a network", f"copy {tmp_path}"):
        assert words in str(error.value)
    assert [".lock"] == [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_two_finders_at_once_fetch_once(tmp_path: Path) -> None:
    """The second finder waits for the first and takes what it has fetched."""
    origin = Once()
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    script = "import sys; from playground.binaries import find; print(find(['etcd'], origins=[])['etcd'])"
    fetcher = threading.Thread(target=find, args=(["etcd"],), kwargs={"environ": environ, "origins": [origin]})
    fetcher.start()
    assert origin.asked.wait(timeout=60)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second:
        assert second.stderr
        assert "Waiting for another process" in second.stderr.readline()
        origin.go_on.set()
        out, _ = second.communicate(timeout=60)
    fetcher.join()
    assert PROGRAM == Path(out.strip()).read_bytes()


def test_a_download_is_what_its_checksum_says(releases: Releases, site: tuple[str, Path], tmp_path: Path) -> None:
    """A program of Kubernetes is downloaded from its version's folder."""
    checksum = publish(site[1], "v1/bin/linux/amd64/kubelet", PROGRAM)
    publish(site[1], "v1/bin/linux/amd64/kubelet.sha256", checksum.encode())
    releases.fetch("kubelet", tmp_path / "kubelet")
    assert PROGRAM == (tmp_path / "kubelet").read_bytes()


def test_a_download_with_another_checksum_is_refused(
    site: tuple[str, Path], releases: Releases, tmp_path: Path
) -> None:
    """What is not the published program does not reach the cache."""
    publish(site[1], "v1/bin/linux/amd64/kubelet", b"something else")
    publish(site[1], "v1/bin/linux/amd64/kubelet.sha256", hashlib.sha256(PROGRAM).hexdigest().encode())
    with pytest.raises(UnavailableError, match="kubelet is refused"):
        find(["kubelet"], environ={"XDG_CACHE_HOME": str(tmp_path / "cache")}, origins=[releases])
    assert [] == list((tmp_path / "cache").rglob("*kubelet*"))


def test_etcd_is_taken_out_of_its_archive(releases: Releases, site: tuple[str, Path], tmp_path: Path) -> None:
    """The releases of etcd are archives, listed with their checksums in one file."""
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


def test_a_release_without_the_program_is_not_asked_further(releases: Releases, tmp_path: Path) -> None:
    """No checksum, no download: the answer is the reason."""
    with pytest.raises(DownloadError, match="404"):
        releases.fetch("kubelet", tmp_path / "kubelet")


def test_an_unreachable_host_is_named(tmp_path: Path) -> None:
    """A host that does not answer is a reason like any other."""
    releases = Releases(
        kubernetes="v1",
        etcd="v3",
        platform=("linux", "amd64"),
        progress=io.StringIO(),
        kubernetes_url="http://127.0.0.1:1",
    )
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:1 cannot be reached"):
        releases.fetch("kubelet", tmp_path / "kubelet")


def test_a_failed_build_shows_the_end_of_its_output(tmp_path: Path) -> None:
    """What the compiler said is in the error."""
    go = fill(tmp_path / "bin", "go") / "go"
    go.write_text('#!/bin/sh\n[ "$1" = env ] && echo go1.99.0 && exit\necho no network >&2\nexit 1\n')
    build = GoBuild(kubernetes="v1.34.4", cache=tmp_path, environ={"PATH": str(go.parent)}, progress=io.StringIO())
    with pytest.raises(BuildError, match=r"(?s)go build .* ended with status 1:\nno network"):
        build.fetch("kubelet", tmp_path / "kubelet")
