"""Attacks on what namespaces share when they ask registries: names, connections, and what is believed of a registry."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from saffire.registry.availability import Availability, Available, Unreachable, is_silent
from saffire.registry.check import ImageChecker, Question
from saffire.registry.reference import Reference
from saffire.registry.shares import Resolver
from saffire.registry.transport import RegistryTransport
from testkit import scripted_registry as shapes
from testkit.check_registry import WEB, authority, eventually, question, running_registry, transport
from testkit.scripted_registry import Registry

BUDGET = 1.5
"""Seconds, as the function allows by default."""
NAME, SECOND_NAME = "registry.test", "second.test"


class Names:
    """Name servers that know a registry by two names, and never answer for any other name before the end."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.dead: list[str] = []
        """Each name that was looked up and has no answer."""

    def getaddrinfo(self, host: str, *_: object, **__: object) -> list[object]:
        """Return the address of the registry."""
        if host not in {NAME, SECOND_NAME}:
            self.dead.append(host)
            self.end.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def names() -> Iterator[Names]:
    """Yield name servers, and end what waits for them."""
    server = Names()
    yield server
    server.end.set()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """Yield a registry that the name servers know."""
    async with Registry(authority().server(NAME, SECOND_NAME)) as started:
        started.push("acme/web:v1", WEB)
        yield started


def digests(domain: str, count: int) -> list[Question]:
    """Return questions about so many images of a registry, which cost one request each."""
    return [Question(reference=Reference.parse(f"{domain}/acme/web:{number}")) for number in range(count)]


async def ask(checker: ImageChecker, reference: str, asker: str = "shop") -> Availability:
    """Return the answer to a question about an image, for the platform linux/amd64."""
    asked = question(reference)
    return (await checker.check([asked], budget_seconds=BUDGET, asker=asker))[asked]


@pytest.mark.parametrize("attackers", [1, 12])
async def test_names_that_are_never_answered_are_their_askers_own_trouble(
    names: Names, registry: Registry, attackers: int
) -> None:
    """Forty dead names a namespace. The registry of another one is found at once, and after their time is up."""
    domains = [f"{name}:{registry.port}" for name in (NAME, SECOND_NAME)]
    resolver = Resolver(names.getaddrinfo)
    async with ImageChecker(
        RegistryTransport(frozenset(domains), resolver=resolver, tls=authority().trust())
    ) as checker:
        floods = [
            asyncio.create_task(
                checker.check(
                    [question(f"{number}.{attacker}.test/acme/web:v1") for number in range(40)],
                    budget_seconds=BUDGET,
                    asker=f"attacker-{attacker}",
                )
            )
            for attacker in range(attackers)
        ]
        await eventually(lambda: len(names.dead) >= (26 if attackers == 1 else 90))
        assert isinstance(await ask(checker, f"{domains[0]}/acme/web:v1"), Available)
        for flood in floods:
            answers = await flood
            silent = [is_silent(dead) for dead in answers.values()]
            assert 0 < silent.count(True) <= 26, "only names that were looked up count as asked"
            assert {f"no answer within {BUDGET} s", f"no answer within {BUDGET} s: too many questions"} == {
                dead.why for dead in answers.values() if isinstance(dead, Unreachable)
            }
        # The threads of the dead names are occupied for as long as the operating system waits for an answer.
        assert isinstance(await ask(checker, f"{domains[1]}/acme/web:v1"), Available)


async def test_a_pool_of_the_process_serves_other_code_while_names_are_dead(names: Names) -> None:
    """The event loop's own threads load modules, for instance. No name of a registry occupies them."""
    guarded = RegistryTransport(frozenset(), resolver=Resolver(names.getaddrinfo), tls=authority().trust())
    async with ImageChecker(guarded) as checker:
        dead = [question(f"{number}.test/acme/web:v1") for number in range(100)]
        flood = asyncio.create_task(checker.check(dead, budget_seconds=BUDGET, asker="attacker"))
        await eventually(lambda: len(names.dead) == 26)
        async with asyncio.timeout(BUDGET / 2):
            assert "done" == await asyncio.get_running_loop().run_in_executor(None, lambda: "done")
        await flood


async def test_many_questions_of_one_namespace_do_not_delay_another_one() -> None:
    """620 images at a registry that takes 0.2 s. Another namespace's question takes one turn there, not 39."""

    async def slow(_: web.Request) -> None:
        await asyncio.sleep(0.2)

    async with running_registry() as registry, ImageChecker(transport(registry.domain)) as checker:
        registry.shape = slow
        flood = asyncio.create_task(checker.check(digests(registry.domain, 620), budget_seconds=60, asker="attacker"))
        await eventually(lambda: registry.waiting == 16)
        assert isinstance(await ask(checker, f"{registry.domain}/acme/web:v1"), Available)
        assert not flood.done()
        flood.cancel()
        await asyncio.wait([flood])


async def test_a_registry_that_answers_others_is_not_silent_to_who_floods_it() -> None:
    """What was not asked in time is no question that was asked: nobody is said to be without any registry."""
    async with running_registry() as registry, ImageChecker(transport(registry.domain)) as checker:
        registry.shape = shapes.hang
        answers = await checker.check(digests(registry.domain, 620), budget_seconds=0.5, asker="attacker")
        assert 16 == [is_silent(answer) for answer in answers.values()].count(True)
        assert checker.reachability.none_within(60, "attacker")
        assert checker.reachability.none_within(60, "shop") is None


async def test_large_answers_of_one_namespace_do_not_delay_another_one() -> None:
    """A namespace holds a share of the room for large answers. Whoever waits for it is not silent."""
    async with running_registry() as hostile, running_registry() as registry:
        hostile.shape, registry.shape = shapes.large, shapes.huge
        async with ImageChecker(transport(hostile.domain, registry.domain)) as checker:
            large = [question(f"{hostile.domain}/acme/web:{number}") for number in range(12)]
            flood = asyncio.create_task(checker.check(large, budget_seconds=BUDGET, asker="attacker"))
            pool = checker._transport._large  # noqa: SLF001 - no public attribute shows it
            await eventually(lambda: pool.free == 9)
            larger = Unreachable("its answer is larger than 4194304 bytes")
            assert larger == await ask(checker, f"{registry.domain}/acme/web:v1")
            waiting = [
                answer for answer in (await flood).values() if answer != Unreachable(f"no answer within {BUDGET} s")
            ]
            assert 9 == len(waiting)
            assert not any(map(is_silent, waiting))
