"""The playground's registries fail, hang and recover as real ones do."""

import asyncio

import aiohttp
import pytest

from playground.cluster.commands import CommandError
from playground.node.images import Images
from playground.node.registries import Registry


async def ask(registry: Registry, seconds: float = 30) -> int:
    """Return the status of a registry's answer to a request for an image."""
    url = f"http://{registry.domain}/v2/acme/ends/manifests/v1"
    headers = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.head(url, headers=headers) as answer:
        return answer.status


async def test_a_registry_takes_images_and_gives_them(built: Images) -> None:
    """The registry has the image that was pushed, and no other."""
    async with Registry() as registry:
        assert 404 == await ask(registry)
        await built.push("ends", f"{registry.domain}/acme/ends:v1")
        assert 200 == await ask(registry)


async def test_a_dead_registry_refuses_connections_until_it_is_revived(built: Images) -> None:
    """Its port stays reserved while it is dead, and its images survive."""
    async with Registry() as registry:
        await built.push("ends", f"{registry.domain}/acme/ends:v1")
        await registry.die()
        with pytest.raises(aiohttp.ClientConnectorError, match="Connect call failed"):
            await ask(registry)
        with pytest.raises(CommandError, match="connection refused"):
            await built.push("ends", f"{registry.domain}/acme/ends:v1")
        await registry.revive()
        assert 200 == await ask(registry)


async def test_a_hanging_registry_takes_connections_and_says_nothing_until_it_is_revived(built: Images) -> None:
    """A client that connects meanwhile waits, and is answered in the end."""
    async with Registry() as registry:
        await built.push("ends", f"{registry.domain}/acme/ends:v1")
        registry.hang()
        waiting = asyncio.create_task(ask(registry))
        with pytest.raises(TimeoutError):
            await ask(registry, seconds=0.5)
        assert not waiting.done()
        await registry.revive()
        assert 200 == await waiting


@pytest.mark.parametrize("state", ["dead", "hanging"])
async def test_a_registry_in_any_state_can_be_left(state: str) -> None:
    """A registry that does not react to a signal ends too, without a wait."""
    async with asyncio.timeout(5), Registry() as registry:
        if state == "dead":
            await registry.die()
        else:
            registry.hang()


async def test_a_registry_logs_what_it_is_asked() -> None:
    """Each request is in its log."""
    async with Registry() as registry:
        await ask(registry)
        assert "/v2/acme/ends/manifests/v1" in registry.log()
