"""Finds ports and addresses that are free on this machine."""

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
    Return a socket that reserves a free port of 127.0.0.1 for one of our servers, for as long as the socket is open.

    The kernel gives the port to no other program. A server in Go can still listen there. While none does, connections
    are refused.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def free_network() -> IPv4Network:
    """Return a private network of 256 addresses that this machine has no route to."""
    used = routes()
    free = [network for network in _PRIVATE.subnets(new_prefix=24) if not any(map(network.overlaps, used))]
    return secrets.choice(free)


async def until_unused(network: IPv4Network) -> None:
    """Wait until there is no route into `network`: the kernel removes a dead pod's interface with a delay."""

    async def is_unused() -> bool:
        return not any(map(network.overlaps, routes()))

    async with asyncio.timeout(UNUSED_SECONDS):
        await until(is_unused)


def routes() -> list[IPv4Network]:
    """Return the networks that this machine has IPv4 routes to, without the default route."""
    rows = [line.split() for line in _ROUTES.read_text().splitlines()[1:]]
    networks = [IPv4Network((_address(row[1]), str(_address(row[7])))) for row in rows]
    return [network for network in networks if network.prefixlen]


def _address(text: str) -> IPv4Address:
    """
    Return an address that the kernel writes as a hexadecimal number in little-endian order.

    >>> _address("0100007F")
    IPv4Address('127.0.0.1')
    """
    return IPv4Address(int.from_bytes(bytes.fromhex(text), "little"))
