"""
The root file system of the image, in three folders that become its three layers.

Each is made as if it were `/`. The wheels are where Debian's Python looks for packages that an administrator installs.
All byte code is *unchecked hash-based* (PEP 552): Python uses it whatever the times of files are, which differ between
registries and runtimes. So a read-only root file system compiles nothing at start.
"""

import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from release.commands import BuildError, run
from release.debian import unpack

PYTHON = "python3.13"
PROGRAM = f"/usr/bin/{PYTHON}"
PACKAGES = f"usr/local/lib/{PYTHON}/dist-packages"
"""Where Debian's Python looks for packages that are not Debian's."""

APP = "app"
"""The folder of the function."""

USER = 65532
"""The numbers of the user and of its group: those of `nonroot` in distroless images."""

_APP_PACKAGES = ("saffire", "eventsource")

_LEFT_OUT = (
    "etc/ca-certificates",
    "etc/default",
    "etc/issue*",
    "etc/profile.d",
    "etc/skel",
    "etc/update-motd.d",
    "usr/games",
    "usr/include",
    "usr/lib/*/gconv",  # 8 MB of character sets that only iconv reads
    "usr/lib/binfmt.d",
    f"usr/lib/{PYTHON}/pydoc_data",
    f"usr/lib/{PYTHON}/test",
    *(f"usr/lib/{PYTHON}/lib-dynload/{name}.*" for name in ("_curses*", "_dbm", "_sqlite3", "readline", "*test*")),
    "usr/sbin/*",
    "usr/share/binfmts",
    "usr/share/bug",
    "usr/share/doc/*/[!c]*",
    "usr/share/doc/*/changelog*",
    "usr/share/gcc",
    "usr/share/gdb",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/man",
)
"""What no process of the image reads. Licences stay: /usr/share/doc/PACKAGE/copyright, and common-licenses."""

_FILES = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nsaffire:x:{USER}:{USER}:saffire:/:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nsaffire:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

_NOT_COMPILED = r"kubernetes/(client|aio/client/(api|models))/"
"""Saffire loads none of these; their byte code would be 41 MB (docs/decisions/0020)."""

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_UV_PLATFORMS = {"amd64": "x86_64-manylinux_2_40", "arm64": "aarch64-manylinux_2_40"}
"""The wheels that Debian 13's C library, 2.41, can load."""


def unpack_base(files: Iterable[Path], root: Path) -> None:
    """Make the lowest layer from the files of Debian packages."""
    for file in files:
        unpack(file, root)
    for pattern in _LEFT_OUT:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _trust_authorities(root)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for name in ("python", "python3"):
        (root / "usr/bin" / name).symlink_to(PYTHON)


def install_wheels(requirements: Path, architecture: str, root: Path) -> None:
    """Make the middle layer: the wheels that the requirements pin by hash, without the programs that come with them."""
    target = root / PACKAGES
    what = ("--require-hashes", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON.removeprefix("python"))
    where = ("--python-platform", _UV_PLATFORMS[architecture], "--target", target, "--python", sys.executable)
    how = ("--quiet", "--no-config", "--link-mode=copy")
    uv = Path(sys.executable).with_name("uv")
    run(uv, "pip", "install", *how, *what, *where, "--requirements", requirements)
    (target / ".lock").unlink(missing_ok=True)
    remove_programs(target)


def remove_programs(packages: Path) -> None:
    """Remove the scripts of installed wheels, and their hashes in RECORD: they name the Python of this machine."""
    shutil.rmtree(packages / "bin")
    for record in packages.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("bin/")))


def copy_function(checkout: Path, root: Path) -> None:
    """Make the top layer: the modules of the function and its event source, and their licence."""
    modules = [file for package in _APP_PACKAGES for file in (checkout / package).rglob("*.py")]
    for file in (checkout / "main.py", checkout / "LICENSE", *modules):
        target = root / APP / file.relative_to(checkout)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def this_architecture() -> str:
    """Return the architecture of this machine, as Debian and OCI name it."""
    machine = platform.machine()
    if machine not in _MACHINES:
        raise BuildError(f"an image is built on {' or '.join(_MACHINES)}, and this machine is {machine}")
    return _MACHINES[machine]


def _trust_authorities(root: Path) -> None:
    """Write the file of certificates that OpenSSL reads by default, as a script of ca-certificates would."""
    mozilla = root / "usr/share/ca-certificates/mozilla"
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.write_text("".join(file.read_text() for file in sorted(mozilla.glob("*.crt"))))
    shutil.rmtree(mozilla.parent)
    openssl = root / "usr/lib/ssl"
    openssl.mkdir()
    (openssl / "cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
    (openssl / "certs").symlink_to("/etc/ssl/certs")


class ImagePython:
    """
    The Python of a root file system, run in place: by its own loader, with its own libraries, and without root.

    Args:
        base: the root file system, of this machine's architecture.

    """

    def __init__(self, base: Path) -> None:
        self._base = base
        (self._loader,) = (base / "usr").glob("lib*/ld-linux-*.so.*")
        (self._libraries,) = (base / "usr/lib").glob("*-linux-gnu")

    @property
    def environ(self) -> dict[str, str]:
        """The variables that it needs. With the same seed, the same source gives the same byte code."""
        return {"PYTHONHOME": str(self._base / "usr"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self, *arguments: str | Path) -> tuple[str | Path, ...]:
        """Return the command that runs it with these arguments."""
        program = self._base / PROGRAM.lstrip("/")
        return (self._loader, "--library-path", self._libraries, program, *arguments)

    def needed_libraries(self, library: Path) -> list[str]:
        """Return where the loader finds each shared library that `library` needs; `not found` for a missing one."""
        listed = run(self._loader, "--library-path", self._libraries, "--list", library)
        return [line.partition(" => ")[2].partition(" (")[0] for line in listed.splitlines() if " => " in line]

    def compile(self, root: Path) -> None:
        """Write the byte code of every module below `root`, which stands for `/`."""
        options = ("-f", "-qq", "--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/", "-x", _NOT_COMPILED)
        run(*self.command("-m", "compileall", *options, root), environ=self.environ)
