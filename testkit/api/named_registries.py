"""
The registries of the api tier that have names, such as `quay.io`: all of them are on loopback.

A function that is started with their environment asks them, and no registry outside this machine.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from playground.registry_gateway import RegistryGateway
from playground.simulated.registry import SimulatedRegistry
from testkit.check_registry import authority

_NO_NAME = ".invalid"
"""The end of names that no name server may resolve (RFC 6761)."""


@asynccontextmanager
async def named_registries(dead: Collection[str]) -> AsyncIterator[dict[str, str]]:
    """
    Run every registry that has a name; yield what a function needs in its environment to ask them.

    Each of them has every image, with the digest that simulated nodes report. Those in `dead` answer 503, so an outage
    is proven even to a function that has just started. The caller may change the collection.
    """

    def address_of(domain: str) -> str:
        return "" if domain.partition(":")[0].endswith(_NO_NAME) else registry.address

    async with SimulatedRegistry(dead) as registry, RegistryGateway(address_of, authority()) as gateway:
        yield gateway.environ
