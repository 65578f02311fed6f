"""In a rehearsal, dead registries prove an outage, and the others have what is wanted of them."""

from collections.abc import AsyncIterator

import pytest

from kubectl_saffire.registries import RehearsedRegistries
from saffire.policy.reach import is_down
from saffire.registry.availability import Availability, Available, Proof, proof_of
from saffire.registry.check import Question
from saffire.registry.reference import Reference
from saffire.sources.candidates import candidates
from testkit.builders import FAILING, SECOND, source
from testkit.check_registry import running_registry, transport

DIGEST = f"sha256:{64 * 'a'}"


@pytest.fixture
async def registries() -> AsyncIterator[RehearsedRegistries]:
    """Give registries that are not asked; quay.io is dead."""
    async with RehearsedRegistries(transport(), dead=frozenset({"quay.io"}), asks=False) as made:
        yield made


async def answer(registries: RehearsedRegistries, image: str, namespace: str = "shop") -> Availability:
    """Return the answer about an image."""
    question = Question(reference=Reference.parse(image))
    return (await registries.check([question], budget_seconds=1, asker=namespace))[question]


async def test_a_dead_registry_proves_an_outage(registries: RehearsedRegistries) -> None:
    """It does so without any earlier answer to compare with."""
    assert is_down(await answer(registries, FAILING), has_baseline=False)


async def test_another_registry_has_every_image_complete(registries: RehearsedRegistries) -> None:
    """Without a digest to compare with, the image is there; an image that is named by its digest is equal."""
    match await answer(registries, SECOND):
        case Available(suits=True, complete=True):
            pass
        case other:
            pytest.fail(str(other))
    named = await answer(registries, f"ghcr.io/acme/web@{DIGEST}")
    assert Proof.EQUAL is proof_of(named, {DIGEST})


async def test_an_alternative_is_equal_to_what_runs_in_the_namespace(registries: RehearsedRegistries) -> None:
    """Containers may run the tag with two digests; another namespace may run it with a third."""
    offered = candidates(Reference.parse(FAILING), [source()])
    registries.take_as_equal("shop", offered, frozenset({"sha256:1", "sha256:2"}))
    here, there = await answer(registries, SECOND), await answer(registries, SECOND, "elsewhere")
    assert [Proof.EQUAL, Proof.EQUAL] == [proof_of(here, {"sha256:1"}), proof_of(here, {"sha256:2"})]
    assert Proof.PRESENT is proof_of(there, {"sha256:1"})


async def test_a_registry_that_is_asked_answers_itself() -> None:
    """With `asks`, only dead registries are made up."""
    async with (
        running_registry() as live,
        RehearsedRegistries(transport(live.domain), dead=frozenset({"quay.io"}), asks=True) as registries,
    ):
        there = await answer(registries, f"{live.domain}/acme/web:v1")
        assert isinstance(there, Available)
        assert not isinstance(await answer(registries, f"{live.domain}/acme/absent:v1"), Available)
        assert is_down(await answer(registries, FAILING), has_baseline=False)
        dead = registries.with_dead(frozenset({live.domain}))
        assert is_down(await answer(dead, f"{live.domain}/acme/web:v1"), has_baseline=False)
