"""Whether an image is whole, which is what `strict` asks."""

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
    """Give a registry."""
    async with running_registry() as started:
        yield started


def whole(registry: Registry, name: str = "web:v1") -> Question:
    """Return a question that wants every part seen."""
    return question(f"{registry.domain}/acme/{name}", strict=True)


async def test_each_part_is_seen_once(registry: Registry) -> None:
    """Config and layers, and only those of the node's platform; none is fetched."""
    answer = await check(whole(registry))
    assert isinstance(answer, Available)
    assert answer.complete
    blobs = [f"HEAD /v2/acme/web/blobs/{digest}" for digest in SINGLE.blobs]
    assert sorted(blobs) == sorted(each for each in registry.requests if "/blobs/" in each)


async def test_without_a_platform_every_image_of_the_index_is_seen(registry: Registry) -> None:
    """Nobody said which nodes there are."""
    asked = Question(reference=Reference.parse(f"{registry.domain}/acme/web:v1"), strict=True)
    assert Available(digest=WEB.digest, complete=True) == await check(asked)
    registry.lose(image("linux/arm64/v8").digest)
    assert Incomplete("manifest") == await check(asked)


@pytest.mark.parametrize("lost", SINGLE.blobs, ids=["config", "layer", "another layer"])
async def test_a_part_that_is_lost_is_missed(lost: str, registry: Registry) -> None:
    """The answer says which one: a config or a layer."""
    registry.lose(lost)
    part = "layer" if lost in LAYERS else "config"
    assert Incomplete(f"{part} {lost}") == await check(whole(registry))


async def test_another_platform_s_parts_are_not_missed(registry: Registry) -> None:
    """Mirrors often have one platform only."""
    lost = image("linux/arm64/v8")
    registry.lose(lost.digest)
    assert isinstance(await check(whole(registry)), Available)
    both = question(f"{registry.domain}/acme/web:v1", AMD64, ARM64, strict=True)
    assert Incomplete("manifest") == await check(both)


async def test_what_is_missing_is_told_even_if_another_part_hangs(registry: Registry) -> None:
    """That much is known when time is up."""
    registry.lose(LAYERS[0])
    registry.shape = shapes.on(LAYERS[1], shapes.hang)
    assert Incomplete(f"layer {LAYERS[0]}") == await check(whole(registry))


async def test_what_is_missing_counts_more_than_what_is_hidden(registry: Registry) -> None:
    """A pull fails for sure, whatever the other answer means."""
    registry.lose(LAYERS[1])
    registry.shape = shapes.on(LAYERS[0], shapes.status(403))
    assert Incomplete(f"layer {LAYERS[1]}") == await check(whole(registry))


async def test_storage_that_takes_no_head_is_asked_as_a_node_would(registry: Registry) -> None:
    """Its URLs are signed for GET; nothing of the layer is read."""
    async with running_registry() as storage:
        storage.push("acme/web:v1", WEB)
        storage.shape = shapes.on("/blobs/", shapes.status(403), method="HEAD")
        registry.shape = shapes.on("/blobs/", shapes.redirect(storage.url))
        answer = await check(whole(registry), storage.domain)
        assert isinstance(answer, Available)
        assert answer.complete
        storage.shape = shapes.on("/blobs/", shapes.status(403))
        assert Denied() == await check(whole(registry), storage.domain)


async def test_a_layer_of_gigabytes_is_not_read(registry: Registry) -> None:
    """Where GET has to do, the answer's head is enough."""
    registry.shape = no_head_and_endless
    assert isinstance(await check(whole(registry)), Available)


async def no_head_and_endless(request: web.Request) -> web.StreamResponse | None:
    """Refuse HEAD, and give a blob one byte a second."""
    if "/blobs/" not in request.path:
        return None
    return await (shapes.status(405)(request) if request.method == "HEAD" else shapes.drip(request))


async def test_a_layer_that_is_kept_elsewhere_is_not_missed(registry: Registry) -> None:
    """Windows' base layers come from Microsoft, whichever registry has the image."""
    manifest = SINGLE.parsed
    manifest["layers"].append({"digest": "sha256:" + 64 * "0", "urls": ["https://mcr.microsoft.com/v2/blob"]})
    registry.push("acme/windows:v1", replace(SINGLE, body=json.dumps(manifest).encode()))
    assert isinstance(await check(whole(registry, "windows:v1")), Available)


async def test_an_image_of_many_layers_is_seen(registry: Registry) -> None:
    """A hundred of them, some at a time."""
    registry.push("acme/many:v1", image(layers=100))
    assert isinstance(await check(whole(registry, "many:v1"), budget=5), Available)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (index(*(f"linux/arm/v{number}" for number in range(20))), "its index lists more than 16 images"),
        (
            replace(WEB, manifests={}, body=json.dumps({"manifests": [{"digest": WEB.digest}]}).encode()),
            "its index lists another index",
        ),
    ],
    ids=["many", "nested"],
)
async def test_an_index_that_is_none_of_images_proves_nothing(found: Image, expected: str, registry: Registry) -> None:
    """It is not looked at without end."""
    registry.push("acme/odd:v1", found)
    asked = Question(reference=Reference.parse(f"{registry.domain}/acme/odd:v1"), strict=True)
    registry.push("acme/odd:inner", WEB)
    assert Unreachable(expected) == await check(asked)


async def test_layers_that_hang_prove_nothing(registry: Registry) -> None:
    """So Quay's and Docker Hub's did: the manifest was there, and no layer came."""
    registry.shape = shapes.on("/blobs/", shapes.hang)
    assert Unreachable(f"its layers: {LATE}") == await check(whole(registry))
