"""Many questions at once: one budget, answers in order, what is remembered, and nothing left behind."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from saffire.registry.availability import Available, NotFound, Throttled, Unreachable, WrongPlatform
from saffire.registry.check import ImageChecker, Question
from saffire.registry.credentials import Credential
from saffire.registry.reference import Reference
from saffire.registry.transport import RegistryTransport
from testkit import scripted_registry as shapes
from testkit.check_registry import (
    AMD64,
    ARM64,
    BUDGET,
    LATE,
    PATIENCE,
    SINGLE,
    WEB,
    authority,
    check,
    check_all,
    eventually,
    question,
    running_registry,
    transport,
)
from testkit.oci_images import image, index
from testkit.scripted_registry import Registry

MANIFEST = "/v2/acme/web/manifests/v1"


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """Give a registry."""
    async with running_registry() as started:
        yield started


async def test_answers_come_in_the_order_of_the_questions(registry: Registry) -> None:
    """Whoever answers first: the order is that of preference."""
    names = ("web:v9", "web:v1", "single:v1", "web:v1", "web:v8")
    questions = [question(f"{registry.domain}/acme/{name}") for name in names]
    answers = await check_all(questions, budget=2)
    assert questions[:3] + questions[4:] == list(answers)
    assert [NotFound, Available, Available, NotFound] == [type(answer) for answer in answers.values()]


async def test_one_budget_is_for_all_questions() -> None:
    """Twelve registries that hang cost no more than one, and do not keep the thirteenth from answering."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_registry()) for _ in range(13)]
        for server in servers[:-1]:
            server.shape = shapes.hang
        answers = await check_all([question(f"{server.domain}/acme/web:v1") for server in servers], budget=2)
    assert [Unreachable("no answer within 2 s")] * 12 == list(answers.values())[:-1]
    assert isinstance(list(answers.values())[-1], Available)


async def test_the_budget_is_spent_and_no_more_where_nobody_answers(registry: Registry) -> None:
    """Exactly one budget passes: earlier would be unfair, later costs pods."""
    registry.shape = shapes.hang
    before = asyncio.get_running_loop().time()
    assert Unreachable(LATE) == await check(question(f"{registry.domain}/acme/web:v1"))
    assert BUDGET <= asyncio.get_running_loop().time() - before <= BUDGET * PATIENCE


async def test_no_question_has_no_answer() -> None:
    """There may be no candidate left to ask about."""
    assert {} == await check_all([])


# As little as possible


def only_digest(registry: Registry, name: str = "web:v1") -> Question:
    """Return a question for which no platform matters."""
    return Question(reference=Reference.parse(f"{registry.domain}/acme/{name}"))


async def test_a_question_without_platforms_is_no_pull(registry: Registry) -> None:
    """HEAD says that it is there, and under which digest."""
    assert Available(digest=WEB.digest) == await check(only_digest(registry))
    assert [f"HEAD {MANIFEST}"] == registry.requests


@pytest.mark.parametrize(
    "shape",
    [shapes.status(405), shapes.status(400), shapes.status(200), shapes.status(200, {"Docker-Content-Digest": "x"})],
    ids=["refused", "not understood", "without digest", "with nonsense"],
)
async def test_where_head_tells_no_digest_the_manifest_does(shape: shapes.Shape, registry: Registry) -> None:
    """The digest is that of the body."""
    registry.shape = shapes.on("/manifests/", shape, method="HEAD")
    assert Available(digest=WEB.digest) == await check(only_digest(registry))
    assert [f"HEAD {MANIFEST}", f"GET {MANIFEST}"] == registry.requests


async def test_head_is_not_believed_for_another_digest(registry: Registry) -> None:
    """What is asked for by digest has that digest, or its body is looked at."""
    registry.shape = shapes.on(
        "/manifests/", shapes.status(200, {"Docker-Content-Digest": SINGLE.digest}), method="HEAD"
    )
    assert Available(digest=WEB.digest) == await check(only_digest(registry, f"web@{WEB.digest}"))


async def test_what_head_says_without_platforms_counts(registry: Registry) -> None:
    """It is as good as GET's word for what is absent or throttled."""
    assert NotFound() == await check(only_digest(registry, "web:v2"))
    registry.shape = shapes.status(429)
    assert Throttled() == await check(only_digest(registry))


# What is remembered


async def test_an_image_that_is_there_is_not_asked_for_again_within_seconds(registry: Registry) -> None:
    """After that HEAD tells that it is the same still, which is no pull either."""
    now = 0.0
    asked = question(f"{registry.domain}/acme/web:v1")
    async with ImageChecker(transport(registry.domain), clock=lambda: now) as registries:
        first = await registries.check([asked], budget_seconds=2)
        now = 9
        assert first == await registries.check([asked], budget_seconds=2)
        assert [f"GET {MANIFEST}"] == registry.requests
        now = 11
        assert first == await registries.check([asked], budget_seconds=2)
        assert [f"GET {MANIFEST}", f"HEAD {MANIFEST}"] == registry.requests
        registry.push("acme/web:v1", index("linux/arm64"))
        now = 22
        assert {asked: WrongPlatform()} == await registries.check([asked], budget_seconds=2)


async def test_what_is_remembered_is_about_the_very_question(registry: Registry) -> None:
    """Another platform, more proof: that was not asked yet."""
    asked = question(f"{registry.domain}/acme/web:v1")
    others = [replace(asked, platforms=(ARM64,)), replace(asked, strict=True), replace(asked, platforms=(AMD64, ARM64))]
    async with ImageChecker(transport(registry.domain)) as registries:
        await registries.check([asked], budget_seconds=2)
        for other in others:
            answers = await registries.check([other], budget_seconds=2)
            assert isinstance(answers[other], Available)
    assert 3 <= registry.requests.count(f"HEAD {MANIFEST}")


async def test_what_is_remembered_is_known_without_asking(registry: Registry) -> None:
    """For ten seconds, and for the very question."""
    now = 0.0
    asked = question(f"{registry.domain}/acme/web:v1")
    async with ImageChecker(transport(registry.domain), clock=lambda: now) as registries:
        assert registries.known(asked) is None
        answers = await registries.check([asked], budget_seconds=2)
        assert answers[asked] == registries.known(asked)
        stranger = replace(asked, credentials=(Credential(username="somebody", password="else"),))  # noqa: S106 - nobody's
        for other in (replace(asked, platforms=(ARM64,)), replace(asked, strict=True), stranger):
            assert registries.known(other) is None
        now = 11
        assert registries.known(asked) is None


@pytest.mark.parametrize("shape", [shapes.status(404), shapes.status(503), shapes.status(429), shapes.status(403)])
async def test_bad_news_is_not_remembered(shape: shapes.Shape, registry: Registry) -> None:
    """Whatever was wrong may be right by now."""
    asked = question(f"{registry.domain}/acme/web:v1")
    async with ImageChecker(transport(registry.domain), clock=lambda: 0.0) as registries:
        registry.shape = shape
        answers = await registries.check([asked], budget_seconds=2)
        assert not isinstance(answers[asked], Available)
        registry.shape = None
        answers = await registries.check([asked], budget_seconds=2)
        assert isinstance(answers[asked], Available)


async def test_an_image_of_very_many_parts_is_not_kept(registry: Registry) -> None:
    """What strangers answer does not fill our memory: it is asked for again."""
    registry.push("acme/many:v1", image(layers=65))
    clock = iter(range(0, 10**6, 20)).__next__
    async with ImageChecker(transport(registry.domain), clock=clock) as registries:
        for _ in range(2):
            await registries.check([question(f"{registry.domain}/acme/many:v1")], budget_seconds=2)
    assert 2 == registry.requests.count("GET /v2/acme/many/manifests/v1")


async def test_large_answers_are_read_a_few_at_once() -> None:
    """Else a handful of registries could take all of our memory; who sends little is not kept waiting."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_registry()) for _ in range(6)]
        async with ImageChecker(transport(*(server.domain for server in servers))) as registries:
            for server in servers[:4]:
                server.shape = shapes.large
            hogs = [question(f"{server.domain}/acme/web:v1") for server in servers[:4]]
            hogging = asyncio.create_task(registries.check(hogs, budget_seconds=3))
            await eventually(registries._distribution._large.locked)  # noqa: SLF001 - nothing else shows it
            servers[4].shape = shapes.huge
            huge, small = (question(f"{server.domain}/acme/web:v1") for server in servers[4:])
            answers = await registries.check([huge, small], budget_seconds=1)
            assert Unreachable("no answer within 1 s") == answers[huge]
            assert isinstance(answers[small], Available)
            await hogging
            answers = await registries.check([huge], budget_seconds=3)
            assert Unreachable("its answer is larger than 4194304 bytes") == answers[huge]


# Platforms


async def test_every_platform_has_to_be_there(registry: Registry) -> None:
    """Nodes of two architectures want two images, and each digest is told."""
    both = await check(question(f"{registry.domain}/acme/web:v1", AMD64, ARM64))
    digests = frozenset({SINGLE.digest, image("linux/arm64/v8").digest})
    assert Available(digest=WEB.digest, manifests=digests, suits=True) == both
    registry.push("acme/half:v1", index("linux/amd64", "unknown/unknown"))
    assert WrongPlatform() == await check(question(f"{registry.domain}/acme/half:v1", AMD64, ARM64))


async def test_an_index_that_names_no_platform_proves_nothing(registry: Registry) -> None:
    """It may have an image for the node, and it may not."""
    listed = [{"digest": digest} for digest in WEB.manifests]
    written = replace(WEB, body=json.dumps({"manifests": listed}).encode())
    registry.push("acme/odd:v1", written)
    answer = await check(question(f"{registry.domain}/acme/odd:v1"))
    assert Available(digest=written.digest, suits=False) == answer


# Nothing is left behind


async def test_who_is_cancelled_leaves_nothing_behind(registry: Registry) -> None:
    """Neither tasks nor connections outlive the question."""
    registry.shape = shapes.on("/blobs/", shapes.hang)
    before = asyncio.all_tasks()
    async with ImageChecker(transport(registry.domain)) as registries:
        asked = question(f"{registry.domain}/acme/web:v1", strict=True)
        asking = asyncio.create_task(registries.check([asked], budget_seconds=60))
        await eventually(lambda: registry.waiting == 3)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await eventually(lambda: registry.waiting == 0)
        ours = {task for task in asyncio.all_tasks() - before if "saffire" in repr(task)}
        assert set() == ours


class Odd(AbstractResolver):
    """A name server that answers without an address, which breaks its callers' promises."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Know the name, and no address."""
        del host, port, family
        return []

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


async def test_what_nobody_thought_of_costs_its_candidate_only(registry: Registry) -> None:
    """An error that no other line of ours expects leaves the other answers as they are."""
    odd, good = question("registry.test/acme/web:v1"), question(f"{registry.domain}/acme/web:v1")
    way = RegistryTransport(frozenset({registry.domain}), resolver=Odd(), tls=authority().trust())
    async with ImageChecker(way) as registries:
        answers = await registries.check([odd, good], budget_seconds=2)
    assert Unreachable("its answer is not understood: RuntimeError") == answers[odd]
    assert isinstance(answers[good], Available)
