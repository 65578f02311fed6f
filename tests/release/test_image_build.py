"""The function's image, as `make image` builds it: complete, small, the same each time, and quick to start."""

import subprocess
from pathlib import Path

import pytest

from release.image import Image, command
from release.rootfs import APP, PACKAGES, ImagePython, this_architecture
from release.startup import measure
from testkit.function_image import build_image

pytestmark = pytest.mark.image


@pytest.fixture
def python(image: Image) -> ImagePython:
    """Give the Python of the image."""
    return ImagePython(image.roots[this_architecture()].base)


def run(image: Image, python: ImagePython, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the image's Python in place, with the function as its working directory."""
    roots = image.roots[this_architecture()]
    environ = python.environ | {"PYTHONPATH": str(roots.wheels / PACKAGES)}
    arguments_of = python.command(*arguments)
    return subprocess.run(
        arguments_of, cwd=roots.function / APP, env=environ, capture_output=True, text=True, check=True
    )


def files(image: Image) -> set[str]:
    """Return the path of every file in the image."""
    folders = image.roots[this_architecture()].folders
    return {f"/{path.relative_to(root)}" for root in folders for path in root.rglob("*") if not path.is_dir()}


def test_two_builds_have_one_digest(image: Image, tmp_path: Path) -> None:
    """Whoever builds the same commit can tell that a published image has nothing else in it."""
    assert image.digest == build_image(tmp_path).digest


def test_it_has_no_program_but_python(image: Image) -> None:
    """No shell, no package manager, no pip, no compiler: nothing that an intruder finds useful."""
    there = files(image)
    programs = sorted(path for path in there if path.startswith(("/usr/bin/", "/usr/sbin/", "/usr/local/bin/")))
    assert ["/usr/bin/python", "/usr/bin/python3", command()[0]] == programs
    assert [] == [path for path in there if "/pip/" in path or "/ensurepip/" in path]


def test_scanners_know_its_packages(image: Image) -> None:
    """Those of Debian and those of Python."""
    there = files(image)
    assert {"/var/lib/dpkg/status.d/libssl3t64", "/etc/os-release"} <= there
    assert [path for path in there if path.endswith("/METADATA") and "/aiohttp-" in path]


def test_licences_stay(image: Image) -> None:
    """Debian's packages may be passed on with their licences, and Saffire with its own."""
    there = files(image)
    assert {"/usr/share/doc/libc6/copyright", f"/{APP}/LICENSE"} <= there


def test_nothing_is_compiled_at_start(image: Image, python: ImagePython) -> None:
    """A root file system that is read-only would compile it again at every start. Python names what it compiles."""
    lines = run(image, python, "-v", "-c", "import main, saffire.dispatch, saffire.clients").stderr.splitlines()
    assert [] == [line for line in lines if line.startswith("# code object from") and line.strip("'").endswith(".py")]
    assert [line for line in lines if "/main.cpython-313.pyc" in line]


def test_every_shared_library_is_there(image: Image, python: ImagePython) -> None:
    """Also those of modules that are loaded on Google Cloud alone."""
    folders = image.roots[this_architecture()].folders
    libraries = [path for root in folders for path in root.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    assert len(libraries) > 50
    needed = {(str(path), place) for path in libraries for place in python.needed_libraries(path)}
    assert set() == {(path, place) for path, place in needed if not place.startswith(tuple(map(str, folders)))}


def test_what_only_google_cloud_needs_can_be_imported(image: Image, python: ImagePython) -> None:
    """It is the largest part of the image, and nothing else loads it."""
    run(image, python, "-c", "import google.cloud.logging_v2.handlers")


def test_it_answers_after_half_a_second_of_processor_time(image: Image) -> None:
    """Without byte code that Python trusts, it takes four times as long."""
    assert min(measure(image.roots[this_architecture()]) for _ in range(3)) < 1
