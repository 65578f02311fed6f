"""Finding the programs of the control plane."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from playground.cluster.binaries import CONTROL_PLANE, UnavailableError, find_binaries
from playground.cluster.releases import DownloadError

PROGRAM = b"#!/bin/sh\necho a program\n"


class EmptyOrigin:
    """An origin that has no program."""

    def fetch(self, name: str, target: Path) -> None:
        """Write half a file, and fail."""
        target.write_bytes(b"half")
        raise DownloadError(f"no {name} here")


class SingleUseOrigin:
    """An origin that writes each program only once, and says when it was asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.written: list[str] = []

    def fetch(self, name: str, target: Path) -> None:
        """Wait until `go_on` is set, then write the program."""
        self.asked.set()
        self.go_on.wait(timeout=60)
        assert name not in self.written
        self.written.append(name)
        target.write_bytes(PROGRAM)


def fill(folder: Path, *names: str) -> Path:
    """Create a folder of programs."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(PROGRAM)
        (folder / name).chmod(0o755)
    return folder


def test_kubebuilder_assets_come_first(tmp_path: Path) -> None:
    """If the user names a folder, its programs are used."""
    folder = fill(tmp_path / "assets", *CONTROL_PLANE)
    assert {name: folder / name for name in CONTROL_PLANE} == find_binaries(environ={"KUBEBUILDER_ASSETS": str(folder)})


def test_kubebuilder_assets_that_lack_a_program_are_an_error(tmp_path: Path) -> None:
    """If the user's folder lacks programs, the error names them, and nothing is added to the folder."""
    folder = fill(tmp_path / "assets", "etcd", "kube-apiserver")
    with pytest.raises(UnavailableError, match="lacks kube-controller-manager, kube-scheduler") as error:
        find_binaries(environ={"KUBEBUILDER_ASSETS": str(folder)}, origins=[SingleUseOrigin()])
    assert str(folder) in str(error.value)


def test_a_fetched_program_is_in_the_cache_from_then_on(tmp_path: Path) -> None:
    """A program is fetched once and made executable; no other file remains."""
    origin = SingleUseOrigin()
    origin.go_on.set()
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    first = find_binaries(["etcd"], environ=environ, origins=[EmptyOrigin(), origin])
    assert first == find_binaries(["etcd"], environ=environ, origins=[])
    assert "a program\n" == subprocess.check_output([first["etcd"]], text=True)
    assert {"etcd", ".lock"} == {path.name for path in first["etcd"].parent.iterdir()}


def test_if_no_origin_has_a_program_the_error_says_why_and_what_helps(tmp_path: Path) -> None:
    """The message has each origin's reason and the three remedies. No half-written program is kept."""
    with pytest.raises(UnavailableError) as error:
        find_binaries(["etcd"], environ={"XDG_CACHE_HOME": str(tmp_path)}, origins=[EmptyOrigin()])
    for words in ("no etcd here", "set KUBEBUILDER_ASSETS", "a network", f"copy {tmp_path}"):
        assert words in str(error.value)
    assert [".lock"] == [path.name for path in tmp_path.rglob("*") if path.is_file()]


def test_two_processes_at_once_fetch_once(tmp_path: Path) -> None:
    """The second process waits for the first and uses what it has fetched."""
    origin = SingleUseOrigin()
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    module = "playground.cluster.binaries"
    script = f"import sys; from {module} import find_binaries; print(find_binaries(['etcd'], origins=[])['etcd'])"
    fetcher = threading.Thread(target=find_binaries, args=(["etcd"],), kwargs={"environ": environ, "origins": [origin]})
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
