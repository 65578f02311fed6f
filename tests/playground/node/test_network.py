"""Ports and addresses: what is given is free, and stays so."""

import errno
import socket
import sys
from ipaddress import IPv4Network

import pytest

from playground.node.network import free_network, reserve_port, routes, until_unused


def connect(port: int) -> int:
    """Return the error of connecting to a port of 127.0.0.1, or 0."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port))


def test_a_kept_port_refuses_until_its_server_listens() -> None:
    """The port is a server's that allows to reuse addresses, and closed while that does not listen."""
    with reserve_port() as kept:
        port = kept.getsockname()[1]
        assert errno.ECONNREFUSED == connect(port)
        with socket.create_server(("127.0.0.1", port)):
            assert not connect(port)
        assert errno.ECONNREFUSED == connect(port)


def test_a_kept_port_is_nobody_elses() -> None:
    """A server that does not agree to share cannot have it."""
    with reserve_port() as kept, socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(kept.getsockname())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its routes in /proc")
async def test_a_free_network_has_no_route() -> None:
    """The addresses given are private, and the machine does not use them."""
    network = free_network()
    assert network.is_private
    assert 256 == network.num_addresses
    assert not any(map(network.overlaps, routes()))
    await until_unused(network)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its routes in /proc")
def test_routes_are_networks_without_the_default() -> None:
    """The default route is none, since it leads everywhere."""
    assert IPv4Network("0.0.0.0/0") not in routes()
