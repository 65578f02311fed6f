"""
A way from a node's pods to servers that listen on the loopback of its machine, such as the API server and registries.

In a cluster, pods reach these by a network. A pod of a real node of the playground reaches its node and nothing else.
"""

import asyncio
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Self

from playground.registry_gateway import ServingTasks, join

_IP_FREEBIND = 15  # of <linux/in.h>; the module `socket` has no name for it


class PodGateway:
    """
    Forwards connections of pods to the same port of 127.0.0.1; use as an async context manager.

    It listens on an address that the machine has while pods run, and takes connections from their network alone.

    Args:
        network: the addresses of the pods.
        ports: where the servers listen.

    """

    def __init__(self, network: IPv4Network, ports: Iterable[int]) -> None:
        self.address = network[1]
        """The address of the node in the network of its pods."""
        self._network = network
        self._ports = ports
        self._serving = ServingTasks()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for port in self._ports:
                listening = stack.enter_context(socket.socket())
                listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
                listening.bind((str(self.address), port))
                server = await asyncio.start_server(partial(self._accept, port), sock=listening)
                stack.callback(server.close)
            stack.push_async_callback(self._serving.end)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _accept(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.start(self._serve(port, reader, writer))

    async def _serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if IPv4Address(writer.get_extra_info("peername")[0]) in self._network:
                server = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await join((reader, writer), server)
                finally:
                    server[1].close()
        except OSError:
            return  # no server listens, or one of the two hung up
        finally:
            writer.close()
