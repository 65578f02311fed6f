"""How a simulated kubelet gets an image."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from playground.cluster.api import Manifest
from playground.simulated.images import Image, NodeImages, Puller
from testkit import RECORDINGS

VECTORS: list[Manifest] = json.loads((RECORDINGS / "reference-vectors.json").read_text())
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.get("domain")], ids=lambda vector: vector["input"][:60]
)
def test_a_reference_is_normalised_as_by_a_runtime(vector: Manifest) -> None:
    """The parts are those of the reference grammar's own tests. Without tag and digest, `latest` is added."""
    image = Image.parse(vector["input"])
    assert (vector["domain"], vector["path"], vector["digest"]) == (image.domain, image.path, image.digest)
    assert image.tag == vector["tag"] or (image.tag == "latest" and not vector["digest"])


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.get("error")], ids=lambda vector: vector["input"][:60]
)
def test_an_invalid_reference_is_refused(vector: Manifest) -> None:
    """If the reference grammar refuses a reference, so does `Image.parse`."""
    with pytest.raises(ValueError, match=r"invalid reference format|255 characters"):
        Image.parse(vector["input"])


@pytest.mark.parametrize(
    ("reference", "normalised", "url", "address"),
    [
        (
            "nginx:1.19",
            "docker.io/library/nginx:1.19",
            "https://registry-1.docker.io/v2/library/nginx/manifests/1.19",
            "192.0.2.1:443",
        ),
        ("quay.io/a/web", "quay.io/a/web:latest", "https://quay.io/v2/a/web/manifests/latest", "192.0.2.1:443"),
        ("quay.io:5000/web:v1", "quay.io:5000/web:v1", "https://quay.io:5000/v2/web/manifests/v1", "192.0.2.1:5000"),
        (
            "127.0.0.1:5001/job:v1",
            "127.0.0.1:5001/job:v1",
            "http://127.0.0.1:5001/v2/job/manifests/v1",
            "127.0.0.1:5001",
        ),
    ],
)
def test_the_error_of_a_refused_connection_is_the_runtime_s(
    reference: str, normalised: str, url: str, address: str
) -> None:
    """The error has the normalised reference, the URL and the address of the connection."""
    pull = f'failed to pull and unpack image "{normalised}": failed to resolve reference "{normalised}"'
    dial = f'failed to do request: Head "{url}": dial tcp {address}: connect: connection refused'
    assert f"{pull}: {dial}" == Image.parse(reference).connection_refused()


def test_an_image_s_id_is_its_digest() -> None:
    """If a reference has no digest, its digest depends only on the name and the tag, so a mirror has the same."""
    digest = "sha256:" + "0123456789abcdef" * 4
    assert f"quay.io/acme/web@{digest}" == Image.parse(f"quay.io/acme/web:v1@{digest}").id
    first, second = (Image.parse(f"quay.io/acme/web:{tag}").id for tag in ("v1", "v2"))
    assert first != second
    assert re.fullmatch("quay.io/acme/web@sha256:[0-9a-f]{64}", first)
    assert first.replace("quay.io/", "ghcr.io/mirror/") == Image.parse("ghcr.io/mirror/acme/web:v1").id


def test_pulls_back_off_up_to_a_limit() -> None:
    """The pauses between failed pulls of an image are 10, 20, 40, 80, 160 and then 300 s."""
    puller = Puller(NodeImages({"quay.io"}), timedelta(seconds=10), timedelta(seconds=300))
    moments = [NOW + timedelta(seconds=second) for second in range(1300)]
    results = [puller.ensure("quay.io/acme/web:v1", "IfNotPresent", moment) for moment in moments]
    pulls = [second for second, result in enumerate(results) if result.events[0][1] == "Pulling"]
    assert [10, 20, 40, 80, 160, 300, 300, 300] == [after - before for before, after in pairwise(pulls)]


def test_a_back_off_is_forgotten_after_twice_its_limit() -> None:
    """After twice the longest pause, a failed pull is followed by the shortest pause again."""
    puller = Puller(NodeImages({"quay.io"}), timedelta(seconds=10), timedelta(seconds=300))
    again = NOW + timedelta(seconds=601)
    reasons = [
        puller.ensure("quay.io/acme/web:v1", "IfNotPresent", moment).events[0][1]
        for moment in (NOW, again, again + timedelta(seconds=10))
    ]
    assert ["Pulling", "Pulling", "Pulling"] == reasons


def test_a_registry_that_comes_back_is_pulled_from() -> None:
    """The set of dead registries may change while pods wait. A pulled image stays on the node."""
    images = NodeImages({"quay.io"})
    puller = Puller(images, timedelta(seconds=10), timedelta(seconds=300))
    assert puller.ensure("quay.io/acme/web:v1", "IfNotPresent", NOW).waiting
    images.dead.clear()
    assert not puller.ensure("quay.io/acme/web:v1", "IfNotPresent", NOW + timedelta(seconds=10)).waiting
    images.dead.add("quay.io")
    assert not puller.ensure("quay.io/acme/web:v1", "IfNotPresent", NOW + timedelta(seconds=20)).waiting
