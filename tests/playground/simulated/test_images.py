"""How a played kubelet gets an image."""

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


@pytest.mark.parametrize("vector", [one for one in VECTORS if one.get("domain")], ids=lambda one: one["input"][:60])
def test_a_reference_is_normalised_as_everywhere(vector: Manifest) -> None:
    """The parts are those of the reference grammar's own tests, and a tag is added where nothing says which."""
    image = Image.parse(vector["input"])
    assert (vector["domain"], vector["path"], vector["digest"]) == (image.domain, image.path, image.digest)
    assert image.tag == vector["tag"] or (image.tag == "latest" and not vector["digest"])


@pytest.mark.parametrize("vector", [one for one in VECTORS if one.get("error")], ids=lambda one: one["input"][:60])
def test_what_is_no_reference_is_refused(vector: Manifest) -> None:
    """What the reference grammar refuses, nothing can be pulled for."""
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
def test_a_refused_connection_is_told_in_the_runtime_s_words(
    reference: str, normalised: str, url: str, address: str
) -> None:
    """The error has the normalised name, what was asked for, and the address that was dialled."""
    pull = f'failed to pull and unpack image "{normalised}": failed to resolve reference "{normalised}"'
    dial = f'failed to do request: Head "{url}": dial tcp {address}: connect: connection refused'
    assert f"{pull}: {dial}" == Image.parse(reference).connection_refused()


def test_an_image_s_id_is_its_digest() -> None:
    """A reference without a digest gets one that depends on nothing else than the reference."""
    digest = "sha256:" + "0123456789abcdef" * 4
    assert f"quay.io/acme/web@{digest}" == Image.parse(f"quay.io/acme/web:v1@{digest}").id
    first, second = (Image.parse(f"quay.io/acme/web:{tag}").id for tag in ("v1", "v2"))
    assert first != second
    assert re.fullmatch("quay.io/acme/web@sha256:[0-9a-f]{64}", first)


def test_pulls_back_off_up_to_a_limit() -> None:
    """Between two failed pulls of one image, asked for every second, pass 10, 20, 40, 80, 160 and then 300 s."""
    puller = Puller(NodeImages({"quay.io"}), timedelta(seconds=10), timedelta(seconds=300))
    moments = [NOW + timedelta(seconds=second) for second in range(1300)]
    answers = [puller.ensure("quay.io/acme/web:v1", "IfNotPresent", moment) for moment in moments]
    pulls = [second for second, answer in enumerate(answers) if answer.events[0][1] == "Pulling"]
    assert [10, 20, 40, 80, 160, 300, 300, 300] == [after - before for before, after in pairwise(pulls)]


def test_a_back_off_is_forgotten_after_twice_its_limit() -> None:
    """A pod that asks again after a long time starts with the shortest pause."""
    puller = Puller(NodeImages({"quay.io"}), timedelta(seconds=10), timedelta(seconds=300))
    again = NOW + timedelta(seconds=601)
    reasons = [
        puller.ensure("quay.io/acme/web:v1", "IfNotPresent", moment).events[0][1]
        for moment in (NOW, again, again + timedelta(seconds=10))
    ]
    assert ["Pulling", "Pulling", "Pulling"] == reasons


def test_a_registry_that_comes_back_is_pulled_from() -> None:
    """The set of dead registries may change while pods wait for them, and what was pulled stays on the node."""
    images = NodeImages({"quay.io"})
    puller = Puller(images, timedelta(seconds=10), timedelta(seconds=300))
    assert puller.ensure("quay.io/acme/web:v1", "IfNotPresent", NOW).waiting
    images.dead.clear()
    assert not puller.ensure("quay.io/acme/web:v1", "IfNotPresent", NOW + timedelta(seconds=10)).waiting
    images.dead.add("quay.io")
    assert not puller.ensure("quay.io/acme/web:v1", "IfNotPresent", NOW + timedelta(seconds=20)).waiting
