"""Strict questions: whether every config and layer of an image is there."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web

from saffire.registry.availability import Available, Denied, Incomplete, Unreachable
from saffire.registry.check import Question
from saffire.registry.reference import Reference
from testkit import scripted_registry as shapes
from testkit.check_registry import AMD64, ARM64, LATE, SINGLE, WEB, check, question, running_registry
from testkit.oci_images import Image, image, index
from testkit.scripted_registry import Registry

LAYERS = [layer["digest"] for layer in SINGLE.parsed["layers"]]


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """Yield a registry."""
    async with running_registry() as started:
        yield started


def strict_question(registry: Registry, name: str = "web:v1") -> Question:
    """Return a strict question about an image in the registry."""
    return question(f"{registry.domain}/acme/{name}", strict=True)


async def test_each_blob_is_checked_once(registry: Registry) -> None:
    """The config and the layers of the node's platform are checked, and none is downloaded."""
    answer = await check(strict_question(registry))
    assert isinstance(answer, Available)
    assert answer.complete
    blobs = [f"HEAD /v2/acme/web/blobs/{digest}" for digest in SINGLE.blobs]
    assert sorted(blobs) == sorted(request for request in registry.requests if "/blobs/" in request)


async def test_without_a_platform_every_image_of_the_index_is_checked(registry: Registry) -> None:
    """The platforms of the nodes are not known."""
    web_question = Question(reference=Reference.parse(f"{registry.domain}/acme/web:v1"), strict=True)
    assert Available(digest=WEB.digest, complete=True) == await check(web_question)
    registry.lose(image("linux/arm64/v8").digest)
    assert Incomplete("manifest") == await check(web_question)


@pytest.mark.parametrize("lost", SINGLE.blobs, ids=["config", "layer", "another layer"])
async def test_a_missing_part_is_named(lost: str, registry: Registry) -> None:
    """The answer names the config or the layer."""
    registry.lose(lost)
    part = "layer" if lost in LAYERS else "config"
    assert Incomplete(f"{part} {lost}") == await check(strict_question(registry))


async def test_the_parts_of_another_platform_may_be_missing(registry: Registry) -> None:
    """Many mirrors have one platform only."""
    lost = image("linux/arm64/v8")
    registry.lose(lost.digest)
    assert isinstance(await check(strict_question(registry)), Available)
    both = question(f"{registry.domain}/acme/web:v1", AMD64, ARM64, strict=True)
    assert Incomplete("manifest") == await check(both)


async def test_a_missing_part_is_reported_even_if_another_part_hangs(registry: Registry) -> None:
    """It is known when the time is up."""
    registry.lose(LAYERS[0])
    registry.shape = shapes.on(LAYERS[1], shapes.hang)
    assert Incomplete(f"layer {LAYERS[0]}") == await check(strict_question(registry))


async def test_a_missing_part_counts_more_than_a_refused_one(registry: Registry) -> None:
    """A pull fails without the missing part, whatever the refusal means."""
    registry.lose(LAYERS[1])
    registry.shape = shapes.on(LAYERS[0], shapes.status(403))
    assert Incomplete(f"layer {LAYERS[1]}") == await check(strict_question(registry))


async def test_storage_that_refuses_head_gets_the_request_of_a_node(registry: Registry) -> None:
    """Its URLs are signed for GET. The body of the layer is not read."""
    async with running_registry() as storage:
        storage.push("acme/web:v1", WEB)
        storage.shape = shapes.on("/blobs/", shapes.status(403), method="HEAD")
        registry.shape = shapes.on("/blobs/", shapes.redirect(storage.url))
        answer = await check(strict_question(registry), storage.domain)
        assert isinstance(answer, Available)
        assert answer.complete
        storage.shape = shapes.on("/blobs/", shapes.status(403))
        assert Denied() == await check(strict_question(registry), storage.domain)


async def test_a_layer_of_gigabytes_is_not_read(registry: Registry) -> None:
    """If GET has to be used, the status and headers are enough."""
    registry.shape = no_head_and_endless
    assert isinstance(await check(strict_question(registry)), Available)


async def no_head_and_endless(request: web.Request) -> web.StreamResponse | None:
    """Refuse HEAD, and send a blob at one byte a second."""
    if "/blobs/" not in request.path:
        return None
    return await (shapes.status(405)(request) if request.method == "HEAD" else shapes.drip(request))


async def test_a_layer_that_is_kept_elsewhere_may_be_missing(registry: Registry) -> None:
    """The base layers of Windows come from Microsoft, whichever registry has the image."""
    manifest = SINGLE.parsed
    manifest["layers"].append({"digest": "sha256:" + 64 * "0", "urls": ["https://mcr.microsoft.com/v2/blob"]})
    registry.push("acme/windows:v1", replace(SINGLE, body=json.dumps(manifest).encode()))
    assert isinstance(await check(strict_question(registry, "windows:v1")), Available)


async def test_an_image_with_many_layers_is_checked(registry: Registry) -> None:
    """A hundred layers are checked, eight at a time."""
    registry.push("acme/many:v1", image(layers=100))
    assert isinstance(await check(strict_question(registry, "many:v1"), budget=5), Available)
    registry.requests.clear()
    registry.shape = shapes.on("/blobs/", shapes.hang, method="HEAD")
    assert Unreachable(f"its parts: {LATE}") == await check(strict_question(registry, "many:v1"))
    assert 8 == sum(request.startswith("HEAD") for request in registry.requests)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (index(*(f"linux/arm/v{number}" for number in range(20))), "its index lists more than 16 images"),
        (
            replace(WEB, manifests={}, body=json.dumps({"manifests": [{"digest": WEB.digest}]}).encode()),
            "its index lists another index",
        ),
    ],
    ids=["many", "nested"],
)
async def test_an_odd_index_proves_nothing(content: Image, expected: str, registry: Registry) -> None:
    """An index of indexes, or of very many images, is not followed."""
    registry.push("acme/odd:v1", content)
    odd_question = Question(reference=Reference.parse(f"{registry.domain}/acme/odd:v1"), strict=True)
    registry.push("acme/odd:inner", WEB)
    assert Unreachable(expected) == await check(odd_question)


@pytest.mark.parametrize(
    ("shape", "expected", "is_server_error"),
    [
        (shapes.on("/blobs/", shapes.status(503)), "its parts: it answered 503", True),
        (shapes.on("/manifests/sha256:", shapes.status(500)), "its parts: it answered 500", True),
        (shapes.on("/blobs/", shapes.disconnect), "its parts: it closed the connection", False),
        (shapes.on("/blobs/", shapes.redirect("https://127.0.0.1:1")), "its parts: connection refused", False),
    ],
    ids=["5xx", "5xx-for-the-manifest", "no-response", "no-response-of-the-storage"],
)
async def test_a_part_that_cannot_be_had_is_no_silence_of_the_registry(
    shape: shapes.Shape, expected: str, *, is_server_error: bool, registry: Registry
) -> None:
    """The registry has given what names the part. Its error about the part is an error all the same."""
    registry.shape = shape
    answer = await check(strict_question(registry), "127.0.0.1:1")
    assert Unreachable(expected) == answer
    assert isinstance(answer, Unreachable)
    assert (False, is_server_error) == (answer.is_silent, answer.is_server_error)


async def test_a_config_that_cannot_be_had_is_no_silence_either(registry: Registry) -> None:
    """The config of an image without an index tells the platform, so it is read first."""
    registry.shape = shapes.on("/blobs/", shapes.status(503))
    answer = await check(strict_question(registry, "single:v1"))
    assert isinstance(answer, Unreachable)
    assert (False, True) == (answer.is_silent, answer.is_server_error)


async def test_layers_that_hang_prove_nothing(registry: Registry) -> None:
    """In outages of Quay and Docker Hub, the manifest was there, but the layers hung."""
    registry.shape = shapes.on("/blobs/", shapes.hang)
    assert Unreachable(f"its parts: {LATE}") == await check(strict_question(registry))
