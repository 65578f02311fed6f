"""Checks of many images: one budget, answers in order, the cache, and nothing left over after a cancellation."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from saffire.registry.availability import Available, NotFound, Throttled, Unreachable, WrongPlatform, is_late, is_silent
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
    """Yield a registry."""
    async with running_registry() as started:
        yield started


async def test_answers_come_in_the_order_of_the_questions(registry: Registry) -> None:
    """The order of the answers is that of preference, whichever registry answers first."""
    names = ("web:v9", "web:v1", "single:v1", "web:v1", "web:v8")
    questions = [question(f"{registry.domain}/acme/{name}") for name in names]
    answers = await check_all(questions, budget=2)
    assert questions[:3] + questions[4:] == list(answers)
    assert [NotFound, Available, Available, NotFound] == [type(answer) for answer in answers.values()]


async def test_one_budget_is_for_all_questions() -> None:
    """Twelve registries that hang take no longer than one, and do not delay the answer of the thirteenth."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_registry()) for _ in range(13)]
        for server in servers[:-1]:
            server.shape = shapes.hang
        answers = await check_all([question(f"{server.domain}/acme/web:v1") for server in servers], budget=2)
    assert [Unreachable("no answer within 2 s")] * 12 == list(answers.values())[:-1]
    assert isinstance(list(answers.values())[-1], Available)


async def test_a_registry_that_hangs_takes_the_whole_budget_and_no_more(registry: Registry) -> None:
    """To give up earlier would be unfair to a slow registry; to wait longer would delay the failover."""
    registry.shape = shapes.hang
    before = asyncio.get_running_loop().time()
    answer = await check(question(f"{registry.domain}/acme/web:v1"))
    assert Unreachable(LATE) == answer
    assert is_late(answer)
    assert BUDGET <= asyncio.get_running_loop().time() - before <= BUDGET * PATIENCE


async def test_a_registry_that_was_not_asked_in_time_is_not_silent(registry: Registry) -> None:
    """A namespace has 16 connections to one registry: what still waits for one says nothing of the registry."""
    registry.shape = shapes.hang
    answers = await check_all([question(f"{registry.domain}/acme/web:{number}") for number in range(20)])
    silent = [is_silent(answer) for answer in answers.values()]
    assert (16, 4) == (silent.count(True), silent.count(False))
    assert {Unreachable(LATE), Unreachable(f"{LATE}: too many questions")} == set(answers.values())


async def test_an_answer_of_a_registry_is_remembered(registry: Registry) -> None:
    """A registry that gave none is not."""
    async with ImageChecker(transport(registry.domain)) as checker:
        await checker.check([question(f"{registry.domain}/acme/web:v9")], budget_seconds=2)
        assert checker.reachability.seconds_since(registry.domain) is not None
        assert checker.reachability.seconds_since("quay.io") is None


async def test_no_question_has_no_answer() -> None:
    """There may be no candidate left to check."""
    assert {} == await check_all([])


# As few requests as possible


def only_digest(registry: Registry, name: str = "web:v1") -> Question:
    """Return a question without platforms."""
    return Question(reference=Reference.parse(f"{registry.domain}/acme/{name}"))


async def test_a_question_without_platforms_is_no_pull(registry: Registry) -> None:
    """HEAD tells that the image is there, and its digest."""
    assert Available(digest=WEB.digest) == await check(only_digest(registry))
    assert [f"HEAD {MANIFEST}"] == registry.requests


@pytest.mark.parametrize(
    "shape",
    [shapes.status(405), shapes.status(400), shapes.status(200), shapes.status(200, {"Docker-Content-Digest": "x"})],
    ids=["refused", "not understood", "without digest", "with nonsense"],
)
async def test_without_a_digest_from_head_the_manifest_is_read(shape: shapes.Shape, registry: Registry) -> None:
    """Then the digest is that of the body."""
    registry.shape = shapes.on("/manifests/", shape, method="HEAD")
    assert Available(digest=WEB.digest) == await check(only_digest(registry))
    assert [f"HEAD {MANIFEST}", f"GET {MANIFEST}"] == registry.requests


async def test_head_is_not_believed_for_another_digest(registry: Registry) -> None:
    """If HEAD answers another digest than the reference has, the body is read."""
    registry.shape = shapes.on(
        "/manifests/", shapes.status(200, {"Docker-Content-Digest": SINGLE.digest}), method="HEAD"
    )
    assert Available(digest=WEB.digest) == await check(only_digest(registry, f"web@{WEB.digest}"))


async def test_head_tells_that_an_image_is_absent_or_throttled(registry: Registry) -> None:
    """The status of HEAD means the same as that of GET."""
    assert NotFound() == await check(only_digest(registry, "web:v2"))
    registry.shape = shapes.status(429)
    assert Throttled() == await check(only_digest(registry))


# The cache


async def test_an_image_that_is_there_is_not_asked_for_again_within_seconds(registry: Registry) -> None:
    """Later, HEAD tells that its digest is still the same, which is no pull either."""
    now = 0.0
    web_question = question(f"{registry.domain}/acme/web:v1")
    async with ImageChecker(transport(registry.domain), clock=lambda: now) as checker:
        cached = await checker.check([web_question], budget_seconds=2)
        now = 1.9
        assert cached == await checker.check([web_question], budget_seconds=2)
        assert [f"GET {MANIFEST}"] == registry.requests
        now = 2.1
        assert cached == await checker.check([web_question], budget_seconds=2)
        assert [f"GET {MANIFEST}", f"HEAD {MANIFEST}"] == registry.requests
        registry.push("acme/web:v1", index("linux/arm64"))
        now = 4.2
        assert {web_question: WrongPlatform()} == await checker.check([web_question], budget_seconds=2)


async def test_an_answer_is_cached_for_its_own_question_only(registry: Registry) -> None:
    """A question with another platform, or a strict one, is asked."""
    web_question = question(f"{registry.domain}/acme/web:v1")
    others = [
        replace(web_question, platforms=(ARM64,)),
        replace(web_question, strict=True),
        replace(web_question, platforms=(AMD64, ARM64)),
    ]
    async with ImageChecker(transport(registry.domain)) as checker:
        await checker.check([web_question], budget_seconds=2)
        for other in others:
            answers = await checker.check([other], budget_seconds=2)
            assert isinstance(answers[other], Available)
    assert 3 <= registry.requests.count(f"HEAD {MANIFEST}")


async def test_a_cached_answer_can_be_read_without_a_request(registry: Registry) -> None:
    """It is cached for two seconds, and for its own question."""
    now = 0.0
    web_question = question(f"{registry.domain}/acme/web:v1")
    async with ImageChecker(transport(registry.domain), clock=lambda: now) as checker:
        assert checker.cached(web_question) is None
        answers = await checker.check([web_question], budget_seconds=2)
        assert answers[web_question] == checker.cached(web_question)
        stranger = replace(web_question, credentials=(Credential(username="somebody", password="else"),))  # noqa: S106 - a made-up password
        for other in (replace(web_question, platforms=(ARM64,)), replace(web_question, strict=True), stranger):
            assert checker.cached(other) is None
        now = 1.9
        assert checker.cached(web_question)
        now = 2.1
        assert checker.cached(web_question) is None


async def test_a_registry_that_dies_is_found_dead_two_seconds_after_its_last_answer(registry: Registry) -> None:
    """An outage may begin right after an answer, and whoever waits for the next try waits ten seconds."""
    now = 0.0
    web_question = question(f"{registry.domain}/acme/web:v1")
    async with ImageChecker(transport(registry.domain), clock=lambda: now) as checker:
        await checker.check([web_question], budget_seconds=2)
        registry.shape = shapes.status(503)
        now = 2.1
        answers = await checker.check([web_question], budget_seconds=2)
        assert isinstance(answers[web_question], Unreachable)


@pytest.mark.parametrize("shape", [shapes.status(404), shapes.status(503), shapes.status(429), shapes.status(403)])
async def test_no_other_answer_is_cached(shape: shapes.Shape, registry: Registry) -> None:
    """A registry that failed or lacked the image may have it by now."""
    web_question = question(f"{registry.domain}/acme/web:v1")
    async with ImageChecker(transport(registry.domain), clock=lambda: 0.0) as checker:
        registry.shape = shape
        answers = await checker.check([web_question], budget_seconds=2)
        assert not isinstance(answers[web_question], Available)
        registry.shape = None
        answers = await checker.check([web_question], budget_seconds=2)
        assert isinstance(answers[web_question], Available)


async def test_an_image_with_many_layers_is_not_cached(registry: Registry) -> None:
    """A hostile registry cannot fill the memory: a manifest with many layers is requested again."""
    registry.push("acme/many:v1", image(layers=65))
    clock = iter(range(0, 10**6, 20)).__next__
    async with ImageChecker(transport(registry.domain), clock=clock) as checker:
        for _ in range(2):
            await checker.check([question(f"{registry.domain}/acme/many:v1")], budget_seconds=2)
    assert 2 == registry.requests.count("GET /v2/acme/many/manifests/v1")


async def test_large_answers_are_read_a_few_at_once() -> None:
    """Otherwise a few registries could fill the memory. A small answer does not wait for the large ones."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_registry()) for _ in range(5)]
        async with ImageChecker(transport(*(server.domain for server in servers))) as checker:
            for server in servers[:3]:
                server.shape = shapes.large
            large_questions = [question(f"{server.domain}/acme/web:v1") for server in servers[:3]]
            large_checks = asyncio.create_task(checker.check(large_questions, budget_seconds=3))
            large = checker._transport._large  # noqa: SLF001 - no public attribute shows it
            await eventually(lambda: large.free == 9)
            servers[3].shape = shapes.huge
            huge, small = (question(f"{server.domain}/acme/web:v1") for server in servers[3:])
            answers = await checker.check([huge, small], budget_seconds=1)
            assert Unreachable("no answer within 1 s: too many questions") == answers[huge]
            assert isinstance(answers[small], Available)
            await large_checks
            answers = await checker.check([huge], budget_seconds=3)
            assert Unreachable("its answer is larger than 4194304 bytes") == answers[huge]


# Platforms


async def test_every_platform_needs_a_build(registry: Registry) -> None:
    """Nodes of two architectures need two manifests, and the answer has the digest of each."""
    both = await check(question(f"{registry.domain}/acme/web:v1", AMD64, ARM64))
    digests = frozenset({SINGLE.digest, image("linux/arm64/v8").digest})
    assert Available(digest=WEB.digest, manifests=digests, suits=True) == both
    registry.push("acme/half:v1", index("linux/amd64", "unknown/unknown"))
    assert WrongPlatform() == await check(question(f"{registry.domain}/acme/half:v1", AMD64, ARM64))


async def test_the_answer_has_the_digests_of_all_platforms(registry: Registry) -> None:
    """A node of another platform may run the image, and report the digest of its own build."""
    answer = await check(question(f"{registry.domain}/acme/web:v1"))
    assert isinstance(answer, Available)
    assert answer.listed == WEB.manifests.keys()
    assert answer.manifests < answer.listed


async def test_the_digests_of_a_very_large_index_are_not_kept(registry: Registry) -> None:
    """Many answers are kept for a while, and a stranger writes the index."""
    registry.push("acme/large:v1", index("linux/amd64", *(f"linux/arm/v{number}" for number in range(64))))
    answer = await check(question(f"{registry.domain}/acme/large:v1"))
    assert isinstance(answer, Available)
    assert (1, 0) == (len(answer.manifests), len(answer.listed))


async def test_an_index_that_names_no_platform_proves_nothing(registry: Registry) -> None:
    """It may or may not have a build for the node."""
    manifests = [{"digest": digest} for digest in WEB.manifests]
    odd_index = replace(WEB, body=json.dumps({"manifests": manifests}).encode())
    registry.push("acme/odd:v1", odd_index)
    answer = await check(question(f"{registry.domain}/acme/odd:v1"))
    assert Available(digest=odd_index.digest, suits=False) == answer


# Nothing is left over


async def test_a_cancelled_check_leaves_nothing_over(registry: Registry) -> None:
    """Its tasks end, and its connections are closed."""
    registry.shape = shapes.on("/blobs/", shapes.hang)
    before = asyncio.all_tasks()
    async with ImageChecker(transport(registry.domain)) as checker:
        web_question = question(f"{registry.domain}/acme/web:v1", strict=True)
        check_task = asyncio.create_task(checker.check([web_question], budget_seconds=60))
        await eventually(lambda: registry.waiting == 3)
        check_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check_task
        await eventually(lambda: registry.waiting == 0)
        left_over = {task for task in asyncio.all_tasks() - before if "saffire" in repr(task)}
        assert set() == left_over


class Odd(AbstractResolver):
    """A resolver that returns no address for a name, which its callers do not expect."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return no address."""
        del host, port, family
        return []

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


async def test_an_unexpected_error_costs_one_candidate_only(registry: Registry) -> None:
    """An exception that no code expects does not change the other answers."""
    odd, good = question("registry.test/acme/web:v1"), question(f"{registry.domain}/acme/web:v1")
    odd_transport = RegistryTransport(frozenset({registry.domain}), resolver=Odd(), tls=authority().trust())
    async with ImageChecker(odd_transport) as checker:
        answers = await checker.check([odd, good], budget_seconds=2)
    assert Unreachable("its answer is not understood: AssertionError") == answers[odd]
    assert isinstance(answers[good], Available)
