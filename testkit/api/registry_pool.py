"""
A pool of registries on loopback, all of which one function may ask.

Each test takes registries that no test used before: the function remembers answers, and registries that were silent,
for seconds.
"""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Self

from playground.node.network import reserve_port
from testkit import scripted_registry as shapes
from testkit.check_registry import WEB, authority
from testkit.oci_images import Image
from testkit.scripted_registry import Registry, Shape

ROOM, ROOM_OF_OTHERS = 256, 128
"""More than all tests of the tier take: registries that work, and of each kind of those that do not."""
PATH = "acme/web"
LONE = "acme/lone"
NOWHERE = "registry.invalid:5000"
"""A name that no name server may resolve (RFC 6761)."""

MakeRegistry = Callable[["RegistryPool"], str]
"""Sets up a registry, and returns its domain."""


class RegistryPool:
    """
    Registries, each of which is handed out once; use as an async context manager.

    Args: environ: what every function needs in its environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._of_every_function = environ

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            server = authority().server("127.0.0.1")
            self._registries = [await stack.enter_async_context(Registry(server)) for _ in range(ROOM)]
            self._failing = [await stack.enter_async_context(Registry(server)) for _ in range(ROOM_OF_OTHERS)]
            ports = [stack.enter_context(reserve_port()).getsockname()[1] for _ in range(ROOM_OF_OTHERS)]
            self._nobody = [f"127.0.0.1:{port}" for port in ports]
            expired, other = (authority().server("127.0.0.1", days=-1), authority().server("registry.test"))
            self.broken = {
                "expired": (await stack.enter_async_context(Registry(expired))).domain,
                "for another name": (await stack.enter_async_context(Registry(other))).domain,
                "silent": await stack.enter_async_context(shapes.raw(None)),
                "slow": await stack.enter_async_context(shapes.raw(server, *(b"H" for _ in range(600)), seconds=1)),
            }
            """Servers that cannot be used as registries, by what is wrong with them."""
            domains = [registry.domain for registry in (*self._registries, *self._failing)]
            domains += [*self._nobody, *self.broken.values()]
            self.environ = {**self._of_every_function, "SAFFIRE_INSECURE_REGISTRIES": ",".join(domains)}
            """What the function's environment needs, so that it may ask all of them."""
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def empty(self) -> Registry:
        """Take a registry without images."""
        return self._registries.pop()

    def filled(self, image: Image = WEB, shape: Shape | None = None) -> Registry:
        """Take a registry that has an image under the names that tests use, and answers in this shape."""
        registry = self.empty()
        for path in (PATH, LONE):
            registry.push(f"{path}:v1", image)
        registry.shape = shape
        return registry

    def failing(self) -> Registry:
        """Take a registry that answers 503 to everything: that proves an outage."""
        registry = self._failing.pop()
        registry.shape = shapes.status(503)
        return registry

    def refusing_address(self) -> str:
        """Take an address that refuses connections as long as the pool is open. Its outage is never proven."""
        return self._nobody.pop()


def answering(shape: Shape | None, image: Image = WEB) -> MakeRegistry:
    """Return a function that takes a registry with an image, which answers in this shape."""
    return lambda pool: pool.filled(image, shape).domain
