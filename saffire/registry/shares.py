"""
Shares of what Saffire has for asking registries: connections, lookups of host names, and memory for large answers.

Saffire asks registries for *askers*: the namespaces whose sources or pods name an image. An asker chooses the hosts,
and a host may answer slowly or never. So each of these is a pool in which askers have shares (`concurrency.Shares`).

A request that waits for a place was not sent. So `Progress` counts only requests that do not wait: that a waiting
request gets no response says nothing about the registry.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from aiohttp.abc import AbstractResolver, ResolveResult

from saffire.concurrency import Shares
from saffire.ttl_cache import TtlCache

# The current question


@dataclass(slots=True)
class Progress:
    """
    The progress of one question.

    Args:
        asker: the namespace for which Saffire asks; `""` for none.
        at_work: how many requests of the question are under way. A request that waits for a share is not.
        is_private: whether a request of the question has tried to connect to an address of a private network.

    """

    asker: str = ""
    at_work: int = 0
    is_private: bool = False


progress: ContextVar[Progress | None] = ContextVar("progress", default=None)
"""The progress of the question that the current task asks; `None` outside of a question."""


# Shares


@asynccontextmanager
async def share(pool: Shares) -> AsyncIterator[None]:
    """
    Hold a place of a pool, for the asker of the current question.

    Use this within a request that counts as at work: while the request waits for the place, it does not count.
    """
    current = progress.get() or Progress()
    await _take(pool, current)
    try:
        yield
    finally:
        pool.give_back(current.asker)


async def _take(pool: Shares, current: Progress) -> None:
    current.at_work -= 1
    await pool.take(current.asker)
    current.at_work += 1  # if the wait is cancelled, the request has ended without being at work


# Connections

_CONNECTIONS, _CONNECTIONS_PER_HOST = 256, 80


class Connections:
    """The connections that Saffire allows itself: 256 at once, 80 of them to one host; a lone asker gets 52 and 16."""

    def __init__(self) -> None:
        self._all = Shares(_CONNECTIONS)
        self._hosts: WeakValueDictionary[str, Shares] = WeakValueDictionary()

    @asynccontextmanager
    async def for_request(self, host: str) -> AsyncIterator[None]:
        """
        Wait for a connection to a host, and hold it until the request ends.

        The request counts as at work until it gets a response or fails. If it is cancelled, since the time is up, it
        stays counted: it was sent, and got no response.
        """
        current = progress.get() or Progress()
        of_host = self._hosts.setdefault(host, Shares(_CONNECTIONS_PER_HOST))
        current.at_work += 1
        try:
            async with share(of_host), share(self._all):
                yield
        except Exception:
            current.at_work -= 1
            raise
        current.at_work -= 1


# Names

_LOOKUPS = 128
# An address is kept as long as aiohttp keeps one.
_MAX_NAMES, _NAME_SECONDS = 1024, 10
_Addresses = tuple[tuple[socket.AddressFamily, int, str], ...]


class Resolver(AbstractResolver):
    """
    Looks up the names of hosts as the operating system does, in at most 128 threads of its own.

    The operating system waits for a name server for up to a minute, and nobody can end that. So a name that no server
    answers occupies a thread for as long, but only one: whoever else asks for the name waits for the same lookup.

    Args:
        getaddrinfo: looks up a name, as `socket.getaddrinfo` does.
        clock: returns the time in seconds since any fixed start.

    """

    def __init__(
        self,
        getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._getaddrinfo = getaddrinfo
        self._threads = Shares(_LOOKUPS)
        self._lookups: dict[tuple[str, int], asyncio.Future[_Addresses]] = {}
        self._addresses: TtlCache[tuple[str, int], _Addresses] = TtlCache(_MAX_NAMES, clock)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raise `OSError` if it has none. An address is kept for 10 s."""
        name = host, int(family)
        addresses = self._addresses.get(name)
        if addresses is None:
            lookup = self._lookups.get(name) or await self._lookup_of(name)
            # The lookup goes on if this question's time is up: others may wait for it, and nothing can end it.
            await asyncio.wait((lookup,))
            addresses = lookup.result()
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, protocol, address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: no thread outlives its lookup, and none keeps the process from ending."""

    async def _lookup_of(self, name: tuple[str, int]) -> asyncio.Future[_Addresses]:
        """Wait for a thread, and return the lookup that is started in it, or that another asker has started."""
        current = progress.get() or Progress()
        await _take(self._threads, current)
        addresses, lookup = self._addresses.get(name), self._lookups.get(name)
        if addresses is None and lookup is None:
            return self._start(name, current.asker)
        self._threads.give_back(current.asker)
        if lookup is None:
            lookup = asyncio.get_running_loop().create_future()
            lookup.set_result(addresses or ())
        return lookup

    def _start(self, name: tuple[str, int], asker: str) -> asyncio.Future[_Addresses]:
        """Start a lookup, in the thread that an asker has taken."""
        loop = asyncio.get_running_loop()
        lookup = self._lookups[name] = loop.create_future()

        def finish(result: _Addresses | Exception) -> None:
            del self._lookups[name]
            self._threads.give_back(asker)
            if isinstance(result, Exception):
                lookup.set_exception(result)
                lookup.exception()  # maybe nobody waits for it any more
            else:
                self._addresses.put(name, result, _NAME_SECONDS)
                lookup.set_result(result)

        def look_up() -> None:
            result: _Addresses | Exception
            try:
                result = self._look_up(*name)
            except Exception as error:  # noqa: BLE001 - whoever waits for the name gets it
                result = error
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(finish, result)

        try:
            threading.Thread(target=look_up, name="registry name", daemon=True).start()
        except RuntimeError as error:  # the machine has no thread left
            finish(error)
        return lookup

    def _look_up(self, host: str, family: int) -> _Addresses:
        flags = socket.AI_ADDRCONFIG
        results = self._getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM, flags=flags)
        return tuple((kind, protocol, _with_scope(address)) for kind, _, protocol, _, address in results)


def _with_scope(address: tuple[Any, ...]) -> str:
    """Return the IP address of a socket address, with its interface if the address is of one link only."""
    match address:
        case (ip, _, _, scope) if scope:
            return f"{ip}%{scope}"
        case _:
            return str(address[0])
