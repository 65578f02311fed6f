"""The shape of the project: layers, sizes, a test for every module, and files that must tell the same."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grimp
import pytest

from saffire.policy.plan import Reason
from saffire.pulls.cause import Cause, Remedy

ROOT = Path(__file__).parent.parent
SOURCE_MODULES = sorted(f"eventsource.{path.stem}" for path in (ROOT / "eventsource").glob("[!_]*.py"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "saffire").rglob("*.py")
    if path.stem != "__init__"
)
PACKAGES = sorted(path.parent.name for path in (ROOT / "saffire").glob("*/__init__.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# What asks the API server is tested on a real control plane.
API_CLIENT = "saffire.kube.client"


def test_the_layers_hold() -> None:
    """Imports point downwards, decisions perform no I/O, and each outside system has one door."""
    command = (Path(sys.executable).parent / "lint-imports", "--no-cache")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_tests() -> None:
    """The tests of a module are tests/unit/PACKAGE/test_MODULE.py; what asks the API server may do without."""
    graph = grimp.build_graph("saffire", cache_dir=None)
    edge = {API_CLIENT} | graph.find_downstream_modules(API_CLIENT)
    paths = {
        module: ROOT / "tests/unit" / "/".join(module.split(".")[1:-1]) / f"test_{module.rpartition('.')[2]}.py"
        for module in MODULES
    }
    assert [] == [module for module, path in paths.items() if not path.is_file() and module not in edge]


def test_every_unit_test_has_its_module() -> None:
    """A test lies where its module does: test_MODULE.py, or test_MODULE_TOPIC.py."""
    places = {
        (path.parent.relative_to(ROOT / "tests/unit"), path.stem) for path in (ROOT / "tests/unit").rglob("test_*.py")
    }
    modules = [(Path(*module.split(".")[1:-1]), f"test_{module.rpartition('.')[2]}") for module in MODULES]
    assert [] == [
        (folder, test)
        for folder, test in sorted(places)
        if not any(folder == place and f"{test}_".startswith(f"{name}_") for place, name in modules)
    ]


@pytest.mark.parametrize("module", [*MODULES, *SOURCE_MODULES])
def test_a_module_fits_into_a_head(module: str) -> None:
    """What grows beyond 400 lines is probably two things."""
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    assert len(path.read_text().splitlines()) <= 400


def test_there_are_few_modules() -> None:
    """A module exists for a reason; who wants one more says which."""
    assert len(MODULES) <= 80


@pytest.mark.parametrize("module", [*MODULES, *SOURCE_MODULES])
def test_the_examples_in_docstrings_are_true(module: str) -> None:
    """An example in a docstring is what Python prints."""
    assert 0 == doctest.testmod(importlib.import_module(module)).failed


SAYING_NOTHING = {"one", "each", "found", "told", "mine", "who"}


@pytest.mark.parametrize("folder", ["saffire", "eventsource", "playground", "release", "bench", "testkit", "tests"])
def test_a_value_is_named_by_what_it_holds(folder: str) -> None:
    """Nobody has to look for what `one` or `found` is one of: a value has the noun of what it holds."""
    names = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in _bound_names(path)
        if name.strip("_") in SAYING_NOTHING
    ]
    assert [] == names


def _bound_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every name that a module binds to a value, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def test_the_entry_point_only_connects() -> None:
    """Whatever could be tested elsewhere is not in main.py."""
    lines = (ROOT / "main.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 15


def test_the_readme_is_read_to_its_end() -> None:
    """What is too long for it has its place in docs/."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


# Settings and files that documents name


def settings() -> set[str]:
    """Return the names of the variables that are read from the environment."""
    return set(re.findall(r'"(SAFFIRE_[A-Z0-9_]+|KUBECONFIG)"', (ROOT / "saffire/settings.py").read_text()))


def test_every_setting_is_documented() -> None:
    """An operator finds all of them on one page."""
    assert settings() <= set(re.findall(r"SAFFIRE_[A-Z0-9_]+|KUBECONFIG", (ROOT / "docs/configuration.md").read_text()))


@pytest.mark.parametrize(
    "path",
    [*PAGES, *(ROOT / "knative").glob("*.yaml"), *(ROOT / "deploy").rglob("*.yaml"), ROOT / "Makefile"],
    ids=lambda path: path.name,
)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    """A setting that was renamed is renamed everywhere."""
    assert set(re.findall(r"SAFFIRE_[A-Z0-9_]+", path.read_text())) <= settings()


def test_every_reason_is_explained() -> None:
    """The page for three in the morning has a row for each, and none that is not given any more."""
    table = (ROOT / "docs/operations.md").read_text().partition("## Why was nothing done?")[2].partition("\n## ")[0]
    firsts = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `") and "`reason`" not in row]
    assert sorted(Reason) == sorted(reason for first in firsts for reason in re.findall(r"`(\w+)`", first))


def test_every_cause_is_explained() -> None:
    """So has each cause, in the order in which they count, with what follows from it."""
    table = (
        (ROOT / "docs/operations.md").read_text().partition("## Why could it not be pulled?")[2].partition("\n## ")[0]
    )
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| `") and "`cause`" not in row]
    rows_of_causes = [
        (cause, row[3].partition(" to where")[0].partition(";")[0].strip().partition(" alone")[0])
        for row in rows
        for cause in re.findall(r"`([\w-]+)`", row[1])
    ]
    follows = {Remedy.LEAVE: "left", Remedy.MOVE: "moved", Remedy.PROVEN: "moved only"}
    assert [(cause, follows[cause.remedy]) for cause in Cause] == rows_of_causes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    """A page that follows an event through the code leads somewhere."""
    text = page.read_text()
    named = re.findall(
        r"\b(?:saffire|eventsource|playground|knative|deploy|examples|tests|docs)/[\w/.-]+\.(?:py|yaml|json|md)\b", text
    )
    linked = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text)
    # Pages about the code name its modules from its map on.
    named += [f"saffire/{path}" for path in re.findall(rf"(?<![\w/])(?:{'|'.join(PACKAGES)})/\w+\.py\b", text)]
    missing = [path for path in named if not (ROOT / path).exists() and not (page.parent / path).exists()]
    assert [] == missing + [path for path in linked if not (page.parent / path).exists()]


# Requirements


def locked(*, dev: bool) -> dict[str, tuple[str, frozenset[str]]]:
    """Return version and hashes of every package that uv.lock holds for a group."""
    packages = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    project = packages["saffire"]
    waiting = [*project["dependencies"], *(project["dev-dependencies"]["dev"] if dev else ())]
    packages_locked: dict[str, tuple[str, frozenset[str]]] = {}
    seen = set()
    while waiting:
        wanted = waiting.pop()
        package, extras = packages[wanted["name"]], wanted.get("extra", [])
        for part, dependencies in _parts(package, extras):
            if (wanted["name"], part) not in seen:
                seen.add((wanted["name"], part))
                waiting += dependencies
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        packages_locked[wanted["name"]] = (package["version"], frozenset(file["hash"] for file in files))
    return packages_locked


def _parts(package: dict[str, Any], extras: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the package's own dependencies and those of the extras."""
    yield "", package.get("dependencies", [])
    for extra in extras:
        yield extra, package["optional-dependencies"][extra]


@pytest.mark.parametrize(("file", "dev"), [("requirements.txt", False), ("requirements-dev.txt", True)])
def test_requirements_are_what_the_lock_holds(file: str, dev: bool) -> None:  # noqa: FBT001 - the row's group
    """What the image installs is what was tested, to the hash."""
    exported = {}
    for entry in re.split(r"\n(?=\w)", (ROOT / file).read_text()):
        pinned = re.match(r"([\w.-]+)==([^\s;\\]+)", entry)
        if pinned:
            exported[pinned[1]] = (pinned[2], frozenset(re.findall(r"--hash=(\S+)", entry)))
    assert locked(dev=dev) == exported
