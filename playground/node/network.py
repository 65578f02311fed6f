"""Ports and addresses that are free on this machine."""

import asyncio
import secrets
import socket
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from playground.cluster.polling import until

UNUSED_SECONDS = 30

_PRIVATE = IPv4Network("10.0.0.0/8")
_ROUTES = Path("/proc/net/route")


def reserve_port() -> socket.socket:
    """
    Return a socket that keeps a free port of 127.0.0.1 for a server of ours, for as long as it is open.

    Go's servers can listen there all the same; while none does, a connection is refused. Nobody else is given the port.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


def free_network() -> IPv4Network:
    """Return 256 private addresses that this machine has no route to."""
    taken = routes()
    return secrets.choice([each for each in _PRIVATE.subnets(new_prefix=24) if not any(map(each.overlaps, taken))])


async def until_unused(network: IPv4Network) -> None:
    """Wait until there is no route into `network`: the kernel removes a dead pod's interface in its own time."""

    async def is_unused() -> bool:
        return not any(map(network.overlaps, routes()))

    async with asyncio.timeout(UNUSED_SECONDS):
        await until(is_unused)


def routes() -> list[IPv4Network]:
    """Return where this machine has IPv4 routes to, but for the default route."""
    rows = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
    networks = [IPv4Network((_address(row[1]), str(_address(row[7])))) for row in rows]
    return [network for network in networks if network.prefixlen]


def _address(text: str) -> IPv4Address:
    """
    Return the address that the kernel writes as a number in the machine's order of bytes.

    >>> _address("0100007F")
    IPv4Address('127.0.0.1')
    """
    return IPv4Address(int.from_bytes(bytes.fromhex(text), "little"))
