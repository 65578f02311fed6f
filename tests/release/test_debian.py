"""The Debian packages of the image: pinned for every architecture, and none but the pinned ones is used."""

import hashlib
import shutil
from pathlib import Path

import pytest

from release.commands import run
from release.debian import (
    ANYWHERE,
    ARCHITECTURES,
    LOCK,
    PACKAGES,
    Package,
    ReplacedError,
    fetch,
    mirror,
    read_lock,
    unpack,
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_lock_pins_every_package(architecture: str) -> None:
    """For each architecture there is each package, once; base-files unpacks before those that need its folders."""
    names = [package.name for package in read_lock(LOCK.read_text()) if package.is_for(architecture)]
    assert sorted([*PACKAGES, *ANYWHERE]) == sorted(names)
    assert names.index("base-files") < names.index("libc6")


def test_every_architecture_has_the_same_versions() -> None:
    """A lock that was renewed in the middle of an update of Debian would differ."""
    packages = read_lock(LOCK.read_text())
    versions = [
        {package.path.removesuffix(f"_{architecture}.deb") for package in packages if package.is_for(architecture)}
        for architecture in ARCHITECTURES
    ]
    assert versions[0] == versions[1]


def make_package(folder: Path, name: str = "libx") -> Path:
    """Build a Debian package with one file."""
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/lib").mkdir(parents=True)
    (tree / "usr/lib/x").write_text("library")
    fields = f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: nobody\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(fields)
    file = folder / f"{name}_1.0_amd64.deb"
    run("dpkg-deb", "--build", "--root-owner-group", tree, file)
    return file


def package_of(file: Path) -> Package:
    """Return how a lock would pin a file."""
    return Package(hashlib.sha256(file.read_bytes()).hexdigest(), f"debian/{file.name}")


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Give a package on a mirror, which is the folder `mirror`."""
    if not shutil.which("dpkg-deb") or not shutil.which("apt-get"):
        pytest.skip("Debian packages need apt and dpkg")
    (tmp_path / "mirror/debian").mkdir(parents=True)
    return make_package(tmp_path).rename(tmp_path / "mirror/debian/libx_1.0_amd64.deb")


def test_a_package_is_downloaded_once(served: Path, tmp_path: Path) -> None:
    """The second build works without the mirror, and a damaged file in the cache is replaced."""
    pinned, address = package_of(served), f"copy:{tmp_path}/mirror/"
    content = served.read_bytes()
    (file,) = fetch([pinned], tmp_path / "cache", address)
    assert content == file.read_bytes()
    file.write_bytes(b"half")
    assert content == fetch([pinned], tmp_path / "cache", address)[0].read_bytes()
    served.unlink()
    assert [file] == fetch([pinned], tmp_path / "cache", address)


def test_another_file_than_the_pinned_one_is_refused(served: Path, tmp_path: Path) -> None:
    """A mirror cannot give something else under the same name."""
    pinned = package_of(served)
    served.write_bytes(b"something else")
    with pytest.raises(ReplacedError, match="Hash Sum mismatch"):
        fetch([pinned], tmp_path / "cache", f"copy:{tmp_path}/mirror/")
    assert [] == list((tmp_path / "cache").iterdir())


def test_what_debian_has_replaced_is_named(served: Path, tmp_path: Path) -> None:
    """The error says what to do."""
    gone = Package(package_of(served).sha256, "debian/libx_0.9_amd64.deb")
    with pytest.raises(ReplacedError, match=r"(?s)`make base` pins their replacements.*libx_0\.9_amd64\.deb"):
        fetch([gone], tmp_path / "cache", f"copy:{tmp_path}/mirror/")


def test_a_scanner_sees_what_was_unpacked(served: Path, tmp_path: Path) -> None:
    """The fields of the package lie where scanners look in images without dpkg."""
    unpack(served, tmp_path / "root")
    assert "library" == (tmp_path / "root/usr/lib/x").read_text()
    assert "Version: 1.0" in (tmp_path / "root/var/lib/dpkg/status.d/libx").read_text()


def test_a_mirror_can_be_named() -> None:
    """On a machine that is not Debian, the variable says where Debian is."""
    assert "http://mirror.example.com/" == mirror({"DEBIAN_MIRROR": "http://mirror.example.com"})
