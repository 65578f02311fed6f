"""What installs a release: the objects of knative/, with the image that was built."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import ROOT
from release.chart import WAYS
from release.commands import BuildError
from release.manifests import render
from testkit.manifests import FOLDER, load

DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    """Give the objects of install.yaml. Without Go to build kustomize, skip the test, or fail it under `CI=true`."""
    try:
        return list(yaml.safe_load_all(render(FOLDER, "ghcr.io/acme/saffire", DIGEST)))
    except BuildError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def images(value: object) -> Iterator[str]:
    """Yield every image in a manifest."""
    match value:
        case {"image": str(image)}:
            yield image
        case dict():
            for inner in value.values():
                yield from images(inner)
        case list():
            for inner in value:
                yield from images(inner)


def test_one_file_has_every_object(rendered: list[dict[str, Any]]) -> None:
    """`kubectl apply -f install.yaml` does what `kubectl apply -k knative/` does."""
    listed = [load(name) for name in load("kustomization.yaml")["resources"]]
    assert sorted(map(name_of, listed)) == sorted(map(name_of, rendered))


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize("folder", WAYS.values())
def test_the_image_is_named_by_its_digest(folder: str) -> None:
    """A tag that is moved changes nothing, in any way to install it."""
    objects = list(yaml.safe_load_all(render(ROOT / folder, "ghcr.io/acme/saffire", DIGEST)))
    assert {f"ghcr.io/acme/saffire@{DIGEST}"} == set(images(objects))


@pytest.mark.usefixtures("rendered")
def test_a_kustomization_with_a_fault_is_told(tmp_path: Path) -> None:
    """The error has kustomize's own words."""
    (tmp_path / "kustomization.yaml").write_text("resources: [nothing.yaml]\n")
    with pytest.raises(BuildError, match=r"nothing\.yaml"):
        render(tmp_path, "ghcr.io/acme/saffire", DIGEST)


def name_of(manifest: dict[str, Any]) -> tuple[str, str]:
    """Return kind and name of an object."""
    return manifest["kind"], manifest["metadata"]["name"]
