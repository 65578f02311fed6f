"""Through the gateway, Saffire's own client asks registries on loopback by the names of real ones."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from playground.registry_gateway import RegistryGateway
from playground.simulated.images import Image
from playground.simulated.registry import SimulatedRegistry
from saffire.proxies import Proxies
from saffire.registry.availability import Availability, Available, Denied, Unreachable
from saffire.registry.check import ImageChecker, Question
from saffire.registry.platforms import Platform
from saffire.registry.reference import Reference
from saffire.registry.transport import RegistryTransport

AMD64 = (Platform.of("linux", "amd64"),)
DEADLINE_SECONDS = 5


class Story:
    """A gateway, the registry behind all names in `.io`, the broken names, and a client that is kept open."""

    def __init__(self, gateway: RegistryGateway, registry: SimulatedRegistry, dead: set[str]) -> None:
        self.gateway = gateway
        self.registry = registry
        self.dead = dead
        tls = ssl.create_default_context(cafile=gateway.environ["SSL_CERT_FILE"])
        self.checker = ImageChecker(RegistryTransport(tls=tls, proxies=Proxies.from_environ(gateway.environ)))

    async def ask(self, reference: str, platforms: tuple[Platform, ...] = AMD64) -> Availability:
        """Return the answer to a question about an image."""
        asked = Question(reference=Reference.parse(reference), platforms=platforms)
        return (await self.checker.check([asked], budget_seconds=DEADLINE_SECONDS))[asked]


@pytest.fixture
async def story() -> AsyncIterator[Story]:
    """Give a gateway to one simulated registry."""
    dead: set[str] = set()

    def address_of(domain: str) -> str:
        return registry.address if domain.partition(":")[0].endswith(".io") else ""

    async with SimulatedRegistry(dead) as registry, RegistryGateway(address_of) as gateway:
        running = Story(gateway, registry, dead)
        async with running.checker:
            yield running


@pytest.mark.parametrize("reference", ["quay.io/acme/web:v1", "nginx", "quay.io:8443/acme/web"])
async def test_every_image_is_there_under_its_real_name(story: Story, reference: str) -> None:
    """The registry has the digest with which simulated nodes report the image, and a build for their platform."""
    answer = await story.ask(reference)
    assert isinstance(answer, Available)
    assert (Image.parse(reference).id.rpartition("@")[2], True) == (answer.digest, answer.suits)


async def test_a_registry_that_is_broken_answers_503(story: Story) -> None:
    """The other names still work, on the same registry."""
    story.dead.add("quay.io")
    broken = Unreachable("it answered 503", is_silent=True, is_server_error=True)
    assert broken == await story.ask("quay.io/acme/web:v1")
    assert isinstance(await story.ask("ghcr.io/acme/web:v1"), Available)


async def test_a_registry_that_dies_refuses_connections_and_closes_those_it_has(story: Story) -> None:
    """The client does not notice the death on a connection that it kept open: there is no such connection left."""
    assert isinstance(await story.ask("quay.io/acme/web:v1"), Available)
    await story.registry.die()
    assert Unreachable("the proxy answered 502", is_silent=True) == await story.ask("quay.io/acme/web:v2")


async def test_a_name_that_the_story_does_not_know_is_no_registry(story: Story) -> None:
    """It gives no answer, as a name that no name server knows."""
    assert Unreachable("the proxy answered 502", is_silent=True) == await story.ask("registry.example.com/acme/web")


async def test_an_image_by_digest_is_shown_to_nobody(story: Story) -> None:
    """From a digest nobody can tell the content, so the registry does not say that it is there, or is not."""
    assert Denied() == await story.ask(f"quay.io/acme/web@sha256:{64 * 'a'}")


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"hello\r\n\r\n", b"x" * 100_000, b""])
async def test_what_is_no_client_of_a_proxy_is_hung_up_on(story: Story, said: bytes) -> None:
    """The gateway goes on serving others."""
    port = int(story.gateway.environ["HTTPS_PROXY"].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    writer.write_eof()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert b"" == await reader.read()
    writer.close()
    assert isinstance(await story.ask("quay.io/acme/web:v1"), Available)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "NO_PROXY"])
async def test_what_the_machine_has_set_does_not_count(story: Story, name: str) -> None:
    """Programs read these variables in either spelling, so the environment has both."""
    assert story.gateway.environ[name] == story.gateway.environ[name.lower()]
