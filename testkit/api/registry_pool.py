"""
A pool of registries on loopback, all of which one function may ask.

Each test takes registries that no test used before: the function remembers answers, and registries that were silent,
for seconds.
"""

import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from playground.node.network import reserve_port
from testkit import scripted_registry as shapes
from testkit.check_registry import WEB, authority
from testkit.oci_images import Image
from testkit.scripted_registry import Registry, Shape

ROOM = 256
"""More than all tests of the tier take."""
PATH = "acme/web"
LONE = "acme/lone"
NOWHERE = "registry.invalid:5000"
"""A name that no name server may resolve (RFC 6761)."""

MakeRegistry = Callable[["RegistryPool"], str]
"""Sets up a registry, and returns its domain."""


class RegistryPool:
    """Registries, each of which is handed out once; use as an async context manager."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            file = (
                Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saffire-registries-"))) / "authority.pem"
            )
            file.write_bytes(authority().pem)
            server = authority().server("127.0.0.1")
            self._registries = [await stack.enter_async_context(Registry(server)) for _ in range(ROOM)]
            ports = [stack.enter_context(reserve_port()).getsockname()[1] for _ in range(ROOM)]
            self._nobody = [f"127.0.0.1:{port}" for port in ports]
            expired, other = (authority().server("127.0.0.1", days=-1), authority().server("registry.test"))
            self.broken = {
                "expired": (await stack.enter_async_context(Registry(expired))).domain,
                "for another name": (await stack.enter_async_context(Registry(other))).domain,
                "silent": await stack.enter_async_context(shapes.raw(None)),
                "slow": await stack.enter_async_context(shapes.raw(server, *(b"H" for _ in range(600)), seconds=1)),
            }
            """Servers that cannot be used as registries, by what is wrong with them."""
            domains = [registry.domain for registry in self._registries] + self._nobody + list(self.broken.values())
            self.environ = {"SAFFIRE_INSECURE_REGISTRIES": ",".join(domains), "SSL_CERT_FILE": str(file)}
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

    def refusing_address(self) -> str:
        """Take an address that refuses connections as long as the pool is open."""
        return self._nobody.pop()


def answering(shape: Shape | None, image: Image = WEB) -> MakeRegistry:
    """Return a function that takes a registry with an image, which answers in this shape."""
    return lambda pool: pool.filled(image, shape).domain
