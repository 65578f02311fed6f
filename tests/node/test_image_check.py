"""Saffire's checks of an image against a real registry: whether it is there, for whom, complete, and the same."""

from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from playground.node.images import Images
from playground.node.registries import Registry
from saffire.registry.availability import (
    Availability,
    Available,
    Denied,
    Incomplete,
    NotFound,
    Proof,
    Unreachable,
    WrongPlatform,
    is_different,
    proof_of,
)
from saffire.registry.check import ImageChecker, Question
from saffire.registry.credentials import Credential
from saffire.registry.transport import RegistryTransport
from testkit.check_registry import AMD64, ARM64, SINGLE, WEB, question
from testkit.node.image_pushes import PASSWORD, PASSWORDS, USER, lose, push
from testkit.oci_images import image, index

ALICE = Credential(username=USER, password=PASSWORD)


@pytest.fixture
async def real() -> AsyncIterator[Registry]:
    """Give a registry with the images of `check_registry`."""
    async with Registry() as registry:
        await push(registry, "acme/web:v1", WEB)
        await push(registry, "acme/single:v1", SINGLE)
        yield registry


async def ask(registry: Registry, asked: Question, budget: float = 5) -> Availability:
    """Check an image in a registry of this machine."""
    async with ImageChecker(RegistryTransport(frozenset({registry.domain}))) as registries:
        return (await registries.check([asked], budget_seconds=budget))[asked]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["web:v1", f"web@{WEB.digest}"])
async def test_an_index_is_found_by_tag_and_by_digest(name: str, real: Registry, *, strict: bool) -> None:
    """The answer has the digest for each platform, and with `strict` says that all blobs are there."""
    expected = Available(digest=WEB.digest, manifests=frozenset({SINGLE.digest}), suits=True, complete=strict)
    assert expected == await ask(real, question(f"{real.domain}/acme/{name}", strict=strict))


async def test_what_is_not_there_is_not_found(real: Registry) -> None:
    """A missing tag, repository or digest is not found."""
    for name in ("web:v2", "nothing:v1", f"web@{image(build='2').digest}"):
        assert NotFound() == await ask(real, question(f"{real.domain}/acme/{name}"))


async def test_an_image_of_another_platform_does_not_suit(real: Registry) -> None:
    """An index names its platforms, and an image without one names its platform in the config."""
    await push(real, "acme/arm:v1", image("linux/arm64"))
    await push(real, "acme/arms:v1", index("linux/arm64", "linux/arm/v7"))
    for name in ("arm:v1", "arms:v1"):
        assert WrongPlatform() == await ask(real, question(f"{real.domain}/acme/{name}"))
        assert isinstance(await ask(real, question(f"{real.domain}/acme/{name}", ARM64)), Available)


async def test_the_same_tag_may_be_another_image(real: Registry) -> None:
    """The digest tells the image from the one that was wanted."""
    same = await ask(real, question(f"{real.domain}/acme/web:v1"))
    await push(real, "acme/rebuilt:v1", index("linux/amd64", build="2"))
    other = await ask(real, question(f"{real.domain}/acme/rebuilt:v1"))
    assert (Proof.EQUAL, False) == (proof_of(same, {WEB.digest}), is_different(same, {WEB.digest}))
    assert (Proof.PRESENT, True) == (proof_of(other, {WEB.digest}), is_different(other, {WEB.digest}))


@pytest.mark.parametrize("lost", SINGLE.blobs, ids=["config", "layer", "another layer"])
async def test_a_lost_part_is_missed_where_it_is_looked_for(lost: str, real: Registry) -> None:
    """The registry still has the manifest; only a strict check finds that a blob is missing."""
    await lose(real, "acme/web", lost)
    answer = await ask(real, question(f"{real.domain}/acme/web:v1", strict=True))
    assert isinstance(answer, Incomplete)
    assert lost in answer.missing
    assert isinstance(await ask(real, question(f"{real.domain}/acme/web:v1")), Available)


async def test_an_image_that_others_push_is_available(real: Registry, built: Images) -> None:
    """An image that skopeo copied is complete, with the digest of the original."""
    await built.push("ends", f"{real.domain}/acme/ends:v1")
    answer = await ask(real, question(f"{real.domain}/acme/ends:v1", AMD64, strict=True))
    assert Available(digest=built.digest("ends"), suits=True, complete=True) == answer


async def test_a_private_registry_wants_a_password() -> None:
    """Without the password the image is unknown, which does not mean that it is missing."""
    async with Registry(PASSWORDS) as private:
        await push(private, "acme/web:v1", WEB, aiohttp.encode_basic_auth(ALICE.username, ALICE.password))
        asked = question(f"{private.domain}/acme/web:v1", strict=True)
        assert Denied() == await ask(private, asked)
        wrong = replace(ALICE, password="guess")  # noqa: S106 - no account has it
        assert Denied() == await ask(private, replace(asked, credentials=(wrong,)))
        assert isinstance(await ask(private, replace(asked, credentials=(wrong, ALICE))), Available)


async def test_a_registry_in_trouble_is_unreachable(real: Registry) -> None:
    """The registry hangs, fails, and works again."""
    asked = question(f"{real.domain}/acme/web:v1")
    real.hang()
    assert Unreachable("no answer within 0.5 s") == await ask(real, asked, budget=0.5)
    await real.revive()
    await real.die()
    assert Unreachable("connection refused") == await ask(real, asked)
    await real.revive()
    assert isinstance(await ask(real, asked), Available)
