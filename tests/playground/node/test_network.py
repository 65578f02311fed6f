"""Reserved ports and networks are free, and stay free."""

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


def test_a_reserved_port_refuses_until_its_server_listens() -> None:
    """A server that sets SO_REUSEADDR can listen on the port. While none does, connections are refused."""
    with reserve_port() as reserved:
        port = reserved.getsockname()[1]
        assert errno.ECONNREFUSED == connect(port)
        with socket.create_server(("127.0.0.1", port)):
            assert not connect(port)
        assert errno.ECONNREFUSED == connect(port)


def test_a_reserved_port_is_given_to_no_other_program() -> None:
    """A socket without SO_REUSEADDR cannot be bound to the port."""
    with reserve_port() as reserved, socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(reserved.getsockname())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has its routes in /proc")
async def test_a_free_network_has_no_route() -> None:
    """The addresses are private, and the machine has no route to them."""
    network = free_network()
    assert network.is_private
    assert 256 == network.num_addresses
    assert not any(map(network.overlaps, routes()))
    await until_unused(network)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has its routes in /proc")
def test_routes_are_networks_without_the_default() -> None:
    """The default route is not among them: every network overlaps with it."""
    assert IPv4Network("0.0.0.0/0") not in routes()
