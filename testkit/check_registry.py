"""Checking images in registries on loopback, with a new checker that trusts the tests' certificate authority."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import cache

from playground.certificates import CertificateAuthority
from playground.cluster.polling import until
from saffire.registry.availability import Availability
from saffire.registry.check import ImageChecker, Question
from saffire.registry.platforms import Platform
from saffire.registry.reference import Reference
from saffire.registry.transport import RegistryTransport
from testkit.oci_images import image, index
from testkit.scripted_registry import Registry

BUDGET = 0.5
LATE = f"no answer within {BUDGET} s"
PATIENCE = 4
"""On a machine under load, a check may take so many times its budget."""

AMD64, ARM64 = Platform.of("linux", "amd64"), Platform.of("linux", "arm64")
SINGLE = image()
WEB = index("linux/amd64", "linux/arm64/v8")
"""An index; `SINGLE` is one of its images."""


@cache
def authority() -> CertificateAuthority:
    """Return the certificate authority that the tests trust."""
    return CertificateAuthority()


@asynccontextmanager
async def running_registry(*, tls: bool = True) -> AsyncIterator[Registry]:
    """Yield a running registry that has `acme/web:v1`, an index, and `acme/single:v1`, an image without an index."""
    async with Registry(authority().server("127.0.0.1") if tls else None) as registry:
        registry.push("acme/web:v1", WEB)
        registry.push("acme/single:v1", SINGLE)
        yield registry


async def eventually(look: Callable[[], bool]) -> None:
    """Wait until `look` returns true; raise `TimeoutError` after 10 seconds."""

    async def is_so() -> bool:
        return look()

    async with asyncio.timeout(10):
        await until(is_so)


def transport(*insecure: str) -> RegistryTransport:
    """Return a transport that trusts the tests' authority; the registries in `insecure` may be on loopback."""
    return RegistryTransport(frozenset(insecure), tls=authority().trust())


def question(reference: str, *platforms: Platform, strict: bool = False) -> Question:
    """Return a question about a reference for these platforms, by default for linux/amd64."""
    return Question(reference=Reference.parse(reference), platforms=platforms or (AMD64,), strict=strict)


async def check(asked: Question, *others: str, budget: float = BUDGET) -> Availability:
    """Return the answer to a question of a registry on loopback, which may redirect to the domains in `others`."""
    answers = await check_all([asked], *others, budget=budget)
    return answers[asked]


async def check_all(asked: Iterable[Question], *others: str, budget: float = BUDGET) -> dict[Question, Availability]:
    """
    Return the answers to questions of registries on loopback, which may redirect to the domains in `others`.

    Assert that the answers take at most `PATIENCE` times the budget, which is in seconds.
    """
    questions = list(asked)
    domains = {question.reference.repository.domain for question in questions}
    async with ImageChecker(transport(*domains, *others)) as registries:
        before = asyncio.get_running_loop().time()
        answers = await registries.check(questions, budget_seconds=budget)
        assert asyncio.get_running_loop().time() - before <= budget * PATIENCE
    return answers
