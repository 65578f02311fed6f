"""
The Debian packages that the image's root file system comes from.

`base.lock` pins them: for each, its SHA-256 and its path on any mirror, as `sha256sum` writes them. apt downloads them,
and dpkg unpacks them. No script of a package runs, so this needs no root, and works for every architecture.

`renew` writes the lock anew, from the lists that Debian signs. A mirror keeps a version until Debian replaces it; then
an image cannot be built before the lock is renewed, which brings the replacement, usually a fix of a vulnerability.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from release.commands import BuildError, run

SUITE = "trixie"
"""Debian 13, which has Python 3.13."""

ARCHITECTURES = ("amd64", "arm64")
"""As Debian and OCI name them."""

LOCK = Path(__file__).with_name("base.lock")

PACKAGES = (
    "base-files",  # the folders, links such as /lib, os-release; first, since the others unpack into them
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
    "python3.13-minimal",  # the program
    "libc6",
    "libbz2-1.0",  # this and the next ones: libraries of Python's modules
    "libexpat1",
    "libffi8",
    "liblzma5",
    "libssl3t64",
    "libuuid1",
    "libzstd1",
    "zlib1g",
    "gcc-14-base",  # the licence of the next two
    "libgcc-s1",
    "libstdc++6",  # grpcio's
)
"""
The packages, named one by one.

Their dependencies would bring perl, a shell and a terminal. Nothing loads what is missing: Debian's time zones, which
the wheel `tzdata` has, and the libraries of dbm, curses, readline and sqlite3, whose modules `rootfs` leaves out.
"""

ANYWHERE = ("ca-certificates",)
"""The packages that are the same on every architecture."""


class ReplacedError(BuildError):
    """The mirror does not have a package that the lock pins."""


_APT_HELPER = "/usr/lib/apt/apt-helper"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SOURCES = (("debian", SUITE), ("debian", f"{SUITE}-updates"), ("debian-security", f"{SUITE}-security"))


@dataclass(frozen=True, slots=True)
class Package:
    """A package, as the lock pins it."""

    sha256: str
    path: str
    """Below the address of a mirror, such as `debian/pool/main/z/zlib/zlib1g_1.3_amd64.deb`; quoted as in a URL."""

    @property
    def name(self) -> str:
        """The name of the package."""
        return self.path.rpartition("/")[2].partition("_")[0].replace("%2b", "+")

    def is_for(self, architecture: str) -> bool:
        """Tell whether the package belongs into an image of this architecture."""
        return self.path.endswith((f"_{architecture}.deb", "_all.deb"))


def read_lock(text: str) -> list[Package]:
    """Return the packages of a lock, in its order."""
    return [Package(*line.split("  ", 1)) for line in text.splitlines() if line and not line.startswith("#")]


def mirror(environ: Mapping[str, str] = os.environ) -> str:
    """
    Return the address below which a mirror has `debian/` and `debian-security/`.

    `DEBIAN_MIRROR` names it; otherwise it is that from which apt installs the packages of this machine.
    """
    if named := environ.get("DEBIAN_MIRROR"):
        return f"{named.removesuffix('/')}/"
    for address in run("apt-get", "indextargets", "--format=$(REPO_URI)", "Created-By: Packages").split():
        if address.endswith("/debian/"):
            return address.removesuffix("debian/")
    raise BuildError(
        "apt on this machine knows no mirror of Debian: set DEBIAN_MIRROR to the address above its debian/"
    )


def fetch(packages: Sequence[Package], cache: Path, address: str) -> list[Path]:
    """Return the files of the packages, in the same order. Those that `cache` lacks are downloaded from a mirror."""
    files = {package: cache / f"{package.sha256}.deb" for package in packages}
    missing = [package for package, file in files.items() if not _is_intact(package, file)]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            wanted = [
                (f"{address}{package.path}", Path(folder, package.sha256), f"SHA256:{package.sha256}")
                for package in missing
            ]
            try:
                run(
                    _APT_HELPER, "-oAPT::Sandbox::User=", "download-file", *(part for three in wanted for part in three)
                )
            except BuildError as error:
                advice = "If Debian has replaced them, `make base` pins their replacements."
                raise ReplacedError(f"Packages of {LOCK.name} cannot be had. {advice}\n{error}") from error
            for package in missing:
                Path(folder, package.sha256).replace(files[package])
    return list(files.values())


def unpack(file: Path, root: Path) -> None:
    """Unpack a package into the root file system `root`, and write its fields to where vulnerability scanners look."""
    run("dpkg-deb", "--extract", file, root)
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True, exist_ok=True)
    fields = run("dpkg-deb", "--field", file)
    (status / run("dpkg-deb", "--field", file, "Package").strip()).write_text(fields)


def renew(address: str) -> str:
    """Return the text of a new lock, with the newest versions that Debian has signed."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for needed in ("etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
            (root / needed).mkdir(parents=True)
        (root / "status").touch()
        sources = (f"deb [signed-by={_KEYRING}] {address}{archive} {suite} main\n" for archive, suite in _SOURCES)
        (root / "etc/apt/sources.list").write_text("".join(sources))
        settings = {"Dir": folder, "Dir::State::status": f"{folder}/status", "APT::Sandbox::User": ""}
        options = [f"-o{name}={value}" for name, value in settings.items()]
        options += [f"-oAPT::Architectures::={architecture}" for architecture in ARCHITECTURES]
        run("apt-get", *options, "update")
        names = [*ANYWHERE, *(f"{name}:{architecture}" for architecture in ARCHITECTURES for name in PACKAGES)]
        printed = run("apt-get", *options, "download", "--print-uris", *names)
    return _HEAD + "".join(f"{package.sha256}  {package.path}\n" for package in _in_order(printed, address))


_HEAD = """\
# The Debian packages of the image: SHA-256, and path on a mirror. `make base` writes it, from what Debian signs.
"""


def _in_order(printed: str, address: str) -> list[Package]:
    """Read what `apt-get download --print-uris` prints; return its packages by architecture, base-files first."""
    lines = (line.split() for line in printed.splitlines())
    packages = [
        Package(sha256.removeprefix("SHA256:"), uri.strip("'").removeprefix(address)) for uri, _, _, sha256 in lines
    ]
    order = [*PACKAGES, *ANYWHERE]
    return sorted(packages, key=lambda package: (package.path.rpartition("_")[2], order.index(package.name)))


def _is_intact(package: Package, file: Path) -> bool:
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == package.sha256
