"""What the image says of itself: the process that it runs, and the commit that it comes from."""

import json
import os
import re
from pathlib import Path

import pytest

from release import ROOT
from release.commands import run
from release.image import command, process, read_labels
from testkit.manifests import load

PYPROJECT = '[project]\nname = "saffire"\nversion = "1.2.3"\ndescription = "Moves."\nlicense = "Apache-2.0"\n'
PREFIX = "org.opencontainers.image"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a checkout with one commit."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "notes").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


def git(checkout: Path, *arguments: str) -> str:
    """Run git with an author of its own."""
    person = {"NAME": "a", "EMAIL": "a@example.com", "DATE": "2026-01-02T03:04:05Z"}
    own = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()}
    return run("git", "-C", checkout, *arguments, environ=own | {"GIT_CONFIG_GLOBAL": os.devnull}).strip()


def test_a_commit_gives_the_same_labels_whenever_it_is_built(checkout: Path) -> None:
    """The image was created when its commit was."""
    labels = read_labels(checkout, {})
    assert ("1.2.3", "2026-01-02T03:04:05Z") == (labels.version, labels.created)
    assert labels.annotations == {
        f"{PREFIX}.title": "saffire",
        f"{PREFIX}.description": "Moves.",
        f"{PREFIX}.licenses": "Apache-2.0",
        f"{PREFIX}.version": "1.2.3",
        f"{PREFIX}.created": "2026-01-02T03:04:05Z",
        f"{PREFIX}.revision": git(checkout, "rev-parse", "HEAD"),
    }


def test_a_changed_checkout_names_no_revision(checkout: Path) -> None:
    """Nobody looks for a fault in a commit that the image does not come from; other files do not matter."""
    (checkout / "notes").write_text("changed")
    assert f"{PREFIX}.revision" in read_labels(checkout, {}).annotations
    (checkout / "pyproject.toml").write_text(PYPROJECT + "# changed")
    assert f"{PREFIX}.revision" not in read_labels(checkout, {}).annotations


def test_a_copy_without_history_has_a_date_all_the_same(tmp_path: Path) -> None:
    """Distributions give the date, as they do for every program; otherwise it is the beginning of time."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    assert "1970-01-01T00:00:00Z" == read_labels(tmp_path, {}).created
    assert "2001-09-09T01:46:40Z" == read_labels(tmp_path, {"SOURCE_DATE_EPOCH": "1000000000"}).created


def test_the_image_runs_what_the_procfile_says() -> None:
    """A buildpack's image and this one run the same function."""
    procfile = (ROOT / "Procfile").read_text().strip()
    assert procfile == f"web: {' '.join(command()[2:]).replace('functions_framework', 'functions-framework')}"


def test_the_user_is_a_number_and_not_root() -> None:
    """A kubelet refuses a name under `runAsNonRoot`, which knative/service.yaml asks for."""
    (container,) = load("service.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["runAsNonRoot"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", process()["User"])


def test_the_dockerfile_makes_the_same_process() -> None:
    """Who builds with Docker gets the same user, command, environment and folder."""
    lines = (ROOT / "Dockerfile").read_text().partition("FROM scratch\n")[2].splitlines()
    said = dict(line.split(" ", 1) for line in lines)
    expected = process()
    assert (expected["User"], expected["WorkingDir"]) == (said["USER"], said["WORKDIR"])
    assert expected["Entrypoint"] == json.loads(said["ENTRYPOINT"])
    assert expected["Env"] == said["ENV"].split()
    assert [*expected["ExposedPorts"]] == [said["EXPOSE"]]
